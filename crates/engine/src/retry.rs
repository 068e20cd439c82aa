//! May a failed call be sent again, is there budget for it, and when?
//!
//! The rule: a call is sent again only when it provably did not run ([`Sent::No`]), or when running it twice does no
//! harm: the server says so (`readOnlyHint`, `idempotentHint`, if the operator trusts it) or the operator says so. And
//! only while the deadline and the upstream's retry budget allow it. [`table`] prints the rule.
//!
//! This is the only module that names the `backoff` crate, so that the crate can be replaced without anyone noticing.

use std::sync::Mutex;
use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::exponential::ExponentialBackoff;
use mpe_mcp_protocol::tool::ToolAnnotations;
use mpe_transport::Sent;
use tokio::time::Instant;

use crate::CallErrorKind;

/// Why a call may run twice, or that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeatability {
    /// The server says `idempotentHint`.
    Idempotent,
    /// It must not run twice.
    Once,
    /// The operator says it may be repeated.
    Operator,
    /// The server says `readOnlyHint`, or the method only reads.
    ReadOnly,
}

/// What becomes of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The failure is the answer.
    GiveUp,
    /// It is sent again, deadline, budget and number of attempts permitting.
    Retry,
}

/// One row of the retry rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// How the attempt failed.
    pub failure: CallErrorKind,
    /// Whether the call may run twice.
    pub repeatability: Repeatability,
    /// Whether the server may have seen it.
    pub sent: Sent,
    /// What becomes of it.
    pub decision: Decision,
}

/// How often and how quickly calls are sent again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Attempts of one call, the first included. 1 turns retries off. Default: 3.
    pub max_attempts: u32,
    /// The longest pause before the second attempt; doubled for each further one. The pause is drawn evenly from zero
    /// to this (full jitter), so that callers that failed together do not come back together. None before the second
    /// attempt of a request that a server left unread on a connection that stood. Default: 100 ms.
    pub first_pause: Duration,
    /// No pause is drawn from a longer range. Default: 2 s. A server's `Retry-After` may ask for more.
    pub max_pause: Duration,
    /// Retries an upstream may be asked for at once, beyond those that its calls earn. Default: 10.
    pub budget: u32,
    /// Calls that earn one further retry. Default: 10, so that retries add at most a tenth to the load.
    pub calls_per_retry: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            first_pause: Duration::from_millis(100),
            max_pause: Duration::from_secs(2),
            budget: 10,
            calls_per_retry: 10,
        }
    }
}

impl Repeatability {
    /// What a tool's hints say, as far as they are trusted.
    pub fn of(annotations: ToolAnnotations, trusted: bool) -> Self {
        match annotations {
            _ if !trusted => Self::Once,
            ToolAnnotations { read_only: true, .. } => Self::ReadOnly,
            ToolAnnotations { idempotent: true, .. } => Self::Idempotent,
            _ => Self::Once,
        }
    }

    /// Every value, in the order of [`table`].
    pub const ALL: [Self; 4] = [Self::Once, Self::ReadOnly, Self::Idempotent, Self::Operator];
}

/// The retry rule: the only place where it is decided.
pub fn decide(failure: CallErrorKind, repeatability: Repeatability, sent: Sent) -> Decision {
    if !is_passing(failure) {
        return Decision::GiveUp;
    }
    match (sent, repeatability) {
        (Sent::No, _) => Decision::Retry,
        (Sent::Maybe, Repeatability::Once) => Decision::GiveUp,
        (Sent::Maybe, Repeatability::Idempotent | Repeatability::Operator | Repeatability::ReadOnly) => {
            Decision::Retry
        }
    }
}

/// The rule as data: every failure of an attempt × repeatability × what the server may have seen.
pub fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    for failure in ATTEMPT_FAILURES {
        for sent in [Sent::No, Sent::Maybe] {
            for repeatability in Repeatability::ALL {
                rows.push(Row {
                    failure,
                    repeatability,
                    sent,
                    decision: decide(failure, repeatability, sent),
                });
            }
        }
    }
    rows
}

