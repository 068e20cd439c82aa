//! One client under measurement: a closed loop with so many in flight, its own CPU time counted by the kernel.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mpe_transport::{Origin, Pool, PoolConfig, TlsConfig};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// A bare h2 loop without a pool, without deadlines, without limits: the floor.
    H2,
    /// `hyper_util::client::legacy`.
    HyperUtil,
    /// Ours.
    Pool,
    /// `reqwest`.
    Reqwest,
}

/// HTTP/2 over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
    /// Plaintext, by prior knowledge.
    H2c,
    /// TLS with ALPN.
    Tls,
}

/// What is sent and what comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A POST whose answer is 64 KiB.
    Large,
    /// A POST of 200 bytes and the same bytes back.
    Small,
}

/// One run.
#[derive(Debug, clap::Args)]
pub struct ClientOptions {
    #[arg(long, value_enum)]
    client: Client,
    #[arg(long, value_enum)]
    wire: Wire,
    #[arg(long, value_enum)]
    shape: Shape,
    #[arg(long)]
    in_flight: usize,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    address: SocketAddr,
    /// Streams of one connection in our pool. Default: the pool's own default.
    #[arg(long)]
    max_streams: Option<usize>,
    /// The authority to trust, PEM.
    #[arg(long)]
    ca: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Answers per second.
    pub requests_per_second: f64,
    /// CPU time of the client's process per answer; the same number is CPU milliseconds per 1,000.
    pub cpu_us_per_request: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Answers that were not what was expected.
    pub errors: u64,
}

/// Bytes of a large answer.
pub const LARGE_BYTES: usize = 64 << 10;

/// Bytes of a small request, and of its answer.
const SMALL_BYTES: usize = 200;

/// Requests before the clock starts: connections are open and allocators warm then.
const WARM_UP: Duration = Duration::from_millis(300);

/// Streams of one connection in the bare loop; the server allows more.
const FLOOR_STREAMS: usize = 512;

// === impl Client, Wire, Shape ===

impl Client {
    /// In the order in which they are run.
    pub const ALL: [Self; 4] = [Self::H2, Self::Pool, Self::HyperUtil, Self::Reqwest];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::HyperUtil => "hyper-util",
            Self::Pool => "pool",
            Self::Reqwest => "reqwest",
        }
    }
}

impl Wire {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H2c => "h2c",
            Self::Tls => "tls",
        }
    }
}

impl Shape {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small",
        }
    }

    fn answer_bytes(self) -> usize {
        match self {
            Self::Large => LARGE_BYTES,
            Self::Small => SMALL_BYTES,
        }
    }
}

/// One request, again and again; gives the length of the answer.
trait Exchange: Clone + Send + 'static {
    fn exchange(&mut self, request: Request<Bytes>) -> impl Future<Output = anyhow::Result<usize>> + Send;
}

/// Runs the load and prints the figures as one line of JSON.
pub async fn run(options: ClientOptions) -> anyhow::Result<()> {
    let figures = match options.client {
        Client::H2 => measure(&options, Bare::open(&options).await?).await?,
        Client::HyperUtil => match options.wire {
            Wire::H2c => {
                let client = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(nodelay());
                measure(&options, HyperUtil(client)).await?
            }
            Wire::Tls => {
                let connector = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(tls_config(&options)?)
                    .https_only()
                    .enable_http2()
                    .wrap_connector(nodelay());
                let client = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
                measure(&options, HyperUtil(client)).await?
            }
        },
        Client::Pool => measure(&options, Ours::new(&options)?).await?,
        Client::Reqwest => measure(&options, Reqwest::new(&options)?).await?,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn measure(options: &ClientOptions, client: impl Exchange) -> anyhow::Result<Figures> {
    load(options, &client, WARM_UP).await?;
    let cpu_before = cpu_time()?;
    let begin = Instant::now();
    let (latency, errors) = load(options, &client, Duration::from_secs_f64(options.seconds)).await?;
    let (elapsed, cpu) = (begin.elapsed(), cpu_time()? - cpu_before);
    let n_requests = latency.len().max(1) as f64;
    Ok(Figures {
        requests_per_second: n_requests / elapsed.as_secs_f64(),
        cpu_us_per_request: cpu.as_secs_f64() * 1e6 / n_requests,
        p50_ms: latency.value_at_quantile(0.5) as f64 / 1000.0,
        p99_ms: latency.value_at_quantile(0.99) as f64 / 1000.0,
        errors,
    })
}

async fn load(
    options: &ClientOptions,
    client: &impl Exchange,
    duration: Duration,
) -> anyhow::Result<(Histogram<u64>, u64)> {
    let tally = Arc::new(Mutex::new((Histogram::new_with_bounds(1, 60_000_000, 3)?, 0)));
    let end = Instant::now() + duration;
    let host = if options.wire == Wire::Tls { "https://localhost" } else { "http://127.0.0.1" };
    let uri: Uri = format!("{host}:{}/{}", options.address.port(), options.shape.name()).parse()?;
    let body = Bytes::from(vec![b'x'; SMALL_BYTES]);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..options.in_flight {
        let (mut client, tally, shape) = (client.clone(), tally.clone(), options.shape);
        let (uri, body) = (uri.clone(), body.clone());
        workers.spawn(async move {
            while Instant::now() < end {
                let request = Request::post(uri.clone())
                    .header("content-type", "application/json")
                    .header("accept", "application/json, text/event-stream")
                    .header("mcp-protocol-version", "2026-07-28")
                    .body(body.clone())
                    .expect("a request");
                let sent = Instant::now();
                let answer = client.exchange(request).await;
                let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                let is_good = matches!(&answer, Ok(n_bytes) if *n_bytes == shape.answer_bytes());
                if let Err(error) = answer {
                    eprintln!("{error:#}");
                }
                let mut tally = tally.lock().expect("nobody panics with it");
                tally.0.saturating_record(micros);
                tally.1 += u64::from(!is_good);
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker?;
    }
    let tally = tally.lock().expect("nobody panics with it");
    Ok((tally.0.clone(), tally.1))
}

/// CPU time of all threads of this process, to the nanosecond.
fn cpu_time() -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let path = thread?.path().join("schedstat");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        nanos += text.split_whitespace().next().context("no time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn roots(options: &ClientOptions) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&options.ca)?)?;
    Ok(roots)
}

fn tls_config(options: &ClientOptions) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(options)?)
        .with_no_client_auth())
}

fn nodelay() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector
}

// === the bare loop ===

#[derive(Clone)]
struct Bare {
    connections: Vec<h2::client::SendRequest<Bytes>>,
    turn: usize,
}

impl Bare {
    async fn open(options: &ClientOptions) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..options.in_flight.div_ceil(FLOOR_STREAMS) {
            let stream = TcpStream::connect(options.address).await?;
            stream.set_nodelay(true)?;
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(8 << 20);
            match options.wire {
                Wire::H2c => {
                    let (requests, connection) = builder.handshake(stream).await?;
                    tokio::spawn(connection);
                    connections.push(requests);
                }
                Wire::Tls => {
                    let mut config = tls_config(options)?;
                    config.alpn_protocols = vec![b"h2".to_vec()];
                    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                    let stream = connector.connect("localhost".try_into()?, stream).await?;
                    let (requests, connection) = builder.handshake(stream).await?;
                    tokio::spawn(connection);
                    connections.push(requests);
                }
            }
        }
        Ok(Self { connections, turn: 0 })
    }
}

