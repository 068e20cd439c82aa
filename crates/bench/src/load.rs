//! The load: so many requests in flight (closed loop), or so many sent each second whatever comes of the earlier ones
//! (open loop), for so long. Every answer is checked.
//!
//! In the open loop a latency begins when its request was due, not when it could be sent at last: a proxy that stalls
//! cannot hide it by holding the load back (coordinated omission).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How the load speaks to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Front {
    /// HTTP/1.1, one connection per request in flight.
    H1,
    /// HTTP/2 by prior knowledge, one connection.
    H2c,
}

/// What an MCP client accepts.
pub const MCP: &str = "application/json, text/event-stream";
/// What a client of a JSON API accepts.
pub const JSON: &str = "application/json";

/// What one request looks like, and what its answer must contain.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Path and query.
    pub path: String,
    /// What the answer may be.
    pub accept: &'static str,
    /// Headers beside `content-type` and `accept`.
    pub headers: Vec<(&'static str, String)>,
    /// The body; `{id}` becomes the request's number.
    pub body: String,
    /// What a good answer contains; `{id}` as above.
    pub expect: String,
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How the load speaks to the gateway.
    pub front: Front,
    /// Requests in flight; in the open loop at most so many, more are counted as errors.
    pub in_flight: usize,
    /// How long.
    pub duration: Duration,
    /// Requests a second; `None`: as many as come back (closed loop).
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Answers per second.
    pub rps: f64,
    /// Answers in all, good and bad.
    pub requests: u64,
    /// Answers that were not what was expected.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Latencies in microseconds.
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// Several outcomes as one; the rate is that of the time they took together.
    pub fn all<'a>(outcomes: impl Iterator<Item = &'a Self>) -> anyhow::Result<Self> {
        let mut latency = new_histogram()?;
        let (mut requests, mut errors, mut first_error, mut seconds) = (0, 0, None, 0.0);
        for outcome in outcomes {
            latency.add(&outcome.latency)?;
            requests += outcome.requests;
            errors += outcome.errors;
            first_error = first_error.or_else(|| outcome.first_error.clone());
            seconds += outcome.requests as f64 / outcome.rps.max(f64::MIN_POSITIVE);
        }
        Ok(Self {
            rps: requests as f64 / seconds.max(f64::MIN_POSITIVE),
            requests,
            errors,
            first_error,
            latency,
        })
    }
}

/// From a microsecond to two minutes, in three digits.
fn new_histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000, 3)?)
}

#[derive(Clone)]
enum Client {
    H1(Rc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

struct Tally {
    latency: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

/// Runs `load` of `shape` against `address`.
///
/// # Errors
/// Only what makes starting impossible: no connection, a shape that is no request.
pub async fn run(address: SocketAddr, shape: Arc<Shape>, load: Load) -> anyhow::Result<Outcome> {
    let local = tokio::task::LocalSet::new();
    match load.rate {
        None => local.run_until(closed_loop(address, shape, load)).await,
        Some(rate) => local.run_until(open_loop(address, shape, load, rate)).await,
    }
}

/// Sends at equal distances in time. One connection over HTTP/2; over HTTP/1.1 as many as are in flight, at most.
async fn open_loop(address: SocketAddr, shape: Arc<Shape>, load: Load, rate: f64) -> anyhow::Result<Outcome> {
    anyhow::ensure!(rate > 0.0, "a rate is more than 0 requests a second");
    let n_connections = if load.front == Front::H1 { load.in_flight } else { 1 };
    let mut clients = Vec::with_capacity(n_connections);
    for _ in 0..n_connections {
        clients.push(connect(address, load.front).await?);
    }
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let places = Arc::new(tokio::sync::Semaphore::new(load.in_flight));
    let begin = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for number in 0.. {
        let due = begin + Duration::from_secs_f64(number as f64 / rate);
        if due >= begin + load.duration {
            break;
        }
        tokio::time::sleep_until(due).await;
        while requests.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tally.borrow_mut().record(due, Err(anyhow::anyhow!("{} requests are in flight", load.in_flight)));
            continue;
        };
        let client = clients[number % clients.len()].clone();
        let (shape, tally) = (shape.clone(), tally.clone());
        requests.spawn_local(async move {
            let outcome = within_patience(&client, address, &shape, number as u64 + 1).await;
            tally.borrow_mut().record(due, outcome);
            drop(place);
        });
    }
    while requests.join_next().await.is_some() {}
    Ok(Tally::outcome(&tally, begin.elapsed()))
}

async fn closed_loop(address: SocketAddr, shape: Arc<Shape>, load: Load) -> anyhow::Result<Outcome> {
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let shared = match load.front {
        Front::H1 => None,
        Front::H2c => Some(connect(address, load.front).await?),
    };
    let begin = Instant::now();
    let end = begin + load.duration;
    let mut workers = Vec::with_capacity(load.in_flight);
    for worker in 0..load.in_flight {
        let client = match &shared {
            Some(client) => client.clone(),
            None => connect(address, load.front).await?,
        };
        let (shape, tally) = (shape.clone(), tally.clone());
        workers.push(tokio::task::spawn_local(async move {
            // Numbers that stay apart without a shared counter.
            let mut id = (worker as u64 + 1) * 10_000_000;
            while Instant::now() < end {
                id += 1;
                let sent = Instant::now();
                let outcome = within_patience(&client, address, &shape, id).await;
                tally.borrow_mut().record(sent, outcome);
            }
        }));
    }
    for worker in workers {
        worker.await?;
    }
    Ok(Tally::outcome(&tally, begin.elapsed()))
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { latency: new_histogram()?, errors: 0, first_error: None })
    }

