//! The Python product's performance record, per origin.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indexmap::IndexMap;
use mpe_transport::Protocol;
use tokio::time::Instant;

/// The Python product's performance record of one origin, field for field.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct OriginPerformance {
    /// Exchanges ever started.
    pub total_requests: u64,
    /// Those answered.
    pub successful_requests: u64,
    /// Those not answered.
    pub failed_requests: u64,
    /// `successful / (successful + failed)`, in percent; 0 without any.
    pub success_rate_percent: f64,
    /// Mean time to the end of the answer, in milliseconds.
    pub avg_latency_ms: f64,
    /// Exchanges over HTTP/2.
    pub http2_requests: u64,
    /// Exchanges over HTTP/1.1.
    pub http1_requests: u64,
    /// `http2 / (http2 + http1)`, in percent; 0 without any.
    pub http2_usage_percent: f64,
    /// The most exchanges ever in flight at once.
    pub max_concurrent_requests: u64,
}

/// Counts the exchanges with one origin.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    started: AtomicU64,
    successful: AtomicU64,
    failed: AtomicU64,
    latency_micros: AtomicU64,
    http2: AtomicU64,
    http1: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
}

/// An exchange under way. Dropped without an answer, it counts as failed.
pub(crate) struct Exchange<'a> {
    recorder: &'a Recorder,
    started: Instant,
    is_answered: bool,
}

impl Recorder {
    pub(crate) fn start(&self) -> Exchange<'_> {
        self.started.fetch_add(1, Ordering::Relaxed);
        let now_in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(now_in_flight, Ordering::Relaxed);
        Exchange { recorder: self, started: Instant::now(), is_answered: false }
    }

    pub(crate) fn snapshot(&self) -> OriginPerformance {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (successful, failed) = (read(&self.successful), read(&self.failed));
        let (http2, http1) = (read(&self.http2), read(&self.http1));
        OriginPerformance {
            total_requests: read(&self.started),
            successful_requests: successful,
            failed_requests: failed,
            success_rate_percent: ratio(successful, successful + failed) * 100.0,
            avg_latency_ms: ratio(read(&self.latency_micros), successful) / 1000.0,
            http2_requests: http2,
            http1_requests: http1,
            http2_usage_percent: ratio(http2, http2 + http1) * 100.0,
            max_concurrent_requests: read(&self.max_in_flight),
        }
    }
}

impl Exchange<'_> {
    /// The exchange ended with an answer.
    pub(crate) fn answered(self, protocol: Option<Protocol>) {
        let elapsed = self.elapsed();
        self.answered_after(elapsed, protocol);
    }

    /// As [`answered`](Self::answered), for whoever has looked at the clock already.
    pub(crate) fn answered_after(mut self, elapsed: Duration, protocol: Option<Protocol>) {
        self.is_answered = true;
        let recorder = self.recorder;
        recorder.latency_micros.fetch_add(micros(elapsed), Ordering::Relaxed);
        recorder.successful.fetch_add(1, Ordering::Relaxed);
        match protocol {
            Some(Protocol::Http2) => recorder.http2.fetch_add(1, Ordering::Relaxed),
            Some(Protocol::Http1) => recorder.http1.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
    }

    /// How long it has been under way.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.recorder.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.is_answered {
            self.recorder.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

// === Performance ===

/// Every origin's recorder. Bounded by the origins that are configured: records of origins that nobody uses any more
/// are dropped once there are more than [`KEPT_UNUSED`].
#[derive(Debug, Default)]
pub(crate) struct Performance {
    origins: Mutex<IndexMap<String, Arc<Recorder>>>,
}

/// Records kept although no upstream uses their origin any more.
const KEPT_UNUSED: usize = 1024;

impl Performance {
    /// The recorder of an origin; upstreams of the same origin share it.
    pub(crate) fn recorder(&self, origin: &str) -> Arc<Recorder> {
        let mut origins = self.lock();
        if origins.len() > KEPT_UNUSED {
            origins.retain(|_, recorder| Arc::strong_count(recorder) > 1);
        }
        Arc::clone(origins.entry(origin.to_owned()).or_default())
    }

    /// Every record, sorted by origin.
    pub(crate) fn snapshot(&self) -> IndexMap<String, OriginPerformance> {
        let mut records: IndexMap<_, _> =
            self.lock().iter().map(|(origin, recorder)| (origin.clone(), recorder.snapshot())).collect();
        records.sort_unstable_keys();
        records
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, IndexMap<String, Arc<Recorder>>> {
        self.origins.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mpe_transport::Protocol;
    use tokio::time::advance;

    use super::{OriginPerformance, Performance};

    #[tokio::test(start_paused = true)]
    async fn the_record_adds_up() {
        let performance = Performance::default();
        let recorder = performance.recorder("https://api.example.com");
        let (first, second) = (recorder.start(), recorder.start());
        let third = recorder.start();
        advance(Duration::from_millis(40)).await;
        first.answered(Some(Protocol::Http2));
        advance(Duration::from_millis(20)).await;
        second.answered(Some(Protocol::Http1));
        drop(third);
        assert_eq!(
            performance.snapshot()["https://api.example.com"],
            OriginPerformance {
                total_requests: 3,
                successful_requests: 2,
                failed_requests: 1,
                success_rate_percent: 2.0 / 3.0 * 100.0,
                avg_latency_ms: 50.0,
                http2_requests: 1,
                http1_requests: 1,
                http2_usage_percent: 50.0,
                max_concurrent_requests: 3,
            }
        );
    }

    #[tokio::test]
    async fn unused_origins_do_not_pile_up() {
        let performance = Performance::default();
        let kept = performance.recorder("https://kept.example");
        for n in 0..3000 {
            performance.recorder(&format!("https://{n}.example"));
        }
        let records = performance.snapshot();
        assert!(records.len() <= 1026, "{} records", records.len());
        assert!(records.contains_key("https://kept.example"));
        drop(kept);
    }
}
