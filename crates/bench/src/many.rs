//! `mpe-bench many`: what lies idle in a gateway, and whether a call finds its upstream as fast among many.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::load::{self, Front, Load, Shape};
use crate::message;
use crate::process::{self, Process};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The engine's binary. Default: `mcp-proxy-engine` beside this one.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Upstream servers.
    #[arg(long, default_value_t = 1000)]
    pub upstreams: usize,
    /// Open `subscriptions/listen` streams.
    #[arg(long, default_value_t = 10_000)]
    pub listeners: usize,
    /// Idle legacy sessions.
    #[arg(long, default_value_t = 10_000)]
    pub sessions: usize,
    /// Write the figures there.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Figures {
    upstreams: usize,
    /// Until every upstream's tools are shown.
    ready_ms: f64,
    /// The engine's memory once they are.
    resident_mib: f64,
    /// One call in flight, among one upstream and among many.
    p50_among_one_ms: f64,
    p50_among_many_ms: f64,
    listeners: usize,
    /// The client's and the server's side of the connection included.
    kib_per_listener: f64,
    sessions: usize,
    kib_per_session: f64,
}

/// Streams that one connection carries; below what the engine allows.
const STREAMS: usize = 200;
/// Seconds that memory may take to come to rest: allocators give back late.
const MOST_RESTS: usize = 20;
/// All upstreams must be listed by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and prints.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("mpe-bench-many-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let figures = measure(&options, &folder).await;
    // What cannot be removed lies in the folder for temporary files, where it is removed some day.
    let _ = std::fs::remove_dir_all(&folder);
    let figures = figures?;
    println!("{} upstreams: shown after {:.0} ms", figures.upstreams, figures.ready_ms);
    println!("  resident              {:>9.1} MiB", figures.resident_mib);
    println!("  p50 among one         {:>9.3} ms", figures.p50_among_one_ms);
    println!("  p50 among all         {:>9.3} ms", figures.p50_among_many_ms);
    println!("{} listening streams: {:.1} KiB each", figures.listeners, figures.kib_per_listener);
    println!("{} idle sessions: {:.2} KiB each", figures.sessions, figures.kib_per_session);
    let Some(path) = options.json else { return Ok(()) };
    std::fs::write(&path, serde_json::to_vec_pretty(&figures)?).with_context(|| path.display().to_string())
}

async fn measure(options: &Options, folder: &std::path::Path) -> anyhow::Result<Figures> {
    let upstream = Process::announced(&own(&["upstream"]), Some(0)).await?;
    let alone = engine(options, folder, upstream.address, 1).await?;
    wait_for("echo", alone.address).await?;
    let p50_among_one_ms = p50(alone.address, "echo").await?;
    drop(alone);

    let begin = Instant::now();
    let many = engine(options, folder, upstream.address, options.upstreams).await?;
    let last = match options.upstreams {
        0 | 1 => "echo".to_owned(),
        n => format!("u{:05}_echo", n - 1),
    };
    wait_for(&last, many.address).await?;
    let ready_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let p50_among_many_ms = p50(many.address, &last).await?;
    let resident_mib = resident_kib(&many).await? / 1024.0;

    // The first legacy client has every upstream asked what it offers in that era, which no later one costs again.
    open_sessions(many.address, 1).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;

    // Sessions first: they stay, so nothing is given back that what comes after could take.
    let before = resident_kib(&many).await?;
    let sessions = open_sessions(many.address, options.sessions).await?;
    let between = resident_kib(&many).await?;
    ensure!(sessions == options.sessions, "{sessions} of {} sessions were opened", options.sessions);
    let listening = listen(many.address, options.listeners).await?;
    let after = resident_kib(&many).await?;
    drop(listening);
    Ok(Figures {
        upstreams: options.upstreams,
        ready_ms,
        resident_mib,
        p50_among_one_ms,
        p50_among_many_ms,
        listeners: options.listeners,
        kib_per_listener: (after - between).max(0.0) / options.listeners.max(1) as f64,
        sessions,
        kib_per_session: (between - before).max(0.0) / options.sessions.max(1) as f64,
    })
}

