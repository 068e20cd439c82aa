//! What one run of the suite found, and how it is counted.
//!
//! The suite lets a scenario pass unless a check is a FAILURE. Here one passes when no check failed or warned, at least one
//! succeeded, and every check that succeeds without the product succeeds through it as often.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command as Process;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::suite::Scenario;
use super::verdict::one_line;
use crate::process::shown;

/// Made only where an answer comes as a stream, and a plain JSON answer is as good.
const OPTIONAL: &str = "server-sse-streams-functional";

/// How many scenarios passed, and which did not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: usize,
    required: usize,
    /// Of the scenarios that do not count, those that pass without the product.
    also: usize,
    more: usize,
    pub(super) lost: Vec<Lost>,
}

/// A scenario that did not pass.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) name: String,
    pub(super) not_scored: Option<String>,
    pub(super) why: Vec<String>,
}

/// Every scenario's checks.
#[derive(Debug)]
pub(super) struct Results {
    scenarios: Vec<(Scenario, Option<Checks>)>,
}

#[derive(Debug, Default)]
struct Checks {
    /// How often each check succeeded.
    succeeded: BTreeMap<String, usize>,
    bad: Vec<String>,
}

impl Results {
    /// Reads what the suite left in `folder`, one folder a scenario: `server-NAME-TIME/checks.json`.
    ///
    /// # Errors
    /// When it left nothing, or something that is no list of checks.
    pub(super) fn read(scenarios: &[Scenario], folder: &Path) -> anyhow::Result<Self> {
        let folders: Vec<String> = std::fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("server-"))
            .collect();
        if folders.is_empty() {
            bail!("the suite left nothing in {}", folder.display());
        }
        let mut read = Vec::with_capacity(scenarios.len());
        for scenario in scenarios {
            // Times begin with the century.
            let beginning = format!("server-{}-20", scenario.name);
            let is_its = |name: &&String| {
                name.strip_prefix(&beginning)
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            };
            let checks = match folders.iter().find(is_its) {
                Some(name) => Some(Checks::read(&folder.join(name).join("checks.json"))?),
                None => None,
            };
            read.push((scenario.clone(), checks));
        }
        Ok(Self { scenarios: read })
    }

    /// Counted alone.
    pub(super) fn tally(&self) -> Tally {
        self.counted(|_| None)
    }

    /// Counted beside what the same server does without the product.
    pub(super) fn beside(&self, direct: &Self) -> Tally {
        self.counted(|name| {
            let found = direct.scenarios.iter().find(|(scenario, _)| scenario.name == name);
            Some(found.and_then(|(_, checks)| checks.as_ref()))
        })
    }

    /// `direct`: `None` without a comparison, `Some(None)` when the scenario left nothing there.
    fn counted<'a>(&self, direct: impl Fn(&str) -> Option<Option<&'a Checks>>) -> Tally {
        let mut tally = Tally::default();
        for (scenario, checks) in &self.scenarios {
            let beside = direct(&scenario.name);
            let why = match checks {
                None => vec!["the scenario left no checks.json".to_owned()],
                Some(checks) => checks.faults(beside.flatten()),
            };
            if let Some(reason) = &scenario.not_scored {
                let is_kept = match beside {
                    None => why.is_empty(),
                    Some(direct) => direct.is_some_and(|checks| checks.faults(None).is_empty()),
                };
                if !is_kept {
                    continue;
                }
                tally.more += 1;
                tally.also += usize::from(why.is_empty());
                if why.is_empty() {
                    continue;
                }
                tally.lost.push(Lost { name: scenario.name.clone(), not_scored: Some(reason.clone()), why });
                continue;
            }
            tally.required += 1;
            if why.is_empty() {
                tally.passed += 1;
            } else {
                tally.lost.push(Lost { name: scenario.name.clone(), not_scored: None, why });
            }
        }
        tally
    }
}

