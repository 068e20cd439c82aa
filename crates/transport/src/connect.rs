//! From an origin to a connection that speaks HTTP: dial → TLS → ALPN.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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

/// TCP.
#[derive(Debug)]
pub(crate) struct TcpDialer;

impl Dial for TcpDialer {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            // Requests are written whole; waiting for more to send would only delay them.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// Opens connections as the pool's configuration says.
pub(crate) struct Connector {
    pub(crate) dialer: Arc<dyn Dial>,
    pub(crate) tls: TlsClients,
    pub(crate) enable_http2: bool,
}

impl Connector {
    /// Opens a stream to `origin` and settles the protocol.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        http1_only: bool,
    ) -> Result<(Box<dyn ByteStream>, Protocol), Error> {
        let stream = self.dialer.dial(origin.host(), origin.port()).await.map_err(|error| {
            Error::unsent(ErrorKind::Connect, format!("cannot connect to {origin}: {error}")).caused_by(error)
        })?;
        let is_http2_wanted = self.enable_http2 && !http1_only;
        match (origin.scheme(), origin.wire()) {
            (Scheme::Http, Wire::H2c) if is_http2_wanted => Ok((stream, Protocol::Http2)),
            (Scheme::Http, _) => Ok((stream, Protocol::Http1)),
            (Scheme::Https, wire) => {
                self.tls.handshake(origin, stream, is_http2_wanted && wire != Wire::Http1).await
            }
        }
    }
}
