//! Which addresses everybody can reach, for peers that somebody else named.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::lookup_host;

use crate::connect::{ByteStream, Dial};
use crate::dial::{interleave, race};

/// Whether an address is one of the public internet: not this machine, not a private or link-local network, not the
/// metadata service of a cloud, not a range that is reserved (IANA special-purpose address registries). An IPv4
/// address within an IPv6 one is judged as itself.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match a {
        // "This network", and everything from multicast upwards.
        0 | 224..=255 => true,
        // Shared with the carrier (RFC 6598); benchmarks (RFC 2544); protocol assignments and the old 6to4 relays.
        100 => (64..128).contains(&b),
        198 => b == 18 || b == 19,
        192 => (b == 0 && c == 0) || (b == 88 && c == 99),
        _ => false,
    };
    !(is_special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4_at = |at: usize| {
        let [a, b] = segments[at].to_be_bytes();
        let [c, d] = segments[at + 1].to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // Mapped and compatible addresses, ::1 and :: among them; NAT64 (RFC 6052); 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(v4_at(6)),
        [0x2002, ..] => is_public_v4(v4_at(1)),
        // Documentation; Teredo, which hides an address.
        [0x2001, 0xdb8 | 0, ..] => false,
        // Of all others only the global unicast range is anybody's to reach.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// Opens a stream to a public address of `host`. What was checked is what is dialled: the name is not resolved again.
pub(crate) async fn dial_public(dialer: &dyn Dial, host: &str, port: u16) -> io::Result<Box<dyn ByteStream>> {
    let public = |address: &SocketAddr| is_public(address.ip());
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.filter(public).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it has no public address"));
    }
    let connect =
        |address: SocketAddr| async move { dialer.dial(&address.ip().to_string(), address.port()).await };
    race(&interleave(addresses), connect).await
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.0.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
    }
}
