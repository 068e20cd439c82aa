//! What can be seen of the pool from outside.

use std::time::Duration;

use crate::Origin;

/// The HTTP version that served an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// Its name, as metrics carry it: `http/1.1` or `h2`, as in ALPN.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// What opening a connection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectTimes {
    /// Resolve, connect, and the tunnel through a proxy.
    pub dial: Duration,
    /// The TLS handshake; zero for plaintext.
    pub tls: Duration,
}

/// A connection's number, unique within its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Which connection served an exchange: [`Body::info`](crate::Body::info).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeInfo {
    /// The HTTP version.
    pub protocol: Protocol,
    /// The connection.
    pub connection: ConnectionId,
    /// Whether the connection had served an exchange before.
    pub reused: bool,
}

/// A pool at one moment.
#[derive(Clone, Debug, Default)]
pub struct PoolSnapshot {
    /// One entry per origin with traffic or connections, sorted by its text.
    pub origins: Vec<(Origin, OriginSnapshot)>,
    /// Open connections over all origins.
    pub connections: usize,
    /// Exchanges waiting for a lease.
    pub waiting: usize,
}

/// One origin at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OriginSnapshot {
    /// Open connections, draining ones included.
    pub connections: usize,
    /// Connection attempts under way.
    pub connecting: usize,
    /// Of the open connections, those without any exchange.
    pub idle: usize,
    /// Connections ever opened.
    pub opened: u64,
    /// Connection attempts that failed.
    pub connect_failed: u64,
    /// Exchanges under way.
    pub streams: usize,
    /// Exchanges waiting for a lease.
    pub waiting: usize,
    /// Exchanges ever started over HTTP/2.
    pub http2_exchanges: u64,
    /// Exchanges ever started over HTTP/1.1.
    pub http1_exchanges: u64,
    /// Of all exchanges started, those on a connection that had served one before.
    pub reused: u64,
    /// What opening the newest connection took.
    pub connect_times: ConnectTimes,
    /// Requests answered with a response head.
    pub answered: u64,
    /// The mean time from the request on its stream to the head of its response.
    pub mean_head_time: Duration,
    /// Bytes of request bodies handed to a stream.
    pub request_bytes: u64,
    /// Bytes of response bodies read.
    pub response_bytes: u64,
}

impl OriginSnapshot {
    /// The share of exchanges that found a connection open: 0 to 1, and 0 before the first.
    pub fn reuse_ratio(&self) -> f64 {
        let n_exchanges = self.http1_exchanges + self.http2_exchanges;
        if n_exchanges == 0 { 0.0 } else { self.reused as f64 / n_exchanges as f64 }
    }
}
