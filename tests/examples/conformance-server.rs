//! The reference server of the end-to-end tests as a program, for `cargo xtask conformance server` and `cargo xtask clients`.
//!
//!     conformance-server --port N [--era both|legacy|modern] [--log FILE]
//!     conformance-server --pipe [--era both|legacy|modern]

#![allow(clippy::print_stderr, reason = "a program for the terminal")]

use std::path::PathBuf;

use mpe_tests::{Eras, serve_http, serve_pipe};
use tokio::net::TcpListener;

struct Given {
    eras: Eras,
    /// `None`: a pipe.
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

async fn serve() -> std::io::Result<()> {
    let given = given().map_err(std::io::Error::other)?;
    match given.port {
        Some(port) => serve_http(given.eras, given.log, TcpListener::bind(("127.0.0.1", port)).await?).await,
        None => serve_pipe(given.eras).await,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    match serve().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance-server: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
