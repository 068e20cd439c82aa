//! `mpe-bench gateway`: each scenario against the engine, the yardsticks, and any peer the user names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::load::{self, Front, Load, Shape};
use crate::plot;
use crate::process::{self, Process};
use crate::report::{self, Ratio, Row};
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
    /// Rounds into which the seconds are divided; in each, everybody has their turn. The ratio is the rounds' median.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How the load speaks to the gateway.
    #[arg(long, value_enum, default_value_t = Front::H2c)]
    pub front: Front,
    /// The era the load speaks.
    #[arg(long, value_enum, default_value_t = scenario::Era::Modern)]
    pub era: scenario::Era,
    /// How the engine speaks to the upstream. The yardsticks always speak h2c.
    #[arg(long, value_enum, default_value_t = Back::H2c)]
    pub back: Back,
    /// Log every request and check every argument.
    #[arg(long, conflicts_with = "bare")]
    pub loaded: bool,
    /// Record no metrics.
    #[arg(long)]
    pub bare: bool,
    /// Cores for the engine; 1 pins it to one.
    #[arg(long, default_value_t = 1)]
    pub cores: usize,
    /// Send so many requests a second whatever comes of them (open loop), instead of keeping a number in flight.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Scenario A over every era, wire in front and wire behind: bare, plain and loaded.
    #[arg(long, conflicts_with = "scenario")]
    pub matrix: bool,
    /// Draw the rows as SVG files into this folder.
    #[arg(long)]
    pub plots: Option<PathBuf>,
    /// Another gateway: `NAME=COMMAND`, where `{listen}` and `{upstream}` are filled in; served at `/mcp`.
    #[arg(long)]
    pub peer: Vec<String>,
    /// Write the rows there.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// How the engine speaks to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Back {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 by prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    Tls,
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
    let sitting = Sitting::new(&options)?;
    report::heading();
    let mut rows = Vec::new();
    if options.matrix {
        rows = sitting.matrix().await?;
    } else {
        for scenario in scenario::all().into_iter().filter(|scenario| sitting.wants(scenario.letter)) {
            rows.extend(sitting.scenario(&scenario, &Variant::of(&options)).await?);
        }
        if sitting.wants("G") {
            rows.push(sitting.start().await?);
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(folder) = &options.plots {
        plot::draw(&rows, folder)?;
    }
    Ok(())
}

/// What is the same for every cell of one run.
struct Sitting<'a> {
    options: &'a Options,
    binary: String,
    peers: Vec<(String, String)>,
    /// Holds certificates and configurations; removed at the end.
    folder: Folder,
}

/// How a cell is asked.
#[derive(Clone, Copy, Debug)]
struct Variant {
    era: scenario::Era,
    front: Front,
    back: Back,
    aside: Aside,
}

/// What the engine does beside carrying calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aside {
    /// Nothing.
    Bare,
    /// It records metrics.
    Plain,
    /// It records metrics, logs every request and checks every argument.
    Loaded,
}

impl Variant {
    fn of(options: &Options) -> Self {
        let aside = match (options.bare, options.loaded) {
            (true, _) => Aside::Bare,
            (false, true) => Aside::Loaded,
            (false, false) => Aside::Plain,
        };
        Self { era: options.era, front: options.front, back: options.back, aside }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let era = if self.era == scenario::Era::Modern { "modern" } else { "legacy" };
        let front = if self.front == Front::H1 { "h1" } else { "h2c" };
        let back = match self.back {
            Back::H1 => "h1",
            Back::H2c => "h2c",
            Back::Tls => "tls",
        };
        let aside = match self.aside {
            Aside::Bare => " bare",
            Aside::Plain => "",
            Aside::Loaded => " loaded",
        };
        write!(f, "{era} {front}>{back}{aside}")
    }
}