    fn record(&mut self, since: Instant, outcome: anyhow::Result<()>) {
        let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros);
        if let Err(error) = outcome {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| format!("{error:#}"));
        }
    }

    fn outcome(tally: &RefCell<Self>, elapsed: Duration) -> Outcome {
        let tally = tally.borrow();
        let requests = tally.latency.len();
        Outcome {
            rps: requests as f64 / elapsed.as_secs_f64(),
            requests,
            errors: tally.errors,
            first_error: tally.first_error.clone(),
            latency: tally.latency.clone(),
        }
    }
}

async fn within_patience(client: &Client, address: SocketAddr, shape: &Shape, id: u64) -> anyhow::Result<()> {
    match tokio::time::timeout(Duration::from_secs(30), exchange(client, address, shape, id)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("no answer in 30 s")),
    }
}

/// Sends one request and checks its answer; for warming up and for measuring starts.
pub async fn once(address: SocketAddr, shape: &Shape) -> anyhow::Result<()> {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let client = connect(address, Front::H2c).await?;
            exchange(&client, address, shape, 1).await
        })
        .await
}

async fn connect(address: SocketAddr, front: Front) -> anyhow::Result<Client> {
    let stream = TcpStream::connect(address).await.context("the gateway does not accept")?;
    stream.set_nodelay(true)?;
    match front {
        Front::H1 => {
            let (client, driver) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            Ok(Client::H1(Rc::new(tokio::sync::Mutex::new(client))))
        }
        Front::H2c => {
            let (client, driver) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(16 << 20)
                .handshake(TokioIo::new(stream))
                .await?;
            tokio::spawn(driver);
            Ok(Client::H2(client))
        }
    }
}

async fn exchange(client: &Client, address: SocketAddr, shape: &Shape, id: u64) -> anyhow::Result<()> {
    let number = id.to_string();
    let uri = match client {
        Client::H1(_) => shape.path.clone(),
        Client::H2(_) => format!("http://{address}{}", shape.path),
    };
    let mut request =
        Request::post(uri).header("content-type", "application/json").header("accept", shape.accept);
    if matches!(client, Client::H1(_)) {
        request = request.header("host", address.to_string());
    }
    for (name, value) in &shape.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(shape.body.replace("{id}", &number))))?;
    let (status, body) = match client {
        Client::H1(client) => {
            let mut client = client.lock().await;
            let response = client.send_request(request).await?;
            (response.status(), response.into_body().collect().await?.to_bytes())
        }
        Client::H2(client) => {
            let response = client.clone().send_request(request).await?;
            (response.status(), response.into_body().collect().await?.to_bytes())
        }
    };
    anyhow::ensure!(status.is_success(), "status {status}: {}", excerpt(&body));
    let expected = shape.expect.replace("{id}", &number);
    anyhow::ensure!(contains(&body, expected.as_bytes()), "no {expected} in: {}", excerpt(&body));
    Ok(())
}

fn contains(body: &[u8], expected: &[u8]) -> bool {
    // What is expected stands near the beginning; the whole body is searched only when it does not.
    expected.is_empty() || body.windows(expected.len()).any(|window| window == expected)
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}
