//! Hedging: a call of a read-only tool that takes unusually long is made a second time, and the first answer counts. Off
//! unless the operator asks for it.
//!
//! A second request is sent only while the upstream's retry budget has a token for it and places are free at once, so that
//! hedging cannot make an overload worse. Whichever request loses is cancelled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::CallContext;

/// When a call of a read-only tool is made a second time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeConfig {
    /// Never earlier than this after the first request. Default: 50 ms.
    pub after: Duration,
    /// And not before so many percent of the tool's latest answers were there, 1 to 99; until 20 answers are known, the
    /// tool is not hedged. Default: none, `after` alone counts.
    pub percentile: Option<u8>,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { after: Duration::from_millis(50), percentile: None }
    }
}

/// Whether an answer could go to any of two equal calls: the caller hears nothing meanwhile, is asked nothing, and this is no
/// round of a longer exchange.
pub(crate) fn allows(context: &CallContext) -> bool {
    let declares_nothing = context.capabilities.as_ref().is_none_or(|declared| declared.get() == "{}");
    declares_nothing
        && !context.wants_progress
        && context.log_level.is_none()
        && context.input_responses.is_none()
        && context.request_state.is_none()
}

/// Hedging of one upstream.
#[derive(Debug)]
pub(crate) struct Hedge {
    config: HedgeConfig,
    tools: Mutex<HashMap<Arc<str>, Arc<Latencies>>>,
}

/// Tools whose latencies are remembered, at most; others are not hedged by percentile.
const MAX_TOOLS: usize = 4096;

impl Hedge {
    pub(crate) fn new(config: HedgeConfig) -> Self {
        Self { config, tools: Mutex::default() }
    }

    /// How long to wait for the first answer to a call of `tool`; `None`: as long as it takes.
    pub(crate) fn delay(&self, tool: &str) -> Option<Duration> {
        let Some(percentile) = self.config.percentile else { return Some(self.config.after) };
        let known = self.lock().get(tool).map(Arc::clone)?;
        Some(known.percentile(percentile)?.max(self.config.after))
    }

    /// An answer was there after `elapsed`.
    pub(crate) fn answered(&self, tool: &str, elapsed: Duration) {
        if self.config.percentile.is_none() {
            return;
        }
        let known = {
            let mut tools = self.lock();
            match tools.get(tool) {
                Some(known) => Arc::clone(known),
                None if tools.len() >= MAX_TOOLS => return,
                None => Arc::clone(tools.entry(Arc::from(tool)).or_default()),
            }
        };
        known.record(elapsed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Arc<Latencies>>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long answers took lately: counts in buckets that are a quarter of a power of two wide.
#[derive(Debug)]
struct Latencies {
    buckets: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

/// From 1 µs to more than an hour.
const BUCKETS: usize = 4 * 33;
/// Answers that must be known before a percentile means something.
const ENOUGH: u32 = 20;
/// Every so many answers all counts are halved, so that old ones fade.
const FADE: u32 = 1024;

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [const { AtomicU32::new(0) }; BUCKETS], total: AtomicU32::new(0) }
    }
}

impl Latencies {
    fn record(&self, elapsed: Duration) {
        self.buckets[bucket(elapsed)].fetch_add(1, Ordering::Relaxed);
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        // Two that halve at once fade a little more than meant, which harms nobody.
        if total >= FADE {
            let mut kept = 0;
            for count in &self.buckets {
                let half = count.load(Ordering::Relaxed) / 2;
                count.store(half, Ordering::Relaxed);
                kept += half;
            }
            self.total.store(kept, Ordering::Relaxed);
        }
    }

    /// The time by which so many percent of the answers were there, rounded up to its bucket.
    fn percentile(&self, percent: u8) -> Option<Duration> {
        let counts = self.buckets.each_ref().map(|count| count.load(Ordering::Relaxed));
        let total: u32 = counts.iter().sum();
        if total < ENOUGH {
            return None;
        }
        let wanted = (u64::from(total) * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        for (n, count) in counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return Some(upper_bound(n));
            }
        }
        None
    }
}

fn bucket(elapsed: Duration) -> usize {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2() as usize;
    // The two bits behind the leading one.
    let quarter = if power >= 2 { (micros >> (power - 2)) as usize & 3 } else { 0 };
    (4 * power + quarter).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let (power, quarter) = (bucket / 4, (bucket % 4) as u64);
    let base = 1_u64 << power;
    Duration::from_micros(base + base / 4 * (quarter + 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Hedge, HedgeConfig, bucket, upper_bound};

    fn by_percentile(percentile: u8) -> Hedge {
        Hedge::new(HedgeConfig { after: Duration::from_millis(1), percentile: Some(percentile) })
    }

    #[test]
    fn a_bucket_s_bound_is_above_what_it_holds_and_at_most_a_quarter_more() {
        for micros in [4_u64, 5, 7, 100, 999, 12_345, 1_000_000, 3_000_000_000] {
            let elapsed = Duration::from_micros(micros);
            let bound = upper_bound(bucket(elapsed));
            assert!(
                bound >= elapsed && bound <= elapsed * 5 / 4 + Duration::from_micros(2),
                "{elapsed:?}: {bound:?}"
            );
        }
    }

    #[test]
    fn a_percentile_is_of_the_tool_s_own_latest_answers() {
        let hedge = by_percentile(90);
        assert_eq!(hedge.delay("t"), None, "nothing is known yet");
        for n in 0..100 {
            hedge.answered("t", Duration::from_millis(if n < 92 { 10 } else { 900 }));
            hedge.answered("slow", Duration::from_secs(2));
        }
        let delay = hedge.delay("t").unwrap();
        assert!((10..=13).contains(&delay.as_millis()), "{delay:?}");
        assert!(hedge.delay("slow").unwrap() >= Duration::from_secs(2));
        for _ in 0..5000 {
            hedge.answered("t", Duration::from_millis(100));
        }
        assert!(hedge.delay("t").unwrap() >= Duration::from_millis(100), "old answers fade");
    }

    #[test]
    fn the_least_delay_holds_whatever_the_percentile() {
        let hedge = by_percentile(50);
        (0..30).for_each(|_| hedge.answered("t", Duration::from_micros(10)));
        assert_eq!(hedge.delay("t"), Some(Duration::from_millis(1)));
    }
}