async fn engine(
    options: &Options,
    folder: &std::path::Path,
    upstream: SocketAddr,
    upstreams: usize,
) -> anyhow::Result<Process> {
    let servers: serde_json::Map<String, serde_json::Value> = (0..upstreams)
        .map(|n| {
            let server = serde_json::json!({ "url": format!("http://{upstream}/mcp"), "h2c": true });
            (format!("u{n:05}"), server)
        })
        .collect();
    let config = serde_json::json!({
        "mcp_servers": servers,
        "limits": { "max_listeners": options.listeners + 10, "max_requests": options.listeners + 1000 },
    });
    let path = folder.join(format!("{upstreams}.json"));
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mcp-proxy-engine"),
    };
    let address = process::free_address()?;
    let text = |path: &std::path::Path| path.display().to_string();
    let command = [
        text(&binary),
        "serve".into(),
        "--config".into(),
        text(&path),
        "--listen".into(),
        address.to_string(),
    ];
    Process::listening(&command, address, Some(1)).await
}

fn own(arguments: &[&str]) -> Vec<String> {
    let this = std::env::current_exe().expect("the running program has a path");
    std::iter::once(this.to_string_lossy().into_owned())
        .chain(arguments.iter().map(|argument| (*argument).to_owned()))
        .collect()
}

/// Its memory once it has come to rest.
async fn resident_kib(process: &Process) -> anyhow::Result<f64> {
    let mut last = process.usage()?.resident_kib as f64;
    for _ in 0..MOST_RESTS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = process.usage()?.resident_kib as f64;
        let is_at_rest = (now - last).abs() < last / 200.0;
        last = now;
        if is_at_rest {
            break;
        }
    }
    Ok(last)
}

fn call(tool: &str) -> Shape {
    let arguments = r#"{"text":"hello","n":7}"#;
    Shape {
        path: format!("/tools/{tool}"),
        accept: load::JSON,
        headers: Vec::new(),
        body: arguments.to_owned(),
        expect: "xxxx".to_owned(),
    }
}

async fn wait_for(tool: &str, address: SocketAddr) -> anyhow::Result<()> {
    let (shape, deadline) = (call(tool), Instant::now() + PATIENCE);
    loop {
        match load::once(address, &shape).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{tool} is not there after {} s", PATIENCE.as_secs())));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn p50(address: SocketAddr, tool: &str) -> anyhow::Result<f64> {
    let load = Load { front: Front::H2c, in_flight: 1, duration: Duration::from_secs(2), rate: None };
    let outcome = load::run(address, Arc::new(call(tool)), load).await?;
    ensure!(outcome.errors == 0, "{} errors: {:?}", outcome.errors, outcome.first_error);
    Ok(outcome.latency.value_at_quantile(0.5) as f64 / 1000.0)
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    // A body that follows its head must not wait for the other side's delayed acknowledgement.
    stream.set_nodelay(true)?;
    let (client, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(client)
}

/// Streams that stay open as long as this is held, each past its acknowledgement.
async fn listen(
    address: SocketAddr,
    count: usize,
) -> anyhow::Result<Vec<(SendRequest<Full<Bytes>>, Response<Incoming>)>> {
    let mut open = Vec::with_capacity(count);
    let mut client = connect(address).await?;
    for n in 0..count {
        if n % STREAMS == 0 {
            client = connect(address).await?;
        }
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{n},"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},"_meta":{}}}}}"#,
            message::META
        );
        let request = post(address, &body)
            .header("mcp-protocol-version", message::MODERN)
            .header("mcp-method", "subscriptions/listen")
            .body(Full::new(Bytes::from(body)))?;
        let mut response = client.send_request(request).await?;
        ensure!(response.status().is_success(), "stream {n}: status {}", response.status());
        let first = response.body_mut().frame().await.context("a stream ended at once")??;
        ensure!(first.is_data(), "stream {n} began without its acknowledgement");
        open.push((client.clone(), response));
    }
    Ok(open)
}

/// Opens legacy sessions, as a client does it up to its first call, and leaves them alone. Returns how many have an id.
async fn open_sessions(address: SocketAddr, count: usize) -> anyhow::Result<usize> {
    let mut client = connect(address).await?;
    let mut opened = 0;
    for _ in 0..count {
        let body = message::initialize();
        let request = post(address, &body).body(Full::new(Bytes::from(body)))?;
        let response = client.send_request(request).await?;
        let Some(session) = response.headers().get("mcp-session-id").cloned() else { continue };
        response.into_body().collect().await?;
        let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let request = post(address, body)
            .header("mcp-protocol-version", message::LEGACY)
            .header("mcp-session-id", session)
            .body(Full::new(Bytes::from_static(body.as_bytes())))?;
        let response = client.send_request(request).await?;
        opened += usize::from(response.status() == StatusCode::ACCEPTED);
        response.into_body().collect().await?;
    }
    Ok(opened)
}

fn post(address: SocketAddr, body: &str) -> http::request::Builder {
    Request::post(format!("http://{address}/mcp"))
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .header("accept", "application/json, text/event-stream")
}
