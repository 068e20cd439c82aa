//! What a scenario came to, read strictly, and which failures are expected.
//!
//! The suite itself swallows a driver's time-out in its larger runs and lets a scenario pass whose checks were all
//! skipped. Here a scenario passes when the suite says so, no check failed, warned or was skipped, and at least one
//! succeeded.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::suite::Scenario;
use crate::workspace::root;

/// What is wrong with one scenario; nothing when it passed.
pub(super) type Faults = Vec<String>;

/// Failures that are known, each with its reason.
#[derive(Debug)]
pub(super) struct Expected {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    scenario: String,
    /// `None`: every revision.
    revision: Option<String>,
    /// `None`: every mode. Of the leg `server`: the reference server and the era it speaks.
    mode: Option<String>,
    /// Only a run with `--all` looks at it.
    is_not_scored: bool,
    /// Only a skipped check is excused, whose fault holds this text; `None`: the scenario fails.
    skipped: Option<String>,
    reason: String,
}

/// Judges one scenario by what it left in `out` and what the suite printed.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn judge(out: &Path, succeeded: bool, printed: &str) -> anyhow::Result<Faults> {
    let mut faults = Faults::new();
    if printed.contains("CLIENT TIMED OUT") || printed.contains("Client timed out") {
        faults.push("the driver timed out".to_owned());
    }
    let Some(checks) = checks_below(out)? else {
        faults.push("the scenario left no checks.json".to_owned());
        return Ok(faults);
    };
    let text = std::fs::read_to_string(&checks)?;
    let checks: Value = serde_json::from_str(&text).context("checks.json is no JSON")?;
    let mut n_succeeded = 0;
    for check in checks.as_array().context("checks.json is no list")? {
        let (id, status) =
            (check["id"].as_str().unwrap_or_default(), check["status"].as_str().unwrap_or_default());
        match status {
            "SUCCESS" => n_succeeded += 1,
            "INFO" => {}
            _ => {
                let why =
                    check["errorMessage"].as_str().or(check["description"].as_str()).unwrap_or_default();
                faults.push(format!("{status} {id}: {}", one_line(why)));
            }
        }
    }
    if n_succeeded == 0 {
        faults.push("no check succeeded".to_owned());
    }
    if !succeeded && faults.is_empty() {
        faults.push(format!("the suite says no: {}", last_line(printed)));
    }
    Ok(faults)
}

/// The file the suite leaves, in a folder named after scenario and time.
fn checks_below(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !folder.exists() {
        return Ok(None);
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == "checks.json") {
            return Ok(Some(path));
        }
        if path.is_dir()
            && let Some(found) = checks_below(&path)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim()
}

// === impl Expected ===

impl Expected {
    /// Reads a list of `tests/conformance`.
    ///
    /// # Errors
    /// When an entry has no scenario or no reason.
    pub(super) fn read(file: &str) -> anyhow::Result<Self> {
        let file = root().join("tests").join("conformance").join(file);
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{}", file.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let list: Value = serde_json::from_str(text)?;
        let mut entries = Vec::new();
        for entry in list.as_array().context("expected a list")? {
            let text = |key: &str| entry[key].as_str().map(str::to_owned);
            let (Some(scenario), Some(reason)) = (text("scenario"), text("reason")) else {
                bail!("an entry needs `scenario` and `reason`: {entry}");
            };
            if reason.trim().is_empty() {
                bail!("`{scenario}` needs a reason");
            }
            let is_not_scored = entry["not_scored"] == true;
            let (revision, mode, skipped) = (text("revision"), text("mode"), text("skipped"));
            entries.push(Entry { scenario, revision, mode, is_not_scored, skipped, reason });
        }
        Ok(Self { entries })
    }

    /// Why this scenario is known to fail here.
    pub(super) fn reason(&self, scenario: &str, revision: &str, mode: &str) -> Option<&str> {
        let mut known = self.about(scenario, revision, mode).filter(|entry| entry.skipped.is_none());
        known.next().map(|entry| entry.reason.as_str())
    }

