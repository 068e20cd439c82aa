//! `cargo xtask conformance`: the official conformance suite against both sides of the product.
//!
//! Three legs: `server` (the suite in front of the gateway), `proxy` (the suite behind it) and `client` (the suite
//! against our upstream client alone, OAuth included).
//!
//! `server` and `client` bring the suite and a server of their own. `proxy` needs a rig, and `server` uses one where it is: a
//! folder with `upstream.sh` (a reference server), `run-server.sh URL REVISION` (the suite as client of URL) and
//! `run-client.sh --proxy COMMAND REVISION` (the suite as upstream of what COMMAND starts), each of which prints its count
//! as JSON with `--json`.

use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::{Context as _, bail};

use crate::flags::{Command, Flag, Given};
use crate::workspace::{product, root, target};

mod client;
mod proxy;
mod results;
mod server;
mod suite;
mod verdict;

pub(crate) const COMMAND: Command = Command {
    name: "conformance",
    summary: "Runs the official MCP conformance suite against the server face, the whole proxy, the upstream client.",
    operands: "[server|proxy|client]...",
    flags: &[
        Flag {
            name: "--rig",
            value: Some("DIR"),
            help: "Scripts with another reference server; default: ../shared/conformance, where it is.",
        },
        Flag {
            name: "--revision",
            value: Some("DATE"),
            help: "Only this revision; default: both eras' newest.",
        },
        Flag {
            name: "--upstream-era",
            value: Some("ERA"),
            help: "server: only what speaks both, legacy or modern behind; default: each.",
        },
        Flag {
            name: "--carrier",
            value: Some("NAME"),
            help: "server: only http, pipe or polled (http, with streams to be taken up) behind; default: each.",
        },
        Flag {
            name: "--reference",
            value: Some("NAME"),
            help: "server: only own or rig; default: own, and the rig's where it is.",
        },
        Flag {
            name: "--product",
            value: Some("FILE"),
            help: "server, proxy: this binary of the product; default: it is built.",
        },
        Flag {
            name: "--all",
            value: None,
            help: "server, proxy: scenarios that do not count for the suite count, too.",
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

/// What needs a rig.
struct Rig {
    scripts: PathBuf,
    binary: PathBuf,
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
        true => Rig::find(given)?,
        false => None,
    };
    let mut lost = Vec::new();
    for leg in legs {
        match (leg, &rig) {
            ("client", _) => lost.extend(client::run(given, &revisions)?),
            ("server", rig) => lost.extend(server::run(given, rig.as_ref(), &revisions)?),
            (_, Some(rig)) => {
                for revision in &revisions {
                    lost.extend(proxy::run(given, rig, revision)?);
                }
            }
            (_, None) if given.operands().is_empty() => println!("proxy: left out, there is no rig"),
            (_, None) => bail!("the leg proxy needs --rig DIR, the folder with run-client.sh"),
        }
    }
    if !lost.is_empty() {
        bail!("lost:\n  {}", lost.join("\n  "));
    }
    Ok(())
}

// === impl Rig ===

impl Rig {
    /// The one that is named, or the one that lies beside us.
    fn find(given: &Given) -> anyhow::Result<Option<Self>> {
        let beside = root().join("..").join("shared").join("conformance");
        let scripts = match given.value("--rig") {
            Some(named) => PathBuf::from(named),
            None if beside.join("run-server.sh").exists() => beside,
            None => return Ok(None),
        };
        let scripts = scripts.canonicalize().with_context(|| format!("no rig at {}", scripts.display()))?;
        Ok(Some(Self { scripts, binary: product(given.value("--product"))? }))
    }

    /// One of the rig's scripts, with its cache below `target`.
    fn script(&self, name: &str) -> Process {
        let mut command = Process::new(self.scripts.join(name));
        command.env("CONFORMANCE_CACHE", target().join("conformance"));
        command
    }
}
