//! `cargo xtask openapi-check`: what others make of the documents: independent validators read them, and client generators'
//! output compiles.
//!
//! The documents are those that the product serves of the demo and of every real server of `cargo xtask peers`, and those of the corpus of
//! difficult schemas. Each tool reads all of them in one run, because starting it takes longer than reading.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};

use crate::flags::{Command, Given};
use crate::peers::{Bench, port_of};
use crate::process::run;
use crate::workspace::{example, root};
use crate::{generators, http};

pub(crate) const COMMAND: Command = Command {
    name: "openapi-check",
    summary: "Lets other projects' validators and client generators read the documents of the demo, real servers and the corpus.",
    operands: "",
    flags: &[],
    forwards: false,
    run: openapi_check,
};

/// The documents of one set of tools.
pub(crate) struct Documents {
    pub(crate) name: &'static str,
    folder: PathBuf,
}

/// Every form in which a document is served, and the file it is kept in.
const FORMS: [(&str, &str); 5] = [
    ("/openapi.json", "openapi-3.1.json"),
    ("/openapi.yaml", "openapi-3.1.yaml"),
    ("/openapi.json?version=3.0", "openapi-3.0.json"),
    ("/openapi.yaml?version=3.0", "openapi-3.0.yaml"),
    ("/schema.graphql", "schema.graphql"),
];

fn openapi_check(_: &Given) -> anyhow::Result<()> {
    let bench = Bench::install("openapi")?;
    let mut sets = vec![served(&bench, "demo", &[])?];
    for behind in bench.servers()? {
        sets.push(served(&bench, behind.name, &behind.arguments)?);
    }
    sets.push(corpus(&bench)?);

    let mut lost = 0;
    let mut judge = |who: &str, verdict: anyhow::Result<()>| match verdict {
        Ok(()) => println!("openapi-check: {who} accepts every document"),
        Err(error) => {
            println!("openapi-check: {who} REFUSES: {error:#}");
            lost += 1;
        }
    };
    // No one of them is enough: the first does not look for references that lead nowhere, the second is lenient about keywords of the
    // other version, the third reads 3.0 alone.
    judge("openapi-spec-validator", run(&mut spec_validator(&bench, &sets)));
    judge("redocly", run(&mut redocly(&bench, &sets)));
    judge("openapiv3", sets.iter().try_for_each(typed));
    judge("graphql-core", run(&mut graphql(&bench, &sets)));
    judge("openapi-typescript with tsc", generators::typescript(&bench, &sets));
    judge("datamodel-code-generator", generators::models(&bench, &sets));
    judge("openapi-python-client", generators::python_client(&bench, &sets));
    if lost > 0 {
        bail!("{lost} refusals; the documents are in {}", bench.folder.display());
    }
    Ok(())
}

impl Documents {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The OpenAPI documents in every form.
    fn openapi(&self) -> impl Iterator<Item = PathBuf> {
        FORMS.iter().filter(|(_, file)| file.starts_with("openapi")).map(|(_, file)| self.file(file))
    }
}

/// Serves these upstreams (none: the demo) and keeps the documents in every form.
fn served(bench: &Bench, name: &'static str, upstreams: &[String]) -> anyhow::Result<Documents> {
    let folder = folder(bench, name)?;
    let arguments: Vec<&str> = upstreams.iter().map(String::as_str).collect();
    let (gateway, url) = bench.gateway(name, &arguments)?;
    let port = port_of(&url)?;
    for (path, file) in FORMS {
        let text = http::get(port, path).with_context(|| format!("{path} of {name}"))?;
        std::fs::write(folder.join(file), text)?;
    }
    gateway.stop()?;
    Ok(Documents { name, folder })
}

/// The documents of `crates/schema/tests/corpus`, under the same names.
fn corpus(bench: &Bench) -> anyhow::Result<Documents> {
    let folder = folder(bench, "corpus")?;
    run(Process::new(example("mpe-schema", "corpus")?).arg(&folder))?;
    Ok(Documents { name: "corpus", folder })
}

fn folder(bench: &Bench, name: &str) -> anyhow::Result<PathBuf> {
    let folder = bench.folder.join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn spec_validator(bench: &Bench, sets: &[Documents]) -> Process {
    let mut command = bench.python.command("openapi-spec-validator");
    command.args(sets.iter().flat_map(Documents::openapi));
    command
}

/// The YAML forms are left to the other one: they hold the same.
fn redocly(bench: &Bench, sets: &[Documents]) -> Process {
    let mut command = bench.node.command("node_modules/@redocly/cli/bin/cli.js");
    command.args(["lint", "--format", "stylish", "--config"]).arg(root().join("tests/node/redocly.yaml"));
    for set in sets {
        command.arg(set.file("openapi-3.1.json")).arg(set.file("openapi-3.0.json"));
    }
    // It would report its use, and look for a newer version of itself.
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true").env("CI", "true");
    command
}

fn typed(set: &Documents) -> anyhow::Result<()> {
    let text = read(&set.file("openapi-3.0.json"))?;
    let document: openapiv3::OpenAPI = serde_json::from_str(&text).with_context(|| set.name.to_owned())?;
    if document.operations().next().is_none() {
        bail!("{}: no operation", set.name);
    }
    Ok(())
}

fn graphql(bench: &Bench, sets: &[Documents]) -> Process {
    let mut command = bench.python.command("python");
    command.arg(root().join("tests/python/graphql_check.py"));
    command.args(sets.iter().map(|set| set.file("schema.graphql")));
    command
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
