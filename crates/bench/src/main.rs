//! The benchmarks, as one command: `mpe-bench gateway`, and the helpers it starts as processes of their own.
//!
//! Every figure is meant as a ratio within one sitting: a yardstick that does the least a proxy can do runs beside
//! the gateway, on the same cores, against the same upstream.

// A benchmark talks to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]
// A binary has no outside: `pub` here means "for the other modules".
#![allow(unreachable_pub)]

mod batch;
mod catalogue;
mod endpoints;
mod faults;
mod gateway;
mod listing;
mod load;
mod many;
mod message;
mod plot;
mod process;
mod report;
mod scenario;
mod soak;
mod transport;
mod upstream;
mod yardstick;

use clap::{Parser, Subcommand};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "mpe-bench", about = "Benchmarks of the MCP Proxy Engine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The engine as a library: 10, 50 and 500 calls, one after the other and at once, beside one call.
    Batch(batch::Options),
    /// What 1,000 upstreams with 20 tools each cost.
    Catalogue(catalogue::Options),
    /// What ten thousand idle endpoints cost, made on demand.
    Endpoints(endpoints::Options),
    /// The whole gateway against yardsticks (and peers) in one sitting.
    Gateway(gateway::Options),
    /// `tools/list` of 5,000 tools beside copying the same bytes from a file.
    Listing(listing::Options),
    /// 1,000 upstreams, 10,000 listening streams, 10,000 idle sessions.
    Many(many::Options),
    /// A healthy upstream alone and beside a dead, a hanging and a slow one.
    Neighbours(batch::NeighbourOptions),
    /// Our connection pool against other clients and a bare h2 loop.
    Transport(transport::Options),
    /// One client of `transport`, as a process of its own.
    #[command(hide = true)]
    TransportClient(transport::ClientOptions),
    /// What an idle connection and a waiting exchange cost in memory.
    TransportMemory(transport::MemoryOptions),
    /// One measurement of `transport-memory`.
    #[command(hide = true)]
    TransportMemoryCell(transport::MemoryCellOptions),
    /// The HTTP server of `soak`.
    #[command(hide = true)]
    SessionServer(soak::SessionServerOptions),
    /// The same thing very many times over, and whether anything piles up.
    Soak(soak::Options),
    /// The server of `transport`.
    #[command(hide = true)]
    TransportServer(transport::ServerOptions),
    /// The fast MCP upstream that the scenarios use.
    Upstream(upstream::Options),
    /// A proxy that does the least a proxy can do.
    Yardstick(yardstick::Options),
}

fn main() -> anyhow::Result<()> {
    // It is started ten thousand times: before anything that takes time.
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(soak::STDIO_SERVER) {
        return soak::run_stdio_server(&arguments.collect::<Vec<_>>());
    }
    // One worker: each process has one core to itself where cores can be pinned.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Arguments::parse().command {
        Command::Batch(options) => runtime.block_on(batch::run(options)),
        Command::Catalogue(options) => runtime.block_on(catalogue::run(options)),
        Command::Many(options) => runtime.block_on(many::run(options)),
        Command::Endpoints(options) => runtime.block_on(endpoints::run(options)),
        Command::Neighbours(options) => runtime.block_on(batch::neighbours(options)),
        Command::Listing(options) => runtime.block_on(listing::run(options)),
        Command::Gateway(options) => runtime.block_on(gateway::run(options)),
        Command::Transport(options) => runtime.block_on(transport::run(options)),
        Command::TransportClient(options) => runtime.block_on(transport::run_client(options)),
        Command::TransportMemory(options) => runtime.block_on(transport::run_memory(options)),
        Command::TransportMemoryCell(options) => runtime.block_on(transport::run_memory_cell(options)),
        Command::SessionServer(options) => runtime.block_on(soak::run_session_server(options)),
        Command::Soak(options) => runtime.block_on(soak::run(options)),
        Command::TransportServer(options) => runtime.block_on(transport::run_server(options)),
        Command::Upstream(options) => runtime.block_on(upstream::run(options)),
        Command::Yardstick(options) => runtime.block_on(yardstick::run(options)),
    }
}
