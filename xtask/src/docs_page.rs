//! `cargo xtask docs-page`: the page at `/docs` in a real browser, and the viewer it is made of against its package.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::flags::{Command, Flag, Given};
use crate::peers::{Bench, port_of};
use crate::process::{output, run};
use crate::workspace::root;

pub(crate) const COMMAND: Command = Command {
    name: "docs-page",
    summary: "Opens /docs in headless Chromium, runs tools from it, and checks the bundled viewer against its npm package.",
    operands: "",
    flags: &[
        Flag { name: "--update", value: None, help: "Bundle the viewer anew from the package." },
        Flag { name: "--no-browser", value: None, help: "Only look at the bundle." },
    ],
    forwards: false,
    run: docs_page,
};

/// The files that are bundled compressed.
const BUNDLED: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

/// The files that say under which conditions.
const LICENSES: [&str; 3] = ["NOTICE", "LICENSE", "swagger-ui-bundle.js.LICENSE.txt"];

fn docs_page(given: &Given) -> anyhow::Result<()> {
    let bench = Bench::install("docs-page")?;
    bundle(&bench, given.has("--update"))?;
    if given.has("--no-browser") {
        return Ok(());
    }
    let chromium = chromium()?;
    let (demo, demo_url) = bench.gateway("demo", &[])?;
    let config = bench.folder.join("endpoints.json");
    let servers = json!({ "shop": { "url": demo_url } });
    let endpoints = json!({ "mcpServers": servers, "endpoints": { "branch": { "mcpServers": servers } } });
    std::fs::write(&config, endpoints.to_string())?;
    let (other, other_url) = bench.gateway("endpoints", &["--config", &config.to_string_lossy()])?;
    let pages = [("demo", &demo_url, ""), ("endpoint", &other_url, "/endpoints/branch")];
    for (name, url, base) in pages {
        let mut command = bench.node.command("docs-page.mjs");
        command.arg("--chromium").arg(&chromium).arg("--shots").arg(bench.folder.join(name));
        command.arg("--base").arg(format!("http://127.0.0.1:{}{base}", port_of(url)?));
        run(&mut command).with_context(|| name.to_owned())?;
    }
    other.stop()?;
    demo.stop()?;
    println!("docs-page: the screenshots are in {}", bench.folder.display());
    Ok(())
}

/// Compares what is bundled with the package, whose integrity npm has checked against the lock file; or bundles it anew.
fn bundle(bench: &Bench, is_update: bool) -> anyhow::Result<()> {
    let package = bench.node.package("swagger-ui-dist");
    let assets = root().join("crates/gateway/assets/swagger-ui");
    let mut licenses = Vec::new();
    for file in LICENSES {
        if !licenses.is_empty() {
            licenses.push(b'\n');
        }
        licenses.extend(read(&package.join(file))?);
    }
    if is_update {
        std::fs::write(assets.join("LICENSES.txt"), &licenses)?;
        for file in BUNDLED {
            let packed = Process::new("gzip").arg("-9nc").arg(package.join(file)).output()?;
            if !packed.status.success() {
                bail!("gzip ended with {}", packed.status);
            }
            std::fs::write(assets.join(format!("{file}.gz")), packed.stdout)?;
        }
    }
    let again = "`cargo xtask docs-page --update --no-browser` bundles it anew";
    if read(&assets.join("LICENSES.txt"))? != licenses {
        bail!("LICENSES.txt is not what the package says; {again}");
    }
    for file in BUNDLED {
        // Compressors differ, so the contents are compared.
        let unpacked = Process::new("gzip").arg("-dc").arg(assets.join(format!("{file}.gz"))).output()?;
        if unpacked.stdout != read(&package.join(file))? {
            bail!("the bundled {file} is not the package's; {again}");
        }
    }
    println!("docs-page: the bundled viewer is the package's");
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// A Chromium: `CHROMIUM`, one on the path, or the one of Debian, installed when we may.
fn chromium() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Ok(path.into());
    }
    if let Some(found) = on_path() {
        return Ok(found);
    }
    println!("docs-page: installing chromium");
    let may_install = run(Process::new("apt-get").args(["update", "-qq"])).and_then(|()| {
        let mut install = Process::new("apt-get");
        install.args(["install", "-y", "-qq", "--no-install-recommends", "chromium"]);
        run(install.env("DEBIAN_FRONTEND", "noninteractive"))
    });
    match (may_install, on_path()) {
        (Ok(()), Some(found)) => Ok(found),
        (Err(error), _) => Err(error.context("needs Chromium: install it, or name one in CHROMIUM")),
        (Ok(()), None) => bail!("needs Chromium: install it, or name one in CHROMIUM"),
    }
}

fn on_path() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(|name| {
        let found = output(Process::new("sh").args(["-c", &format!("command -v {name}")])).ok()?;
        let path = PathBuf::from(found.trim());
        path.exists().then_some(path)
    })
}
