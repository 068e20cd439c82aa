//! What the engine counts, through the `metrics` crate.
//!
//! Handles are made once per upstream and kept: install the recorder before the engine starts. Labels come from
//! configuration, never from callers or servers, and at most [`MAX_LABELLED`] upstreams get their own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};
pub use mpe_transport::Metric;

use crate::upstream::balance::BalanceMeters;
use crate::{EndpointId, UpstreamKey};

/// Every metric of the engine, sorted by name.
pub const METRICS: &[Metric] = &[
    Metric {
        name: ADDRESSES_EJECTED,
        kind: "counter",
        unit: "times",
        labels: &["endpoint", "upstream"],
        help: "How often one of a server's several addresses was left out because it kept failing.",
    },
    Metric {
        name: ADDRESSES_OUT,
        kind: "gauge",
        unit: "addresses",
        labels: &["endpoint", "upstream"],
        help: "Addresses of a server that are left out now.",
    },
    Metric {
        name: ATTEMPTS,
        kind: "counter",
        unit: "attempts",
        labels: &["endpoint", "upstream", "result"],
        help: "Requests sent to an upstream, retries included; `result` is `answered` or the failure.",
    },
    Metric {
        name: BREAKER_OPENED,
        kind: "counter",
        unit: "times",
        labels: &["endpoint", "upstream"],
        help: "How often the circuit breaker opened.",
    },
    Metric {
        name: CALL_DURATION,
        kind: "histogram",
        unit: "seconds",
        labels: &["endpoint", "upstream"],
        help: "From accepting a call to its outcome, waiting and retries included.",
    },
    Metric {
        name: CALLS_IN_FLIGHT,
        kind: "gauge",
        unit: "calls",
        labels: &["endpoint", "upstream"],
        help: "Calls accepted and not yet answered.",
    },
    Metric {
        name: CALLS,
        kind: "counter",
        unit: "calls",
        labels: &["endpoint", "upstream", "outcome"],
        help: "Calls by outcome: `complete`, `failed` (the tool says so), `input_required`, `other`, or the kind of error.",
    },
    Metric {
        name: CATALOGUE_PUBLISHED,
        kind: "counter",
        unit: "times",
        labels: &["endpoint"],
        help: "How often the endpoint's catalogue was replaced.",
    },
    Metric {
        name: CATALOGUE_TOOLS,
        kind: "gauge",
        unit: "tools",
        labels: &["endpoint"],
        help: "Tools in the endpoint's catalogue.",
    },
    Metric {
        name: DISCOVERIES,
        kind: "counter",
        unit: "discoveries",
        labels: &["endpoint", "upstream", "result"],
        help: "Discoveries of an upstream that ended `ok` or `failed`.",
    },
    Metric {
        name: HEDGES,
        kind: "counter",
        unit: "attempts",
        labels: &["endpoint", "upstream"],
        help: "Calls of read-only tools that were made a second time because the first took long.",
    },
    Metric {
        name: OUTPUT_VIOLATIONS,
        kind: "counter",
        unit: "results",
        labels: &["endpoint", "upstream"],
        help: "Results that broke their tool's `outputSchema`, of those that were looked at. They were passed on.",
    },
    Metric {
        name: OUTPUTS_CHECKED,
        kind: "counter",
        unit: "results",
        labels: &["endpoint", "upstream"],
        help: "Results that were held against their tool's `outputSchema`.",
    },
    Metric {
        name: RETRIES,
        kind: "counter",
        unit: "attempts",
        labels: &["endpoint", "upstream"],
        help: "Attempts that repeated a failed one.",
    },
    Metric {
        name: SOURCE_POLLS,
        kind: "counter",
        unit: "polls",
        labels: &["endpoint", "source", "result"],
        help: "How often a source of servers was asked, and whether that ended `ok` or `failed`.",
    },
    Metric {
        name: SOURCE_SERVERS,
        kind: "gauge",
        unit: "servers",
        labels: &["endpoint", "source"],
        help: "Servers that a source lists.",
    },
];

const ADDRESSES_EJECTED: &str = "mpe_addresses_ejected_total";
const ADDRESSES_OUT: &str = "mpe_addresses_out";
const ATTEMPTS: &str = "mpe_attempts_total";
const BREAKER_OPENED: &str = "mpe_breaker_opened_total";
const CALLS: &str = "mpe_calls_total";
const CALLS_IN_FLIGHT: &str = "mpe_calls_in_flight";
const CALL_DURATION: &str = "mpe_call_duration_seconds";
const CATALOGUE_PUBLISHED: &str = "mpe_catalogue_published_total";
const CATALOGUE_TOOLS: &str = "mpe_catalogue_tools";
const DISCOVERIES: &str = "mpe_discoveries_total";
const HEDGES: &str = "mpe_hedges_total";
const OUTPUTS_CHECKED: &str = "mpe_outputs_checked_total";
const OUTPUT_VIOLATIONS: &str = "mpe_output_violations_total";
const RETRIES: &str = "mpe_retries_total";
const SOURCE_POLLS: &str = "mpe_source_polls_total";
const SOURCE_SERVERS: &str = "mpe_source_servers";

