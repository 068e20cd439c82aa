//! The front door: one exchange in, one response out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::body::{Body, Limits};
use crate::config::FOREVER;
use crate::connect::{Connector, Dial};
use crate::deadline::{BodyDeadline, Timer};
use crate::dial::TcpDialer;
use crate::info::PoolSnapshot;
use crate::pool::{Link, Shared};
use crate::request::{Outgoing, OutgoingBody};
use crate::tls::TlsClients;
use crate::{Error, ErrorKind, Origin, PoolConfig, TlsConfig, h2, http1};

/// Connections to any number of origins, shared by everyone who holds a clone.
///
/// Its tasks live on the runtime of the first exchange. Dropping the last clone closes every connection.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    /// One permit when calls go one at a time.
    turns: Option<Arc<Semaphore>>,
}

/// What one exchange wants different from the pool's configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExchangeOptions {
    /// Until when the response head must be here; absolute. Default: now + `request_timeout`.
    pub deadline: Option<Instant>,
    /// How long the body may take. Default: the deadline covers it too.
    pub body_deadline: BodyDeadline,
    /// Bytes of the response body, at most. Default: the pool's `max_response_bytes`.
    pub max_response_bytes: Option<u64>,
    /// Whether an error hands the request back ([`Error::take_request`]) where it may be sent again. Default: `true`.
    /// `false` saves a copy of its headers, for callers who make a new request anyway. A streamed body never comes back.
    pub hands_back: bool,
}

// === impl ExchangeOptions ===

impl Default for ExchangeOptions {
    fn default() -> Self {
        Self {
            deadline: None,
            body_deadline: BodyDeadline::default(),
            max_response_bytes: None,
            hands_back: true,
        }
    }
}

// === impl Pool ===

impl Pool {
    /// An empty pool.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] when the extra roots or the client identity cannot be read. The platform's roots are read
    /// at the first TLS connection, so that a plaintext pool works where there are none.
    pub fn new(config: PoolConfig, tls: TlsConfig) -> Result<Self, Error> {
        Self::with_dialer(config, tls, Arc::new(TcpDialer))
    }

    /// An empty pool over something else than TCP: a tunnel, a simulated network, a pipe in a test.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_dialer(config: PoolConfig, tls: TlsConfig, dialer: Arc<dyn Dial>) -> Result<Self, Error> {
        let config = config.within_bounds();
        let connector = Connector {
            dialer,
            tls: TlsClients::new(&tls)?,
            proxies: config.proxies.clone(),
            enable_http2: config.enable_http2,
        };
        let turns = (!config.enable_concurrent_requests).then(|| Arc::new(Semaphore::new(1)));
        Ok(Self { shared: Shared::new(config, connector), turns })
    }

    /// Sends one request and returns once the response head is here. `request` has a path-only or absolute URI;
    /// `Host`/`:authority` come from `origin`. The deadline (default: now + `request_timeout`) covers the body too.
    ///
    /// # Errors
    /// Every [`ErrorKind`]; [`Error::sent`] says whether the peer may have seen the request, and
    /// [`Error::take_request`] hands it back if it has not.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the exchange (RST_STREAM CANCEL) and frees its place. The peer may have seen it.
    pub async fn send(
        &self,
        origin: &Origin,
        request: Request<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Error> {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + self.shared.config.request_timeout);
        let turn = match self.turn(deadline).await {
            Ok(turn) => turn,
            Err(error) => return Err(error.returning(request)),
        };
        let options = ExchangeOptions { deadline: Some(deadline), ..ExchangeOptions::default() };
        let mut response = self.send_with(origin, request, options).await?;
        response.body_mut().hold_turn(turn);
        Ok(response)
    }

    /// As [`Pool::send`], with options of its own: for event streams, whose bodies outlive any deadline of the head.
    /// `enable_concurrent_requests` does not count these exchanges.
    ///
    /// # Errors
    /// As [`Pool::send`].
    ///
    /// # Cancel safety
    /// As [`Pool::send`].
    pub fn send_with(
        &self,
        origin: &Origin,
        request: Request<Bytes>,
        options: ExchangeOptions,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + Send {
        self.exchange(origin, Outgoing::new(request, options.hands_back), options)
    }

    /// As [`Pool::send_with`], with a body that is still coming. It is sent as fast as the peer takes it, also while
    /// the response is read if that comes early; to that end somebody must be waiting for the one or the other.
    ///
    /// # Errors
    /// As [`Pool::send`], and [`ErrorKind::RequestBody`] when the body itself fails. The request is not handed back,
    /// for its body has been taken.
    ///
    /// # Cancel safety
    /// As [`Pool::send`].
    pub async fn send_streaming<B>(
        &self,
        origin: &Origin,
        request: Request<B>,
        options: ExchangeOptions,
    ) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let body = OutgoingBody::Streamed(Box::pin(body.map_err(Into::into)));
        self.exchange(origin, Outgoing { head: Box::new(head), body, is_kept: false }, options).await
    }

    /// What is open, idle and waiting now.
    pub fn snapshot(&self) -> PoolSnapshot {
        self.shared.snapshot()
    }

    /// Takes no further exchange, lets those under way finish for at most `limit`, then closes every connection.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pool closed to new exchanges, and those under way undisturbed.
    pub async fn close(&self, limit: Duration) {
        self.shared.close(Instant::now() + limit.min(FOREVER)).await;
    }

    async fn exchange(
        &self,
        origin: &Origin,
        request: Outgoing,
        options: ExchangeOptions,
    ) -> Result<Response<Body>, Error> {
        if request.head.method == Method::CONNECT {
            let error = Error::unsent(ErrorKind::InvalidRequest, "CONNECT makes a tunnel, not an exchange");
            return Err(request.give_back(error));
        }
        let config = &self.shared.config;
        let deadline = options.deadline.unwrap_or_else(|| Instant::now() + config.request_timeout);
        let limits = Limits {
            max_head_bytes: config.max_head_bytes,
            max_body_bytes: options.max_response_bytes.unwrap_or(config.max_response_bytes),
        };
        let mut timer = Timer::new(deadline, options.body_deadline);
        let lease = match self.shared.lease(origin, &mut timer).await {
            Ok(lease) => lease,
            Err(error) => return Err(request.give_back(error)),
        };
        match lease.link.clone() {
            Link::Http2(link) => h2::send(lease, &link, origin, request, timer, limits).await,
            Link::Http1(link) => http1::send(lease, &link, origin, request, timer, limits).await,
        }
    }

    async fn turn(&self, deadline: Instant) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let Some(turns) = &self.turns else { return Ok(None) };
        match timeout_at(deadline, Arc::clone(turns).acquire_owned()).await {
            Ok(permit) => Ok(permit.ok()),
            Err(_) => {
                let message = "the deadline passed while other calls had their turn";
                Err(Error::unsent(ErrorKind::PoolExhausted, message))
            }
        }
    }
}
