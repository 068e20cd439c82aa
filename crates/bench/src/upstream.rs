//! A fast MCP server: both eras, HTTP/1.1 and h2c on one port, or HTTP/2 over TLS, with delays, sizes and faults to order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::faults::{Countdown, Faults};
use crate::message;

/// What the server does.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Milliseconds before each answer to a call.
    #[arg(long, default_value_t = 0)]
    pub delay: u64,
    /// Bytes of text in each answer.
    #[arg(long, default_value_t = 32)]
    pub payload: usize,
    /// How many tools it lists.
    #[arg(long, default_value_t = 1)]
    pub tools: usize,
    /// Answer calls as an event stream.
    #[arg(long)]
    pub sse: bool,
    /// Know nothing of the modern revision.
    #[arg(long)]
    pub legacy: bool,
    /// PEM file with a certificate chain: speak HTTP/2 over TLS, on one more port.
    #[arg(long, requires = "key")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's key.
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// See [`Faults`].
    #[command(flatten)]
    pub faults: Faults,
}

struct Server {
    options: Options,
    text: String,
    tools: String,
    refused: Countdown,
    unavailable: Countdown,
    connections: AtomicU64,
    calls: AtomicU64,
}

/// Serves until killed; prints its address on one line first.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let acceptor = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => Some(crate::transport::acceptor(certificate, key)?),
        _ => None,
    };
    let server = Arc::new(Server::new(options));
    match acceptor {
        None => println!("listening http://{}/mcp", listener.local_addr()?),
        Some(acceptor) => {
            let encrypted = TcpListener::bind("127.0.0.1:0").await?;
            let (plain, port) = (listener.local_addr()?, encrypted.local_addr()?.port());
            println!("listening http://{plain}/mcp tls {port}");
            tokio::spawn(accept_encrypted(server.clone(), encrypted, acceptor));
        }
    }
    loop {
        let (stream, _) = listener.accept().await?;
        server.connections.fetch_add(1, Ordering::Relaxed);
        // A socket that is already gone reports itself when it is read.
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(server.clone(), stream));
    }
}

async fn accept_encrypted(server: Arc<Server>, listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        server.connections.fetch_add(1, Ordering::Relaxed);
        // As above.
        let _ = stream.set_nodelay(true);
        let (server, acceptor) = (server.clone(), acceptor.clone());
        tokio::spawn(async move {
            // A client that breaks off its handshake wants nothing.
            if let Ok(stream) = acceptor.accept(stream).await {
                connection(server, stream).await;
            }
        });
    }
}

async fn connection(server: Arc<Server>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    if server.options.faults.refuse_every > 0 {
        // A connection that broke has no one left to tell.
        let _ = refusing(server, stream).await;
        return;
    }
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if server.options.faults.max_streams > 0 {
        builder.http2().max_concurrent_streams(server.options.faults.max_streams);
    } else {
        builder.http2().max_concurrent_streams(1000);
    }
    let leave = Arc::new(Notify::new());
    let served = Arc::new(Countdown::default());
    let service = service_fn({
        let leave = leave.clone();
        move |request| {
            if served.falls(server.options.faults.goaway_every) {
                leave.notify_one();
            }
            let server = server.clone();
            async move { Ok::<_, Infallible>(received(&server, request).await) }
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = leave.notified() => connection.as_mut().graceful_shutdown(),
    }
    // The peer may be gone by now; then there is nobody to tell.
    let _ = connection.await;
}

async fn received(server: &Server, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return empty(StatusCode::BAD_REQUEST) };
    server.answer(&head, body.to_bytes()).await
}

/// Serves on raw `h2`, since only that can refuse a stream unread.
async fn refusing(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<()> {
    let mut connection = h2::server::Builder::new().max_concurrent_streams(1000).handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let is_post = request.method() == http::Method::POST;
        if is_post && server.refused.falls(server.options.faults.refuse_every) {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        let server = server.clone();
        tokio::spawn(async move {
            let (head, mut incoming) = request.into_parts();
            let mut body = Vec::new();
            while let Some(Ok(chunk)) = incoming.data().await {
                body.extend_from_slice(&chunk);
            }
            let answer = server.answer(&head, Bytes::from(body)).await;
            let (head, body) = answer.into_parts();
            let Ok(body) = body.collect().await;
            // A client that reset its stream does not want the answer.
            if let Ok(mut stream) = respond.send_response(http::Response::from_parts(head, ()), false) {
                let _ = stream.send_data(body.to_bytes(), true);
            }
        });
    }
    Ok(())
}

impl Server {
    fn new(options: Options) -> Self {
        let text = "x".repeat(options.payload);
        let tools = (0..options.tools.max(1)).map(describe).collect::<Vec<_>>().join(",");
        Self {
            options,
            text,
            tools,
            refused: Countdown::default(),
            unavailable: Countdown::default(),
            connections: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    async fn answer(&self, head: &http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        if head.uri.path() == "/stats" {
            let stats = format!(
                r#"{{"connections":{},"calls":{}}}"#,
                self.connections.load(Ordering::Relaxed),
                self.calls.load(Ordering::Relaxed)
            );
            return json(StatusCode::OK, stats);
        }
        if head.method != http::Method::POST {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let Ok(message) = serde_json::from_slice::<message::Request<'_>>(&body) else {
            return empty(StatusCode::BAD_REQUEST);
        };
        let Some(id) = message.id else { return empty(StatusCode::ACCEPTED) };
        match message.method {
            "tools/call" => self.call(id.get()).await,
            "tools/list" => json(StatusCode::OK, result(id.get(), &self.list())),
            "server/discover" if !self.options.legacy => json(StatusCode::OK, result(id.get(), DISCOVERED)),
            "initialize" => json(StatusCode::OK, result(id.get(), INITIALIZED)),
            "ping" => json(StatusCode::OK, result(id.get(), "{}")),
            _ => json(StatusCode::NOT_FOUND, unknown(id.get())),
        }
    }

    async fn call(&self, id: &str) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.unavailable.falls(self.options.faults.unavailable_every) {
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        if self.options.delay > 0 {
            tokio::time::sleep(Duration::from_millis(self.options.delay)).await;
        }
        let kind = if self.options.legacy { "" } else { r#""resultType":"complete","# };
        let answer = result(
            id,
            &format!(r#"{{{kind}"content":[{{"type":"text","text":"{}"}}],"isError":false}}"#, self.text),
        );
        if self.options.sse { event(&answer) } else { json(StatusCode::OK, answer) }
    }

    fn list(&self) -> String {
        if self.options.legacy {
            format!(r#"{{"tools":[{}]}}"#, self.tools)
        } else {
            format!(
                r#"{{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[{}]}}"#,
                self.tools
            )
        }
    }
}

fn describe(index: usize) -> String {
    let name = if index == 0 { "echo".to_owned() } else { format!("tool_{index:05}") };
    format!(
        r#"{{"name":"{name}","description":"Answers with text of a fixed size.","inputSchema":{{"type":"object","properties":{{"text":{{"type":"string","description":"Anything."}},"n":{{"type":"integer"}}}}}},"annotations":{{"readOnlyHint":true}}}}"#
    )
}

fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn unknown(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"method not found"}}}}"#)
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    typed(status, "application/json", body)
}

fn event(message: &str) -> Response<Full<Bytes>> {
    typed(StatusCode::OK, "text/event-stream", format!("event: message\ndata: {message}\n\n"))
}

fn typed(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

const DISCOVERED: &str = r#"{"resultType":"complete","ttlMs":60000,"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench-upstream","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench-upstream","version":"1"}}"#;
