//! The engine as a library: a batch beside one call, a healthy upstream beside bad ones.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use mpe_engine::{CallContext, EndpointConfig, EndpointId, Engine, Limits, Target, ToolCall, UpstreamConfig};
use mpe_transport::{PoolConfig, Wire};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::process::{Process, free_address};

/// What `batch` measures.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Milliseconds the upstream takes for each call.
    #[arg(long, default_value_t = 100)]
    pub delay: u64,
    /// How often each cell is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Write the rows to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What `neighbours` measures.
#[derive(Clone, Debug, clap::Args)]
pub struct NeighbourOptions {
    /// Seconds of each phase, alone and beside the others.
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    /// How often both phases take turns.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Calls of the healthy upstream at once.
    #[arg(long, default_value_t = 8)]
    pub callers: usize,
    /// Calls of each bad upstream at once.
    #[arg(long, default_value_t = 16)]
    pub bad_callers: usize,
    /// Write the row to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// One measured cell of `batch`.
#[derive(Debug, Serialize)]
struct Row {
    calls: usize,
    mode: &'static str,
    /// Median of the rounds.
    millis: f64,
    /// Beside one call of the same sitting.
    ratio_to_one: f64,
    /// Connections that were open afterwards.
    connections: usize,
    errors: usize,
}

const MODES: [(&str, bool); 2] = [("sequential", false), ("concurrent", true)];

/// Measures and prints.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let upstream = spawn_upstream(options.delay).await?;
    let mut rows: Vec<Row> = Vec::new();
    println!(
        "{:>6} {:<11} {:>10} {:>14} {:>12} {:>7}",
        "calls", "mode", "ms", "beside one", "connections", "errors"
    );
    let mut one = None;
    for (calls, mode, is_concurrent) in cells() {
        let engine = engine(&upstream, is_concurrent).await?;
        let name = tool(&engine, "bench").context("the upstream lists no tool")?;
        let mut millis = Vec::with_capacity(options.rounds);
        let mut errors = 0;
        for _ in 0..options.rounds {
            let batch = vec![call(&name, None)?; calls];
            let start = Instant::now();
            let results = engine.call_many(batch).await;
            millis.push(start.elapsed().as_secs_f64() * 1000.0);
            errors += results.iter().filter(|result| result.is_err()).count();
        }
        millis.sort_by(f64::total_cmp);
        let median = millis[millis.len() / 2];
        let row = Row {
            calls,
            mode,
            millis: median,
            ratio_to_one: median / *one.get_or_insert(median),
            connections: engine.pool().connections,
            errors,
        };
        println!(
            "{:>6} {:<11} {:>10.1} {:>13.2}x {:>12} {:>7}",
            row.calls, row.mode, row.millis, row.ratio_to_one, row.connections, row.errors
        );
        rows.push(row);
        engine.close(Duration::from_secs(1)).await;
    }
    write(options.json, &rows)
}

/// One call first; sequential ones only as far as patience goes.
fn cells() -> Vec<(usize, &'static str, bool)> {
    let mut cells = vec![(1, "one", true)];
    for calls in [10, 50, 500] {
        for (mode, is_concurrent) in MODES {
            if is_concurrent || calls <= 50 {
                cells.push((calls, mode, is_concurrent));
            }
        }
    }
    cells
}

async fn spawn_upstream(delay: u64) -> anyhow::Result<Process> {
    let own = std::env::current_exe()?.display().to_string();
    let command = [own, "upstream".to_owned(), "--delay".to_owned(), delay.to_string()];
    Process::announced(&command, None).await
}

/// One connection, and as many streams on it as the largest batch needs.
async fn engine(upstream: &Process, is_concurrent: bool) -> anyhow::Result<Engine> {
    let mut pool = PoolConfig::default();
    pool.max_connections = 1;
    pool.max_streams = 500;
    let mut limits = Limits::default();
    limits.concurrent = is_concurrent;
    let mut endpoint =
        EndpointConfig::new(EndpointId::default(), vec![http("bench", &upstream.address.to_string())?]);
    endpoint.limits = limits;
    let engine = Engine::builder().pool(pool).endpoint(endpoint).start().context("engine")?;
    ensure!(
        engine.settled(Instant::now() + Duration::from_secs(10)).await,
        "the upstream was not discovered"
    );
    Ok(engine)
}

fn http(key: &str, address: &str) -> anyhow::Result<UpstreamConfig> {
    let target =
        Target::Http { url: format!("http://{address}/mcp").parse()?, headers: Vec::new(), wire: Wire::H2c };
    Ok(UpstreamConfig::new(key, target))
}

/// The name of an upstream's first tool.
fn tool(engine: &Engine, upstream: &str) -> Option<String> {
    let catalogue = &engine.snapshot(&EndpointId::default())?.catalogue;
    let entry = catalogue.tools().iter().find(|entry| entry.upstream.as_str() == upstream)?;
    Some(entry.tool.name().to_owned())
}

fn call(tool: &str, limit: Option<Duration>) -> anyhow::Result<ToolCall> {
    Ok(ToolCall {
        endpoint: EndpointId::default(),
        tool: tool.to_owned(),
        arguments: RawValue::from_string(r#"{"user_id":"123"}"#.to_owned())?,
        deadline: limit.map(|limit| Instant::now() + limit),
        check_arguments: false,
        context: Arc::new(CallContext::default()),
    })
}

fn write<T: Serialize>(path: Option<PathBuf>, value: &T) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(&path, serde_json::to_vec_pretty(value)?).with_context(|| path.display().to_string())
}

