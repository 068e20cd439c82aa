//! The leg `proxy`: a well-behaved client in front, the product, the suite behind.

use super::Rig;
use super::results::Tally;
use crate::flags::Given;

/// Runs the leg without the product and with it; a fresh product is started for each scenario.
///
/// # Errors
/// When the run could not be made. What was lost is returned.
pub(super) fn run(given: &Given, rig: &Rig, revision: &str) -> anyhow::Result<Vec<String>> {
    let mut direct = rig.script("run-client.sh");
    direct.args(["direct", revision, "--core", "--json"]);
    println!("proxy {revision}, directly: {}", Tally::of_rig(&mut direct)?);
    let command = format!("exec {} serve {{upstream}} --listen 127.0.0.1:{{port}}", rig.binary.display());
    let mut through = rig.script("run-client.sh");
    through.args(["--proxy", &command, revision, "--core", "--json"]);
    let tally = Tally::of_rig(&mut through)?;
    println!("proxy {revision}: {tally}");
    let mut lost = Vec::new();
    for one in &tally.lost {
        println!("  LOST {}", one.name);
        for why in &one.why {
            println!("      {why}");
        }
        if one.not_scored.is_none() || given.has("--all") {
            lost.push(format!("proxy {revision}: {}", one.name));
        }
    }
    Ok(lost)
}
