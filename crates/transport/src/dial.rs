//! TCP to a name: resolve, then race the addresses of both families (RFC 8305, "Happy Eyeballs").

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until};

use crate::connect::{ByteStream, Dial, Dialing};

/// TCP over the system's resolver.
#[derive(Debug)]
pub(crate) struct TcpDialer;

/// How long an attempt has the field for itself before the next address is tried beside it (RFC 8305 §5 recommends
/// 250 ms).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Addresses tried of one name, at most: beyond these the connect timeout would end it anyway.
const MAX_ADDRESSES: usize = 16;

impl Dial for TcpDialer {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        Box::pin(async move {
            let mut addresses = interleave(lookup_host((host, port)).await?.collect());
            addresses.truncate(MAX_ADDRESSES);
            let stream = race(&addresses, connect).await?;
            // Requests are written whole; waiting for more to send would only delay them.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// One connection, to somebody else.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    to_another(TcpStream::connect(address).await?)
}

fn to_another(stream: TcpStream) -> io::Result<TcpStream> {
    // Where nobody listens on a port of this very machine, a connection that is given the same port as its own reaches
    // itself (RFC 9293 §3.5, simultaneous open).
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Takes turns between the families, starting with the one the resolver prefers (RFC 8305 §4).
pub(crate) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let n_addresses = addresses.len();
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_first_v6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(n_addresses);
    while mixed.len() < n_addresses {
        mixed.extend(preferred.next());
        mixed.extend(other.next());
    }
    mixed
}

/// Connects to the first address that answers. The next one is tried when one fails, or has not answered in time;
/// those that lose are dropped.
pub(crate) async fn race<T, F>(addresses: &[SocketAddr], connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut untried = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some(&address) = untried.next() {
            let attempt = connect(address);
            attempts.push(async move { (address, attempt.await) });
        }
        let next_at = Instant::now() + ATTEMPT_DELAY;
        let ended = tokio::select! {
            ended = attempts.next() => ended,
            () = sleep_until(next_at), if untried.len() > 0 => continue,
        };
        match ended {
            Some((_, Ok(stream))) => return Ok(stream),
            Some((address, Err(error))) => failures.push((address, error)),
            None => return Err(all_failed(failures)),
        }
        // Wait on for the others without starting one more, unless there is one to start.
        if untried.len() == 0 && attempts.is_empty() {
            return Err(all_failed(failures));
        }
    }
}

fn all_failed(failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let Some((_, first)) = failures.first() else {
        return io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    };
    let kind = first.kind();
    let texts: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    io::Error::new(kind, texts.join("; "))
}

#[cfg(test)]
mod tests;
