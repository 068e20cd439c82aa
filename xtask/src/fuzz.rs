//! `cargo xtask fuzz`: the mutation tests over the whole face, for as long as one likes.

use crate::flags::{Command, Flag, Given};
use crate::process::run;
use crate::workspace::cargo;

pub(crate) const COMMAND: Command = Command {
    name: "fuzz",
    summary: "Replays the corpus of requests with random mutations against a running gateway.",
    operands: "",
    flags: &[Flag { name: "--cases", value: Some("N"), help: "Batches of 16 requests; default: 2000." }],
    forwards: false,
    run: fuzz,
};

fn fuzz(given: &Given) -> anyhow::Result<()> {
    let mut test = cargo();
    test.args(["test", "--package", "mpe-tests", "--test", "e2e", "fuzz::"]);
    run(test.env("MPE_FUZZ_CASES", given.value("--cases").unwrap_or("2000")))
}
