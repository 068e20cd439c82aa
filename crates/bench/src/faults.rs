//! Faults that the upstream commits on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which faults, and how often.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Faults {
    /// Close a connection gracefully (GOAWAY) after so many requests on it; 0: never.
    #[arg(long, default_value_t = 0)]
    pub goaway_every: u64,
    /// Refuse every so-many-th stream unread (REFUSED_STREAM); 0: never. Speaks only h2c then.
    #[arg(long, default_value_t = 0)]
    pub refuse_every: u64,
    /// Answer every so-many-th request with 503; 0: never.
    #[arg(long, default_value_t = 0)]
    pub unavailable_every: u64,
    /// Streams allowed per connection; 0: hyper's default.
    #[arg(long, default_value_t = 0)]
    pub max_streams: u32,
}

/// Counts requests and says which one falls.
#[derive(Debug, Default)]
pub struct Countdown {
    seen: AtomicU64,
}

impl Countdown {
    /// True for every `every`-th call; never for 0.
    pub fn falls(&self, every: u64) -> bool {
        every > 0 && (self.seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every)
    }
}
