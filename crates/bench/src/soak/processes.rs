//! Processes started, used and ended, ten thousand times.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mpe_engine::upstream::{Upstream, UpstreamRequest, connect};
use mpe_engine::{CallContext, Target, UpstreamConfig};
use mpe_transport::{Pool, PoolConfig, TlsConfig};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::peers::STDIO_SERVER;
use super::series::{self, SAMPLES, Sample};

/// Upstreams at work at once.
const WORKERS: u64 = 5;

/// Starts so many processes, prints the series, and fails if anything is left over.
///
/// Half of them serve one call and are ended by us; every second of those has left a child behind. The other half die
/// of a call and are replaced by the next.
pub(super) async fn run(n_processes: u64) -> anyhow::Result<()> {
    let mark = format!("soaked-by-{}", std::process::id());
    let target = Target::Stdio {
        command: std::env::current_exe()?.display().to_string(),
        args: vec![STDIO_SERVER.to_owned(), mark.clone()],
        env: Vec::new(),
        cwd: None,
    };
    let config = Arc::new(UpstreamConfig::new("soaked", target));
    let pool = Pool::new(PoolConfig::default(), TlsConfig::default())?;
    let n_rounds = n_processes / SAMPLES / WORKERS / 4;
    anyhow::ensure!(n_rounds > 0, "{} processes are the least", SAMPLES * WORKERS * 4);
    series::print_head("processes");
    let mut series = Vec::new();
    for part in 1..=SAMPLES {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (config, pool) = (Arc::clone(&config), pool.clone());
            workers.spawn(async move {
                for _ in 0..n_rounds {
                    four(&config, &pool).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        let sample = Sample::take(n_rounds * 4 * WORKERS * part, &mark).await?;
        sample.print();
        series.push(sample);
    }
    series::check(&series)
}

/// Four processes: two that die of a call, one that is ended, and one that is ended and has littered.
async fn four(config: &UpstreamConfig, pool: &Pool) -> anyhow::Result<()> {
    let upstream = connect(config, pool)?;
    for _ in 0..2 {
        call(&*upstream, "echo").await?;
        anyhow::ensure!(call(&*upstream, "die").await.is_err(), "a process that dies has no answer");
    }
    call(&*upstream, "echo").await?;
    upstream.close(soon()).await;
    let upstream = connect(config, pool)?;
    call(&*upstream, "litter").await?;
    upstream.close(soon()).await;
    Ok(())
}

pub(super) async fn call(upstream: &dyn Upstream, tool: &str) -> anyhow::Result<()> {
    let params = RawValue::from_string(format!(r#"{{"name":"{tool}","arguments":{{}}}}"#))?;
    let request = UpstreamRequest {
        method: Cow::Borrowed("tools/call"),
        params: Some(params),
        name: None,
        mirrored: Vec::new(),
        context: Arc::new(CallContext::default()),
        deadline: soon(),
    };
    let reply = upstream.request(request).await.map_err(|error| anyhow::anyhow!("{tool}: {error:?}"))?;
    reply.outcome.map(drop).map_err(|error| anyhow::anyhow!("{tool}: {error:?}")).context("refused")
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}
