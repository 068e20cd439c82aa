//! The servers that are soaked against: a process that costs about a millisecond to start, and an HTTP server that
//! forgets each session after one call.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The argument that makes this binary the process; it is looked at before anything else is done.
pub const STDIO_SERVER: &str = "stdio-server";
/// Makes it a process that only waits: a child that an untidy server leaves behind.
const LEFT_BEHIND: &str = "--left-behind";

/// An MCP server on its pipes. `arguments` are a mark that it is found by, and what it is.
///
/// It knows the tools `echo`, `die`, and `litter`, which starts a process of its own and leaves it alone.
pub fn run_stdio_server(arguments: &[String]) -> anyhow::Result<()> {
    if arguments.iter().any(|argument| argument == LEFT_BEHIND) {
        loop {
            std::thread::park();
        }
    }
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?)?;
        let Some(id) = message.get("id") else { continue };
        let outcome = match message["method"].as_str() {
            Some("server/discover") => {
                json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
            }
            Some("tools/call") => {
                match message["params"]["name"].as_str() {
                    Some("die") => std::process::exit(1),
                    Some("litter") => {
                        let mut child = Command::new(std::env::current_exe()?);
                        child.arg(STDIO_SERVER).args(arguments).arg(LEFT_BEHIND);
                        child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
                    }
                    _ => {}
                }
                json!({"content": [], "resultType": "complete"})
            }
            _ => json!({"resultType": "complete"}),
        };
        writeln!(out, "{}", json!({"jsonrpc": "2.0", "id": id, "result": outcome}))?;
        out.flush()?;
    }
    Ok(())
}

/// Where the HTTP server listens.
#[derive(Debug, clap::Args)]
pub struct SessionServerOptions {
    #[arg(long)]
    listen: SocketAddr,
}

/// The sessions of the HTTP server.
#[derive(Debug, Default)]
struct Sessions {
    opened: AtomicU64,
    /// Those that have not served a call yet.
    fresh: Mutex<HashSet<String>>,
}

/// Serves until killed. `GET /opened` says how many sessions were ever opened.
pub async fn run_session_server(options: SessionServerOptions) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let sessions = Arc::new(Sessions::default());
    // Dropped with the future, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let sessions = Arc::clone(&sessions);
        connections.spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let sessions = Arc::clone(&sessions);
                async move { Ok::<_, Infallible>(sessions.answer(request).await) }
            });
            // How a connection ends is the client's business.
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Sessions {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/opened" {
            return plain(StatusCode::OK, self.opened.load(Ordering::Relaxed).to_string());
        }
        if request.method() != hyper::Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
        }
        let session = request.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
        let session = session.map(str::to_owned);
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let message: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => return self.open(&message["id"]),
            "tools/call" => {
                let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
                if !session.is_some_and(|session| fresh.remove(&session)) {
                    return plain(StatusCode::NOT_FOUND, "session not found".to_owned());
                }
                json!({"content": []})
            }
            _ if message.get("id").is_none() => return plain(StatusCode::ACCEPTED, String::new()),
            _ => json!({}),
        };
        answer(&message["id"], &result)
    }

    fn open(&self, id: &Value) -> Response<Full<Bytes>> {
        let session = self.opened.fetch_add(1, Ordering::Relaxed).to_string();
        let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "forgetful", "version": "1"}});
        let mut response = answer(id, &result);
        let header = session.parse().expect("digits are a header value");
        response.headers_mut().insert("mcp-session-id", header);
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(session);
        response
    }
}

fn answer(id: &Value, result: &Value) -> Response<Full<Bytes>> {
    let mut response =
        plain(StatusCode::OK, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
