//! `cargo xtask soak`: very many exchanges, processes and sessions, and whether anything piles up.

use crate::flags::{Command, Given};
use crate::process::run;
use crate::workspace::cargo;

pub(crate) const COMMAND: Command = Command {
    name: "soak",
    summary: "Runs 100,000 exchanges with random cancellations, starts 10,000 processes and opens 100,000 sessions anew, in release \
              mode; fails if memory, descriptors, tasks or processes rise. `--only exchanges|processes|sessions`: one of them.",
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
