//! The server all clients are measured against: HTTP/2 over plaintext and over TLS (and HTTP/1.1, for the soak), doing
//! as little as it can.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Where it listens.
#[derive(Debug, clap::Args)]
pub struct ServerOptions {
    /// Plaintext HTTP/2.
    #[arg(long)]
    pub plain: SocketAddr,
    /// HTTP/2 over TLS.
    #[arg(long)]
    pub tls: SocketAddr,
    /// Its certificate chain, PEM.
    #[arg(long)]
    pub certificate: PathBuf,
    /// The certificate's key, PEM.
    #[arg(long)]
    pub key: PathBuf,
}

/// How long `/slow` takes: long enough that many of them are in flight at once.
const SLOW: Duration = Duration::from_secs(2);

/// Serves until killed.
pub async fn run(options: ServerOptions) -> anyhow::Result<()> {
    let plain = TcpListener::bind(options.plain).await?;
    let acceptor = acceptor(&options.certificate, &options.key)?;
    let tls = TcpListener::bind(options.tls).await?;
    tokio::try_join!(serve_plain(plain), serve_tls(tls, acceptor))?;
    Ok(())
}

/// Serves plaintext until accepting fails.
pub(super) async fn serve_plain(listener: TcpListener) -> anyhow::Result<()> {
    // Dropped with the future, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connections.spawn(serve(stream));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A connection that is only a knock at the door is none to serve.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Takes HTTP/2 over TLS.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| certificate.display().to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let large = Bytes::from(vec![b'x'; super::client::LARGE_BYTES]);
    let answer = service_fn(move |request: Request<Incoming>| {
        let large = large.clone();
        async move {
            let is_large = request.uri().path() == "/large";
            if request.uri().path() == "/slow" {
                tokio::time::sleep(SLOW).await;
            }
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            let answer = if is_large { large } else { body.unwrap_or_default() };
            Ok::<_, Infallible>(Response::new(Full::new(answer)))
        }
    });
    // 512 in flight fit one connection, so that a client is free to use only one.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(1000);
    // How a connection ends is the client's business.
    let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
}
