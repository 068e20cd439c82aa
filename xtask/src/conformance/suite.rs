//! The pinned suite of `tests/conformance`, installed under `target`, and what it asks for.

use std::path::Path;
use std::process::Command as Process;

use anyhow::Context as _;
use serde_json::Value;

use crate::node::Node;
use crate::process::output;

/// An installed suite.
#[derive(Debug)]
pub(super) struct Suite {
    node: Node,
}

/// One scenario of a revision's leg.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// Why it does not count; `None`: it does.
    pub(super) not_scored: Option<String>,
}

impl Suite {
    /// # Errors
    /// When npm is missing or fails.
    pub(super) fn install() -> anyhow::Result<Self> {
        Ok(Self { node: Node::install_from("conformance", "conformance-suite")? })
    }

    /// The scenarios of a leg, `server` or `client`, those that count first.
    ///
    /// # Errors
    /// When the suite does not know the revision.
    pub(super) fn scenarios(&self, revision: &str, leg: &str) -> anyhow::Result<Vec<Scenario>> {
        let listed = output(self.node.command("scenarios.mjs").args([revision, leg]))?;
        let listed: Value = serde_json::from_str(&listed).context("the list of scenarios is no JSON")?;
        let scenario = |entry: &Value| {
            Some(Scenario {
                name: entry["name"].as_str()?.to_owned(),
                not_scored: entry["reason"].as_str().map(str::to_owned),
            })
        };
        listed
            .as_array()
            .context("the list of scenarios is no list")?
            .iter()
            .map(|entry| scenario(entry).context("a scenario without a name"))
            .collect()
    }

    /// Runs the whole server leg against `url`; what it found goes below `out`.
    pub(super) fn server(&self, url: &str, revision: &str, out: &Path) -> Process {
        let mut command = self.node.command("node_modules/@modelcontextprotocol/conformance/dist/index.js");
        command.args(["server", "--url", url, "--requirements", revision]);
        command.args(["--timeout", SERVER_TIMEOUT_MS, "-o"]).arg(out);
        command
    }

    /// Runs one scenario; what it found goes below `out`.
    pub(super) fn client(&self, driver: &str, scenario: &Scenario, revision: &str, out: &Path) -> Process {
        let mut command = self.node.command("node_modules/@modelcontextprotocol/conformance/dist/index.js");
        command.args([
            "client",
            "--command",
            driver,
            "--scenario",
            &scenario.name,
            "--spec-version",
            revision,
        ]);
        command.args(["--timeout", TIMEOUT_MS, "-o"]).arg(out);
        if scenario.not_scored.is_some() {
            // Extensions are on no revision's time line.
            command.arg("--force");
        }
        command
    }
}

/// How long the driver may take for one scenario.
const TIMEOUT_MS: &str = "60000";

/// How long a server may take for one answer.
const SERVER_TIMEOUT_MS: &str = "30000";
