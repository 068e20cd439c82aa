//! The pool: one exchange in, one response out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use crate::{Error, Origin, PoolConfig, TlsConfig};

/// Connections to any number of origins, shared by everyone who holds a clone.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<()>,
}

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

/// A response body. Dropping it before its end cancels the exchange and frees its place.
#[derive(Debug)]
pub struct Body {
    _private: (),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let _ = cx;
        todo!()
    }
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
    /// Open connections.
    pub connections: usize,
    /// Of those, without any exchange.
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

impl Pool {
    /// An empty pool.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`](crate::ErrorKind::Tls) when the platform's roots, the extra ones or the client identity cannot be read.
    pub fn new(config: PoolConfig, tls: TlsConfig) -> Result<Self, Error> {
        let _ = (config, tls);
        todo!()
    }

    /// Sends one request and returns once the response head is here. `request` has a path-only or absolute URI;
    /// `Host`/`:authority` come from `origin`. The deadline (default: now + `request_timeout`) covers the body too.
    ///
    /// # Errors
    /// Every [`ErrorKind`](crate::ErrorKind); [`Error::sent`] says whether the peer may have seen the request.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the exchange (RST_STREAM CANCEL) and frees its place. The peer may have seen it.
    pub async fn send(
        &self,
        origin: &Origin,
        request: http::Request<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<http::Response<Body>, Error> {
        let _ = (origin, request, deadline, &self.inner);
        todo!()
    }

    /// What is open, idle and waiting now.
    pub fn snapshot(&self) -> PoolSnapshot {
        todo!()
    }

    /// Takes no further exchange, lets those under way finish for at most `limit`, then closes every connection.
    pub async fn close(&self, limit: Duration) {
        let _ = limit;
        todo!()
    }
}
