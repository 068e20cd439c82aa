//! `mpe-bench transport`: our pool, two clients people use, and a bare h2 loop as the floor, against one server.
//!
//! Each cell runs each client as a process of its own, pinned to one core, the server on another. Rounds take turns
//! between the clients, so that a machine that slows down slows all of them; the median round counts.

mod client;
mod memory;
mod server;
mod soak;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::Serialize;
use tokio::process::Command;

use crate::process::{self, Process};
pub use client::{Client, ClientOptions, Shape, Wire, run as run_client};
pub use memory::{MemoryCellOptions, MemoryOptions, run as run_memory, run_cell as run_memory_cell};
pub(crate) use server::acceptor;
pub use server::{ServerOptions, run as run_server};
pub use soak::{SoakOptions, resident_kib, run as run_soak};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds of load per client, cell and round.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Rounds per cell; the median counts.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Only these clients, comma-separated.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub client: Vec<Client>,
    /// Only this wire.
    #[arg(long, value_enum)]
    pub wire: Option<Wire>,
    /// Only so many in flight.
    #[arg(long)]
    pub in_flight: Option<usize>,
    /// Write the rows there.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// One cell: what is sent how.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cell {
    wire: Wire,
    shape: Shape,
    in_flight: usize,
}

/// One client in one cell.
#[derive(Clone, Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    cell: Cell,
    client: Client,
    #[serde(flatten)]
    figures: client::Figures,
    /// Requests per CPU-second as a multiple of hyper-util's client in the same cell.
    over_hyper_util: Option<f64>,
    /// Requests per CPU-second as a share of the bare h2 loop in the same cell.
    of_floor: Option<f64>,
}

/// Runs every cell and prints a row for each client.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("mpe-bench-transport-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = run_in(&options, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

async fn run_in(options: &Options, folder: &Path) -> anyhow::Result<()> {
    write_certificates(folder)?;
    let (plain, tls) = (process::free_address()?, process::free_address()?);
    let server = server_command(folder, plain, tls)?;
    let _server = Process::listening(&server, tls, Some(0)).await?;
    let clients = if options.client.is_empty() { Client::ALL.to_vec() } else { options.client.clone() };
    let mut rows = Vec::new();
    println!(
        "{:<5} {:<6} {:>6}  {:<10} {:>9} {:>11} {:>9} {:>9} {:>6}  {:>13} {:>9}",
        "wire",
        "shape",
        "flight",
        "client",
        "req/s",
        "CPU ms/1000",
        "p50 ms",
        "p99 ms",
        "errors",
        "x hyper-util",
        "of floor"
    );
    for cell in cells(options) {
        let mut of_client: Vec<Vec<client::Figures>> = vec![Vec::new(); clients.len()];
        for _ in 0..options.rounds {
            for (client, figures) in clients.iter().zip(&mut of_client) {
                let address = if cell.wire == Wire::H2c { plain } else { tls };
                figures.push(measure(*client, cell, address, folder, options.seconds).await?);
            }
        }
        let medians: Vec<_> = clients.iter().copied().zip(of_client.into_iter().map(median)).collect();
        for row in compare(cell, &medians) {
            print_row(&row);
            rows.push(row);
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    for wire in [Wire::H2c, Wire::Tls] {
        for (shape, in_flight) in
            [(Shape::Small, 1), (Shape::Small, 64), (Shape::Small, 512), (Shape::Large, 64)]
        {
            let is_wanted = options.wire.is_none_or(|it| it == wire)
                && options.in_flight.is_none_or(|it| it == in_flight);
            if is_wanted {
                cells.push(Cell { wire, shape, in_flight });
            }
        }
    }
    cells
}

async fn measure(
    client: Client,
    cell: Cell,
    address: SocketAddr,
    folder: &Path,
    seconds: f64,
) -> anyhow::Result<client::Figures> {
    let mut words = Vec::new();
    if process::can_pin() {
        words.extend(["taskset".to_owned(), "-c".to_owned(), "1".to_owned()]);
    }
    words.push(this_binary()?);
    words.extend(
        ["transport-client", "--client", client.name(), "--wire", cell.wire.name()].map(str::to_owned),
    );
    words.extend(["--shape", cell.shape.name()].map(str::to_owned));
    words.extend([
        "--in-flight".to_owned(),
        cell.in_flight.to_string(),
        "--seconds".to_owned(),
        seconds.to_string(),
    ]);
    words.extend(["--address".to_owned(), address.to_string()]);
    words.extend(["--ca".to_owned(), folder.join("ca.pem").display().to_string()]);
    let output = Command::new(&words[0]).args(&words[1..]).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.trim()).with_context(|| format!("{words:?} said {said:?}"))
}

/// The round in the middle, by CPU time per request.
fn median(mut rounds: Vec<client::Figures>) -> client::Figures {
    rounds.sort_by(|a, b| a.cpu_us_per_request.total_cmp(&b.cpu_us_per_request));
    rounds.swap_remove(rounds.len() / 2)
}

fn compare(cell: Cell, medians: &[(Client, client::Figures)]) -> Vec<Row> {
    let cost_of = |client| medians.iter().find(|(it, _)| *it == client).map(|(_, it)| it.cpu_us_per_request);
    let row = |(client, figures): &(Client, client::Figures)| Row {
        cell,
        client: *client,
        figures: figures.clone(),
        over_hyper_util: cost_of(Client::HyperUtil).map(|cost| cost / figures.cpu_us_per_request),
        of_floor: cost_of(Client::H2).map(|cost| cost / figures.cpu_us_per_request),
    };
    medians.iter().map(row).collect()
}

fn print_row(row: &Row) {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    println!(
        "{:<5} {:<6} {:>6}  {:<10} {:>9.0} {:>11.2} {:>9.3} {:>9.3} {:>6}  {:>13} {:>9}",
        row.cell.wire.name(),
        row.cell.shape.name(),
        row.cell.in_flight,
        row.client.name(),
        row.figures.requests_per_second,
        row.figures.cpu_us_per_request,
        row.figures.p50_ms,
        row.figures.p99_ms,
        row.figures.errors,
        ratio(row.over_hyper_util),
        ratio(row.of_floor),
    );
}

fn server_command(folder: &Path, plain: SocketAddr, tls: SocketAddr) -> anyhow::Result<Vec<String>> {
    let text = |path: PathBuf| path.display().to_string();
    Ok(vec![
        this_binary()?,
        "transport-server".to_owned(),
        "--plain".to_owned(),
        plain.to_string(),
        "--tls".to_owned(),
        tls.to_string(),
        "--certificate".to_owned(),
        text(folder.join("server.pem")),
        "--key".to_owned(),
        text(folder.join("server.key")),
    ])
}

fn this_binary() -> anyhow::Result<String> {
    Ok(std::env::current_exe()?.display().to_string())
}

/// A certificate authority for this sitting, and a certificate for `localhost`.
pub(crate) fn write_certificates(folder: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&server_key, &issuer)?;
    std::fs::write(folder.join("ca.pem"), authority.pem())?;
    std::fs::write(folder.join("server.pem"), server.pem())?;
    std::fs::write(folder.join("server.key"), server_key.serialize_pem())?;
    Ok(())
}
