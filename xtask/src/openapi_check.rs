//! `cargo xtask openapi-check`: independent validators over the OpenAPI documents that the product serves.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};

use crate::flags::{Command, Given};
use crate::http;
use crate::node::Node;
use crate::peers::everything;
use crate::process::{Server, free_port, run};
use crate::python::Python;
use crate::workspace::{binary, root, scratch};

pub(crate) const COMMAND: Command = Command {
    name: "openapi-check",
    summary: "Validates the documents of the demo and of server-everything: openapi-spec-validator, redocly lint.",
    operands: "",
    flags: &[],
    forwards: false,
    run: openapi_check,
};

/// Every form in which a document is served, and the file it is kept in. Neither validator alone is enough: the first
/// does not look for references that lead nowhere, the second is lenient about keywords of the other version.
const FORMS: [(&str, &str); 4] = [
    ("/openapi.json", "3.1.json"),
    ("/openapi.yaml", "3.1.yaml"),
    ("/openapi.json?version=3.0", "3.0.json"),
    ("/openapi.yaml?version=3.0", "3.0.yaml"),
];

fn openapi_check(_: &Given) -> anyhow::Result<()> {
    let binary = binary()?;
    let node = Node::install()?;
    let python = Python::install()?;
    let folder = scratch("openapi")?;

    let mut documents = served(&binary, "demo", &[], &folder)?;
    let port = free_port()?;
    let server = Server::start("everything", &mut everything(&node, "streamableHttp", port), port, &folder)?;
    documents.extend(served(&binary, "everything", &[format!("http://127.0.0.1:{port}/mcp")], &folder)?);
    drop(server);

    let mut lost = 0;
    for document in &documents {
        let name = document.file_name().unwrap_or_default().to_string_lossy();
        for (validator, mut command) in validators(&python, &node, document) {
            match run(&mut command) {
                Ok(()) => println!("openapi-check: {name}: {validator} accepts it"),
                Err(error) => {
                    println!("openapi-check: {name}: {validator} REFUSES it: {error:#}");
                    lost += 1;
                }
            }
        }
    }
    if lost > 0 {
        bail!("{lost} refusals; the documents are in {}", folder.display());
    }
    Ok(())
}

/// Serves these upstreams (none: the demo) and keeps the document in every form.
fn served(binary: &Path, name: &str, upstreams: &[String], folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let port = free_port()?;
    let mut serve = Process::new(binary);
    serve.arg("serve").args(upstreams).args(["--listen", &format!("127.0.0.1:{port}")]);
    let gateway = Server::start(&format!("gateway-{name}"), &mut serve, port, folder)?;
    http::ready(port)?;
    let mut files = Vec::new();
    for (path, form) in FORMS {
        let text = http::get(port, path).with_context(|| format!("{path} of {name}"))?;
        let file = folder.join(format!("{name}-{form}"));
        std::fs::write(&file, text)?;
        files.push(file);
    }
    gateway.stop()?;
    Ok(files)
}

fn validators(python: &Python, node: &Node, document: &Path) -> [(&'static str, Process); 2] {
    let mut spec = python.command("openapi-spec-validator");
    spec.arg(document);
    let mut redocly = node.command("node_modules/@redocly/cli/bin/cli.js");
    redocly.arg("lint").arg("--config").arg(root().join("tests/node/redocly.yaml")).arg(document);
    // It would report its use, and look for a newer version of itself.
    redocly.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true").env("CI", "true");
    [("openapi-spec-validator", spec), ("redocly", redocly)]
}
