//! `cargo xtask soak`: very many exchanges through the connection pool, many cut short, and whether anything piles up.

use crate::flags::{Command, Given};
use crate::process::run;
use crate::workspace::cargo;

pub(crate) const COMMAND: Command = Command {
    name: "soak",
    summary: "Runs 100,000 exchanges with random cancellations in release mode; fails if memory, descriptors or tasks rise.",
    operands: "[FLAGS OF THE SOAK]",
    flags: &[],
    forwards: true,
    run: soak,
};

fn soak(given: &Given) -> anyhow::Result<()> {
    run(cargo()
        .args(["run", "--quiet", "--release", "--package", "mpe-bench", "--", "soak"])
        .args(given.operands()))
}
