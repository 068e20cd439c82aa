//! An MCP server with everything the conformance suite's server scenarios ask for, in both eras, over HTTP and over a pipe.
//!
//!     conformance-server --port N [--era both|legacy|modern] [--log FILE]
//!     conformance-server --pipe [--era both|legacy|modern]
//!
//! `cargo xtask conformance server` puts the product in front of it. What a tool does is written once, as what is said
//! next in a conversation of several rounds ([`offer`]); a client of 2025 is asked by requests of ours, one of 2026 by a
//! result that it repeats its request with ([`converse`]).

#![allow(clippy::print_stderr, reason = "a program for the terminal")]

mod converse;
mod http;
mod offer;
mod pipe;
mod world;

use std::path::PathBuf;
use std::sync::Arc;

use world::{Eras, World};

struct Given {
    eras: Eras,
    port: Option<u16>,
    log: Option<PathBuf>,
}

fn given() -> Result<Given, String> {
    let mut given = Given { eras: Eras::Both, port: None, log: None };
    let mut is_pipe = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--era" => given.eras = Eras::parse(&value()?)?,
            "--log" => given.log = Some(value()?.into()),
            "--pipe" => is_pipe = true,
            "--port" => given.port = Some(value()?.parse().map_err(|error| format!("--port: {error}"))?),
            other => return Err(format!("{other}?")),
        }
    }
    if is_pipe == given.port.is_some() {
        return Err("either --port or --pipe".to_owned());
    }
    Ok(given)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let served = match given() {
        Ok(given) => {
            let world = Arc::new(World::new(given.eras, given.log));
            match given.port {
                Some(port) => http::serve(world, port).await,
                None => pipe::serve(world).await,
            }
        }
        Err(usage) => Err(std::io::Error::other(usage)),
    };
    match served {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance-server: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
