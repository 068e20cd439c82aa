//! Connections to the other replicas of this gateway.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use mpe_gateway::{Body, BoxError, Forward};
use mpe_transport::{BodyDeadline, ExchangeOptions, Origin, Pool, PoolConfig, TlsConfig, Wire};
use tokio::time::Instant;

/// One pool for all of them, apart from that of the MCP servers: neither can take the other's connections.
#[derive(Debug)]
pub(crate) struct Peers {
    pool: Pool,
}

/// A replica that does not take a connection within this time is as good as gone: its clients wait for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the head of an answer may take: as long as a call that was held may still run.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Streams are kept alive by a comment every few seconds; one that is silent for so long has lost its other end.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);

impl Peers {
    /// Does no IO.
    ///
    /// # Errors
    /// The TLS files cannot be used.
    pub(crate) fn new(tls: TlsConfig) -> Result<Self, mpe_transport::Error> {
        let mut config = PoolConfig::default();
        config.connect_timeout = CONNECT_TIMEOUT;
        Ok(Self { pool: Pool::new(config, tls)? })
    }
}

impl Forward for Peers {
    fn forward(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, BoxError>> {
        let pool = self.pool.clone();
        async move {
            // Replicas speak h2c on their port, so all that goes between two of them shares a connection.
            let wire = match request.uri().scheme_str() {
                Some("https") => Wire::Auto,
                _ => Wire::H2c,
            };
            let origin = Origin::of(request.uri(), wire)?;
            let mut options = ExchangeOptions::default();
            options.deadline = Some(Instant::now() + HEAD_TIMEOUT);
            options.body_deadline = BodyDeadline::Idle(MAX_IDLE);
            options.max_response_bytes = Some(u64::MAX);
            let response = pool.send_with(&origin, request, options).await?;
            Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        }
        .boxed()
    }
}
