//! What endpoints on demand cost: to make, to keep while nobody uses them, to retire.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mpe_engine::upstream::Upstream;
use mpe_engine::{EndpointConfig, EndpointId, EndpointSource, Engine, LazyLimits, Target, UpstreamConfig};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::catalogue::{Prompt, resident_mib};

/// What `endpoints` measures.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Endpoints.
    #[arg(long, default_value_t = 10_000)]
    pub endpoints: usize,
    /// Tools of each.
    #[arg(long, default_value_t = 20)]
    pub tools: usize,
    /// How long they live idle, in seconds: longer than it takes to make them all.
    #[arg(long, default_value_t = 30)]
    pub idle: u64,
    /// Write the row to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Row {
    endpoints: usize,
    tools: usize,
    /// Until all of them are made and discovered, each.
    make_us: f64,
    /// Resident memory gained by each: its server's listing, its catalogue, its tasks.
    idle_kib: f64,
    /// Those left after they have been idle for too long.
    left: usize,
    /// Resident memory that the allocator has not given back by then, over all of them.
    kept_mib: f64,
    /// What as many again, made after those are gone, add to it: nothing, if what is kept can be used again.
    again_mib: f64,
}

struct Source {
    tools: usize,
}

impl EndpointSource for Source {
    fn endpoint(&self, id: &EndpointId) -> Option<EndpointConfig> {
        let n = id.as_str().parse().ok()?;
        let server = Arc::new(Prompt::new(n, self.tools)) as Arc<dyn Upstream>;
        Some(EndpointConfig::new(id.clone(), vec![UpstreamConfig::new("server", Target::Custom(server))]))
    }
}

/// Makes them, looks, and waits until they are gone.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let Options { endpoints, tools, .. } = options;
    let idle = Duration::from_secs(options.idle);
    let mut limits = LazyLimits::default();
    limits.max_endpoints = endpoints;
    limits.idle = idle;
    let before = resident_mib()?;
    let engine = Engine::builder()
        .endpoints_on_demand(Arc::new(Source { tools }), limits)
        .start()
        .context("engine")?;
    let made = make(&engine, 0..endpoints).await?;
    let full = resident_mib()?;
    // Looked for every quarter of the time, gone a grace later.
    sleep(idle + idle / 2 + Duration::from_secs(3)).await;
    let (left, kept) = (engine.endpoints().len(), resident_mib()?);
    make(&engine, endpoints..2 * endpoints).await?;
    let row = Row {
        endpoints,
        tools,
        make_us: made.as_secs_f64() * 1e6 / endpoints as f64,
        idle_kib: (full - before) * 1024.0 / endpoints as f64,
        left,
        kept_mib: kept - before,
        again_mib: resident_mib()? - full,
    };
    engine.close(Duration::from_secs(1)).await;
    println!(
        "{:>9} {:>6} {:>9} {:>9} {:>6} {:>9} {:>9}",
        "endpoints", "tools", "make us", "idle KiB", "left", "kept MiB", "again MiB"
    );
    println!(
        "{:>9} {:>6} {:>9.1} {:>9.1} {:>6} {:>9.1} {:>9.1}",
        row.endpoints, row.tools, row.make_us, row.idle_kib, row.left, row.kept_mib, row.again_mib
    );
    let Some(path) = options.json else { return Ok(()) };
    std::fs::write(&path, serde_json::to_vec_pretty(&row)?).with_context(|| path.display().to_string())
}

/// Makes an endpoint for each number; returns how long that took, discovery included.
async fn make(engine: &Engine, numbers: std::ops::Range<usize>) -> anyhow::Result<Duration> {
    let (start, n_endpoints) = (Instant::now(), numbers.len());
    for n in numbers {
        ensure!(engine.snapshot(&EndpointId::new(n.to_string())).is_some(), "endpoint {n} was not made");
        // Discovery shares this thread.
        tokio::task::yield_now().await;
    }
    ensure!(engine.settled(Instant::now() + Duration::from_secs(120)).await, "not discovered in two minutes");
    ensure!(engine.endpoints().len() == n_endpoints, "some are gone already: give them a longer --idle");
    Ok(start.elapsed())
}
