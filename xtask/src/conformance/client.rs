//! The leg `client`: the suite plays server and authorization server; in front our upstream client alone, in the thin
//! driver `conformance-client` (an example of the engine).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, bail};

use super::suite::{Scenario, Suite};
use super::verdict::{Expected, Faults, judge};
use crate::flags::Given;
use crate::process::run as run_command;
use crate::workspace::{cargo, scratch, target};

/// How the driver knows the revision: it is told, or it finds out.
const MODES: [(&str, &str); 2] = [("pinned", ""), ("auto", " --auto")];

/// Failures that are known, each with its reason.
const EXPECTED: &str = "client-expected-failures.json";

/// Runs every scenario of every revision in both modes.
///
/// # Errors
/// When the run could not be made. What was lost is returned.
pub(super) fn run(given: &Given, revisions: &[&str]) -> anyhow::Result<Vec<String>> {
    if let Some(unknown) = given.value("--mode").filter(|only| MODES.iter().all(|(mode, _)| mode != only)) {
        bail!("no mode `{unknown}`; there are pinned and auto");
    }
    let n_jobs: usize = given.value("--jobs").unwrap_or("2").parse().context("--jobs takes a number")?;
    let (suite, expected) = (Suite::install()?, Expected::read(EXPECTED)?);
    let driver = driver()?;
    let results = scratch("conformance-client")?;
    let mut lost = Vec::new();
    for revision in revisions {
        let mut scenarios = suite.scenarios(revision, "client")?;
        if let Some(beginning) = given.value("--scenario") {
            scenarios.retain(|scenario| scenario.name.starts_with(beginning));
        }
        for (mode, flag) in MODES {
            if given.value("--mode").is_some_and(|only| only != mode) {
                continue;
            }
            let out = results.join(format!("{revision}-{mode}"));
            let run = Run { suite: &suite, driver: format!("{driver}{flag}"), revision, out: &out };
            let outcomes = run.all(&scenarios, n_jobs.max(1))?;
            let contradictions = expected.settle(outcomes, revision, mode);
            lost.extend(contradictions.into_iter().map(|what| format!("client: {what}")));
        }
    }
    println!("client: every check lies in {}", results.display());
    Ok(lost)
}

/// One revision in one mode.
struct Run<'a> {
    suite: &'a Suite,
    driver: String,
    revision: &'a str,
    out: &'a Path,
}

impl Run<'_> {
    /// Every scenario, several at a time, in the suite's order.
    fn all(&self, scenarios: &[Scenario], n_jobs: usize) -> anyhow::Result<Vec<(Scenario, Faults)>> {
        let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..scenarios.len()).collect());
        let done = Mutex::new(Vec::with_capacity(scenarios.len()));
        std::thread::scope(|scope| {
            for _ in 0..n_jobs {
                scope.spawn(|| {
                    while let Some(at) = { waiting.lock().expect("nothing panics here").pop_front() } {
                        let outcome = self.one(&scenarios[at]);
                        done.lock().expect("nothing panics here").push((at, outcome));
                    }
                });
            }
        });
        let mut done = done.into_inner().expect("nothing panics here");
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(at, outcome)| Ok((scenarios[at].clone(), outcome?))).collect()
    }

    fn one(&self, scenario: &Scenario) -> anyhow::Result<Faults> {
        let out = self.out.join(scenario.name.replace('/', "_"));
        let mut command = self.suite.client(&self.driver, scenario, self.revision, &out);
        let ran = command.output().with_context(|| format!("cannot run the scenario {}", scenario.name))?;
        let mut printed = String::from_utf8_lossy(&ran.stdout).into_owned();
        printed.push_str(&String::from_utf8_lossy(&ran.stderr));
        std::fs::create_dir_all(&out)?;
        std::fs::write(out.join("printed.txt"), &printed)?;
        judge(&out, ran.status.success(), &printed)
    }
}

/// Builds the driver and returns its path, which the suite splits at blanks.
fn driver() -> anyhow::Result<String> {
    run_command(cargo().args([
        "build",
        "--quiet",
        "--package",
        "mpe-engine",
        "--example",
        "conformance-client",
    ]))?;
    let path = target().join("debug").join("examples").join("conformance-client");
    let path = path.with_extension(std::env::consts::EXE_EXTENSION);
    let text = path.display().to_string();
    if text.contains(char::is_whitespace) {
        bail!("the suite cannot run a driver whose path has blanks: {text}");
    }
    Ok(text)
}
