//! The leg `server`: the suite in front, the product, a reference server behind.
//!
//! Every reference server is asked directly first, and then through the product: over Streamable HTTP and over a pipe, and
//! over HTTP with only the era behind that the suite does not speak, and once with streams that the operator wants polled,
//! which is off by default. (Over a pipe, a legacy server is asked one call at a
//! time where it may ask back; the suite leaves calls open that it will not finish, and the next ones wait for them.)

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, bail};

use super::Rig;
use super::results::{Results, Tally};
use super::suite::{Scenario, Suite};
use super::verdict::Expected;
use crate::flags::Given;
use crate::http;
use crate::process::{Server, free_port};
use crate::workspace::{product, reference_server, scratch};

/// What the suite may meet behind the product, and what is asked of it there.
const ERAS: [(&str, &[&str]); 3] =
    [("both", &["2026-07-28", "2025-11-25"]), ("legacy", &["2026-07-28"]), ("modern", &["2025-11-25"])];

/// The suite in front of streams that can be taken up, and are to be: `server-sse-polling` is about nothing else.
const POLLED: (&str, &str) = ("2025-11-25", "[http]\nresume_buffer = \"16MiB\"\npoll_after = \"250ms\"\n");

/// Failures that are known, each with its reason.
const EXPECTED: &str = "server-expected-failures.json";

/// Runs every reference server that is there.
///
/// # Errors
/// When the run could not be made. What was lost is returned.
pub(super) fn run(given: &Given, rig: Option<&Rig>, revisions: &[&str]) -> anyhow::Result<Vec<String>> {
    let eras = chosen("--upstream-era", given, &ERAS.map(|(era, _)| era))?;
    let carriers = chosen("--carrier", given, &["http", "pipe", "polled"])?;
    let references = chosen("--reference", given, &["own", "rig"])?;
    let suite = Suite::install()?;
    let bench = Bench {
        suite,
        binary: product(given.value("--product"))?,
        folder: scratch("conformance-server")?,
        expected: Expected::read(EXPECTED)?,
        counts_all: given.has("--all"),
    };
    let mut lost = Vec::new();
    for reference in references {
        let server: Box<dyn Reference> = match (reference, rig) {
            ("own", _) => Box::new(Own { program: reference_server()? }),
            (_, Some(rig)) => Box::new(TheRigs { rig }),
            (_, None) if given.value("--reference").is_some() => bail!("there is no rig; see --rig"),
            (_, None) => continue,
        };
        for revision in revisions {
            let direct = bench.direct(server.as_ref(), revision)?;
            println!("server {reference} {revision}, directly: {}", direct.tally);
            for (era, of_era) in ERAS {
                if !eras.contains(&era) || !of_era.contains(revision) {
                    continue;
                }
                for carrier in carriers.iter().filter(|carrier| match **carrier {
                    "http" => true,
                    "polled" => era == "both" && *revision == POLLED.0,
                    _ => era == "both",
                }) {
                    let title = format!("server {reference} {revision}, {era} behind over {carrier}");
                    let run = Through { server: server.as_ref(), era, carrier, revision, direct: &direct };
                    match bench.through(&run) {
                        Ok(tally) => {
                            println!("{title}: {tally}");
                            let behind = if *carrier == "polled" { carrier } else { era };
                            lost.extend(bench.settle(&tally, &title, reference, revision, behind));
                        }
                        Err(error) => {
                            println!("{title} FAILED: {error:#}");
                            lost.push(title);
                        }
                    }
                }
            }
        }
    }
    println!("server: logs and checks lie in {}", bench.folder.display());
    Ok(lost)
}

/// The values of a flag that narrows something down.
fn chosen<'a>(flag: &str, given: &Given, all: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    let Some(only) = given.value(flag) else { return Ok(all.to_vec()) };
    match all.iter().find(|known| **known == only) {
        Some(only) => Ok(vec![only]),
        None => bail!("no {flag} `{only}`; there are {}", all.join(", ")),
    }
}

/// A server with what the suite's scenarios ask for.
trait Reference {
    /// The command that serves it: on a port, or on its standard input and output.
    fn command(&self, era: &str, port: Option<u16>, log: Option<&Path>) -> Process;

    /// What the suite finds at `url`.
    ///
    /// # Errors
    /// The suite could not be run.
    fn ask(
        &self,
        bench: &Bench,
        url: &str,
        revision: &str,
        out: &Path,
        log: Option<&Path>,
    ) -> anyhow::Result<Asked>;
}

/// What the suite found.
struct Asked {
    tally: Tally,
    /// Check by check, where we count ourselves.
    results: Option<Results>,
}

/// What every run needs.
struct Bench {
    suite: Suite,
    binary: PathBuf,
    folder: PathBuf,
    expected: Expected,
    counts_all: bool,
}

/// One run through the product.
struct Through<'a> {
    server: &'a dyn Reference,
    era: &'a str,
    carrier: &'a str,
    revision: &'a str,
    direct: &'a Asked,
}

impl Bench {
    fn direct(&self, server: &dyn Reference, revision: &str) -> anyhow::Result<Asked> {
        let port = free_port()?;
        let name = format!("direct-{revision}-{port}");
        let running =
            Server::start(&name, &mut server.command("both", Some(port), None), port, &self.folder)?;
        let out = self.folder.join(&name);
        let asked = server.ask(self, &format!("http://127.0.0.1:{port}/mcp"), revision, &out, None)?;
        drop(running);
        Ok(asked)
    }

