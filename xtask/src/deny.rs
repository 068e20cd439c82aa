//! `cargo xtask deny`: licences, banned crates and sources of the whole dependency graph.

use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::Context as _;

use crate::flags::{Command, Flag, Given};
use crate::process::run;
use crate::workspace::{cargo, root, target};

pub(crate) const COMMAND: Command = Command {
    name: "deny",
    summary: "Checks licences, banned crates and sources with cargo-deny, installed under target/tools.",
    operands: "",
    flags: &[Flag {
        name: "--advisories",
        value: None,
        help: "Check the advisory database too; it is cloned from GitHub.",
    }],
    forwards: false,
    run: deny,
};

/// The cargo-deny whose verdicts we rely on.
const VERSION: &str = "0.20.2";

fn deny(given: &Given) -> anyhow::Result<()> {
    check()?;
    if given.has("--advisories") {
        run(Process::new(installed()?).current_dir(root()).args(["--all-features", "check", "advisories"]))?;
    }
    Ok(())
}

/// Everything that needs no network beyond installing the tool once.
///
/// # Errors
/// When cargo-deny cannot be installed or refuses something.
pub(crate) fn check() -> anyhow::Result<()> {
    // The graph is read for every platform, so crates of platforms that are not ours must be there too.
    run(cargo().args(["fetch", "--quiet", "--locked"]))?;
    let mut command = Process::new(installed()?);
    command.current_dir(root()).args(["--all-features", "--offline", "check", "bans", "licenses", "sources"]);
    run(&mut command)
}

/// The path of cargo-deny, installed on first use.
fn installed() -> anyhow::Result<PathBuf> {
    let folder = target().join("tools").join(format!("cargo-deny-{VERSION}"));
    let tool = folder.join("bin").join("cargo-deny");
    if !tool.exists() {
        println!("installing cargo-deny {VERSION} into {}: a few minutes, once", folder.display());
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", "--root"]).arg(&folder);
        install.arg(format!("cargo-deny@{VERSION}"));
        // Its own build folder: the tool's dependencies are not ours, and must not be taken for them.
        install.env("CARGO_TARGET_DIR", target().join("tools").join("build"));
        run(&mut install).context("cargo-deny cannot be installed; `--no-deny` leaves it out")?;
        std::fs::remove_dir_all(target().join("tools").join("build"))?;
    }
    Ok(tool)
}
