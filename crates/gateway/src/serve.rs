//! Accepting connections: HTTP/1.1 and h2c on one port, drained on request.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use mpe_transport::gather;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::gone::Attended;
use crate::pinned::pinned;
use crate::slow::{Fetched, Streams, Written};
use crate::{BoxError, Gateway};

/// How long a failing `accept` (out of file descriptors) is left alone before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `gateway` on `listener` until `stop`, then drains within the configured time: no connection is accepted any
/// more, listening streams end with a proper last message, requests under way are answered. What is still open then is
/// cut, so that nothing is left behind when this returns.
///
/// # Errors
/// Only what makes accepting impossible.
///
/// # Cancel safety
/// Dropping the future stops accepting and cuts the connections under way.
pub async fn serve(gateway: Gateway, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    let address = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(gateway.config().max_connections.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let builder = Arc::new(builder(&gateway));
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    tracing::info!(%address, "serving");
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_peer(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = Connection {
            gateway: gateway.clone(),
            builder: Arc::clone(&builder),
            watcher: graceful.watcher(),
            is_loopback: address.ip().is_loopback(),
            cut: cut.clone(),
            _place: place,
        };
        // Owned by `graceful` and `cut`: the drain below waits for it, and then ends it.
        tokio::spawn(connection.run(stream));
    }
    drop(listener);
    let limit = gateway.config().drain;
    tracing::info!(connections = graceful.count(), "draining");
    gateway.begin_drain();
    if tokio::time::timeout(limit, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            seconds = limit.as_secs(),
            "connections were still open when the drain's time was over"
        );
    }
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // An answer is written whole; waiting for more to send only delays it.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// Errors of `accept` that concern one peer, which has gone already.
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// HTTP/1.1 or HTTP/2 by its preface, with every wait bounded.
fn builder(gateway: &Gateway) -> auto::Builder<Streams> {
    let config = gateway.config();
    let mut builder = auto::Builder::new(Streams { patience: config.write_timeout });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .half_close(false)
        .max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        // A peer that is gone without a word is noticed, and its calls are cancelled.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(250)
        .max_header_list_size(64 << 10);
    builder
}

struct Connection {
    gateway: Gateway,
    builder: Arc<auto::Builder<Streams>>,
    watcher: Watcher,
    is_loopback: bool,
    cut: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let (gateway, is_loopback) = (self.gateway.clone(), self.is_loopback);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (parts, body) = request.into_parts();
            answered(gateway.clone(), Box::new(parts), body, is_loopback)
        });
        let socket = Written::new(Attended::new(stream), self.gateway.config().write_timeout);
        let (socket, turns) = gather(socket);
        let connection = self.builder.serve_connection(TokioIo::new(socket), service).into_owned();
        tokio::select! {
            ended = turns.drive(self.watcher.watch(connection)) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
            }
            () = self.cut.cancelled() => tracing::debug!("connection cut"),
        }
    }
}

/// Boxed: hyper moves it, and later what answers it, a dozen times on its way into and out of the stream's task.
fn answered(
    gateway: Gateway,
    parts: Box<Parts>,
    body: Incoming,
    is_loopback: bool,
) -> Pin<Box<impl Future<Output = Result<http::Response<Fetched>, Infallible>> + Send>> {
    let body = body.map_err(BoxError::from).boxed_unsync();
    pinned(move || async move { Ok(gateway.answer(parts, body, is_loopback).await.map(Fetched::new)) })
}
