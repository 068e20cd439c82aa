//! An MCP server with everything the conformance suite's server scenarios ask for, in both eras, over HTTP and over a pipe.
//!
//! What a tool does is written once, as what is said next in a conversation of several rounds ([`offer`]); a client of 2025
//! is asked by requests of ours, one of 2026 by a result that it repeats its request with ([`converse`]).

mod converse;
mod http;
mod offer;
mod pipe;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::world::Eras;
use self::world::World;

/// The reference server, on a port of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Reference {
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Reference {
    /// Starts one that speaks these eras.
    pub async fn start(eras: Eras) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("a bound address");
        let serving = tokio::spawn(http::serve(Arc::new(World::new(eras, None)), listener));
        Self { address, serving }
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves the reference server on `listener` until the future is dropped. Every message received is written to `log`.
///
/// # Errors
/// What makes accepting impossible.
///
/// # Cancel safety
/// Dropping the future stops accepting.
pub async fn serve_http(eras: Eras, log: Option<PathBuf>, listener: TcpListener) -> std::io::Result<()> {
    http::serve(Arc::new(World::new(eras, log)), listener).await
}

/// Serves the reference server on standard input and output until the input ends.
///
/// # Errors
/// None so far.
///
/// # Cancel safety
/// Dropping the future leaves the threads that read and write to the end of the process.
pub async fn serve_pipe(eras: Eras) -> std::io::Result<()> {
    pipe::serve(Arc::new(World::new(eras, None))).await
}
