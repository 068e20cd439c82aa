//! What can be seen of the pool from outside.

use crate::Origin;

/// The HTTP version that served an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection's number, unique within its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Which connection served an exchange. Stands in the response's extensions.
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
}
