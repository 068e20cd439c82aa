//! `check`: is the configuration sound, and does every server answer?

use mcp_proxy_engine::engine::{Catalogue, UpstreamState, UpstreamStatus};
use serde_json::{Value, json};

use super::args::{CheckArgs, LogArgs};
use super::exit::{Exit, Failure};
use super::{output, source};

pub(crate) async fn run(args: CheckArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let engine = source::start(&args.source, log).await?;
    let mut is_reachable = true;
    let mut lines = Vec::new();
    let mut endpoints = serde_json::Map::new();
    for id in engine.engine().endpoints() {
        let Some(snapshot) = engine.engine().snapshot(&id) else {
            continue;
        };
        let catalogue = &snapshot.catalogue;
        is_reachable &= catalogue.upstreams().iter().all(|status| status.state == UpstreamState::Up);
        lines.push(format!("endpoint {id}: {} tools", catalogue.tools().len()));
        lines.extend(catalogue.upstreams().iter().flat_map(describe));
        lines.extend(catalogue.collisions().iter().map(|collision| {
            format!(
                "  note: several servers have `{}`; shown as {}",
                collision.name,
                collision.resolved.join(", ")
            )
        }));
        endpoints.insert(id.to_string(), report(catalogue));
    }
    engine.close().await;
    if args.json {
        output::result(&output::json(&json!({ "reachable": is_reachable, "endpoints": endpoints })))?;
    } else {
        output::result(&lines.join("\n"))?;
    }
    Ok(if is_reachable { Exit::Done } else { Exit::Unreachable })
}

fn describe(status: &UpstreamStatus) -> Vec<String> {
    let version = status.version.map(|version| format!(", MCP {version}")).unwrap_or_default();
    let state = match &status.state {
        UpstreamState::Discovering => "has not answered yet".to_owned(),
        UpstreamState::Down { error } => format!("down: {error}"),
        UpstreamState::Stale { error } => {
            format!("stale ({} tools of an earlier look): {error}", status.tools)
        }
        UpstreamState::Up => format!("up: {} tools{version}", status.tools),
    };
    let mut lines = vec![format!("  {}: {state}", status.key)];
    lines.extend(status.rejected.iter().map(|(tool, reason)| format!("    left out: {tool}: {reason}")));
    lines
}

fn report(catalogue: &Catalogue) -> Value {
    let servers: serde_json::Map<String, Value> = catalogue
        .upstreams()
        .iter()
        .map(|status| {
            let (state, error) = match &status.state {
                UpstreamState::Discovering => ("discovering", None),
                UpstreamState::Down { error } => ("down", Some(error)),
                UpstreamState::Stale { error } => ("stale", Some(error)),
                UpstreamState::Up => ("up", None),
            };
            let rejected: Vec<Value> = status
                .rejected
                .iter()
                .map(|(tool, reason)| json!({ "tool": tool, "reason": reason }))
                .collect();
            let value = json!({
                "state": state,
                "error": error,
                "protocol_version": status.version.map(|version| version.as_str()),
                "tools": status.tools,
                "left_out": rejected,
            });
            (status.key.to_string(), value)
        })
        .collect();
    json!({ "revision": catalogue.revision(), "tools": catalogue.tools().len(), "servers": servers })
}
