//! From an origin to a stream on which to speak HTTP: dial, perhaps through a proxy → TLS → ALPN.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::info::ConnectTimes;
use crate::proxy::{Proxy, ProxyConfig};
use crate::reach::dial_public;
use crate::tls::TlsClients;
use crate::{Error, ErrorKind, Origin, Protocol, Scheme, Wire};

/// Bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// What [`Dial::dial`] promises.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send + 'a>>;

/// Opens byte streams. The pool brings its own for TCP; tests and simulated networks bring theirs.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to `host`, a name or an address without brackets. TLS is put on top by the pool.
    ///
    /// # Errors
    /// Whatever kept the stream from being opened; the pool reports it as [`ErrorKind::Connect`].
    ///
    /// # Cancel safety
    /// Dropping the future must give the attempt up: that is how the pool ends one that takes too long.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a>;
}

/// Opens connections as the pool's configuration says.
pub(crate) struct Connector {
    pub(crate) dialer: Arc<dyn Dial>,
    pub(crate) tls: TlsClients,
    pub(crate) proxies: ProxyConfig,
    pub(crate) enable_http2: bool,
}

/// A stream to an origin, and what to speak on it.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn ByteStream>,
    pub(crate) protocol: Protocol,
    pub(crate) times: ConnectTimes,
}

// === impl Connector ===

impl Connector {
    /// Opens a stream to `origin` and settles the protocol.
    pub(crate) async fn connect(&self, origin: &Origin, http1_only: bool) -> Result<Connected, Error> {
        let started = Instant::now();
        let stream = match self.proxies.of(origin) {
            None => self.dial(origin).await?,
            Some(proxy) => self.dial_through(proxy, origin).await?,
        };
        let dial = started.elapsed();
        let is_http2_wanted = self.enable_http2 && !http1_only;
        let (stream, protocol) = match (origin.scheme(), origin.wire()) {
            (Scheme::Http, Wire::H2c) if is_http2_wanted => (stream, Protocol::Http2),
            (Scheme::Http, _) => (stream, Protocol::Http1),
            (Scheme::Https, wire) => {
                self.tls.handshake(origin, stream, is_http2_wanted && wire != Wire::Http1).await?
            }
        };
        let tls = started.elapsed() - dial;
        Ok(Connected { stream, protocol, times: ConnectTimes { dial, tls } })
    }

    async fn dial(&self, origin: &Origin) -> Result<Box<dyn ByteStream>, Error> {
        let dialed = match origin.is_public_only {
            true => dial_public(&*self.dialer, origin.host(), origin.port()).await,
            false => self.dialer.dial(origin.host(), origin.port()).await,
        };
        dialed.map_err(|error| {
            Error::unsent(ErrorKind::Connect, format!("cannot connect to {origin}: {error}")).caused_by(error)
        })
    }

    async fn dial_through(&self, proxy: &Proxy, target: &Origin) -> Result<Box<dyn ByteStream>, Error> {
        let mut stream = self.dial(&proxy.origin).await?;
        if proxy.origin.scheme() == Scheme::Https {
            (stream, _) = self.tls.handshake(&proxy.origin, stream, false).await?;
        }
        proxy.tunnel(&mut *stream, target).await.map_err(|error| {
            let message = format!("no tunnel to {target} through the proxy {}: {error}", proxy.origin);
            Error::unsent(ErrorKind::Connect, message).caused_by(error)
        })?;
        Ok(stream)
    }
}
