//! What the engine counts, through the `metrics` crate.
//!
//! Handles are made once per upstream and kept: install the recorder before the engine starts. Labels come from
//! configuration, never from callers or servers, and at most [`MAX_LABELLED`] upstreams get their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};
pub use mpe_transport::Metric;

use crate::{EndpointId, UpstreamKey};

/// Every metric of the engine, sorted by name.
pub const METRICS: &[Metric] = &[
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
        name: RETRIES,
        kind: "counter",
        unit: "attempts",
        labels: &["endpoint", "upstream"],
        help: "Attempts that repeated a failed one.",
    },
];

const ATTEMPTS: &str = "mpe_attempts_total";
const BREAKER_OPENED: &str = "mpe_breaker_opened_total";
const CALLS: &str = "mpe_calls_total";
const CALLS_IN_FLIGHT: &str = "mpe_calls_in_flight";
const CALL_DURATION: &str = "mpe_call_duration_seconds";
const CATALOGUE_PUBLISHED: &str = "mpe_catalogue_published_total";
const CATALOGUE_TOOLS: &str = "mpe_catalogue_tools";
const DISCOVERIES: &str = "mpe_discoveries_total";
const RETRIES: &str = "mpe_retries_total";

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
    upstreams: AtomicUsize,
    endpoints: AtomicUsize,
}

impl Labels {
    /// The meters of an upstream.
    pub(crate) fn upstream(&self, whose: Whose<'_>, upstream: &UpstreamKey) -> UpstreamMeters {
        let Whose::Named(endpoint) = whose else {
            return UpstreamMeters::new(Arc::from(ON_DEMAND), Arc::from(upstream.as_str()));
        };
        let is_labelled = self.upstreams.fetch_add(1, Ordering::Relaxed) < MAX_LABELLED;
        let name = |name: &str| if is_labelled { Arc::from(name) } else { Arc::from("other") };
        UpstreamMeters::new(name(endpoint.as_str()), name(upstream.as_str()))
    }

    /// The meters of an endpoint.
    pub(crate) fn endpoint(&self, whose: Whose<'_>) -> EndpointMeters {
        let label: Arc<str> = match whose {
            Whose::OnDemand => Arc::from(ON_DEMAND),
            Whose::Named(_) if self.endpoints.fetch_add(1, Ordering::Relaxed) >= MAX_LABELLED => {
                Arc::from("other")
            }
            Whose::Named(endpoint) => Arc::from(endpoint.as_str()),
        };
        EndpointMeters {
            tools: metrics::gauge!(CATALOGUE_TOOLS, "endpoint" => Arc::clone(&label)),
            published: metrics::counter!(CATALOGUE_PUBLISHED, "endpoint" => label),
        }
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
    use super::{METRICS, OUTCOMES};
    use crate::CallErrorKind;

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
    fn every_error_kind_has_its_label() {
        for kind in CallErrorKind::ALL {
            assert!(OUTCOMES.contains(&kind.as_str()), "{kind:?}");
        }
    }
}
