//! `check`: is the configuration sound, and does every server answer?

use mcp_proxy_engine::engine::source::{SourceState, SourceStatus};
use mcp_proxy_engine::engine::{Catalogue, UpstreamState, UpstreamStatus};
use serde_json::{Value, json};

use super::args::{CheckArgs, LogArgs};
use super::exit::{Exit, Failure};
use super::{output, source};

pub(crate) async fn run(args: CheckArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let engine = source::start(&args.source, log).await?;
    let mut is_reachable = true;
    let mut is_sound = true;
    let mut lines = Vec::new();
    let mut endpoints = serde_json::Map::new();
    for id in engine.engine().endpoints() {
        let Some(snapshot) = engine.engine().snapshot(&id) else {
            continue;
        };
        let catalogue = &snapshot.catalogue;
        is_reachable &= catalogue.upstreams().iter().all(|status| status.state == UpstreamState::Up);
        let sources = engine.engine().sources(&id);
        is_reachable &= sources.iter().all(|source| source.state == SourceState::Good);
        lines.push(format!("endpoint {id}: {} tools", catalogue.tools().len()));
        lines.extend(sources.iter().flat_map(describe_source));
        lines.extend(catalogue.upstreams().iter().flat_map(describe));
        lines.extend(catalogue.collisions().iter().map(|collision| {
            format!(
                "  note: several servers have `{}`; shown as {}",
                collision.name,
                collision.resolved.join(", ")
            )
        }));
        let problems = engine.gateway().mapping_problems(&id);
        is_sound &= problems.is_empty();
        lines.extend(problems.iter().map(|problem| format!("  mapping left out: {problem}")));
        endpoints.insert(id.to_string(), report(catalogue, &sources, &problems));
    }
    engine.close().await;
    if args.json {
        output::result(&output::json(&json!({ "reachable": is_reachable, "endpoints": endpoints })))?;
    } else {
        output::result(&lines.join("\n"))?;
    }
    Ok(match (is_reachable, is_sound) {
        // What is missing may be a server's that is down.
        (false, _) => Exit::Unreachable,
        (true, false) => Exit::Config,
        (true, true) => Exit::Done,
    })
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

fn describe_source(status: &SourceStatus) -> Vec<String> {
    let SourceStatus { name, state, servers, left_out } = status;
    let state = match state {
        SourceState::Failing { error } => {
            format!("cannot be asked ({servers} servers of an earlier answer): {error}")
        }
        SourceState::Good => format!("lists {servers} servers"),
        SourceState::Waiting => "has not answered yet".to_owned(),
    };
    let mut lines = vec![format!("  source {name}: {state}")];
    lines.extend(left_out.iter().map(|(server, reason)| format!("    left out: {server}: {reason}")));
    lines
}

fn report_source(status: &SourceStatus) -> Value {
    let (state, error) = match &status.state {
        SourceState::Failing { error } => ("failing", Some(error)),
        SourceState::Good => ("good", None),
        SourceState::Waiting => ("waiting", None),
    };
    let left_out: Vec<Value> = status
        .left_out
        .iter()
        .map(|(server, reason)| json!({ "server": server, "reason": reason }))
        .collect();
    json!({ "name": status.name, "state": state, "error": error, "servers": status.servers, "left_out": left_out })
}

fn report(catalogue: &Catalogue, sources: &[SourceStatus], problems: &[String]) -> Value {
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
    let mut report =
        json!({ "revision": catalogue.revision(), "tools": catalogue.tools().len(), "servers": servers });
    if !problems.is_empty() {
        report["mappings_left_out"] = problems.into();
    }
    if !sources.is_empty() {
        report["sources"] = sources.iter().map(report_source).collect();
    }
    report
}
