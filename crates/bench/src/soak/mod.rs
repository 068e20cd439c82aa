//! `mpe-bench soak`: the same thing very many times over, and whether anything piles up.

mod peers;
mod processes;
mod series;
mod sessions;

use std::path::PathBuf;

use crate::transport::{self, SoakOptions};
pub use peers::{STDIO_SERVER, SessionServerOptions, run_session_server, run_stdio_server};

/// What to soak in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// Exchanges through the connection pool, many cut short at a random moment.
    Exchanges,
    /// Processes started, used and stopped, or killed by what they were asked to do.
    Processes,
    /// Sessions that a server has forgotten, opened anew.
    Sessions,
}

/// How long to soak.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this case, of all.
    #[arg(long, value_enum)]
    only: Option<Case>,
    /// Exchanges in all.
    #[arg(long, default_value_t = 100_000)]
    exchanges: u64,
    /// Exchanges in flight.
    #[arg(long, default_value_t = 128)]
    in_flight: usize,
    /// Processes started in all.
    #[arg(long, default_value_t = 10_000)]
    processes: u64,
    /// Sessions opened anew in all.
    #[arg(long, default_value_t = 100_000)]
    sessions: u64,
    /// Write the series of the exchanges there.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Soaks, prints each series, and fails if one rises.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let is_wanted = |case| options.only.is_none_or(|only| only == case);
    if is_wanted(Case::Exchanges) {
        let exchanges = options.exchanges;
        transport::run_soak(SoakOptions {
            exchanges,
            in_flight: options.in_flight,
            json: options.json.clone(),
        })
        .await?;
    }
    if is_wanted(Case::Processes) {
        processes::run(options.processes).await?;
    }
    if is_wanted(Case::Sessions) {
        sessions::run(options.sessions).await?;
    }
    Ok(())
}
