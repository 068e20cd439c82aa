//! `cargo xtask peers`: real MCP servers behind the product, official clients in front of it.
//!
//! Each server is listed, called and read twice by the official TypeScript client (`tests/node/compare.mjs`): directly,
//! and through the product, in both eras. Whatever differs fails. The official inspector's CLI then does the same once
//! more with its own eyes.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::flags::{Command, Flag, Given};
use crate::http;
use crate::node::Node;
use crate::process::{Server, free_port, output, run};
use crate::python::Python;
use crate::workspace::{binary, cargo, root, scratch, target};

pub(crate) const COMMAND: Command = Command {
    name: "peers",
    summary: "Runs real MCP servers (npm, PyPI) behind the product and official clients in front of it.",
    operands: "",
    flags: &[Flag { name: "--only", value: Some("NAME"), help: "Only the scenario of that name." }],
    forwards: false,
    run: peers,
};

/// The eras a client may speak; see `compare.mjs`.
const ERAS: [&str; 2] = ["modern", "legacy"];

/// One arrangement: a name for the report, and what it does.
type Scenario = (&'static str, fn(&Bench) -> anyhow::Result<()>);

const SCENARIOS: [Scenario; 11] = [
    ("everything", everything_over_http),
    ("everything-sse", everything_over_sse),
    ("everything-stdio", everything_over_pipes),
    ("fastmcp", fastmcp_over_http),
    ("filesystem", filesystem_over_pipes),
    ("rmcp", rmcp_over_http),
    ("rmcp-stdio", rmcp_over_pipes),
    ("time", time_over_pipes),
    ("two-servers", two_servers_in_one_file),
    ("inspector", inspector_in_front),
    ("round-trip", arguments_over_rest_and_mcp),
];

/// A real server, and what `serve` is told so that it stands behind the product.
pub(crate) struct Behind {
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<String>,
    /// Where it is a process of its own; stopped when dropped.
    _server: Option<Server>,
}

/// What every scenario needs.
pub(crate) struct Bench {
    pub(crate) binary: PathBuf,
    pub(crate) node: Node,
    pub(crate) python: Python,
    /// The server of `tests/examples/rmcp-server.rs`.
    rmcp: PathBuf,
    pub(crate) folder: PathBuf,
}

fn peers(given: &Given) -> anyhow::Result<()> {
    let only = given.value("--only");
    if let Some(only) = only.filter(|only| SCENARIOS.iter().all(|(name, _)| name != only)) {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        bail!("no scenario `{only}`; there are {}", names.join(", "));
    }
    let bench = Bench::install("peers")?;
    let mut lost = Vec::new();
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        println!("peers: {name}");
        if let Err(error) = scenario(&bench) {
            println!("peers: {name} FAILED: {error:#}");
            lost.push(*name);
        }
    }
    if !lost.is_empty() {
        bail!("{} failed; logs are in {}", lost.join(", "), bench.folder.display());
    }
    Ok(())
}

