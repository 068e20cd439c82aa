//! The leg `server`: the suite in front, the product, a reference server behind.

use std::process::Command as Process;

use super::Rig;
use crate::http;
use crate::process::{Server, free_port, run as run_command};

/// # Errors
/// When a required scenario was lost, or the run could not be made.
pub(super) fn run(rig: &Rig, revision: &str) -> anyhow::Result<()> {
    let (upstream_port, port) = (free_port()?, free_port()?);
    let mut upstream = rig.script("upstream.sh");
    upstream.args(["--port", &upstream_port.to_string(), "--era", &rig.era]);
    let upstream = Server::start(&format!("upstream-{revision}"), &mut upstream, upstream_port, &rig.logs)?;
    let mut serve = Process::new(&rig.binary);
    serve.arg("serve").arg(format!("http://127.0.0.1:{upstream_port}/mcp"));
    serve.args(["--listen", &format!("127.0.0.1:{port}")]);
    let gateway = Server::start(&format!("gateway-{revision}"), &mut serve, port, &rig.logs)?;
    http::ready(port)?;
    run_command(rig.script("run-server.sh").args([&format!("http://127.0.0.1:{port}/mcp"), revision]))?;
    gateway.stop()?;
    drop(upstream);
    Ok(())
}
