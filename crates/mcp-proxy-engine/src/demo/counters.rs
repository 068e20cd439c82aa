//! What the demo server has seen: enough to show that many calls share one connection.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Version;
use serde::Serialize;

/// What the demo server has served, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DemoCounts {
    /// Connections ever accepted.
    pub connections_opened: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Requests ever received.
    pub requests: u64,
    /// Of those, over HTTP/2.
    pub http2_requests: u64,
    /// Tool calls running now.
    pub calls_running: u64,
    /// The most tool calls that ever ran at once.
    pub max_calls_running: u64,
}

/// The counters behind [`DemoCounts`]. Statistics only: no order between them is promised.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections_opened: AtomicU64,
    pub(super) connections_open: AtomicU64,
    requests: AtomicU64,
    http2_requests: AtomicU64,
    calls_running: AtomicU64,
    max_calls_running: AtomicU64,
}

impl Counters {
    pub(super) fn request(&self, version: Version) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            self.http2_requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call as running for as long as the guard lives.
    pub(super) fn call(&self) -> impl Drop + use<'_> {
        let running = self.calls_running.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_calls_running.fetch_max(running, Ordering::Relaxed);
        super::OnDrop(|| {
            self.calls_running.fetch_sub(1, Ordering::Relaxed);
        })
    }

    pub(super) fn now(&self) -> DemoCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DemoCounts {
            connections_opened: read(&self.connections_opened),
            connections_open: read(&self.connections_open),
            requests: read(&self.requests),
            http2_requests: read(&self.http2_requests),
            calls_running: read(&self.calls_running),
            max_calls_running: read(&self.max_calls_running),
        }
    }
}