    /// What is known of this scenario here.
    fn about(&self, scenario: &str, revision: &str, mode: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| {
            entry.scenario == scenario
                && entry.revision.as_deref().is_none_or(|only| only == revision)
                && entry.mode.as_deref().is_none_or(|only| only == mode)
        })
    }

    /// Takes out what may be skipped; returns the excuses that nothing made use of.
    fn excuse(&self, faults: &mut Faults, scenario: &str, revision: &str, mode: &str) -> Vec<String> {
        let mut unused = Vec::new();
        for excuse in self.about(scenario, revision, mode).filter_map(|entry| entry.skipped.as_deref()) {
            let before = faults.len();
            faults.retain(|fault| !(fault.starts_with("SKIPPED") && fault.contains(excuse)));
            if faults.len() == before {
                unused.push(format!("{scenario} skips no {excuse:?} ({revision} {mode})"));
            }
        }
        unused
    }

    /// What contradicts the list in a run that lost these scenarios: one that is not on it, or an entry for this revision
    /// and mode that passes. Entries for scenarios that do not count are left alone unless `counts_all`.
    pub(super) fn contradictions(
        &self,
        lost: &[&str],
        revision: &str,
        mode: &str,
        counts_all: bool,
    ) -> Vec<String> {
        let unlisted = lost.iter().filter(|name| self.reason(name, revision, mode).is_none());
        let stale = self.entries.iter().filter(|entry| {
            entry.revision.as_deref() == Some(revision)
                && entry.mode.as_deref() == Some(mode)
                && (counts_all || !entry.is_not_scored)
                && !lost.contains(&entry.scenario.as_str())
        });
        let unlisted = unlisted.map(|name| (*name).to_owned());
        let stale = stale.map(|entry| format!("{} passes; take it off the list", entry.scenario));
        unlisted.chain(stale).collect()
    }

    /// Prints one run's count and every scenario that did not pass; returns what contradicts the list: a failure that
    /// is not on it, or an entry that passes.
    pub(super) fn settle(
        &self,
        mut outcomes: Vec<(Scenario, Faults)>,
        revision: &str,
        mode: &str,
    ) -> Vec<String> {
        let mut contradictions = Vec::new();
        for (scenario, faults) in &mut outcomes {
            contradictions.extend(self.excuse(faults, &scenario.name, revision, mode));
        }
        let count = |is_scored: bool| {
            let of_kind: Vec<_> =
                outcomes.iter().filter(|(one, _)| one.not_scored.is_none() == is_scored).collect();
            (of_kind.iter().filter(|(_, faults)| faults.is_empty()).count(), of_kind.len())
        };
        let ((passed, all), (also, more)) = (count(true), count(false));
        println!(
            "client {revision} {mode}: {passed}/{all} required scenarios passed; not scored: {also}/{more}"
        );
        for (scenario, faults) in &outcomes {
            let name = scenario.name.as_str();
            let kind = scenario.not_scored.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            match (faults.is_empty(), self.reason(name, revision, mode)) {
                (true, None) => {
                    if !kind.is_empty() {
                        println!("  passed {name}{kind}");
                    }
                }
                (true, Some(_)) => {
                    println!("  {name}{kind} passes; take it off the list of expected failures");
                    contradictions.push(format!("{name} passes ({revision} {mode})"));
                }
                (false, reason) => {
                    let reason = reason.map(|reason| format!(", expected: {reason}"));
                    println!("  LOST {name}{kind}{}", reason.as_deref().unwrap_or_default());
                    for fault in faults {
                        println!("      {fault}");
                    }
                    if reason.is_none() {
                        contradictions.push(format!("{name} ({revision} {mode})"));
                    }
                }
            }
        }
        contradictions
    }
}

#[cfg(test)]
mod tests;
