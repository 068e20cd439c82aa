//! Addresses: what a server is called, and where its word may send us.

use std::net::IpAddr;

use http::Uri;

/// The canonical URI of a server (2026-07-28, authorization), by which its login is kept: without query, without a slash
/// at its end.
pub fn canonical(uri: &Uri) -> String {
    format!("{}{}", origin(uri), uri.path().trim_end_matches('/'))
}

/// Scheme and authority, in lower case.
pub(super) fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let authority =
        uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()).unwrap_or_default();
    format!("{scheme}://{authority}")
}

/// How far a server's word may send us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Wherever it says: the operator said so, or the server itself is inside.
    Anywhere,
    /// Only where everybody can go; checked again once the name is resolved.
    Public,
}

/// Whether we ask at `uri` on the word of `server`: https, or plain http on this machine if the server itself is there.
///
/// # Errors
/// One sentence.
pub(super) fn reach(uri: &Uri, server: &Uri, private_networks: bool) -> Result<Reach, String> {
    let refuse = |why: &str| {
        Err(format!(
            "the server names an address for authorization that is not asked: {}: {why}",
            origin(uri)
        ))
    };
    let is_anywhere = private_networks || is_inside(server);
    match uri.scheme_str() {
        Some("https") if is_anywhere => Ok(Reach::Anywhere),
        Some("https") if !is_inside(uri) => Ok(Reach::Public),
        Some("https") => refuse("it lies in a private network"),
        Some("http") if is_loopback(uri) && is_loopback(server) => Ok(Reach::Anywhere),
        _ => refuse("only https is, and http between two on this machine"),
    }
}

/// Whether `named` is `ours`, or a path above it (RFC 9728 §3.3).
pub(super) fn covers(named: &str, ours: &Uri) -> bool {
    let Ok(named) = named.parse::<Uri>() else { return false };
    let path = named.path().trim_end_matches('/');
    let below = ours.path().strip_prefix(path);
    named.query().is_none()
        && origin(&named) == origin(ours)
        && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = host(uri);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the host is written as an address that only we, or our neighbours, can reach.
fn is_inside(uri: &Uri) -> bool {
    is_loopback(uri)
        || host(uri).to_ascii_lowercase().ends_with(".localhost")
        || host(uri).parse::<IpAddr>().is_ok_and(|address| !mpe_transport::is_public(address))
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::{Reach, canonical, covers, reach};

    #[test]
    fn a_remote_server_cannot_send_us_into_our_own_house() {
        let remote = "https://example.com/mcp".parse().unwrap();
        for inside in [
            "http://127.0.0.1/t",
            "https://localhost/t",
            "https://a.localhost/t",
            "https://[::1]/t",
            "https://[::ffff:10.0.0.1]/t",
            "https://169.254.169.254/t",
            "https://10.0.0.1/t",
            "https://100.64.0.1/t",
            "http://example.com/t",
            "ftp://example.com/t",
        ] {
            assert!(reach(&inside.parse().unwrap(), &remote, false).is_err(), "{inside}");
        }
        let login = "https://login.example.com/t".parse().unwrap();
        assert_eq!(reach(&login, &remote, false), Ok(Reach::Public));
        // The operator may open the house, but not take the lock off.
        assert_eq!(reach(&"https://10.0.0.1/t".parse().unwrap(), &remote, true), Ok(Reach::Anywhere));
        assert!(reach(&"http://10.0.0.1/t".parse().unwrap(), &remote, true).is_err());
    }

    #[test]
    fn a_server_inside_may_name_its_neighbours() {
        let local = "http://127.0.0.1:1/mcp".parse().unwrap();
        assert_eq!(reach(&"http://localhost:2/t".parse().unwrap(), &local, false), Ok(Reach::Anywhere));
        let private = "https://10.0.0.2/mcp".parse().unwrap();
        assert_eq!(reach(&"https://10.0.0.1/t".parse().unwrap(), &private, false), Ok(Reach::Anywhere));
    }

    #[test]
    fn metadata_are_about_the_server_or_a_path_above_it() {
        let ours = "https://example.com/a/mcp?x=1".parse().unwrap();
        for fits in ["https://example.com", "https://example.com/a/", "HTTPS://EXAMPLE.com/a/mcp"] {
            assert!(covers(fits, &ours), "{fits}");
        }
        for foreign in ["https://example.com/a/m", "https://example.com:444", "http://example.com", "x"] {
            assert!(!covers(foreign, &ours), "{foreign}");
        }
        assert_eq!(canonical(&"https://EXAMPLE.com/mcp/?a=b".parse().unwrap()), "https://example.com/mcp");
        assert_eq!(canonical(&"https://example.com/".parse().unwrap()), "https://example.com");
    }
}
