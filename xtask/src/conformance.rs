//! `cargo xtask conformance`: the official conformance suite against both sides of the product.
//!
//! A rig is a folder with `upstream.sh` (a reference server), `run-server.sh URL REVISION` (the suite as client of URL)
//! and `run-client.sh --proxy COMMAND REVISION` (the suite as upstream of what COMMAND starts). Each ends with status 0
//! when every required scenario passed, 1 when one was lost.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};

use crate::flags::{Command, Flag, Given};
use crate::http;
use crate::process::{Server, free_port, run};
use crate::workspace::{binary, scratch, target};

pub(crate) const COMMAND: Command = Command {
    name: "conformance",
    summary: "Runs the official MCP conformance suite against the server face, the client side, or both.",
    operands: "[server|client]...",
    flags: &[
        Flag { name: "--rig", value: Some("DIR"), help: "The scripts that run the suite." },
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
    ],
    forwards: false,
    run: conformance,
};

/// The newest revision of each era.
const REVISIONS: [&str; 2] = ["2026-07-28", "2025-11-25"];

/// What a leg needs.
struct Rig {
    scripts: PathBuf,
    binary: PathBuf,
    logs: PathBuf,
    era: String,
}

fn conformance(given: &Given) -> anyhow::Result<()> {
    let Some(scripts) = given.value("--rig") else {
        bail!("needs --rig DIR, the folder with run-server.sh, run-client.sh and upstream.sh");
    };
    let scripts = Path::new(scripts).canonicalize().with_context(|| format!("no rig at {scripts}"))?;
    if let Some(unknown) = given.value("--revision").filter(|only| !REVISIONS.contains(only)) {
        bail!("no revision `{unknown}`; there are {}", REVISIONS.join(", "));
    }
    let era = given.value("--upstream-era").unwrap_or("both").to_owned();
    let rig = Rig { scripts, binary: binary()?, logs: scratch("conformance")?, era };
    let legs: Vec<&str> = match given.operands() {
        [] => vec!["server", "client"],
        legs => legs.iter().map(String::as_str).collect(),
    };
    let mut lost = Vec::new();
    for leg in legs {
        for revision in
            REVISIONS.iter().filter(|known| given.value("--revision").is_none_or(|only| only == **known))
        {
            println!("conformance: {leg}, {revision}");
            let outcome = match leg {
                "server" => rig.server(revision),
                "client" => rig.client(revision),
                other => bail!("no leg `{other}`; there are server and client"),
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
    /// The suite in front, the reference server behind.
    fn server(&self, revision: &str) -> anyhow::Result<()> {
        let (upstream_port, port) = (free_port()?, free_port()?);
        let mut upstream = self.script("upstream.sh");
        upstream.args(["--port", &upstream_port.to_string(), "--era", &self.era]);
        let upstream =
            Server::start(&format!("upstream-{revision}"), &mut upstream, upstream_port, &self.logs)?;
        let mut serve = Process::new(&self.binary);
        serve.arg("serve").arg(format!("http://127.0.0.1:{upstream_port}/mcp"));
        serve.args(["--listen", &format!("127.0.0.1:{port}")]);
        let gateway = Server::start(&format!("gateway-{revision}"), &mut serve, port, &self.logs)?;
        http::ready(port)?;
        run(self.script("run-server.sh").args([&format!("http://127.0.0.1:{port}/mcp"), revision]))?;
        gateway.stop()?;
        drop(upstream);
        Ok(())
    }

    /// A well-behaved client in front, the suite behind. A fresh product is started for each scenario.
    fn client(&self, revision: &str) -> anyhow::Result<()> {
        let command =
            format!("exec {} serve {{upstream}} --listen 127.0.0.1:{{port}}", self.binary.display());
        run(self.script("run-client.sh").args(["--proxy", &command, revision, "--core"]))
    }

    fn script(&self, name: &str) -> Process {
        let mut command = Process::new(self.scripts.join(name));
        command.env("CONFORMANCE_CACHE", target().join("conformance"));
        command
    }
}
