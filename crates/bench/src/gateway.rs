//! `mpe-bench gateway`: each scenario against the engine, the yardsticks, and any peer the user names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::load::{self, Front, Load, Shape};
use crate::process::{self, Process};
use crate::report::{self, Row};
use crate::scenario::{self, Scenario};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The engine's binary. Default: `mcp-proxy-engine` beside this one.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Scenarios by letter, comma-separated. Default: all.
    #[arg(long, value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Seconds of load per cell.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How the load speaks to the gateway.
    #[arg(long, value_enum, default_value_t = Front::H2c)]
    pub front: Front,
    /// The era the load speaks.
    #[arg(long, value_enum, default_value_t = scenario::Era::Modern)]
    pub era: scenario::Era,
    /// Another gateway: `NAME=COMMAND`, where `{listen}` and `{upstream}` are filled in; served at `/mcp`.
    #[arg(long)]
    pub peer: Vec<String>,
    /// Write the rows there.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Who is measured.
enum Subject {
    Direct,
    Engine,
    Peer { name: String, command: String },
    Yardstick(&'static str),
}

/// Runs every chosen scenario and prints a row for each cell.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let binary = engine_binary(options.binary.clone())?;
    let peers = options.peer.iter().map(|peer| parse_peer(peer)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    report::heading();
    for scenario in scenario::all() {
        if !options.scenario.is_empty() && !options.scenario.iter().any(|letter| letter == scenario.letter) {
            continue;
        }
        let mut subjects = vec![Subject::Direct];
        subjects.extend(scenario.yardstick.map(Subject::Yardstick));
        subjects.push(Subject::Engine);
        if scenario.speaks_mcp() {
            subjects.extend(
                peers
                    .iter()
                    .map(|(name, command)| Subject::Peer { name: name.clone(), command: command.clone() }),
            );
        }
        let mut yardstick: Option<Row> = None;
        for subject in subjects {
            if matches!(subject, Subject::Direct) && !scenario.speaks_mcp() {
                continue;
            }
            let row = measure(&options, &binary, &scenario, &subject).await?;
            report::line(&row, yardstick.as_ref());
            if matches!(subject, Subject::Yardstick(_)) {
                yardstick = Some(row.clone());
            }
            rows.push(row);
        }
    }
    if options.scenario.is_empty() || options.scenario.iter().any(|letter| letter == "G") {
        rows.push(start(&binary).await?);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One cell: a fresh upstream, a fresh subject, a short warm-up, then the load.
async fn measure(
    options: &Options,
    binary: &str,
    scenario: &Scenario,
    subject: &Subject,
) -> anyhow::Result<Row> {
    let upstream = Process::announced(&own(&scenario.upstream()), Some(0)).await?;
    let (process, name) = match subject {
        Subject::Direct => (None, "direct".to_owned()),
        Subject::Engine => (Some(engine(binary, upstream.address).await?), "engine".to_owned()),
        Subject::Peer { name, command } => (Some(peer(command, upstream.address).await?), name.clone()),
        Subject::Yardstick(kind) => {
            let arguments = ["yardstick", kind, "--upstream"].map(str::to_owned);
            let command = own(&[arguments.as_slice(), &[upstream.address.to_string()]].concat());
            (Some(Process::announced(&command, Some(1)).await?), (*kind).to_owned())
        }
    };
    let address = process.as_ref().map_or(upstream.address, |process| process.address);
    let shape = Arc::new(scenario.shape(options.era, address).await?);
    until_good(address, &shape).await?;
    let load =
        Load { front: options.front, in_flight: scenario.in_flight, duration: Duration::from_millis(300) };
    load::run(address, shape.clone(), load).await?;

    let before = process.as_ref().map(Process::usage).transpose()?.unwrap_or_default();
    let duration = Duration::from_secs_f64(options.seconds);
    let outcome = load::run(address, shape, Load { duration, ..load }).await?;
    let after = process.as_ref().map(Process::usage).transpose()?.unwrap_or_default();
    let stats = scenario::stats(upstream.address).await?;
    let millis = |quantile: f64| outcome.latency.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Row {
        scenario: scenario.letter.to_owned(),
        gateway: name,
        rps: outcome.rps,
        p50_ms: millis(0.5),
        p99_ms: millis(0.99),
        p999_ms: millis(0.999),
        cpu_us_per_req: (after.cpu_us - before.cpu_us) as f64 / outcome.requests.max(1) as f64,
        rss_peak_mib: after.peak_kib as f64 / 1024.0,
        errors: outcome.errors,
        upstream_connections: stats.connections,
        first_error: outcome.first_error,
    })
}

/// G: from the start of the process to the first good call, and the memory it idles at.
async fn start(binary: &str) -> anyhow::Result<Row> {
    let scenario = scenario::all().into_iter().next().context("there are scenarios")?;
    let upstream = Process::announced(&own(&scenario.upstream()), Some(0)).await?;
    let begin = Instant::now();
    let process = engine(binary, upstream.address).await?;
    let shape = scenario.shape(scenario::Era::Modern, process.address).await?;
    until_good(process.address, &shape).await?;
    let elapsed = begin.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = process.usage()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = process.usage()?;
    let idle_cpu_us = after.cpu_us - before.cpu_us;
    println!(
        "G    engine    first good call after {:.0} ms, idle at {:.1} MiB, {idle_cpu_us} us of CPU in 5 idle seconds",
        elapsed.as_secs_f64() * 1000.0,
        after.resident_kib as f64 / 1024.0,
    );
    Ok(Row {
        scenario: "G".to_owned(),
        gateway: "engine".to_owned(),
        rps: 0.0,
        p50_ms: elapsed.as_secs_f64() * 1000.0,
        p99_ms: 0.0,
        p999_ms: 0.0,
        cpu_us_per_req: idle_cpu_us as f64,
        rss_peak_mib: after.resident_kib as f64 / 1024.0,
        errors: 0,
        upstream_connections: 0,
        first_error: None,
    })
}

async fn until_good(address: SocketAddr, shape: &Shape) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match load::once(address, shape).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.context("no good answer in 10 s")),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

async fn engine(binary: &str, upstream: SocketAddr) -> anyhow::Result<Process> {
    let address = process::free_address()?;
    let command = [
        binary.to_owned(),
        "serve".to_owned(),
        format!("http://{upstream}/mcp"),
        "--h2c".to_owned(),
        "--listen".to_owned(),
        address.to_string(),
    ];
    Process::listening(&command, address, Some(1)).await
}

async fn peer(command: &str, upstream: SocketAddr) -> anyhow::Result<Process> {
    let address = process::free_address()?;
    let line = command
        .replace("{listen}", &address.to_string())
        .replace("{upstream}", &format!("http://{upstream}/mcp"));
    let command = ["/bin/sh".to_owned(), "-c".to_owned(), format!("exec {line}")];
    Process::listening(&command, address, Some(1)).await
}

fn own(arguments: &[String]) -> Vec<String> {
    let this = std::env::current_exe().expect("the running program has a path");
    let mut command = vec![this.to_string_lossy().into_owned()];
    command.extend_from_slice(arguments);
    command
}

fn engine_binary(given: Option<PathBuf>) -> anyhow::Result<String> {
    let path = match given {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("mcp-proxy-engine"),
    };
    anyhow::ensure!(
        path.is_file(),
        "{} is not there: build it with `cargo build --release --bin mcp-proxy-engine`, or name it with --binary",
        path.display()
    );
    Ok(path.to_string_lossy().into_owned())
}

fn parse_peer(peer: &str) -> anyhow::Result<(String, String)> {
    let (name, command) =
        peer.split_once('=').with_context(|| format!("--peer {peer}: expected NAME=COMMAND"))?;
    Ok((name.to_owned(), command.to_owned()))
}
