//! A scripted MCP server: what it offers is written down, what it sees is kept.

mod journal;
mod listen;
mod script;
mod speak;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mpe_transport::Wire;
use tokio::task::JoinHandle;

pub use self::journal::{Exchange, Fate};
pub use self::script::{Script, tool};

use self::journal::Journal;
use self::listen::Listening;
use crate::Authority;

/// Begins a server without tools: HTTP/2 over plaintext, both eras, one page.
pub fn server() -> ServerBuilder {
    ServerBuilder { listening: Listening::H2c, script: Offer::default() }
}

/// Collects what a server offers.
#[derive(Debug)]
pub struct ServerBuilder {
    listening: Listening,
    script: Offer,
}

/// What a server offers.
#[derive(Debug)]
struct Offer {
    tools: Vec<Script>,
    page_size: usize,
    modern: bool,
    legacy: bool,
    lists_legacy: bool,
    name: String,
}

/// What happens to the next call instead of its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before the tool runs.
    DropBefore,
    /// The tool runs, then the connection ends without an answer.
    DropAfter,
    /// Says that headers and body disagree, without running the tool.
    RefuseHeaders,
    /// This HTTP status, without running the tool.
    Status(u16),
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    running: Option<JoinHandle<()>>,
}

/// What outlives a restart.
#[derive(Debug)]
struct Shared {
    offer: Mutex<Arc<Offer>>,
    listening: Listening,
    journal: Journal,
    faults: Mutex<VecDeque<Fault>>,
    /// What was sent here and does not fit the schema of its revision.
    misfits: Mutex<Vec<String>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            tools: Vec::new(),
            page_size: usize::MAX,
            modern: true,
            legacy: true,
            lists_legacy: true,
            name: "scripted".to_owned(),
        }
    }
}

// === impl ServerBuilder ===

impl ServerBuilder {
    /// Adds a tool.
    pub fn tool(mut self, script: Script) -> Self {
        self.script.tools.push(script);
        self
    }

    /// Lists this many tools on a page.
    pub fn page_size(mut self, tools: usize) -> Self {
        self.script.page_size = tools;
        self
    }

    /// What it calls itself.
    pub fn named(mut self, name: &str) -> Self {
        self.script.name = name.to_owned();
        self
    }

    /// Knows both eras, but says of itself that it knows 2026-07-28 alone.
    pub fn modest(mut self) -> Self {
        self.script.lists_legacy = false;
        self
    }

    /// Knows 2026-07-28 and nothing older.
    pub fn modern_only(mut self) -> Self {
        self.script.legacy = false;
        self
    }

    /// Knows sessions and nothing newer.
    pub fn legacy_only(mut self) -> Self {
        self.script.modern = false;
        self
    }

    /// Speaks HTTP/2 by prior knowledge over plaintext.
    pub fn h2c(mut self) -> Self {
        self.listening = Listening::H2c;
        self
    }

    /// Speaks HTTP/1.1 over plaintext.
    pub fn http1(mut self) -> Self {
        self.listening = Listening::Http1;
        self
    }

    /// Speaks TLS and picks HTTP/2 by ALPN.
    pub fn tls(mut self, authority: &Authority) -> Self {
        self.listening = Listening::Tls(authority.server(&["h2", "http/1.1"]));
        self
    }

    /// Speaks TLS, but HTTP/1.1 only.
    pub fn tls_http1(mut self, authority: &Authority) -> Self {
        self.listening = Listening::Tls(authority.server(&["http/1.1"]));
        self
    }

    /// Starts it on a port of its own.
    pub async fn start(self) -> Server {
        let mut server = self.stopped().await;
        server.start_again().await;
        server
    }

    /// Reserves a port, but does not listen yet.
    pub async fn stopped(self) -> Server {
        let address = listen::free_address().await;
        let shared = Shared {
            offer: Mutex::new(Arc::new(self.script)),
            listening: self.listening,
            journal: Journal::default(),
            faults: Mutex::default(),
            misfits: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        };
        Server { shared: Arc::new(shared), address, running: None }
    }
}

// === impl Server ===

impl Server {
    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        let (scheme, host) = match self.shared.listening {
            Listening::Tls(_) => ("https", "localhost"),
            Listening::H2c | Listening::Http1 => ("http", "127.0.0.1"),
        };
        format!("{scheme}://{host}:{}/mcp", self.address.port())
    }

    /// The wire an operator would configure for it.
    pub fn wire(&self) -> Wire {
        match self.shared.listening {
            Listening::H2c => Wire::H2c,
            Listening::Http1 | Listening::Tls(_) => Wire::Auto,
        }
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Everything it was asked, in the order of arrival.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.journal.all()
    }

    /// The calls of one tool, in the order of arrival.
    pub fn calls(&self, tool: &str) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.tool.as_deref() == Some(tool)).collect()
    }

    /// Waits until the journal shows `what`; panics with it after [`PATIENCE`](crate::PATIENCE).
    pub async fn until(&self, what: &str, holds: impl Fn(&[Exchange]) -> bool) {
        self.shared.journal.until(what, holds).await;
    }

    /// What happens to the next calls, one fault each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().expect("no panic under the lock").extend(faults);
    }

    /// Offers other tools from now on.
    pub fn offer(&self, tools: impl IntoIterator<Item = Script>) {
        let mut offer = self.shared.offer.lock().expect("no panic under the lock");
        *offer = Arc::new(Offer { tools: tools.into_iter().collect(), name: offer.name.clone(), ..**offer });
    }

    /// Ends it at once: the listener and every connection, whatever is under way.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            // Aborted is what we asked for.
            let _ = running.await;
        }
    }

    /// Listens again, on the same port, with no memory of its sessions.
    pub async fn start_again(&mut self) {
        self.kill().await;
        let listener = listen::bind(self.address).await;
        self.running = Some(tokio::spawn(listen::accept(listener, Arc::clone(&self.shared))));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
        if !std::thread::panicking() {
            let misfits = self.shared.misfits.lock().expect("no panic under the lock");
            assert!(misfits.is_empty(), "the server was sent\n{}", misfits.join("\n"));
        }
    }
}
