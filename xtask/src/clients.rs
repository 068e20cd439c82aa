//! `cargo xtask clients`: the official TypeScript clients, old and new, in front of the product, old and new servers behind.
//!
//! The reference server of the end-to-end tests speaks only one era, then only the other; each client goes through tools,
//! progress, cancellation, resources and subscriptions, elicitation and sampling (`tests/node/clients.mjs`). What `rmcp`
//! makes of the same servers is a test (`tests/tests/e2e/matrix.rs`).

use std::process::Command as Process;

use anyhow::{Context as _, bail};

use crate::flags::{Command, Flag, Given};
use crate::http;
use crate::node::Node;
use crate::process::{Server, free_port, run};
use crate::workspace::{product, reference_server, scratch};

pub(crate) const COMMAND: Command = Command {
    name: "clients",
    summary: "Runs the official TypeScript clients, old and new, through the product against old and new servers.",
    operands: "",
    flags: &[Flag {
        name: "--product",
        value: Some("FILE"),
        help: "This binary of the product; default: it is built.",
    }],
    forwards: false,
    run: clients,
};

/// What the server behind speaks.
const SERVERS: [&str; 2] = ["legacy", "modern"];

/// The SDK and the era its client speaks.
const CLIENTS: [(&str, &str); 3] = [("old", "legacy"), ("new", "legacy"), ("new", "modern")];

fn clients(given: &Given) -> anyhow::Result<()> {
    let binary = product(given.value("--product"))?;
    let (reference, node) = (reference_server()?, Node::install()?);
    let folder = scratch("clients")?;
    let mut lost = Vec::new();
    for era in SERVERS {
        let (upstream_port, port) = (free_port()?, free_port()?);
        let mut upstream = Process::new(&reference);
        upstream.args(["--era", era, "--port", &upstream_port.to_string()]);
        let upstream = Server::start(&format!("{era}-server"), &mut upstream, upstream_port, &folder)?;
        let mut serve = Process::new(&binary);
        serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        serve.arg(format!("http://127.0.0.1:{upstream_port}/mcp"));
        let gateway = Server::start(&format!("{era}-gateway"), &mut serve, port, &folder)?;
        http::ready(port).with_context(|| format!("the gateway's log ends with:\n{}", gateway.tail()))?;
        println!("clients: a {era} server behind");
        for (sdk, speaks) in CLIENTS {
            let mut client = node.command("clients.mjs");
            client.args(["--sdk", sdk, "--era", speaks, "--url", &format!("http://127.0.0.1:{port}/mcp")]);
            if let Err(error) = run(&mut client) {
                println!("  {error:#}");
                lost.push(format!("{sdk} SDK, {speaks}, before a {era} server"));
            }
        }
        gateway.stop()?;
        drop(upstream);
    }
    if !lost.is_empty() {
        bail!("lost: {}; logs are in {}", lost.join("; "), folder.display());
    }
    Ok(())
}