impl Checks {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let list: Value = serde_json::from_str(text)?;
        let mut checks = Self::default();
        for check in list.as_array().context("no list of checks")? {
            let id = check["id"].as_str().unwrap_or_default();
            match check["status"].as_str().unwrap_or_default() {
                "SUCCESS" => *checks.succeeded.entry(id.to_owned()).or_default() += 1,
                status @ ("FAILURE" | "WARNING") => {
                    let why = check["errorMessage"].as_str().or(check["description"].as_str());
                    checks.bad.push(format!("{status} {id}: {}", one_line(why.unwrap_or_default())));
                }
                _ => {}
            }
        }
        Ok(checks)
    }

    /// What is wrong; `direct` are the same scenario's checks without the product.
    fn faults(&self, direct: Option<&Self>) -> Vec<String> {
        let mut faults = self.bad.clone();
        if self.succeeded.is_empty() {
            faults.push("no check succeeded".to_owned());
        }
        for (id, times) in direct.map(|direct| &direct.succeeded).into_iter().flatten() {
            if id != OPTIONAL && self.succeeded.get(id).is_none_or(|through| through < times) {
                faults.push(format!("succeeds without the product: {id}"));
            }
        }
        faults
    }
}

impl Tally {
    /// Runs a script of the rig that prints its count as JSON.
    ///
    /// # Errors
    /// When it prints something else.
    pub(super) fn of_rig(script: &mut Process) -> anyhow::Result<Self> {
        let ran = script.output().with_context(|| format!("cannot run {}", shown(script)))?;
        let text = String::from_utf8_lossy(&ran.stdout);
        let counted: Value = serde_json::from_str(&text).with_context(|| {
            format!("{} printed no count: {text}{}", shown(script), String::from_utf8_lossy(&ran.stderr))
        })?;
        let number = |kind: &str, key: &str| {
            let number = counted[kind][key].as_u64().and_then(|number| usize::try_from(number).ok());
            number.with_context(|| format!("the rig's count has no {kind}.{key}"))
        };
        let mut lost = Vec::new();
        for kind in ["failures", "unscoredFailures"] {
            for one in counted[kind].as_array().into_iter().flatten() {
                let lines = one["why"].as_array().into_iter().flatten();
                let scenario = Lost {
                    name: one["name"].as_str().unwrap_or_default().to_owned(),
                    not_scored: one["reason"].as_str().map(str::to_owned),
                    why: lines.filter_map(|line| Some(one_line(line.as_str()?))).collect(),
                };
                lost.push(scenario);
            }
        }
        let unreached: Vec<_> =
            counted["unreached"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !unreached.is_empty() {
            let why = unreached.into_iter().map(str::to_owned).collect();
            let name = "calls that never reached the server behind the product".to_owned();
            lost.push(Lost { name, not_scored: None, why });
        }
        Ok(Self {
            passed: number("required", "strict")?,
            required: number("required", "total")?,
            also: number("unscored", "strict")?,
            more: number("unscored", "total")?,
            lost,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, required, also, more, .. } = self;
        write!(f, "{passed}/{required} required scenarios passed; not scored: {also}/{more}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Checks, Results, Scenario};

    fn results(checks: &str) -> Results {
        let scenario = Scenario { name: "a".to_owned(), not_scored: None };
        Results { scenarios: vec![(scenario, Some(Checks::parse(checks).unwrap()))] }
    }

    #[test]
    fn a_check_that_succeeds_directly_must_succeed_through_the_product_as_often() {
        let twice = results(r#"[{"id":"x","status":"SUCCESS"},{"id":"x","status":"SUCCESS"}]"#);
        let once = results(r#"[{"id":"x","status":"SUCCESS"},{"id":"y","status":"SKIPPED"}]"#);
        assert_eq!(once.tally().passed, 1);
        assert_eq!(once.beside(&twice).passed, 0);
        assert_eq!(twice.beside(&once).passed, 1);
    }

    #[test]
    fn a_warning_or_nothing_at_all_is_no_success() {
        for checks in [r#"[{"id":"x","status":"WARNING"},{"id":"y","status":"SUCCESS"}]"#, "[]"] {
            let tally = results(checks).tally();
            assert_eq!((tally.passed, tally.lost.len()), (0, 1), "{checks}");
        }
    }
}
