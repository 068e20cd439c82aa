//! `cargo xtask fuzz`: coverage-guided fuzzing of what reads bytes of strangers, and mutated requests for the whole face.
//!
//! The targets are `tests/fuzz`, built with the coverage instrumentation of the stable compiler and linked to libFuzzer.
//! What libFuzzer finds worth keeping lands under `target`; a finding that was fixed is added to `tests/fuzz/corpus` by
//! hand, which `cargo test` replays.

use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::{Context as _, bail};

use crate::flags::{Command, Flag, Given};
use crate::process::run;
use crate::workspace::{cargo, root, target};

pub(crate) const COMMAND: Command = Command {
    name: "fuzz",
    summary: "Fuzzes message, event, line and header reading (libFuzzer) and a running gateway (mutated requests).",
    operands: "[headers|jsonrpc|lines|sse|face]",
    flags: &[
        Flag { name: "--seconds", value: Some("N"), help: "For each libFuzzer target; default: 60." },
        Flag {
            name: "--cases",
            value: Some("N"),
            help: "Batches of 16 requests for the face; default: 2000.",
        },
    ],
    forwards: false,
    run: fuzz,
};

/// The targets in `tests/fuzz`.
const TARGETS: [&str; 4] = ["headers", "jsonrpc", "lines", "sse"];
/// The mutation tests of the whole face.
const FACE: &str = "face";

/// Bytes of one input: enough for every rule, few enough for many inputs.
const LONGEST_INPUT: &str = "-max_len=512";

/// Coverage counters and comparisons, as libFuzzer reads them; what `cargo fuzz` passes, without the sanitizers that need
/// another compiler.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

fn fuzz(given: &Given) -> anyhow::Result<()> {
    let only = given.operands().first().map(String::as_str);
    if let Some(only) = only.filter(|only| *only != FACE && !TARGETS.contains(only)) {
        bail!("no target `{only}`; there are {}, {FACE}", TARGETS.join(", "));
    }
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let wanted: Vec<_> = TARGETS.into_iter().filter(|name| is_wanted(name)).collect();
    if !wanted.is_empty() {
        let folder = build()?;
        for name in wanted {
            fuzz_target(&folder, name, given.value("--seconds").unwrap_or("60"))?;
        }
    }
    if is_wanted(FACE) {
        let mut test = cargo();
        test.args(["test", "--package", "mpe-tests", "--test", "e2e", "fuzz::"]);
        run(test.env("MPE_FUZZ_CASES", given.value("--cases").unwrap_or("2000")))?;
    }
    Ok(())
}

/// Builds every target; gives the folder with the programs.
fn build() -> anyhow::Result<PathBuf> {
    let host = host()?;
    let folder = target().join("fuzz");
    let mut build = cargo();
    build.args(["build", "--release", "--bins", "--manifest-path"]).arg(root().join("tests/fuzz/Cargo.toml"));
    // Naming the target keeps the instrumentation away from build scripts and macros.
    build.args(["--target", &host, "--target-dir"]).arg(&folder);
    run(build.env("RUSTFLAGS", INSTRUMENTATION))?;
    Ok(folder.join(host).join("release"))
}

fn fuzz_target(folder: &std::path::Path, name: &str, seconds: &str) -> anyhow::Result<()> {
    let found = target().join("fuzz").join("corpus").join(name);
    let artifacts = target().join("fuzz").join("artifacts").join(name);
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    println!("fuzz: {name} for {seconds} s");
    let mut fuzzer = Process::new(folder.join(name));
    fuzzer
        // What is new goes into the first folder; the second is only read.
        .args([&found, &root().join("tests/fuzz/corpus").join(name)])
        .args([LONGEST_INPUT, "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=1"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    run(&mut fuzzer).with_context(|| format!("{name}: the input is in {}", artifacts.display()))
}

/// What the compiler calls this machine.
fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = crate::process::output(Process::new(rustc).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}