/// Upstreams that get labels of their own; further ones share `other`. Each costs about twenty series at most.
pub(crate) const MAX_LABELLED: usize = 1000;

/// How endpoints are labelled that callers name.
const ON_DEMAND: &str = "(on demand)";

/// Whose meters they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// An endpoint that the operator named.
    Named(&'a EndpointId),
    /// Any endpoint made on demand: its name is the caller's.
    OnDemand,
}

impl<'a> Whose<'a> {
    pub(crate) fn of(endpoint: &'a EndpointId, is_lazy: bool) -> Self {
        if is_lazy { Self::OnDemand } else { Self::Named(endpoint) }
    }
}

/// Hands out labels until there are enough of them.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// Pairs of an endpoint and an upstream or source. A reload hands the same ones out again.
    pairs: Mutex<HashSet<(Arc<str>, Arc<str>)>>,
    endpoints: Mutex<HashSet<Arc<str>>>,
}

impl Labels {
    /// The meters of an upstream.
    pub(crate) fn upstream(&self, whose: Whose<'_>, upstream: &UpstreamKey) -> UpstreamMeters {
        let (endpoint, upstream) = self.pair(whose, upstream.as_str());
        UpstreamMeters::new(endpoint, upstream)
    }

    /// The labels of something in an endpoint.
    fn pair(&self, whose: Whose<'_>, name: &str) -> (Arc<str>, Arc<str>) {
        let endpoint = match whose {
            Whose::OnDemand => ON_DEMAND,
            Whose::Named(endpoint) => endpoint.as_str(),
        };
        let pair: (Arc<str>, Arc<str>) = (Arc::from(endpoint), Arc::from(name));
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= MAX_LABELLED && !pairs.contains(&pair) {
            return (Arc::from("other"), Arc::from("other"));
        }
        pairs.insert(pair.clone());
        pair
    }

    /// The meters of an endpoint.
    pub(crate) fn endpoint(&self, whose: Whose<'_>) -> EndpointMeters {
        let label: Arc<str> = match whose {
            Whose::OnDemand => Arc::from(ON_DEMAND),
            Whose::Named(endpoint) => {
                let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
                let name: Arc<str> = Arc::from(endpoint.as_str());
                if endpoints.len() >= MAX_LABELLED && !endpoints.contains(&name) {
                    Arc::from("other")
                } else {
                    endpoints.insert(Arc::clone(&name));
                    name
                }
            }
        };
        EndpointMeters {
            tools: metrics::gauge!(CATALOGUE_TOOLS, "endpoint" => Arc::clone(&label)),
            published: metrics::counter!(CATALOGUE_PUBLISHED, "endpoint" => label),
        }
    }
}

impl Labels {
    /// The meters of a server's several addresses.
    pub(crate) fn balance(&self, whose: Whose<'_>, upstream: &UpstreamKey) -> BalanceMeters {
        let (endpoint, upstream) = self.pair(whose, upstream.as_str());
        let labels = labels(&endpoint, &upstream, None);
        BalanceMeters {
            ejected: metrics::counter!(ADDRESSES_EJECTED, labels.clone()),
            out: metrics::gauge!(ADDRESSES_OUT, labels),
        }
    }

    /// The meters of a source.
    pub(crate) fn source(&self, whose: Whose<'_>, source: &str) -> SourceMeters {
        let (endpoint, source) = self.pair(whose, source);
        let labels = vec![Label::new("endpoint", endpoint), Label::new("source", source)];
        let polls = |result| {
            let mut labels = labels.clone();
            labels.push(Label::new("result", result));
            metrics::counter!(SOURCE_POLLS, labels)
        };
        SourceMeters {
            answered: polls("ok"),
            failed: polls("failed"),
            servers: metrics::gauge!(SOURCE_SERVERS, labels.clone()),
        }
    }
}

/// What is counted per source.
pub(crate) struct SourceMeters {
    answered: Counter,
    failed: Counter,
    servers: Gauge,
}

impl SourceMeters {
    /// A question has been answered, well or not.
    pub(crate) fn asked(&self, is_ok: bool) {
        if is_ok { &self.answered } else { &self.failed }.increment(1);
    }

    /// So many servers are listed now.
    pub(crate) fn servers(&self, n: usize) {
        self.servers.set(n as f64);
    }
}

/// What is counted per endpoint.
pub(crate) struct EndpointMeters {
    pub(crate) tools: Gauge,
    pub(crate) published: Counter,
}

/// What is counted per upstream.
pub(crate) struct UpstreamMeters {
    endpoint: Arc<str>,
    upstream: Arc<str>,
    pub(crate) in_flight: Gauge,
    duration: Histogram,
    pub(crate) retries: Counter,
    pub(crate) hedges: Counter,
    pub(crate) outputs_checked: Counter,
    pub(crate) output_violations: Counter,
    pub(crate) breaker_opened: Counter,
    calls: [OnceLock<Counter>; OUTCOMES.len()],
    attempts: [OnceLock<Counter>; OUTCOMES.len()],
    discovered: Counter,
    undiscovered: Counter,
}