/// A folder of this process, removed on drop.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder for temporary files, where it is removed some day.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl<'a> Sitting<'a> {
    fn new(options: &'a Options) -> anyhow::Result<Self> {
        let folder = Folder(std::env::temp_dir().join(format!("mpe-bench-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0)?;
        crate::transport::write_certificates(&folder.0)?;
        Ok(Self {
            options,
            binary: engine_binary(options.binary.clone())?,
            peers: options.peer.iter().map(|peer| parse_peer(peer)).collect::<anyhow::Result<_>>()?,
            folder,
        })
    }

    fn wants(&self, letter: &str) -> bool {
        self.options.scenario.is_empty() || self.options.scenario.iter().any(|wanted| wanted == letter)
    }

    /// Everybody in one scenario.
    async fn scenario(&self, scenario: &Scenario, variant: &Variant) -> anyhow::Result<Vec<Row>> {
        let mut subjects = Vec::new();
        if scenario.speaks_mcp() {
            subjects.push(Subject::Direct);
        }
        subjects.extend(scenario.yardstick.map(Subject::Yardstick));
        subjects.push(Subject::Engine);
        if scenario.speaks_mcp() {
            let peers = self.peers.iter().cloned();
            subjects.extend(peers.map(|(name, command)| Subject::Peer { name, command }));
        }
        let mut cells = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            cells.push(self.cell(scenario, subject, variant).await?);
        }
        self.rows(scenario, cells).await
    }

    /// The engine alone in scenario A, asked in every way, beside one yardstick.
    async fn matrix(&self) -> anyhow::Result<Vec<Row>> {
        let scenario = scenario::all().into_iter().next().context("there are scenarios")?;
        let plain =
            Variant { era: scenario::Era::Modern, front: Front::H2c, back: Back::H2c, aside: Aside::Plain };
        let mut rows: Vec<Row> = Vec::new();
        for era in [scenario::Era::Modern, scenario::Era::Legacy] {
            for front in [Front::H2c, Front::H1] {
                for back in [Back::H2c, Back::Tls, Back::H1] {
                    for aside in [Aside::Bare, Aside::Plain, Aside::Loaded] {
                        let variant = Variant { era, front, back, aside };
                        println!("{variant}");
                        let yardstick = self.cell(&scenario, &Subject::Yardstick("mcp"), &plain).await?;
                        let engine = self.cell(&scenario, &Subject::Engine, &variant).await?;
                        rows.extend(self.rows(&scenario, vec![yardstick, engine]).await?);
                    }
                }
            }
        }
        Ok(rows)
    }

    /// Runs the rounds, everybody's turn in each, and prints a row for each cell.
    async fn rows(&self, scenario: &Scenario, mut cells: Vec<Cell>) -> anyhow::Result<Vec<Row>> {
        let duration = Duration::from_secs_f64(self.options.seconds) / self.options.rounds;
        for _ in 0..self.options.rounds {
            for cell in &mut cells {
                cell.turn(duration).await?;
            }
        }
        let yardstick = cells.iter().find(|cell| scenario.yardstick == Some(cell.name.as_str()));
        let mut rows = Vec::with_capacity(cells.len());
        for cell in &cells {
            let row = cell.row(scenario, yardstick).await?;
            report::line(&row);
            rows.push(row);
        }
        for process in cells.into_iter().filter_map(|cell| cell.process) {
            process.stop().await;
        }
        Ok(rows)
    }

    /// One cell: a fresh upstream, a fresh subject, and a short warm-up.
    async fn cell(&self, scenario: &Scenario, subject: &Subject, variant: &Variant) -> anyhow::Result<Cell> {
        let options = self.options;
        let upstream = self.upstream(scenario, variant.back).await?;
        let (process, name) = match subject {
            Subject::Direct => (None, "direct".to_owned()),
            Subject::Engine => (Some(self.engine(&upstream, variant).await?), "engine".to_owned()),
            Subject::Peer { name, command } => (Some(peer(command, upstream.address).await?), name.clone()),
            Subject::Yardstick(kind) => {
                let arguments = ["yardstick", kind, "--upstream"].map(str::to_owned);
                let command = own(&[arguments.as_slice(), &[upstream.address.to_string()]].concat());
                (Some(Process::announced(&command, Some(1)).await?), (*kind).to_owned())
            }
        };
        let address = process.as_ref().map_or(upstream.address, |process| process.address);
        let shape = Arc::new(scenario.shape(variant.era, address).await?);
        until_good(address, &shape).await?;
        let in_flight = if options.rate.is_some() { OPEN_LOOP_IN_FLIGHT } else { scenario.in_flight };
        let load = Load {
            front: variant.front,
            in_flight,
            duration: Duration::from_millis(300),
            rate: options.rate,
        };
        load::run(address, shape.clone(), load).await?;
        Ok(Cell { upstream, process, name, variant: *variant, address, shape, load, turns: Vec::new() })
    }

    /// G: from the start of the process to the first good call, and the memory it idles at.
    async fn start(&self) -> anyhow::Result<Row> {
        let variant = Variant::of(self.options);
        let scenario = scenario::all().into_iter().next().context("there are scenarios")?;
        let upstream = self.upstream(&scenario, variant.back).await?;
        let begin = Instant::now();
        let process = self.engine(&upstream, &variant).await?;
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
            variant: variant.to_string(),
            gateway: "engine".to_owned(),
            rps: 0.0,
            p50_ms: elapsed.as_secs_f64() * 1000.0,
            p99_ms: 0.0,
            p999_ms: 0.0,
            cpu_us_per_req: idle_cpu_us as f64,
            cpu_us_least: idle_cpu_us as f64,
            cpu_ratio: None,
            rss_peak_mib: after.resident_kib as f64 / 1024.0,
            errors: 0,
            upstream_connections: 0,
            first_error: None,
        })
    }

    async fn upstream(&self, scenario: &Scenario, back: Back) -> anyhow::Result<Process> {
        let mut arguments = scenario.upstream();
        if back == Back::Tls {
            for (flag, file) in [("--certificate", "server.pem"), ("--key", "server.key")] {
                arguments.extend([flag.to_owned(), self.folder.0.join(file).display().to_string()]);
            }
        }
        Process::announced(&own(&arguments), Some(0)).await
    }

    async fn engine(&self, upstream: &Process, variant: &Variant) -> anyhow::Result<Process> {
        let url = match (variant.back, upstream.tls_port) {
            (Back::Tls, Some(port)) => format!("https://localhost:{port}/mcp"),
            _ => format!("http://{}/mcp", upstream.address),
        };
        let is_loaded = variant.aside == Aside::Loaded;
        let mut config = serde_json::json!({
            "mcp_servers": { "upstream": { "url": url, "h2c": variant.back == Back::H2c } },
            "tls": { "extra_roots": [self.folder.0.join("ca.pem")] },
            "check_mcp_arguments": is_loaded,
            // The log goes to standard error, which leads nowhere here: what is measured is making it.
            "log": { "filter": if is_loaded { "warn,mpe_gateway=debug" } else { "warn" } },
        });
        if variant.aside == Aside::Bare {
            config["metrics"] = false.into();
        }
        let path = self.folder.0.join("engine.json");
        std::fs::write(&path, serde_json::to_vec(&config)?)?;
        let address = process::free_address()?;
        let command = [
            self.binary.clone(),
            "serve".to_owned(),
            "--config".to_owned(),
            path.display().to_string(),
            "--listen".to_owned(),
            address.to_string(),
        ];
        Process::listening(&command, address, (self.options.cores == 1).then_some(1)).await
    }
}