impl Exchange for Bare {
    async fn exchange(&mut self, request: Request<Bytes>) -> anyhow::Result<usize> {
        self.turn = (self.turn + 1) % self.connections.len();
        let requests = &mut self.connections[self.turn];
        std::future::poll_fn(|cx| requests.poll_ready(cx)).await?;
        let (head, body) = request.into_parts();
        let (response, mut sending) = requests.send_request(Request::from_parts(head, ()), false)?;
        sending.send_data(body, true)?;
        let mut body = response.await?.into_body();
        let mut n_bytes = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            n_bytes += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        Ok(n_bytes)
    }
}

// === ours ===

#[derive(Clone)]
struct Ours {
    pool: Pool,
    origin: Origin,
}

impl Ours {
    fn new(options: &ClientOptions) -> anyhow::Result<Self> {
        let mut tls = TlsConfig::default();
        tls.extra_roots_pem = vec![std::fs::read(&options.ca)?];
        let mut config = PoolConfig::default();
        config.max_streams = options.max_streams.unwrap_or(config.max_streams);
        let pool = Pool::new(config, tls)?;
        let port = options.address.port();
        let (uri, wire) = match options.wire {
            Wire::H2c => (format!("http://127.0.0.1:{port}/"), mpe_transport::Wire::H2c),
            Wire::Tls => (format!("https://localhost:{port}/"), mpe_transport::Wire::Auto),
        };
        Ok(Self { pool, origin: Origin::of(&uri.parse()?, wire)? })
    }
}

impl Exchange for Ours {
    async fn exchange(&mut self, request: Request<Bytes>) -> anyhow::Result<usize> {
        let response = self.pool.send(&self.origin, request, None).await?;
        let mut body = response.into_body();
        let mut n_bytes = 0;
        while let Some(frame) = body.frame().await {
            n_bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(n_bytes)
    }
}

// === hyper-util ===

#[derive(Clone)]
struct HyperUtil<C>(legacy::Client<C, Full<Bytes>>);

impl<C> Exchange for HyperUtil<C>
where
    C: legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    async fn exchange(&mut self, request: Request<Bytes>) -> anyhow::Result<usize> {
        let mut body = self.0.request(request.map(Full::new)).await?.into_body();
        let mut n_bytes = 0;
        while let Some(frame) = body.frame().await {
            n_bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(n_bytes)
    }
}

// === reqwest ===

#[derive(Clone)]
struct Reqwest(reqwest::Client);

impl Reqwest {
    fn new(options: &ClientOptions) -> anyhow::Result<Self> {
        let mut config = tls_config(options)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let builder = reqwest::Client::builder().tls_backend_preconfigured(config).http2_prior_knowledge();
        Ok(Self(builder.build()?))
    }
}

impl Exchange for Reqwest {
    async fn exchange(&mut self, request: Request<Bytes>) -> anyhow::Result<usize> {
        let request = reqwest::Request::try_from(request)?;
        let mut response = self.0.execute(request).await?;
        let mut n_bytes = 0;
        while let Some(chunk) = response.chunk().await? {
            n_bytes += chunk.len();
        }
        Ok(n_bytes)
    }
}
