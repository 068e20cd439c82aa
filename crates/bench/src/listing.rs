//! What `tools/list` costs with very many tools, beside copying the same bytes from a static file over the same server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mpe_engine::{EndpointConfig, EndpointId, Engine, Target, UpstreamConfig};
use mpe_gateway::{Gateway, GatewayConfig};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Prompt;
use crate::load::{self, Front, Load, Shape};
use crate::message;

/// What `listing` measures.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Tools of the one upstream, all on one page.
    #[arg(long, default_value_t = 5000)]
    pub tools: usize,
    /// Seconds of load for each.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Requests in flight.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    /// Write the rows to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// One way to the same bytes.
#[derive(Debug, Serialize)]
struct Row {
    way: &'static str,
    bytes: usize,
    requests_per_second: f64,
    /// Load generator and server together: they share a core.
    us_per_request: f64,
    errors: u64,
}

/// Measures the gateway, then a server that copies a file, with the same load over h2c, one after the other.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let upstream = Arc::new(Prompt::new(0, options.tools));
    let target = Target::Custom(upstream);
    let endpoint = EndpointConfig::new(EndpointId::default(), vec![UpstreamConfig::new("s", target)]);
    let mut config = GatewayConfig::default();
    config.page_size = options.tools;
    let gateway = Gateway::start(Engine::builder().endpoint(endpoint), config).context("gateway")?;
    ensure!(gateway.engine().settled(Instant::now() + Duration::from_secs(60)).await, "not discovered");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let through = listener.local_addr()?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(mpe_gateway::serve(gateway, listener, stop.clone()));

    let shape = Arc::new(shape(options.tools));
    let file = list(through, &shape).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tools.json");
    std::fs::write(&path, &file)?;
    let copied = serve_file(std::fs::read(&path)?.into()).await?;

    println!("{:>8} {:>10} {:>10} {:>10} {:>7}", "", "bytes", "req/s", "us/req", "errors");
    let mut rows: Vec<Row> = Vec::new();
    // The first turn warms up and is not counted.
    for (n, (way, address)) in
        [("engine", through), ("file", copied), ("engine", through), ("file", copied)].into_iter().enumerate()
    {
        let seconds = if n < 2 { 0.5 } else { options.seconds };
        let duration = Duration::from_secs_f64(seconds);
        let load = Load { front: Front::H2c, in_flight: options.in_flight, duration, rate: None };
        let outcome = load::run(address, Arc::clone(&shape), load).await?;
        if let Some(error) = &outcome.first_error {
            println!("{way}: {error}");
        }
        let row = Row {
            way,
            bytes: file.len(),
            requests_per_second: outcome.rps,
            us_per_request: 1e6 / outcome.rps,
            errors: outcome.errors,
        };
        if n >= 2 {
            println!(
                "{:>8} {:>10} {:>10.0} {:>10.1} {:>7}",
                row.way, row.bytes, row.requests_per_second, row.us_per_request, row.errors
            );
            rows.push(row);
        }
    }
    let extra = rows[0].us_per_request - rows[1].us_per_request;
    println!(
        "{:.2}x the file's copy; {extra:.1} us more a request",
        rows[0].us_per_request / rows[1].us_per_request
    );
    stop.cancel();
    serving.await??;
    let Some(path) = options.json else { return Ok(()) };
    std::fs::write(&path, serde_json::to_vec_pretty(&rows)?).with_context(|| path.display().to_string())
}

/// A modern `tools/list`; a good answer ends with the last tool.
fn shape(n_tools: usize) -> Shape {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{{id}},"method":"tools/list","params":{{"_meta":{}}}}}"#,
        message::META
    );
    let headers =
        vec![("mcp-protocol-version", message::MODERN.to_owned()), ("mcp-method", "tools/list".to_owned())];
    let expect = format!(r#""name":"tool_{}""#, n_tools - 1);
    Shape { path: "/mcp".to_owned(), accept: load::MCP, headers, body, expect }
}

/// One answer's bytes.
async fn list(address: SocketAddr, shape: &Shape) -> anyhow::Result<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut client, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let mut request = Request::post(&shape.path)
        .header("host", address.to_string())
        .header("content-type", "application/json")
        .header("accept", "application/json");
    for (name, value) in &shape.headers {
        request = request.header(*name, value);
    }
    let body = shape.body.replace("{id}", "1");
    let response = client.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    ensure!(response.status().is_success(), "the list is answered with {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}

/// A server that answers everything with these bytes; it ends with the process.
async fn serve_file(file: Bytes) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A copy that waits for more to send would look slower than it is.
            let _ = stream.set_nodelay(true);
            let file = file.clone();
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let file = file.clone();
                    async move {
                        // Read as any server would, so that both sides get the same request.
                        let _ = request.into_body().collect().await;
                        let mut response = Response::new(Full::new(file));
                        let json = http::HeaderValue::from_static("application/json");
                        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
                        Ok::<_, Infallible>(response)
                    }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // A client that goes away needs no answer.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}