impl UpstreamMeters {
    fn new(endpoint: Arc<str>, upstream: Arc<str>) -> Self {
        let labels = labels(&endpoint, &upstream, None);
        let discoveries =
            |result| metrics::counter!(DISCOVERIES, self::labels(&endpoint, &upstream, Some(result)));
        Self {
            in_flight: metrics::gauge!(CALLS_IN_FLIGHT, labels.clone()),
            duration: metrics::histogram!(CALL_DURATION, labels.clone()),
            retries: metrics::counter!(RETRIES, labels.clone()),
            hedges: metrics::counter!(HEDGES, labels.clone()),
            outputs_checked: metrics::counter!(OUTPUTS_CHECKED, labels.clone()),
            output_violations: metrics::counter!(OUTPUT_VIOLATIONS, labels.clone()),
            breaker_opened: metrics::counter!(BREAKER_OPENED, labels),
            calls: [const { OnceLock::new() }; OUTCOMES.len()],
            attempts: [const { OnceLock::new() }; OUTCOMES.len()],
            discovered: discoveries(("result", "ok")),
            undiscovered: discoveries(("result", "failed")),
            endpoint,
            upstream,
        }
    }

    /// A call ended.
    pub(crate) fn called(&self, outcome: &'static str, elapsed: Duration) {
        self.duration.record(elapsed.as_secs_f64());
        self.counter(&self.calls, CALLS, "outcome", outcome).increment(1);
    }

    /// An attempt ended.
    pub(crate) fn attempted(&self, result: &'static str) {
        self.counter(&self.attempts, ATTEMPTS, "result", result).increment(1);
    }

    /// A discovery ended.
    pub(crate) fn discovered(&self, is_ok: bool) {
        if is_ok { &self.discovered } else { &self.undiscovered }.increment(1);
    }

    /// The counter of one outcome, made when it first happens so that outcomes that never happen cost no series.
    fn counter<'a>(
        &self,
        cache: &'a [OnceLock<Counter>],
        name: &'static str,
        label: &'static str,
        value: &'static str,
    ) -> &'a Counter {
        let slot = OUTCOMES.iter().position(|outcome| *outcome == value).unwrap_or(0);
        cache[slot].get_or_init(|| {
            metrics::counter!(name, labels(&self.endpoint, &self.upstream, Some((label, OUTCOMES[slot]))))
        })
    }
}

fn labels(
    endpoint: &Arc<str>,
    upstream: &Arc<str>,
    third: Option<(&'static str, &'static str)>,
) -> Vec<Label> {
    let mut labels =
        vec![Label::new("endpoint", Arc::clone(endpoint)), Label::new("upstream", Arc::clone(upstream))];
    labels.extend(third.map(|(name, value)| Label::new(name, value)));
    labels
}

/// Every value of the labels `outcome` and `result`.
const OUTCOMES: [&str; 21] = [
    "other",
    "answered",
    "complete",
    "failed",
    "input_required",
    "cancelled",
    "circuit_open",
    "deadline_exceeded",
    "invalid_arguments",
    "misconfigured",
    "overloaded",
    "rejected",
    "shutting_down",
    "unknown_endpoint",
    "unknown_tool",
    "unknown_upstream",
    "upstream_auth",
    "upstream_lost",
    "upstream_protocol",
    "upstream_status",
    "upstream_unreachable",
];

#[cfg(test)]
mod tests {
    use super::{Labels, MAX_LABELLED, METRICS, OUTCOMES, Whose};
    use crate::{CallErrorKind, EndpointId};

    #[test]
    fn the_table_is_sorted_and_names_follow_the_convention() {
        let names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for metric in METRICS {
            assert!(metric.name.starts_with("mpe_"), "{}", metric.name);
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
        }
    }

    #[test]
    fn a_reload_uses_up_no_labels_and_strangers_share_one() {
        let labels = Labels::default();
        let acme = EndpointId::new("acme");
        for _ in 0..3 * MAX_LABELLED {
            let (endpoint, upstream) = labels.pair(Whose::Named(&acme), "search");
            assert_eq!((&*endpoint, &*upstream), ("acme", "search"));
        }
        (1..MAX_LABELLED).for_each(|n| {
            labels.pair(Whose::Named(&acme), &n.to_string());
        });
        assert_eq!(&*labels.pair(Whose::Named(&acme), "one too many").1, "other");
        assert_eq!(&*labels.pair(Whose::Named(&acme), "search").1, "search");
    }

    #[test]
    fn every_error_kind_has_its_label() {
        for kind in CallErrorKind::ALL {
            assert!(OUTCOMES.contains(&kind.as_str()), "{kind:?}");
        }
    }
}
