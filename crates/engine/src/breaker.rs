//! The circuit breaker: an upstream that keeps failing is left alone for a while.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When an upstream counts as down, and for how long it is left alone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// Failures in a row that open the breaker; 0 keeps it closed for ever. Default: 5.
    pub failures: u32,
    /// How long it stays open at first; doubled whenever the probe fails. Default: 1 s.
    pub first_pause: Duration,
    /// It never stays open for longer without a probe. Default: 30 s.
    pub max_pause: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, first_pause: Duration::from_secs(1), max_pause: Duration::from_secs(30) }
    }
}

/// Closed: calls pass. Open: they fail at once. Once the pause is over, one call at a time passes as a probe
/// (half-open): its success closes the breaker, its failure opens it for twice as long.
#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    /// The hot path reads only this.
    closed: AtomicBool,
    failures: AtomicU32,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    is_probing: bool,
}

/// Leave to make one attempt. Say how it went; dropped without a word, it counts as never made.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        let pause = config.first_pause;
        Self {
            config,
            closed: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            open: Mutex::new(Open { until: Instant::now(), pause, is_probing: false }),
        }
    }

    /// Leave to make an attempt, or how long to stay away.
    pub(crate) fn admit(&self) -> Result<Pass<'_>, Duration> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(Pass { breaker: self, is_probe: false });
        }
        let mut open = self.lock();
        // Closed by somebody else between the look and the lock.
        if self.closed.load(Ordering::Acquire) {
            return Ok(Pass { breaker: self, is_probe: false });
        }
        let now = Instant::now();
        if now < open.until {
            return Err(open.until - now);
        }
        if open.is_probing {
            return Err(open.pause);
        }
        // Open => HalfOpen
        open.is_probing = true;
        Ok(Pass { breaker: self, is_probe: true })
    }

    /// True unless calls pass freely.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// The upstream is known to be well: calls pass again.
    pub(crate) fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut open = self.lock();
        // (Open | HalfOpen) => Closed
        open.pause = self.config.first_pause;
        open.is_probing = false;
        self.closed.store(true, Ordering::Release);
    }

    fn trip(&self, is_probe: bool) {
        let mut open = self.lock();
        let was_closed = self.closed.swap(false, Ordering::AcqRel);
        if was_closed {
            // Closed => Open
            open.pause = self.config.first_pause;
        } else if is_probe {
            // HalfOpen => Open
            open.pause = (open.pause * 2).min(self.config.max_pause);
            open.is_probing = false;
        } else {
            // A straggler from before it opened says nothing new.
            return;
        }
        open.until = Instant::now() + open.pause;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The upstream answered. A straggler that was admitted before the breaker opened closes it as well: an answer is an
    /// answer.
    pub(crate) fn succeeded(self) {
        if self.is_probe || self.breaker.is_open() || self.breaker.failures.load(Ordering::Relaxed) != 0 {
            self.breaker.close();
        }
    }

    /// The upstream failed. True when this opened the breaker.
    pub(crate) fn failed(self) -> bool {
        let breaker = self.breaker;
        let failures = breaker.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let is_enough = breaker.config.failures != 0 && failures >= breaker.config.failures;
        if !self.is_probe && !is_enough {
            return false;
        }
        let was_open = breaker.is_open();
        breaker.trip(self.is_probe);
        !was_open
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            // Harmless after `succeeded` and `failed`, which have ended the probe already: the next probe can only have
            // begun after this pass was consumed, because a consumed pass is dropped at once.
            self.breaker.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::{Breaker, BreakerConfig};

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig { failures: 2, ..BreakerConfig::default() })
    }

    fn fail(breaker: &Breaker) -> bool {
        breaker.admit().expect("admitted").failed()
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_a_success_between_starts_the_count_over() {
        let breaker = breaker();
        assert!(!fail(&breaker));
        breaker.admit().expect("closed").succeeded();
        assert!(!fail(&breaker));
        assert!(fail(&breaker), "the second in a row opens it");
        assert_eq!(breaker.admit().err(), Some(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_passes_after_the_pause_and_its_success_closes_it() {
        let breaker = breaker();
        fail(&breaker);
        fail(&breaker);
        advance(Duration::from_secs(1)).await;
        let probe = breaker.admit().expect("the pause is over");
        assert!(breaker.admit().is_err(), "a second call must wait for the probe");
        probe.succeeded();
        assert!(!breaker.is_open());
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_doubles_the_pause() {
        let breaker = breaker();
        fail(&breaker);
        fail(&breaker);
        advance(Duration::from_secs(1)).await;
        fail(&breaker);
        assert_eq!(breaker.admit().err(), Some(Duration::from_secs(2)));
        advance(Duration::from_secs(2)).await;
        fail(&breaker);
        assert_eq!(breaker.admit().err(), Some(Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_probe_lets_the_next_call_probe() {
        let breaker = breaker();
        fail(&breaker);
        fail(&breaker);
        advance(Duration::from_secs(1)).await;
        drop(breaker.admit().expect("probe"));
        assert!(breaker.admit().is_ok());
    }
}
