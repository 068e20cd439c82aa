//! `mpe-bench transport-memory`: what an idle connection and a waiting exchange cost.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use mpe_transport::{Origin, Pool, PoolConfig, TlsConfig, Wire};
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

/// Measures and prints one line for each.
pub async fn run(options: MemoryOptions) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("mpe-bench-memory-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    super::write_certificates(&folder)?;
    let (plain, tls) = (process::free_address()?, process::free_address()?);
    let server = Process::listening(&super::server_command(&folder, plain, tls)?, tls, None).await;
    let authority = std::fs::read(folder.join("ca.pem"))?;
    std::fs::remove_dir_all(&folder)?;
    let _server = server?;
    let plain = Origin::of(&format!("http://{plain}/").parse()?, Wire::H2c)?;
    let tls = Origin::of(&format!("https://localhost:{}/", tls.port()).parse()?, Wire::Auto)?;
    for (name, origin) in [("h2c", &plain), ("TLS", &tls)] {
        let bytes = idle_connections(origin, authority.clone(), options.connections).await?;
        println!("an idle connection over {name}: {bytes} bytes");
    }
    println!(
        "a waiting exchange, its task included: {} bytes",
        waiting_exchanges(&plain, options.waiting).await?
    );
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
