//! Proxies that do the least a proxy can do: one upstream connection, no pool, no limits, no metrics.
//!
//! * `pass` streams bytes unread.
//! * `mcp` parses the JSON-RPC envelope, rewrites id and tool name, and makes the headers.
//! * `rest` takes `POST /tools/{tool}`, makes a `tools/call`, and gives the first text back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use crate::message;

/// Which yardstick, and between what.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Which one.
    #[arg(value_enum)]
    pub kind: Kind,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The upstream's address; spoken to in h2c.
    #[arg(long)]
    pub upstream: SocketAddr,
}

/// The yardsticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Envelope parsed, id and name rewritten.
    Mcp,
    /// Bytes unread.
    Pass,
    /// REST in front, MCP behind.
    Rest,
}

type Sent = Either<Incoming, Full<Bytes>>;
type Answer = Response<Either<Incoming, Full<Bytes>>>;

struct Proxy {
    kind: Kind,
    upstream: SendRequest<Sent>,
    uri: http::Uri,
    next: AtomicU64,
}

/// Serves until killed; prints its address on one line first.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let stream = TcpStream::connect(options.upstream).await.context("the upstream does not accept")?;
    stream.set_nodelay(true)?;
    let (upstream, driver) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(driver);
    let uri = format!("http://{}/mcp", options.upstream).parse()?;
    let proxy = Arc::new(Proxy { kind: options.kind, upstream, uri, next: AtomicU64::new(1) });
    let listener = TcpListener::bind(options.listen).await?;
    println!("listening http://{}/mcp", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let proxy = proxy.clone();
                async move { Ok::<_, Infallible>(proxy.answer(request).await.unwrap_or_else(|_| failed())) }
            });
            let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(1000);
            // A client that goes away needs no answer.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Answer> {
        match self.kind {
            Kind::Mcp => self.mcp(request).await,
            Kind::Pass => self.pass(request).await,
            Kind::Rest => self.rest(request).await,
        }
    }

    async fn pass(&self, mut request: Request<Incoming>) -> anyhow::Result<Answer> {
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().remove(http::header::HOST);
        Ok(self.upstream.clone().send_request(request.map(Either::Left)).await?.map(Either::Left))
    }

    async fn mcp(&self, request: Request<Incoming>) -> anyhow::Result<Answer> {
        let body = request.into_body().collect().await?.to_bytes();
        let message: message::Request<'_> = serde_json::from_slice(&body)?;
        let id = message.id.context("a request has an id")?;
        let params = message.params.context("a call has params")?;
        let call: message::CallParams<'_> = serde_json::from_str(params.get())?;
        let sent = self.call(call.name, call.arguments.map_or("{}", |raw| raw.get())).await?;
        let answer: message::Response<'_> = serde_json::from_slice(&sent)?;
        let result = answer.result.context("a call has a result")?;
        Ok(json(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, id.get(), result.get())))
    }

    async fn rest(&self, request: Request<Incoming>) -> anyhow::Result<Answer> {
        let tool = request.uri().path().strip_prefix("/tools/").context("no tool in the path")?.to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let arguments: &serde_json::value::RawValue = serde_json::from_slice(&body)?;
        let sent = self.call(&tool, arguments.get()).await?;
        let answer: Texts = serde_json::from_slice(&sent)?;
        Ok(json(serde_json::to_string(&answer.result.content[0].text)?))
    }

    async fn call(&self, tool: &str, arguments: &str) -> anyhow::Result<Bytes> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = message::modern_call(id, tool, arguments);
        let request = Request::post(self.uri.clone())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", message::MODERN)
            .header("mcp-method", "tools/call")
            .header("mcp-name", tool)
            .body(Either::Right(Full::new(Bytes::from(body))))?;
        let response = self.upstream.clone().send_request(request).await?;
        let streamed = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let bytes = response.into_body().collect().await?.to_bytes();
        if !streamed {
            return Ok(bytes);
        }
        let text = std::str::from_utf8(&bytes)?;
        let data =
            text.lines().find_map(|line| line.strip_prefix("data: ")).context("an event without data")?;
        Ok(bytes.slice_ref(data.as_bytes()))
    }
}

#[derive(serde::Deserialize)]
struct Texts {
    result: Content,
}

#[derive(serde::Deserialize)]
struct Content {
    content: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
}

fn json(body: String) -> Answer {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(body))));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn failed() -> Answer {
    let mut response = Response::new(Either::Right(Full::new(Bytes::new())));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
