//! `cargo xtask bench`: the benchmarks, in the profile that figures are worth anything in.

use anyhow::bail;

use crate::flags::{Command, Given};
use crate::process::run;
use crate::workspace::{BINARY, cargo};

pub(crate) const COMMAND: Command = Command {
    name: "bench",
    summary: "Runs one benchmark in release mode; `bench help` lists them, `bench NAME --help` their flags.",
    operands: "NAME [FLAGS OF THE BENCHMARK]",
    flags: &[],
    forwards: true,
    run: bench,
};

fn bench(given: &Given) -> anyhow::Result<()> {
    if given.operands().is_empty() {
        bail!("which one? `cargo xtask bench help` lists them");
    }
    build()?;
    run(cargo().args(["run", "--quiet", "--release", "--package", "mpe-bench", "--"]).args(given.operands()))
}

/// Builds the benchmarks and, in the same profile, the product, which they start as a process of its own.
///
/// # Errors
/// When they do not build.
pub(crate) fn build() -> anyhow::Result<()> {
    let packages = ["--package", BINARY, "--package", "mpe-bench"];
    run(cargo().args(["build", "--quiet", "--release"]).args(packages))
}
