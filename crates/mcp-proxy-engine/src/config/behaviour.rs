//! How calls of one server behave beyond what most servers need: single tools, answers used twice, second requests, several
//! addresses.

use mpe_engine::{EjectionConfig, HedgeConfig, Lists, ToolLimits, ToolOverride, UpstreamConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resolve::set;
use super::shape::{ListsMode, Server};
use super::values::{Count, Size, Span};

/// What is different about one tool. Keys of `tools` are the server's own names.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolOptions {
    /// Show it under this name. Default: its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Show this title. Default: its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Show this description. Default: its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Calls of it in flight. Default: as many as of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<Count>,
    /// Calls of it waiting for their turn, where `max_in_flight` is given; more are refused at once. Default: 4096.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<Count>,
}

/// Which answers of read-only tools are used more than once. Only calls that nobody could tell apart share an answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reuse {
    /// Identical calls that are under way at once become one. Default: no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub coalesce: bool,
    /// How long a complete result answers identical calls. Default: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Span>,
    /// Bytes of results kept; the oldest go first. Default: 16 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_size: Option<Size>,
}

/// When a call of a read-only tool is made a second time because the first takes long; the first answer counts, the other
/// request is cancelled. Within the retry budget, only where places are free at once, and never for other tools.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// Never earlier than this. Default: 50 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
    /// And not before so many percent of the tool's latest answers were there (1 to 99). Default: `after` alone counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub percentile: Option<u8>,
}

/// When one of a server's several addresses is left out. It is asked again in the background, and comes back when it answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// Off: it never is. Default: on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Failures in a row until then: transport errors, 5xx and the like, JSON-RPC errors that blame the server. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<Count>,
    /// How long it is left out at least; doubled whenever it still does not answer. Default: 1 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_pause: Option<Span>,
    /// No pause is longer. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pause: Option<Span>,
}

pub(super) fn apply(upstream: &mut UpstreamConfig, server: &Server) {
    for (name, options) in &server.tools {
        if let Some(wish) = wish(options) {
            upstream.overrides.insert(name.clone(), wish);
        }
        if let Some(max_in_flight) = options.max_in_flight {
            let mut limits = ToolLimits::new(max_in_flight.get());
            set(&mut limits.max_waiting, options.max_waiting.map(Count::get));
            upstream.tool_limits.insert(name.clone(), limits);
        }
    }
    if let Some(given) = &server.reuse {
        upstream.reuse.coalesce = given.coalesce;
        upstream.reuse.cache = given.cache.map(Span::get);
        let bytes = given.cache_size.map(|size| usize::try_from(size.get()).unwrap_or(usize::MAX));
        set(&mut upstream.reuse.cache_bytes, bytes);
    }
    upstream.hedge = server.hedge.as_ref().map(hedge);
    if let Some(given) = &server.ejection {
        ejection(&mut upstream.ejection, given);
    }
    upstream.check_outputs = server.check_outputs;
    upstream.lists = match server.lists {
        None | Some(ListsMode::Auto) => Lists::Auto,
        Some(ListsMode::PerClient) => Lists::PerClient,
        Some(ListsMode::Shared) => Lists::Shared,
    };
}

fn wish(options: &ToolOptions) -> Option<ToolOverride> {
    let ToolOptions { name, title, description, .. } = options;
    let mut wish = ToolOverride::default();
    wish.name.clone_from(name);
    wish.title.clone_from(title);
    wish.description.clone_from(description);
    (wish != ToolOverride::default()).then_some(wish)
}

fn hedge(given: &Hedge) -> HedgeConfig {
    let mut hedge = HedgeConfig::default();
    set(&mut hedge.after, given.after.map(Span::get));
    hedge.percentile = given.percentile;
    hedge
}

fn ejection(ejection: &mut EjectionConfig, given: &Ejection) {
    set(&mut ejection.failures, given.failures.map(Count::small));
    set(&mut ejection.first_pause, given.first_pause.map(Span::get));
    set(&mut ejection.max_pause, given.max_pause.map(Span::get));
    if given.enabled == Some(false) {
        ejection.failures = 0;
    }
}
