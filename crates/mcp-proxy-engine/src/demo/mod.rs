//! The demo: a small MCP server inside the process, reached as any other server is.
//!
//! It listens on a loopback port of its own, speaks HTTP/2 without TLS and HTTP/1.1, and both eras of MCP: the
//! stateless 2026-07-28 and the `initialize` handshake of earlier revisions. Nothing is short-circuited, so that what
//! one sees with the demo is what one gets with real servers.

mod counters;
mod mcp;
mod tools;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use counters::DemoCounts;

use counters::Counters;
use mpe_engine::{Target, UpstreamConfig};
use mpe_transport::Wire;
use tools::Store;

/// The demo server, running until it is stopped or dropped.
#[derive(Debug)]
pub struct Demo {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    accepting: Option<JoinHandle<()>>,
}

/// What every request sees.
#[derive(Debug, Default)]
struct State {
    counters: Counters,
    store: Store,
}

/// Connections served at once, at most. The engine's own pool opens far fewer.
const MAX_CONNECTIONS: usize = 1024;

/// Streams on one connection at once. More than most servers allow, so that the engine's limits are the ones to see.
const MAX_STREAMS: u32 = 1024;

/// How long a stop waits for calls under way.
const DRAIN: Duration = Duration::from_secs(2);

impl Demo {
    /// Starts the server on a free loopback port.
    ///
    /// # Errors
    /// No loopback port can be bound.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state), stop.clone()));
        Ok(Self { address, state, stop, accepting: Some(accepting) })
    }

    /// Its MCP address.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What it has served so far.
    pub fn counts(&self) -> DemoCounts {
        self.state.counters.now()
    }

    /// The server as an upstream called `demo`, over HTTP/2 without TLS.
    pub fn upstream(&self) -> UpstreamConfig {
        let url = self.url().parse().expect("a socket address makes a URL");
        UpstreamConfig::new("demo", Target::Http { url, headers: Vec::new(), wire: Wire::H2c })
    }

    /// Stops accepting, lets calls under way finish for two seconds, then ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(accepting) = self.accepting.take() {
            // It ends by itself; a panic inside has been reported by the runtime already.
            let _ = accepting.await;
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// Accepts until `stop`, then drains. Owns every connection's task: with it they all end.
async fn accept(listener: TcpListener, state: Arc<State>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&state), stop.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "demo: accept failed");
                    // Out of file descriptors, most likely: give the others a moment to end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    let drained = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        connections.abort_all();
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2 by its first bytes.
async fn serve(stream: TcpStream, state: Arc<State>, stop: CancellationToken) {
    // Answers are small; waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    let counters = &state.counters;
    counters.connections_opened.fetch_add(1, Ordering::Relaxed);
    counters.connections_open.fetch_add(1, Ordering::Relaxed);
    let _closing = OnDrop(|| {
        counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    });

    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let service = service_fn(|request| mcp::answer(request, Arc::clone(&state)));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "demo: connection ended");
    }
}

/// Runs a closure when it goes out of scope, however that happens.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
