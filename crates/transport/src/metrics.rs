//! What the pool counts: for its own snapshot, and through the `metrics` crate.
//!
//! Handles are made when a connection opens and kept with it: install the recorder before the first exchange. The
//! label `origin` comes from the pool's callers, so only the first [`MAX_LABELLED`] origins get their own.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::info::ConnectTimes;
use crate::{Error, Origin, Protocol};

/// One metric, as documentation prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The unit of its value.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts, one sentence.
    pub help: &'static str,
}

/// Every metric of the transport, sorted by name.
pub const METRICS: &[Metric] = &[
    Metric {
        name: CONNECT_DURATION,
        kind: "histogram",
        unit: "seconds",
        labels: &["origin", "step"],
        help: "Time of one successful connection attempt; `step` is `dial` (resolve, connect, proxy) or `tls`.",
    },
    Metric {
        name: CONNECT_FAILURES,
        kind: "counter",
        unit: "attempts",
        labels: &["origin", "kind"],
        help: "Connection attempts that failed, by the kind of the error.",
    },
    Metric {
        name: CONNECTIONS_OPEN,
        kind: "gauge",
        unit: "connections",
        labels: &["origin"],
        help: "Connections open now, draining ones included.",
    },
    Metric {
        name: CONNECTIONS_OPENED,
        kind: "counter",
        unit: "connections",
        labels: &["origin", "protocol"],
        help: "Connections ever opened.",
    },
    Metric {
        name: EXCHANGES,
        kind: "counter",
        unit: "exchanges",
        labels: &["origin", "protocol"],
        help: "Requests answered with a response head.",
    },
    Metric {
        name: HEAD_DURATION,
        kind: "histogram",
        unit: "seconds",
        labels: &["origin", "protocol"],
        help: "Time from the request on its stream to the head of its response.",
    },
    Metric {
        name: REQUEST_BYTES,
        kind: "counter",
        unit: "bytes",
        labels: &["origin", "protocol"],
        help: "Bytes of request bodies handed to a stream.",
    },
    Metric {
        name: RESPONSE_BYTES,
        kind: "counter",
        unit: "bytes",
        labels: &["origin", "protocol"],
        help: "Bytes of response bodies read.",
    },
];

const CONNECTIONS_OPEN: &str = "mpe_transport_connections_open";
const CONNECTIONS_OPENED: &str = "mpe_transport_connections_opened_total";
const CONNECT_DURATION: &str = "mpe_transport_connect_duration_seconds";
const CONNECT_FAILURES: &str = "mpe_transport_connect_failures_total";
const EXCHANGES: &str = "mpe_transport_exchanges_total";
const HEAD_DURATION: &str = "mpe_transport_head_duration_seconds";
const REQUEST_BYTES: &str = "mpe_transport_request_bytes_total";
const RESPONSE_BYTES: &str = "mpe_transport_response_bytes_total";

/// Origins that get labels of their own; further ones share `other`. Each costs about fifteen series at most.
const MAX_LABELLED: usize = 1000;

/// Hands out labels until there are enough of them.
#[derive(Debug, Default)]
pub(crate) struct Labels(Mutex<HashSet<Origin>>);

/// Counters of one origin, for snapshots; read and written without the pool's lock.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) answered: AtomicU64,
    pub(crate) head_micros: AtomicU64,
    pub(crate) request_bytes: AtomicU64,
    pub(crate) response_bytes: AtomicU64,
}

/// What one connection counts.
pub(crate) struct Meter {
    totals: Arc<Totals>,
    open: Gauge,
    exchanges: Counter,
    head: Histogram,
    request_bytes: Counter,
    response_bytes: Counter,
}

// === impl Labels ===

impl Labels {
    /// The label of an origin.
    pub(crate) fn of(&self, origin: &Origin) -> Arc<str> {
        let mut labelled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !labelled.contains(origin) {
            if labelled.len() >= MAX_LABELLED {
                return "other".into();
            }
            labelled.insert(origin.clone());
        }
        origin.to_string().into()
    }
}

// === impl Meter ===

impl Meter {
    /// For a connection that has just opened.
    pub(crate) fn new(label: Arc<str>, protocol: Protocol, times: ConnectTimes, totals: Arc<Totals>) -> Self {
        let protocol = protocol.as_str();
        let label = || Arc::clone(&label);
        metrics::counter!(CONNECTIONS_OPENED, "origin" => label(), "protocol" => protocol).increment(1);
        metrics::histogram!(CONNECT_DURATION, "origin" => label(), "step" => "dial").record(times.dial);
        if times.tls > Duration::ZERO {
            metrics::histogram!(CONNECT_DURATION, "origin" => label(), "step" => "tls").record(times.tls);
        }
        let open = metrics::gauge!(CONNECTIONS_OPEN, "origin" => label());
        open.increment(1.0);
        Self {
            totals,
            open,
            exchanges: metrics::counter!(EXCHANGES, "origin" => label(), "protocol" => protocol),
            head: metrics::histogram!(HEAD_DURATION, "origin" => label(), "protocol" => protocol),
            request_bytes: metrics::counter!(REQUEST_BYTES, "origin" => label(), "protocol" => protocol),
            response_bytes: metrics::counter!(RESPONSE_BYTES, "origin" => label(), "protocol" => protocol),
        }
    }

    /// The head of a response is here, so long after its request was given to the stream.
    pub(crate) fn answered(&self, after: Duration) {
        self.exchanges.increment(1);
        self.head.record(after);
        self.totals.answered.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.totals.head_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn request_bytes(&self, n_bytes: usize) {
        self.request_bytes.increment(n_bytes as u64);
        self.totals.request_bytes.fetch_add(n_bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn response_bytes(&self, n_bytes: u64) {
        self.response_bytes.increment(n_bytes);
        self.totals.response_bytes.fetch_add(n_bytes, Ordering::Relaxed);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("totals", &self.totals).finish_non_exhaustive()
    }
}

/// A connection attempt failed.
pub(crate) fn connect_failed(label: Arc<str>, error: &Error) {
    metrics::counter!(CONNECT_FAILURES, "origin" => label, "kind" => error.kind().as_str()).increment(1);
}