// === Neighbours ===

#[derive(Debug, Serialize)]
struct Neighbours {
    alone_p50_ms: f64,
    alone_p99_ms: f64,
    beside_p50_ms: f64,
    beside_p99_ms: f64,
    p99_ratio: f64,
    calls: u64,
    errors: u64,
    bad_calls: u64,
}

/// What the healthy upstream's callers saw in one kind of phase.
struct Seen {
    micros: Histogram<u64>,
    errors: u64,
}

/// A healthy upstream alone, then beside a dead, a hanging and a slow one, in turns.
pub async fn neighbours(options: NeighbourOptions) -> anyhow::Result<()> {
    let (healthy, slow, hanging) =
        (spawn_upstream(5).await?, spawn_upstream(2_000).await?, spawn_upstream(3_600_000).await?);
    let dead = free_address()?.to_string();
    let address = |process: &Process| process.address.to_string();
    let mut upstreams = vec![
        http("healthy", &address(&healthy))?,
        http("slow", &address(&slow))?,
        http("hanging", &address(&hanging))?,
        http("dead", &dead)?,
    ];
    // Prefixed, so that the names say whose they are; the fast upstream lists the same tool everywhere.
    let mut endpoint = EndpointConfig::new(EndpointId::default(), std::mem::take(&mut upstreams));
    endpoint.naming = mpe_engine::Naming::Prefix;
    let engine = Engine::builder().endpoint(endpoint).start().context("engine")?;
    engine.settled(Instant::now() + Duration::from_secs(10)).await;
    let name = |upstream| tool(&engine, upstream).with_context(|| format!("{upstream} lists nothing"));
    let good = name("healthy")?;
    let bad = [name("slow")?, name("hanging")?, "dead_tool".to_owned()];
    let mut alone = Seen { micros: Histogram::new(4)?, errors: 0 };
    let mut beside = Seen { micros: Histogram::new(4)?, errors: 0 };
    let mut bad_calls = 0;
    hammer(
        &engine,
        &good,
        options.callers,
        Duration::from_secs(1),
        &mut Seen { micros: Histogram::new(4)?, errors: 0 },
    )
    .await?;
    for _ in 0..options.rounds {
        let phase = Duration::from_secs(options.seconds);
        hammer(&engine, &good, options.callers, phase, &mut alone).await?;
        let end = Instant::now() + phase;
        let pestering = bad.iter().flat_map(|tool| (0..options.bad_callers).map(move |n| (tool, n)));
        let pestering = join_all(pestering.map(|(tool, n)| {
            // Strangers do not call in step.
            let late = (PATIENCE + PAUSE) * n as u32 / options.bad_callers as u32;
            pester(&engine, tool, late, end)
        }));
        let (healthy, bad) =
            tokio::join!(hammer(&engine, &good, options.callers, phase, &mut beside), pestering);
        healthy?;
        for calls in bad {
            bad_calls += calls?;
        }
    }
    let millis = |seen: &Seen, quantile| seen.micros.value_at_quantile(quantile) as f64 / 1000.0;
    let row = Neighbours {
        alone_p50_ms: millis(&alone, 0.5),
        alone_p99_ms: millis(&alone, 0.99),
        beside_p50_ms: millis(&beside, 0.5),
        beside_p99_ms: millis(&beside, 0.99),
        p99_ratio: millis(&beside, 0.99) / millis(&alone, 0.99),
        calls: alone.micros.len() + beside.micros.len(),
        errors: alone.errors + beside.errors,
        bad_calls,
    };
    println!(
        "healthy alone: p50 {:.2} ms, p99 {:.2} ms; beside dead, hanging and slow: p50 {:.2} ms, p99 {:.2} ms; \
         p99 ratio {:.3} ({} calls, {} errors; {} calls of the bad ones)",
        row.alone_p50_ms,
        row.alone_p99_ms,
        row.beside_p50_ms,
        row.beside_p99_ms,
        row.p99_ratio,
        row.calls,
        row.errors,
        row.bad_calls
    );
    engine.close(Duration::from_secs(1)).await;
    write(options.json, &row)
}

async fn hammer(
    engine: &Engine,
    tool: &str,
    callers: usize,
    phase: Duration,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let end = Instant::now() + phase;
    let caller = async || -> anyhow::Result<(Vec<u64>, u64)> {
        let (mut micros, mut errors) = (Vec::new(), 0);
        while Instant::now() < end {
            let start = Instant::now();
            match engine.call(call(tool, None)?).await {
                Ok(_) => micros.push(u64::try_from(start.elapsed().as_micros())?),
                Err(_) => errors += 1,
            }
        }
        Ok((micros, errors))
    };
    for calls in join_all((0..callers).map(|_| caller())).await {
        let (micros, errors) = calls?;
        seen.errors += errors;
        for micros in micros {
            seen.micros.record(micros)?;
        }
    }
    Ok(())
}

/// How long a caller of a bad upstream waits for it, and then before it comes again, as people do.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// Calls a bad upstream until `end`, from `late` on.
async fn pester(engine: &Engine, tool: &str, late: Duration, end: Instant) -> anyhow::Result<u64> {
    tokio::time::sleep(late).await;
    let mut calls = 0;
    while Instant::now() < end {
        // It fails; that is its purpose.
        let _ = engine.call(call(tool, Some(PATIENCE))?).await;
        calls += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(calls)
}
