//! Sockets of a scripted server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::speak::{Connection, Sessions, answer};

/// What it speaks on its socket.
#[derive(Clone, Debug)]
pub(super) enum Listening {
    H2c,
    Http1,
    Tls(Arc<ServerConfig>),
}

/// An address of the loopback interface that nobody listens on, and that no connection is given as its own while the server
/// is down: below the ports that systems hand out by themselves (from 32768 on, or higher).
pub(super) async fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 200).expect("below 200") * 100;
    for _ in 0..20_000 {
        let port = 10_000 + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).await.is_ok() {
            return address;
        }
    }
    panic!("every port is taken");
}

/// The port must come back after a kill, even while old connections linger: the listener reuses addresses. A process that
/// another test is just starting holds every open socket for a moment, until it becomes its program.
pub(super) async fn bind(address: SocketAddr) -> TcpListener {
    let deadline = tokio::time::Instant::now() + crate::PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if tokio::time::Instant::now() >= deadline => {
                panic!("cannot listen on {address}: {error}")
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}

/// Serves until aborted; the connections end with it.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let sessions = Arc::new(Sessions::default());
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let connection = Arc::new(Connection {
            number,
            shared: Arc::clone(&shared),
            sessions: Arc::clone(&sessions),
            cut: CancellationToken::new(),
        });
        connections.spawn(serve(stream, connection));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, connection: Arc<Connection>) {
    let _open = Open::count(Arc::clone(&connection.shared));
    // Small frames of many streams must not wait for one another.
    let _ = stream.set_nodelay(true);
    match connection.shared.listening.clone() {
        Listening::H2c => serve_h2(stream, connection).await,
        Listening::Http1 => serve_http1(stream, connection).await,
        Listening::Tls(config) => {
            let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_h2(stream, connection).await;
            } else {
                serve_http1(stream, connection).await;
            }
        }
    }
}

async fn serve_h2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, connection: Arc<Connection>) {
    let cut = connection.cut.clone();
    let service = service_fn(move |request| answer(Arc::clone(&connection), request));
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(1000)
        .serve_connection(TokioIo::new(io), service);
    tokio::select! {
        // However it ended, the journal has what matters.
        _ = serving => {}
        () = cut.cancelled() => {}
    }
}

async fn serve_http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, connection: Arc<Connection>) {
    let cut = connection.cut.clone();
    let service = service_fn(move |request| answer(Arc::clone(&connection), request));
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    tokio::select! {
        _ = serving => {}
        () = cut.cancelled() => {}
    }
}

/// Counts one open connection for as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn count(shared: Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
