//! `mpe-bench soak --only exchanges`: very many exchanges, many of them cut short at a random moment, and whether anything piles up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use mpe_transport::{Origin, Pool, PoolConfig, TlsConfig, Wire};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::process::{self, Process};

/// How long to soak.
#[derive(Debug)]
pub struct SoakOptions {
    /// Exchanges in all.
    pub exchanges: u64,
    /// Exchanges in flight.
    pub in_flight: usize,
    /// Write the series there.
    pub json: Option<PathBuf>,
}

/// The process at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Exchanges that have ended by then.
    pub exchanges: u64,
    /// Of those, cut short by their caller.
    pub cancelled: u64,
    /// Memory held.
    pub resident_kib: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Tasks alive on the runtime.
    pub tasks: usize,
    /// Connections of the pool.
    pub connections: usize,
    /// Exchanges under way or waiting, by the pool's books.
    pub held: usize,
}

/// Samples taken on the way; each with nothing in flight.
const SAMPLES: u64 = 10;

/// Soaks, prints the series, and fails if it rises.
pub async fn run(options: SoakOptions) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("mpe-bench-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    super::write_certificates(&folder)?;
    let (plain, tls) = (process::free_address()?, process::free_address()?);
    let server = Process::listening(&super::server_command(&folder, plain, tls)?, tls, None).await;
    std::fs::remove_dir_all(&folder)?;
    let _server = server?;
    println!(
        "{:>9} {:>9} {:>9} {:>5} {:>6} {:>6} {:>5}",
        "exchanges", "cancelled", "RSS KiB", "fds", "tasks", "conns", "held"
    );
    let series = soak(plain, options.exchanges, options.in_flight, |sample| {
        println!(
            "{:>9} {:>9} {:>9} {:>5} {:>6} {:>6} {:>5}",
            sample.exchanges,
            sample.cancelled,
            sample.resident_kib,
            sample.descriptors,
            sample.tasks,
            sample.connections,
            sample.held
        );
    })
    .await?;
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&series)?)?;
    }
    check(&series)?;
    check_memory(&series)
}

/// Runs so many exchanges against the server at `plain`, sampling on the way.
pub async fn soak(
    plain: SocketAddr,
    n_exchanges: u64,
    in_flight: usize,
    mut report: impl FnMut(&Sample),
) -> anyhow::Result<Vec<Sample>> {
    let mut config = PoolConfig::default();
    // Few and narrow connections: exchanges wait for each other, so cancellations hit waiters as well.
    (config.max_connections, config.max_streams) = (4, 16);
    let pool = Pool::new(config, TlsConfig::default())?;
    // Two origins, as the pool sees it, that take connections from each other.
    let uri = format!("http://{plain}/").parse()?;
    let origins = [Origin::of(&uri, Wire::H2c)?, Origin::of(&uri, Wire::Http1)?];
    let cancelled = Arc::new(AtomicU64::new(0));
    let mut series = Vec::new();
    for part in 1..=SAMPLES {
        let mut workers = JoinSet::new();
        for worker in 0..in_flight as u64 {
            let (pool, origins, cancelled) = (pool.clone(), origins.clone(), cancelled.clone());
            let mut random = Random(part << 32 | worker << 1 | 1);
            workers.spawn(async move {
                for _ in 0..n_exchanges / SAMPLES / in_flight as u64 {
                    // One in eight over HTTP/1.1, where cutting an exchange short costs its connection.
                    let origin = &origins[usize::from(random.below(8) == 0)];
                    if !exchange(&pool, origin, &mut random).await? {
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                }
                anyhow::Ok(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        // Resets are on their way still; nothing else may be.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let n_done = n_exchanges / SAMPLES / in_flight as u64 * in_flight as u64 * part;
        let sample = sample(&pool, n_done, cancelled.load(Ordering::Relaxed))?;
        report(&sample);
        series.push(sample);
    }
    Ok(series)
}

/// One exchange of a random kind; whether it ran to its end.
async fn exchange(pool: &Pool, origin: &Origin, random: &mut Random) -> anyhow::Result<bool> {
    let path = if random.below(4) == 0 { "/large" } else { "/small" };
    let request = Request::post(path).body(Bytes::from_static(&[b'x'; 200]))?;
    let sending = pool.send(origin, request, None);
    let response = match random.below(3) {
        // Cut short while waiting for a place, for the head, or not at all.
        0 => match tokio::time::timeout(Duration::from_micros(random.below(3000)), sending).await {
            Err(_) => return Ok(false),
            Ok(response) => response?,
        },
        _ => sending.await?,
    };
    if random.below(6) == 0 {
        // Cut short within the body, or right behind it.
        let mut body = response.into_body();
        for _ in 0..random.below(3) {
            let _ = body.frame().await.transpose()?;
        }
        return Ok(false);
    }
    let collected = response.into_body().collect().await?.to_bytes();
    let expected = if path == "/large" { super::client::LARGE_BYTES } else { 200 };
    anyhow::ensure!(collected.len() == expected, "{} bytes instead of {expected}", collected.len());
    Ok(true)
}

fn sample(pool: &Pool, exchanges: u64, cancelled: u64) -> anyhow::Result<Sample> {
    let snapshot = pool.snapshot();
    let streams: usize = snapshot.origins.iter().map(|(_, origin)| origin.streams).sum();
    Ok(Sample {
        exchanges,
        cancelled,
        resident_kib: resident_kib()?,
        descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        connections: snapshot.connections,
        held: streams + snapshot.waiting,
    })
}

/// Memory this process holds.
pub fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("no VmRSS")?.parse()?)
}

/// Nothing is held, and neither tasks nor descriptors rise beyond what connections explain.
pub fn check(series: &[Sample]) -> anyhow::Result<()> {
    let first = series.first().context("no sample")?;
    for sample in series {
        anyhow::ensure!(sample.held == 0, "places are still held: {sample:?}");
        let n_grown = sample.connections.saturating_sub(first.connections);
        anyhow::ensure!(sample.tasks <= first.tasks + n_grown, "tasks pile up: {sample:?} after {first:?}");
        anyhow::ensure!(sample.descriptors <= first.descriptors + n_grown, "descriptors pile up: {sample:?}");
    }
    Ok(())
}

/// Memory is flat once it has settled: the last third holds no more than the third before it did, give or take 5 %.
fn check_memory(series: &[Sample]) -> anyhow::Result<()> {
    let highest = |part: &[Sample]| part.iter().map(|sample| sample.resident_kib).max().unwrap_or(0);
    let third = series.len() / 3;
    let (middle, last) = (highest(&series[third..2 * third]), highest(&series[2 * third..]));
    anyhow::ensure!(last <= middle + middle / 20 + 1024, "memory rises: {middle} KiB, then {last} KiB");
    Ok(())
}

/// A small generator (xorshift): the soak must be random, not unpredictable.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{check, soak};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_short_soak_leaves_nothing_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(super::super::server::serve_plain(listener));
        let series = soak(address, 4000, 40, |_| {}).await.unwrap();
        let (first, last) = (series[0], series[series.len() - 1]);
        assert_eq!(last.exchanges, 4000);
        assert!(last.cancelled > 400, "{last:?}");
        // The server's own tasks and sockets are counted here too, one of each per connection.
        for sample in &series {
            assert_eq!(sample.held, 0, "{sample:?}");
            assert!(
                sample.tasks <= first.tasks + 8 && sample.descriptors <= first.descriptors + 8,
                "{series:?}"
            );
        }
        server.abort();
        assert!(check(&series[..1]).is_ok());
    }
}
