//! Administration: is the process alive, is it ready, what did it do.

use http::StatusCode;
use mpe_engine::UpstreamState;
use mpe_engine::source::{SourceState, SourceStatus};
use serde::Serialize;

use crate::problem::{Problem, ProblemType};
use crate::service::Inbound;
use crate::{Body, body};

#[derive(Serialize)]
struct Readiness<'a> {
    status: &'static str,
    endpoint: &'a str,
    revision: &'a str,
    tools: usize,
    upstreams: Vec<UpstreamRow<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceRow>,
}

/// A registry that names servers.
#[derive(Serialize)]
struct SourceRow {
    name: String,
    state: &'static str,
    servers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
}

/// A server that a registry names and that is not used.
#[derive(Serialize)]
struct LeftOut {
    server: String,
    reason: String,
}

impl SourceRow {
    fn of(status: SourceStatus) -> Self {
        let SourceStatus { name, state, servers, left_out } = status;
        let (state, error) = match state {
            SourceState::Failing { error } => ("failing", Some(error)),
            SourceState::Good => ("good", None),
            SourceState::Waiting => ("waiting", None),
        };
        let left_out = left_out.into_iter().map(|(server, reason)| LeftOut { server, reason }).collect();
        Self { name, state, servers, error, left_out }
    }
}

#[derive(Serialize)]
struct UpstreamRow<'a> {
    key: &'a str,
    state: &'static str,
    tools: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Answers as long as the process can.
pub(crate) fn livez() -> http::Response<Body> {
    body::response(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

/// 200 as long as some upstream can be called, or none is configured; 503 before that and while draining. The state
/// of every upstream, and of every source of upstreams, stands in the body either way.
pub(crate) fn readyz(inbound: &Inbound) -> http::Response<Body> {
    // The view is as old as what it shows; how the upstreams stand may have changed since.
    let snapshot = inbound.gateway.engine().snapshot(&inbound.endpoint);
    let catalogue = snapshot.as_ref().map_or(inbound.view.catalogue(), |snapshot| &snapshot.catalogue);
    let upstreams: Vec<_> = catalogue
        .upstreams()
        .iter()
        .map(|upstream| {
            let (state, error) = match &upstream.state {
                UpstreamState::Discovering => ("discovering", None),
                UpstreamState::Stale { error } => ("stale", Some(error.as_str())),
                UpstreamState::Up => ("up", None),
                UpstreamState::Down { error } => ("down", Some(error.as_str())),
            };
            let version = upstream.version.map(|version| version.as_str());
            UpstreamRow { key: upstream.key.as_str(), state, tools: upstream.tools, version, error }
        })
        .collect();
    let sources = inbound.gateway.engine().sources(&inbound.endpoint);
    let sources: Vec<_> = sources.into_iter().map(SourceRow::of).collect();
    let n_up = upstreams.iter().filter(|row| row.state == "up").count();
    let are_sources_good = sources.iter().all(|row| row.state == "good");
    // Without any upstream there may be some that nobody has told us of.
    let is_callable = (upstreams.is_empty() && are_sources_good)
        || upstreams.iter().any(|row| matches!(row.state, "up" | "stale"));
    let status = match (inbound.gateway.draining().is_cancelled(), is_callable) {
        (true, _) => "draining",
        (false, false) => "unready",
        (false, true) if n_up < upstreams.len() || !are_sources_good => "degraded",
        (false, true) => "ready",
    };
    let code = match status {
        "ready" | "degraded" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let readiness = Readiness {
        status,
        endpoint: catalogue.endpoint().as_str(),
        revision: catalogue.revision(),
        tools: catalogue.tools().len(),
        upstreams,
        sources,
    };
    json(code, &readiness)
}

/// The Prometheus page, where the process has a recorder. It shows the whole process, so it stands at the root alone.
pub(crate) fn metrics(inbound: &Inbound) -> http::Response<Body> {
    if !is_root(inbound) {
        let message = "the metrics of the whole process stand at /metrics";
        return Problem::new(ProblemType::NotFound, message).into_response();
    }
    match &inbound.gateway.config().metrics {
        Some(render) => body::response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", render()),
        None => Problem::new(ProblemType::NotFound, "no metrics are recorded here").into_response(),
    }
}

/// The Python product's performance record, by origin, field for field: of every tenant's servers at the root, of its
/// own under any other endpoint.
pub(crate) fn performance(inbound: &Inbound) -> http::Response<Body> {
    let engine = inbound.gateway.engine();
    let records = match is_root(inbound) {
        true => engine.performance(),
        false => engine.performance_of(&inbound.endpoint).unwrap_or_default(),
    };
    json(StatusCode::OK, &records)
}

fn is_root(inbound: &Inbound) -> bool {
    inbound.endpoint == inbound.gateway.config().default_endpoint
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> http::Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => body::response(status, "application/json", bytes),
        Err(error) => Problem::new(ProblemType::BadRequest, error.to_string()).into_response(),
    }
}
