//! `cargo xtask ci`: everything a change must pass, in the order of how fast it tells.

use std::process::Command as Process;
use std::time::Instant;

use anyhow::bail;

use crate::flags::{Command, Flag, Given};
use crate::process::run;
use crate::workspace::cargo;
use crate::{codegen, deny};

pub(crate) const COMMAND: Command = Command {
    name: "ci",
    summary: "Runs every check a change must pass: fmt, clippy, tests, doc, codegen --check, deny.",
    operands: "",
    flags: &[
        Flag { name: "--no-tests", value: None, help: "Leave the tests out: they have just been run." },
        Flag { name: "--no-deny", value: None, help: "Leave cargo-deny out: no network to install it." },
    ],
    forwards: false,
    run: ci,
};

/// One check: its name and what it does.
type Step = (&'static str, Box<dyn Fn() -> anyhow::Result<()>>);

fn ci(given: &Given) -> anyhow::Result<()> {
    let mut steps: Vec<Step> = vec![
        ("fmt", Box::new(|| run(cargo().args(["fmt", "--all", "--check"])))),
        ("codegen --check", Box::new(codegen::check)),
        ("clippy", Box::new(|| run(&mut clippy()))),
        ("doc", Box::new(|| run(&mut doc()))),
    ];
    if !given.has("--no-tests") {
        steps.push(("test", Box::new(|| run(cargo().args(["test", "--workspace", "--quiet"])))));
    }
    if !given.has("--no-deny") {
        steps.push(("deny", Box::new(deny::check)));
    }
    all(&steps)
}

/// Runs every step even after one failed: a change's author wants the whole list.
fn all(steps: &[Step]) -> anyhow::Result<()> {
    let mut lost = Vec::new();
    let start = Instant::now();
    for (name, step) in steps {
        println!("ci: {name} ...");
        let begun = Instant::now();
        let outcome = step();
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("ci: {name} passed in {seconds:.1} s"),
            Err(error) => {
                println!("ci: {name} FAILED after {seconds:.1} s: {error:#}");
                lost.push(*name);
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    if !lost.is_empty() {
        bail!("{} of {} steps failed in {seconds:.1} s: {}", lost.len(), steps.len(), lost.join(", "));
    }
    println!("ci: {} steps passed in {seconds:.1} s", steps.len());
    Ok(())
}

fn clippy() -> Process {
    let mut command = cargo();
    command.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]);
    command
}

fn doc() -> Process {
    let mut command = cargo();
    command
        .args(["doc", "--quiet", "--workspace", "--all-features", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    command
}
