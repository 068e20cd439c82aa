//! The leg `proxy`: a well-behaved client in front, the product, the suite behind.

use super::Rig;
use crate::process::run as run_command;

/// A fresh product is started for each scenario.
///
/// # Errors
/// When a required scenario was lost, or the run could not be made.
pub(super) fn run(rig: &Rig, revision: &str) -> anyhow::Result<()> {
    let command = format!("exec {} serve {{upstream}} --listen 127.0.0.1:{{port}}", rig.binary.display());
    run_command(rig.script("run-client.sh").args(["--proxy", &command, revision, "--core"]))
}
