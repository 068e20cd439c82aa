//! `cargo xtask conformance`: the official conformance suite against both sides of the product.
//!
//! Three legs: `server` (the suite in front of the gateway), `proxy` (the suite behind it) and `client` (the suite
//! against our upstream client alone, OAuth included).
//!
//! `server` and `proxy` need a rig, a folder with `upstream.sh` (a reference server), `run-server.sh URL REVISION` (the
//! suite as client of URL) and `run-client.sh --proxy COMMAND REVISION` (the suite as upstream of what COMMAND starts).
//! Each ends with status 0 when every required scenario passed, 1 when one was lost. `client` brings the suite itself.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};

use crate::flags::{Command, Flag, Given};
use crate::workspace::{binary, scratch, target};

mod client;
mod proxy;
mod server;
mod suite;
mod verdict;

pub(crate) const COMMAND: Command = Command {
    name: "conformance",
    summary: "Runs the official MCP conformance suite against the server face, the whole proxy, the upstream client.",
    operands: "[server|proxy|client]...",
    flags: &[
        Flag { name: "--rig", value: Some("DIR"), help: "The scripts that run the legs server and proxy." },
        Flag {
            name: "--revision",
            value: Some("DATE"),
            help: "Only this revision; default: both eras' newest.",
        },
        Flag {
            name: "--upstream-era",
            value: Some("ERA"),
            help: "The reference server's: both, modern or legacy.",
        },
        Flag {
            name: "--mode",
            value: Some("MODE"),
            help: "client: only pinned (told the revision) or auto (finds it out); default: both.",
        },
        Flag { name: "--scenario", value: Some("NAME"), help: "client: only scenarios that begin so." },
        Flag { name: "--jobs", value: Some("N"), help: "client: scenarios at a time; default 2." },
    ],
    forwards: false,
    run: conformance,
};

/// The newest revision of each era.
const REVISIONS: [&str; 2] = ["2026-07-28", "2025-11-25"];

/// Every leg, in the order they run.
const LEGS: [&str; 3] = ["server", "proxy", "client"];

/// What the legs with a rig need.
struct Rig {
    scripts: PathBuf,
    binary: PathBuf,
    logs: PathBuf,
    era: String,
}

fn conformance(given: &Given) -> anyhow::Result<()> {
    if let Some(unknown) = given.value("--revision").filter(|only| !REVISIONS.contains(only)) {
        bail!("no revision `{unknown}`; there are {}", REVISIONS.join(", "));
    }
    let revisions: Vec<&str> = REVISIONS
        .into_iter()
        .filter(|known| given.value("--revision").is_none_or(|only| only == *known))
        .collect();
    let legs: Vec<&str> = match given.operands() {
        [] => LEGS.to_vec(),
        legs => legs.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = legs.iter().find(|leg| !LEGS.contains(leg)) {
        bail!("no leg `{unknown}`; there are {}", LEGS.join(", "));
    }
    let rig = match legs.iter().any(|leg| *leg != "client") {
        true => Some(Rig::new(given)?),
        false => None,
    };
    let mut lost = Vec::new();
    for leg in legs {
        if leg == "client" {
            lost.extend(client::run(given, &revisions)?);
            continue;
        }
        let rig = rig.as_ref().expect("made when one of these legs was asked for");
        for revision in &revisions {
            println!("conformance: {leg}, {revision}");
            let outcome = match leg {
                "server" => server::run(rig, revision),
                _ => proxy::run(rig, revision),
            };
            if let Err(error) = outcome {
                println!("conformance: {leg}, {revision} FAILED: {error:#}");
                lost.push(format!("{leg} {revision}"));
            }
        }
    }
    if !lost.is_empty() {
        bail!("lost: {}", lost.join(", "));
    }
    Ok(())
}

// === impl Rig ===

impl Rig {
    fn new(given: &Given) -> anyhow::Result<Self> {
        let Some(scripts) = given.value("--rig") else {
            bail!(
                "the legs server and proxy need --rig DIR, the folder with run-server.sh, run-client.sh and \
                 upstream.sh; the leg client needs none"
            );
        };
        let scripts = Path::new(scripts).canonicalize().with_context(|| format!("no rig at {scripts}"))?;
        let era = given.value("--upstream-era").unwrap_or("both").to_owned();
        Ok(Self { scripts, binary: binary()?, logs: scratch("conformance")?, era })
    }

    /// One of the rig's scripts, with its cache below `target`.
    fn script(&self, name: &str) -> Process {
        let mut command = Process::new(self.scripts.join(name));
        command.env("CONFORMANCE_CACHE", target().join("conformance"));
        command
    }
}