/// Somebody who is measured, and what came of their turns so far.
struct Cell {
    upstream: Process,
    process: Option<Process>,
    name: String,
    variant: Variant,
    address: SocketAddr,
    shape: Arc<Shape>,
    load: Load,
    turns: Vec<Turn>,
}

/// One round's load on one of them.
struct Turn {
    outcome: load::Outcome,
    cpu_us: u64,
}

impl Turn {
    fn cpu_us_per_req(&self) -> f64 {
        self.cpu_us as f64 / self.outcome.requests.max(1) as f64
    }
}

impl Cell {
    /// Puts the load on it for `duration`.
    async fn turn(&mut self, duration: Duration) -> anyhow::Result<()> {
        let before = self.usage()?;
        let load = Load { duration, ..self.load };
        let outcome = load::run(self.address, self.shape.clone(), load).await?;
        self.turns.push(Turn { outcome, cpu_us: self.usage()?.cpu_us.saturating_sub(before.cpu_us) });
        Ok(())
    }

    fn usage(&self) -> anyhow::Result<process::Usage> {
        Ok(self.process.as_ref().map(Process::usage).transpose()?.unwrap_or_default())
    }

    /// All its turns as one row, beside those of the yardstick.
    async fn row(&self, scenario: &Scenario, yardstick: Option<&Self>) -> anyhow::Result<Row> {
        let stats = scenario::stats(self.upstream.address).await?;
        let outcome = load::Outcome::all(self.turns.iter().map(|turn| &turn.outcome))?;
        let cpu_us: u64 = self.turns.iter().map(|turn| turn.cpu_us).sum();
        let beside = yardstick.filter(|yardstick| self.process.is_some() && yardstick.name != self.name);
        let millis = |quantile: f64| outcome.latency.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Row {
            scenario: scenario.letter.to_owned(),
            variant: self.variant.to_string(),
            gateway: self.name.clone(),
            rps: outcome.rps,
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            p999_ms: millis(0.999),
            cpu_us_per_req: cpu_us as f64 / outcome.requests.max(1) as f64,
            cpu_us_least: report::smallest(self.turns.iter().map(Turn::cpu_us_per_req)),
            cpu_ratio: beside.and_then(|beside| {
                let rounds = self.turns.iter().zip(&beside.turns);
                let rounds: Vec<_> =
                    rounds.map(|(ours, its)| (ours.cpu_us_per_req(), its.cpu_us_per_req())).collect();
                Ratio::of(&beside.name, &rounds)
            }),
            rss_peak_mib: self.usage()?.peak_kib as f64 / 1024.0,
            errors: outcome.errors,
            upstream_connections: stats.connections,
            first_error: outcome.first_error,
        })
    }
}

/// Requests that may be in flight in the open loop before the next ones count as errors.
const OPEN_LOOP_IN_FLIGHT: usize = 4096;

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
