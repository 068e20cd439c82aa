//! Sessions that a server has forgotten, opened anew a hundred thousand times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use mpe_engine::upstream::connect;
use mpe_engine::{Era, Target, UpstreamConfig};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Origin, Pool, PoolConfig, TlsConfig, Wire};
use tokio::task::JoinSet;

use super::processes::{call, soon};
use super::series::{self, SAMPLES, Sample};
use crate::process::{self, Process};

/// Upstreams at work at once, each with a session of its own.
const WORKERS: u64 = 10;

/// Opens so many sessions, prints the series, and fails if anything is left over, or if the server counts otherwise.
pub(super) async fn run(n_sessions: u64) -> anyhow::Result<()> {
    let address = process::free_address()?;
    let program = std::env::current_exe()?.display().to_string();
    let server = vec![program, "session-server".to_owned(), "--listen".to_owned(), address.to_string()];
    let _server = Process::listening(&server, address, None).await?;
    let uri: http::Uri = format!("http://{address}/mcp").parse()?;
    let target = Target::Http { url: uri.clone(), headers: Vec::new(), wire: Wire::H2c };
    let mut config = UpstreamConfig::new("forgetful", target);
    config.era = Era::Pinned(ProtocolVersion::V2025_11_25);
    let pool = Pool::new(PoolConfig::default(), TlsConfig::default())?;
    let n_rounds = n_sessions / SAMPLES / WORKERS;
    anyhow::ensure!(n_rounds > 0, "{} sessions are the least", SAMPLES * WORKERS);
    let mut upstreams = Vec::new();
    for _ in 0..WORKERS {
        upstreams.push(connect(&config, &pool)?);
    }
    series::print_head("sessions");
    let mut series = Vec::new();
    let n_answered = Arc::new(AtomicU64::new(0));
    for part in 1..=SAMPLES {
        let mut workers = JoinSet::new();
        for upstream in &upstreams {
            let (upstream, n_answered) = (Arc::clone(upstream), Arc::clone(&n_answered));
            workers.spawn(async move {
                for _ in 0..n_rounds {
                    // The session has served its one call: this one is told so, and finds another.
                    call(&*upstream, "echo").await?;
                    n_answered.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        let sample = Sample::take(n_rounds * WORKERS * part, "no process belongs to this").await?;
        sample.print();
        series.push(sample);
    }
    let (answered, opened) = (n_answered.load(Ordering::Relaxed), opened(&pool, &uri).await?);
    anyhow::ensure!(opened == answered, "the server opened {opened} sessions for {answered} calls");
    for upstream in upstreams {
        upstream.close(soon()).await;
    }
    series::check(&series)
}

/// How many sessions the server ever opened.
async fn opened(pool: &Pool, uri: &http::Uri) -> anyhow::Result<u64> {
    let request = Request::get("/opened").body(Bytes::new())?;
    let answer = pool.send(&Origin::of(uri, Wire::H2c)?, request, None).await?;
    let text = answer.into_body().collect().await?.to_bytes();
    std::str::from_utf8(&text)?.parse().context("no number")
}