    fn through(&self, run: &Through<'_>) -> anyhow::Result<Tally> {
        let port = free_port()?;
        let name = format!("{}-{}-{}-{port}", run.revision, run.era, run.carrier);
        let mut serve = Process::new(&self.binary);
        serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        // A pipe leaves no log of requests; and across the eras not every call of the suite is one to the server.
        let log = self.folder.join(format!("{name}-requests.jsonl"));
        let log = (run.carrier != "pipe" && run.era == "both").then_some(log.as_path());
        let upstream = match run.carrier {
            "http" | "polled" => {
                let port = free_port()?;
                let mut command = run.server.command(run.era, Some(port), log);
                let url = format!("http://127.0.0.1:{port}/mcp");
                if run.carrier == "polled" {
                    let config = self.folder.join(format!("{name}.toml"));
                    std::fs::write(&config, format!("{}[mcp_servers.up]\nurl = \"{url}\"\n", POLLED.1))?;
                    serve.arg("--config").arg(config);
                } else {
                    serve.arg(url);
                }
                Some(Server::start(&format!("{name}-upstream"), &mut command, port, &self.folder)?)
            }
            _ => {
                let command = run.server.command(run.era, None, None);
                // The product scrubs the environment of what it starts.
                serve.args(["--", "env"]);
                for (name, value) in command.get_envs() {
                    let (name, value) = (name.to_string_lossy(), value.unwrap_or_default().to_string_lossy());
                    serve.arg(format!("{name}={value}"));
                }
                serve.arg(command.get_program()).args(command.get_args());
                None
            }
        };
        let gateway = Server::start(&format!("{name}-gateway"), &mut serve, port, &self.folder)?;
        http::ready(port).with_context(|| format!("the gateway's log ends with:\n{}", gateway.tail()))?;
        let url = format!("http://127.0.0.1:{port}/mcp");
        let asked = run.server.ask(self, &url, run.revision, &self.folder.join(&name), log)?;
        gateway.stop()?;
        drop(upstream);
        Ok(match (asked.results, &run.direct.results) {
            (Some(results), Some(direct)) => results.beside(direct),
            _ => asked.tally,
        })
    }

    /// Prints what was lost, and returns what contradicts the list of expected failures.
    fn settle(
        &self,
        tally: &Tally,
        title: &str,
        reference: &str,
        revision: &str,
        behind: &str,
    ) -> Vec<String> {
        let mode = format!("{reference} {behind}");
        let mut counting = Vec::new();
        for one in &tally.lost {
            let reason = self.expected.reason(&one.name, revision, &mode);
            let kind = one.not_scored.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            println!("  LOST {}{kind}", one.name);
            if let Some(reason) = reason {
                println!("      expected: {reason}");
            }
            for why in &one.why {
                println!("      {why}");
            }
            if one.not_scored.is_none() || self.counts_all {
                counting.push(one.name.as_str());
            }
        }
        let contradictions = self.expected.contradictions(&counting, revision, &mode, self.counts_all);
        contradictions.into_iter().map(|what| format!("{title}: {what}")).collect()
    }
}

/// Our own server, an example of the end-to-end tests.
struct Own {
    program: PathBuf,
}

impl Reference for Own {
    fn command(&self, era: &str, port: Option<u16>, log: Option<&Path>) -> Process {
        let mut command = Process::new(&self.program);
        command.args(["--era", era]);
        match port {
            Some(port) => command.args(["--port", &port.to_string()]),
            None => command.arg("--pipe"),
        };
        if let Some(log) = log {
            command.arg("--log").arg(log);
        }
        command
    }

    fn ask(
        &self,
        bench: &Bench,
        url: &str,
        revision: &str,
        out: &Path,
        log: Option<&Path>,
    ) -> anyhow::Result<Asked> {
        let scenarios = bench.suite.scenarios(revision, "server")?;
        let results = bench.results(&scenarios, url, revision, out)?;
        if let Some(log) = log {
            let text = std::fs::read_to_string(log).with_context(|| format!("no {}", log.display()))?;
            if !text.contains("tools/call") {
                bail!("no tool call of the suite reached the server behind the product");
            }
        }
        Ok(Asked { tally: results.tally(), results: Some(results) })
    }
}

impl Bench {
    /// One run of the suite, check by check.
    fn results(
        &self,
        scenarios: &[Scenario],
        url: &str,
        revision: &str,
        out: &Path,
    ) -> anyhow::Result<Results> {
        std::fs::create_dir_all(out)?;
        let ran = self.suite.server(url, revision, out).output().context("cannot run the suite")?;
        std::fs::write(out.join("printed.txt"), [ran.stdout, ran.stderr].concat())?;
        Results::read(scenarios, out)
    }
}

/// The rig's server, counted by the rig.
struct TheRigs<'a> {
    rig: &'a Rig,
}

impl Reference for TheRigs<'_> {
    fn command(&self, era: &str, port: Option<u16>, log: Option<&Path>) -> Process {
        let mut command = self.rig.script("upstream.sh");
        command.args(["--era", era]);
        match port {
            Some(port) => command.args(["--port", &port.to_string()]),
            None => command.arg("--stdio"),
        };
        if let Some(log) = log {
            command.arg("--log").arg(log);
        }
        command
    }

    fn ask(
        &self,
        _: &Bench,
        url: &str,
        revision: &str,
        out: &Path,
        log: Option<&Path>,
    ) -> anyhow::Result<Asked> {
        let mut command = self.rig.script("run-server.sh");
        command.args([url, revision, "--json", "--keep"]).arg(out);
        if let Some(log) = log {
            command.arg("--upstream-log").arg(log);
        }
        Ok(Asked { tally: Tally::of_rig(&mut command)?, results: None })
    }
}
