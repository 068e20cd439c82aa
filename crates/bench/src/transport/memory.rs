//! `mpe-bench transport-memory`: what an idle connection and a waiting exchange cost.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use mpe_transport::{Origin, Pool, PoolConfig, TlsConfig, Wire};
use tokio::process::Command;
use tokio::task::JoinSet;

use super::soak::resident_kib;
use crate::process::{self, Process};

/// How many of each.
#[derive(Debug, clap::Args)]
pub struct MemoryOptions {
    /// Idle connections.
    #[arg(long, default_value_t = 500)]
    pub connections: usize,
    /// Waiting exchanges.
    #[arg(long, default_value_t = 10_000)]
    pub waiting: usize,
}

/// One measurement, in a process that has held nothing before: freed memory would hide what is taken.
#[derive(Debug, clap::Args)]
pub struct MemoryCellOptions {
    #[arg(long, value_enum)]
    of: Thing,
    #[arg(long)]
    count: usize,
    #[arg(long)]
    plain: SocketAddr,
    #[arg(long)]
    tls: SocketAddr,
    /// The authority to trust, PEM.
    #[arg(long)]
    ca: PathBuf,
}

/// What is weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Thing {
    Plain,
    Tls,
    Waiting,
}

/// Measures and prints one line for each.
pub async fn run(options: MemoryOptions) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("mpe-bench-memory-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = run_in(&options, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

async fn run_in(options: &MemoryOptions, folder: &Path) -> anyhow::Result<()> {
    super::write_certificates(folder)?;
    let (plain, tls) = (process::free_address()?, process::free_address()?);
    let _server = Process::listening(&super::server_command(folder, plain, tls)?, tls, None).await?;
    for (what, of, count) in [
        ("an idle connection over h2c", "plain", options.connections),
        ("an idle connection over TLS", "tls", options.connections),
        ("a waiting exchange, its task included", "waiting", options.waiting),
    ] {
        let mut command = Command::new(super::this_binary()?);
        command.args(["transport-memory-cell", "--of", of, "--count", &count.to_string()]);
        command
            .args(["--plain", &plain.to_string(), "--tls", &tls.to_string(), "--ca"])
            .arg(folder.join("ca.pem"));
        let output = command.kill_on_drop(true).output().await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("{what}: {} bytes", String::from_utf8_lossy(&output.stdout).trim());
    }
    Ok(())
}

/// Measures one thing and prints its bytes.
pub async fn run_cell(options: MemoryCellOptions) -> anyhow::Result<()> {
    let plain = Origin::of(&format!("http://{}/", options.plain).parse()?, Wire::H2c)?;
    let tls = Origin::of(&format!("https://localhost:{}/", options.tls.port()).parse()?, Wire::Auto)?;
    let authority = std::fs::read(&options.ca)?;
    let bytes = match options.of {
        Thing::Plain => idle_connections(&plain, authority, options.count).await?,
        Thing::Tls => idle_connections(&tls, authority, options.count).await?,
        Thing::Waiting => waiting_exchanges(&plain, options.count).await?,
    };
    println!("{bytes}");
    Ok(())
}

async fn idle_connections(origin: &Origin, authority: Vec<u8>, n_connections: usize) -> anyhow::Result<u64> {
    let mut config = PoolConfig::default();
    (config.max_connections, config.max_keepalive_connections) = (n_connections, n_connections);
    config.max_streams = 1;
    let mut tls = TlsConfig::default();
    tls.extra_roots_pem = vec![authority];
    let pool = Pool::new(config, tls)?;
    // One of everything that is made once: the roots, the buffers of the first connection.
    call(pool.clone(), origin.clone(), "/small").await?;
    let before = resident_kib()?;
    let mut calls = JoinSet::new();
    for _ in 0..n_connections {
        calls.spawn(call(pool.clone(), origin.clone(), "/slow"));
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    let n_open = pool.snapshot().connections;
    anyhow::ensure!(n_open == n_connections, "{n_open} connections instead of {n_connections}");
    let grown = resident_kib()?.saturating_sub(before) * 1024;
    pool.close(Duration::from_secs(5)).await;
    Ok(grown / n_connections as u64)
}

async fn waiting_exchanges(origin: &Origin, n_waiting: usize) -> anyhow::Result<u64> {
    let mut config = PoolConfig::default();
    (config.max_connections, config.max_streams, config.max_waiting) = (1, 1, n_waiting);
    let pool = Pool::new(config, TlsConfig::default())?;
    let holder = tokio::spawn(call(pool.clone(), origin.clone(), "/slow"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = resident_kib()?;
    let mut calls = JoinSet::new();
    for _ in 0..n_waiting {
        calls.spawn(call(pool.clone(), origin.clone(), "/small"));
    }
    while pool.snapshot().waiting < n_waiting {
        tokio::task::yield_now().await;
    }
    let grown = resident_kib()?.saturating_sub(before) * 1024;
    holder.abort();
    calls.shutdown().await;
    Ok(grown / n_waiting as u64)
}

async fn call(pool: Pool, origin: Origin, path: &'static str) -> anyhow::Result<()> {
    let request = Request::post(path).body(Bytes::from_static(b"{}"))?;
    pool.send(&origin, request, None).await?.into_body().collect().await?;
    Ok(())
}
