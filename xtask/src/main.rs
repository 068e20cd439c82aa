//! The project's chores, behind `cargo xtask`.
//!
//! One file per command; [`flags`] is the one definition that parser and help are made of. Nothing here links a
//! product crate: what a chore needs of the product it gets by running the product's binary.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its terminal")]
#![expect(
    clippy::disallowed_methods,
    reason = "chores are sequential: no async runtime to block, no paused time"
)]

mod bench;
mod ci;
mod clients;
mod codegen;
mod conformance;
mod deny;
mod dist;
mod docs_page;
mod flags;
mod fuzz;
mod generators;
mod http;
mod node;
mod openapi_check;
mod peers;
mod process;
mod python;
mod schemathesis;
mod soak;
mod workspace;

use std::process::ExitCode;

use crate::flags::{Command, Outcome};

/// Every command, in the order of the help.
const COMMANDS: &[Command] = &[
    ci::COMMAND,
    bench::COMMAND,
    clients::COMMAND,
    codegen::COMMAND,
    conformance::COMMAND,
    deny::COMMAND,
    dist::COMMAND,
    docs_page::COMMAND,
    fuzz::COMMAND,
    openapi_check::COMMAND,
    peers::COMMAND,
    schemathesis::COMMAND,
    soak::COMMAND,
];

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect();
    let (command, given) = match flags::parse(COMMANDS, arguments) {
        Ok(Outcome::Run(command, given)) => (command, given),
        Ok(Outcome::Help(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(usage) => {
            eprintln!("xtask: {usage}");
            return ExitCode::from(2);
        }
    };
    match (command.run)(&given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {}: {error:#}", command.name);
            ExitCode::FAILURE
        }
    }
}
