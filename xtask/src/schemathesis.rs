//! `cargo xtask schemathesis`: requests made from the demo's own document, valid ones and invalid ones, and every answer judged by it.

use anyhow::bail;

use crate::flags::{Command, Flag, Given};
use crate::http;
use crate::process::{Server, free_port, run};
use crate::python::Python;
use crate::workspace::{binary, root, scratch};

pub(crate) const COMMAND: Command = Command {
    name: "schemathesis",
    summary: "Runs schemathesis with all checks against the served documents of the demo, 3.1 and 3.0.",
    operands: "",
    flags: &[Flag {
        name: "--examples",
        value: Some("N"),
        help: "Requests for each operation and phase. Default: 20.",
    }],
    forwards: false,
    run: schemathesis,
};

/// The documents, and what their files are called.
const DOCUMENTS: [(&str, &str); 2] = [("3.1", "/openapi.json"), ("3.0", "/openapi.json?version=3.0")];

fn schemathesis(given: &Given) -> anyhow::Result<()> {
    let examples = given.value("--examples").unwrap_or("20");
    let binary = binary()?;
    let python = Python::install()?;
    let folder = scratch("schemathesis")?;
    let port = free_port()?;
    let mut serve = std::process::Command::new(binary);
    serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    let gateway = Server::start("gateway", &mut serve, port, &folder)?;
    http::ready(port)?;
    let mut lost = Vec::new();
    for (version, path) in DOCUMENTS {
        let mut command = python.command("schemathesis");
        command.arg("--config-file").arg(root().join("tests/python/schemathesis.toml"));
        command.args(["run", &format!("http://127.0.0.1:{port}{path}"), "--checks", "all", "--no-color"]);
        // The same requests every time: a failure is one of the product, not of the day.
        command.args(["--phases", "examples,coverage,fuzzing", "--seed", "1", "--continue-on-failure"]);
        command.args(["--max-examples", examples, "--request-timeout", "10"]);
        command.args(["--report", "junit", "--report-dir"]).arg(folder.join(version));
        command.current_dir(&folder);
        command
            .env("PYTHONPATH", root().join("tests/python"))
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks");
        if let Err(error) = run(&mut command) {
            println!("schemathesis: {version}: {error:#}");
            lost.push(version);
        }
    }
    gateway.stop()?;
    if !lost.is_empty() {
        bail!(
            "the demo does not do what its document says: {}; the log is in {}",
            lost.join(", "),
            folder.display()
        );
    }
    Ok(())
}