/// The reference server of the npm registry. `transport` is its own word for what it speaks.
pub(crate) fn everything(node: &Node, transport: &str, port: u16) -> Process {
    let mut command = node.command("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    command.arg(transport).env("PORT", port.to_string());
    command
}

fn everything_over_http(bench: &Bench) -> anyhow::Result<()> {
    let (server, url) = bench.everything()?;
    bench.compare_in_both_eras("everything", &url, &[&url])?;
    drop(server);
    Ok(())
}

/// The transport of 2024-11-05: a stream to hear, another address to talk to.
fn everything_over_sse(bench: &Bench) -> anyhow::Result<()> {
    let port = free_port()?;
    let mut command = everything(&bench.node, "sse", port);
    let server = Server::start("everything-sse", &mut command, port, &bench.folder)?;
    let url = format!("http://127.0.0.1:{port}/sse");
    bench.compare_in_both_eras("everything", &format!("sse:{url}"), &[&url])?;
    drop(server);
    Ok(())
}

fn everything_over_pipes(bench: &Bench) -> anyhow::Result<()> {
    let script = bench.node.package("@modelcontextprotocol/server-everything/dist/index.js");
    let command = [bench.node.program().to_string_lossy(), script.to_string_lossy(), "stdio".into()];
    let command = command.map(std::borrow::Cow::into_owned);
    bench.compare_over_pipes("everything", &command, &[])
}

fn rmcp_over_http(bench: &Bench) -> anyhow::Result<()> {
    let (server, url) = bench.rmcp()?;
    bench.compare_in_both_eras("rmcp", &url, &[&url])?;
    drop(server);
    Ok(())
}

fn rmcp_over_pipes(bench: &Bench) -> anyhow::Result<()> {
    bench.compare_over_pipes("rmcp", &[bench.rmcp.to_string_lossy().into_owned()], &[])
}

fn filesystem_over_pipes(bench: &Bench) -> anyhow::Result<()> {
    let command = bench.filesystem()?;
    bench.compare_over_pipes("filesystem", &command, &["--dir", &command[2]])
}

fn time_over_pipes(bench: &Bench) -> anyhow::Result<()> {
    bench.compare_over_pipes("time", &bench.time(), &[])
}

fn fastmcp_over_http(bench: &Bench) -> anyhow::Result<()> {
    let (server, url) = bench.fastmcp()?;
    bench.compare_in_both_eras("fastmcp", &url, &[&url])?;
    drop(server);
    Ok(())
}

/// A file as desktop clients have it, with two servers that share no name.
fn two_servers_in_one_file(bench: &Bench) -> anyhow::Result<()> {
    let (first, everything) = bench.everything()?;
    let (second, fastmcp) = bench.fastmcp()?;
    let config = bench.folder.join("two-servers.json");
    let servers =
        json!({ "mcpServers": { "everything": { "url": everything }, "fastmcp": { "url": fastmcp } } });
    std::fs::write(&config, servers.to_string())?;
    let config = config.to_string_lossy().into_owned();
    let (gateway, through) = bench.gateway("two-servers", &["--config", &config])?;
    for era in ERAS {
        bench.compare("everything", &everything, &through, era, &["--among"])?;
        bench.compare("fastmcp", &fastmcp, &through, era, &["--among"])?;
    }
    gateway.stop()?;
    drop((first, second));
    Ok(())
}

/// The inspector gets the same answer, and sees the same tools, with and without the product between.
fn inspector_in_front(bench: &Bench) -> anyhow::Result<()> {
    let (server, url) = bench.everything()?;
    let (gateway, through) = bench.gateway("inspector", &[&url])?;
    let list = ["--method", "tools/list"];
    let call = ["--method", "tools/call", "--tool-name", "get-sum", "--tool-arg", "a=40", "b=2"];
    let listed = bench.inspector(&url, "legacy", &list)?;
    let answered = bench.inspector(&url, "legacy", &call)?;
    for era in ERAS {
        same_tools(&listed, &bench.inspector(&through, era, &list)?, era)?;
        let answer = bench.inspector(&through, era, &call)?;
        if answer["content"] != answered["content"] {
            bail!("{era}: the inspector gets {answer} where the server itself gives {answered}");
        }
        println!("  inspector, {era}: the same tools and the same answer");
    }
    gateway.stop()?;
    drop(server);
    Ok(())
}

/// The arguments of each tool, of the demo and of every real server, arrive equal whichever way they are sent; see `roundtrip.mjs`.
fn arguments_over_rest_and_mcp(bench: &Bench) -> anyhow::Result<()> {
    let mut listed = vec![("demo", bench.tools_of("demo", &[])?)];
    for behind in bench.servers()? {
        listed.push((behind.name, bench.tools_of(behind.name, &behind.arguments)?));
    }
    for (name, tools) in listed {
        let mut command = bench.node.command(Path::new("roundtrip.mjs"));
        command.arg("--server").arg(name).arg("--tools").arg(tools);
        command.arg("--binary").arg(&bench.binary).arg("--folder").arg(&bench.folder);
        run(&mut command).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Whether the product lists what the server lists, tool by tool.
fn same_tools(direct: &Value, through: &Value, era: &str) -> anyhow::Result<()> {
    let tools = |list: &Value| list["tools"].as_array().cloned().context("the inspector lists no tools");
    let mut direct = tools(direct)?;
    // The server shows this one only to clients that declare roots, as the inspector does: so must the product.
    if !direct.iter().any(|tool| tool["name"] == "get-roots-list") {
        bail!("{era}: the server does not vary its list any more; what does?");
    }
    if era == "modern" {
        // No member of 2026-07-28: the inspector's client takes it out.
        for tool in direct.iter_mut().filter_map(Value::as_object_mut) {
            tool.remove("execution");
        }
    }
    let through = tools(through)?;
    if direct.len() != through.len() {
        bail!("{era}: {} tools through the product, {} of the server itself", through.len(), direct.len());
    }
    match direct.iter().zip(&through).find(|(direct, through)| direct != through) {
        None => Ok(()),
        Some((direct, through)) => {
            bail!("{era}: the inspector sees {through} where the server itself gives {direct}")
        }
    }
}

/// The server written with `rmcp`, built.
fn rmcp() -> anyhow::Result<PathBuf> {
    // In CI everything is built; see `binary`.
    if std::env::var_os("CI").is_none() {
        run(cargo().args(["build", "--quiet", "--package", "mpe-tests", "--example", "rmcp-server"]))?;
    }
    let name = Path::new("rmcp-server").with_extension(std::env::consts::EXE_EXTENSION);
    Ok(target().join("debug").join("examples").join(name))
}

// === impl Bench ===

impl Bench {
    /// Builds the product and installs the servers and clients.
    pub(crate) fn install(folder: &str) -> anyhow::Result<Self> {
        Ok(Self {
            binary: binary()?,
            node: Node::install()?,
            python: Python::install()?,
            rmcp: rmcp()?,
            folder: scratch(folder)?,
        })
    }

    /// Every real server, running where it is no child of the product.
    pub(crate) fn servers(&self) -> anyhow::Result<Vec<Behind>> {
        let (everything, everything_url) = self.everything()?;
        let (fastmcp, fastmcp_url) = self.fastmcp()?;
        let (rmcp, rmcp_url) = self.rmcp()?;
        let over_pipes = |name, command: &[String]| {
            let arguments = std::iter::once("--".to_owned()).chain(command.iter().cloned()).collect();
            Behind { name, arguments, _server: None }
        };
        Ok(vec![
            Behind { name: "everything", arguments: vec![everything_url], _server: Some(everything) },
            Behind { name: "fastmcp", arguments: vec![fastmcp_url], _server: Some(fastmcp) },
            Behind { name: "rmcp", arguments: vec![rmcp_url], _server: Some(rmcp) },
            over_pipes("filesystem", &self.filesystem()?),
            over_pipes("time", &self.time()),
        ])
    }

    /// A file with the tools of what `arguments` put behind the product.
    fn tools_of(&self, name: &str, arguments: &[String]) -> anyhow::Result<PathBuf> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (gateway, url) = self.gateway(name, &arguments)?;
        let tools = http::get(port_of(&url)?, "/tools?format=mcp")?;
        gateway.stop()?;
        let file = self.folder.join(format!("{name}-tools.json"));
        std::fs::write(&file, tools)?;
        Ok(file)
    }

    /// The command of the reference server for files, with a folder of ours.
    fn filesystem(&self) -> anyhow::Result<[String; 3]> {
        let files = self.folder.join("files");
        std::fs::create_dir_all(&files)?;
        std::fs::write(files.join("note.txt"), "one\ntwo\n")?;
        let script = self.node.package("@modelcontextprotocol/server-filesystem/dist/index.js");
        let command = [self.node.program(), &script, &files];
        Ok(command.map(|part| part.to_string_lossy().into_owned()))
    }

    fn rmcp(&self) -> anyhow::Result<(Server, String)> {
        let port = free_port()?;
        let mut command = Process::new(&self.rmcp);
        command.arg(port.to_string());
        let server = Server::start("rmcp", &mut command, port, &self.folder)?;
        Ok((server, format!("http://127.0.0.1:{port}/mcp")))
    }

    fn time(&self) -> [String; 1] {
        [self.python.program("mcp-server-time").to_string_lossy().into_owned()]
    }

    fn everything(&self) -> anyhow::Result<(Server, String)> {
        let port = free_port()?;
        let server = Server::start(
            "everything",
            &mut everything(&self.node, "streamableHttp", port),
            port,
            &self.folder,
        )?;
        Ok((server, format!("http://127.0.0.1:{port}/mcp")))
    }

    fn fastmcp(&self) -> anyhow::Result<(Server, String)> {
        let port = free_port()?;
        let mut command = self.python.command("python");
        command.arg(root().join("tests/python/fastmcp_server.py")).arg(port.to_string());
        let server = Server::start("fastmcp", &mut command, port, &self.folder)?;
        Ok((server, format!("http://127.0.0.1:{port}/mcp")))
    }

    /// The product, ready, in front of what `arguments` say; and the URL of its MCP endpoint.
    pub(crate) fn gateway(&self, name: &str, arguments: &[&str]) -> anyhow::Result<(Server, String)> {
        let port = free_port()?;
        let mut command = Process::new(&self.binary);
        command.arg("serve").args(["--listen", &format!("127.0.0.1:{port}")]).args(arguments);
        let server = Server::start(&format!("gateway-{name}"), &mut command, port, &self.folder)?;
        http::ready(port).with_context(|| format!("the gateway's log ends with:\n{}", server.tail()))?;
        Ok((server, format!("http://127.0.0.1:{port}/mcp")))
    }

    fn compare_in_both_eras(&self, server: &str, direct: &str, arguments: &[&str]) -> anyhow::Result<()> {
        for era in ERAS {
            // What a call leaves behind in a session is not to be found by the next era.
            let (gateway, through) = self.gateway(server, arguments)?;
            self.compare(server, direct, &through, era, &[])?;
            gateway.stop()?;
        }
        Ok(())
    }

    /// The same command, started once by the client itself and once by the product.
    fn compare_over_pipes(&self, server: &str, command: &[String], more: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["--"];
        arguments.extend(command.iter().map(String::as_str));
        let direct = json!(command).to_string();
        for era in ERAS {
            let (gateway, through) = self.gateway(server, &arguments)?;
            self.compare(server, &direct, &through, era, more)?;
            gateway.stop()?;
        }
        Ok(())
    }

    fn compare(
        &self,
        server: &str,
        direct: &str,
        through: &str,
        era: &str,
        more: &[&str],
    ) -> anyhow::Result<()> {
        let mut command = self.node.command(Path::new("compare.mjs"));
        command.args(["--server", server, "--direct", direct, "--through", through, "--era", era]).args(more);
        run(&mut command).with_context(|| format!("{server}, {era}"))
    }

    fn inspector(&self, url: &str, era: &str, question: &[&str]) -> anyhow::Result<Value> {
        let launcher = self.node.package("@modelcontextprotocol/inspector/clients/launcher/build/index.js");
        let mut command = Process::new(self.node.program());
        command
            .arg(launcher)
            .args(["--cli", url, "--transport", "http", "--protocol-era", era])
            .args(question);
        // It keeps a list of servers under the home folder; ours is not the developer's.
        command.env("HOME", &self.folder);
        let text = output(&mut command)?;
        serde_json::from_str(&text).with_context(|| format!("the inspector printed no JSON: {text}"))
    }
}

/// The port in `http://127.0.0.1:PORT/…`.
pub(crate) fn port_of(url: &str) -> anyhow::Result<u16> {
    let authority = url.split('/').nth(2).unwrap_or_default();
    let port = authority.rsplit(':').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("no port in {url}"))
}