/// Every way in which an attempt at an upstream fails.
const ATTEMPT_FAILURES: [CallErrorKind; 9] = [
    CallErrorKind::UpstreamUnreachable,
    CallErrorKind::UpstreamLost,
    CallErrorKind::UpstreamStatus,
    CallErrorKind::UpstreamProtocol,
    CallErrorKind::UpstreamAuth,
    CallErrorKind::Rejected,
    CallErrorKind::DeadlineExceeded,
    CallErrorKind::Overloaded,
    CallErrorKind::ShuttingDown,
];

/// Failures that may be gone a moment later.
fn is_passing(failure: CallErrorKind) -> bool {
    matches!(
        failure,
        CallErrorKind::UpstreamLost | CallErrorKind::UpstreamStatus | CallErrorKind::UpstreamUnreachable
    )
}

/// Whether the second attempt need not wait: the server stands, and has not looked at the first.
///
/// It refused the stream, or closed the connection before it came to that (RFC 9113, 8.7), as every server does once in a
/// while to get rid of old connections. Who cannot be connected to, or answers with a status, is in trouble.
pub(crate) fn may_go_at_once(failure: CallErrorKind, sent: Sent) -> bool {
    failure == CallErrorKind::UpstreamLost && sent == Sent::No
}

// === Schedule ===

/// Growing pauses.
#[derive(Debug)]
pub(crate) struct Schedule(ExponentialBackoff<TokioClock>);

impl Schedule {
    /// Pauses drawn evenly from zero to `first`, then to twice that, and so on up to `max`.
    pub(crate) fn full_jitter(first: Duration, max: Duration) -> Self {
        // The crate draws from `interval · (1 ± factor)`: half the range with a factor of one is zero to the range.
        Self::exponential(first / 2, max / 2, 1.0)
    }

    /// Pauses of about `first`, then about twice that, and so on up to about `max`.
    pub(crate) fn steady(first: Duration, max: Duration) -> Self {
        Self::exponential(first, max, 0.2)
    }

    /// `interval`, a tenth shorter or longer, so that what is repeated does not fall in step.
    pub(crate) fn jittered(interval: Duration) -> Duration {
        Self::exponential(interval, interval, 0.1).next()
    }

    fn exponential(initial: Duration, max: Duration, randomization_factor: f64) -> Self {
        Self(ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            randomization_factor,
            multiplier: 2.0,
            max_interval: max,
            start_time: backoff::Clock::now(&TokioClock),
            // The call's deadline ends the retries, not the schedule.
            max_elapsed_time: None,
            clock: TokioClock,
        })
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Starts over with the first pause.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

/// Tokio's clock, which tests can pause.
#[derive(Clone, Copy, Debug)]
struct TokioClock;

impl backoff::Clock for TokioClock {
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

// === Budget ===

/// A token bucket: every call pours in a little, every retry takes out one. It keeps retries a small share of the load
/// however many callers fail at once. One token per second comes back by itself, so that rare callers may retry too.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Thousandths of a token, so that shares of a token need no floats.
    level: Mutex<Level>,
    capacity: u64,
    per_call: u64,
}

#[derive(Debug)]
struct Level {
    thousandths: u64,
    refilled: Instant,
}

impl Budget {
    pub(crate) fn new(config: &RetryConfig) -> Self {
        let capacity = u64::from(config.budget) * 1000;
        Self {
            level: Mutex::new(Level { thousandths: capacity, refilled: Instant::now() }),
            capacity,
            per_call: 1000 / u64::from(config.calls_per_retry.max(1)),
        }
    }

    /// A call earns its share.
    pub(crate) fn earn(&self) {
        let mut level = self.lock();
        level.thousandths = (level.thousandths + self.per_call).min(self.capacity);
    }

    /// Takes a token; false when there is none.
    pub(crate) fn spend(&self) -> bool {
        let mut level = self.lock();
        let now = Instant::now();
        let since = now.saturating_duration_since(level.refilled);
        level.refilled = now;
        let gained = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        level.thousandths = level.thousandths.saturating_add(gained).min(self.capacity);
        if level.thousandths < 1000 {
            return false;
        }
        level.thousandths -= 1000;
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
