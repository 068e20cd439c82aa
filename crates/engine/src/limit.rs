//! Permits: how many calls may be in flight, and how many may wait for their turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::Limits;

/// A fair, bounded gate. First come, first served: a permit that is given back goes to the longest waiter.
#[derive(Debug)]
pub(crate) struct Gate {
    permits: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
    is_exclusive: bool,
}

/// A place in flight; given back on drop.
pub(crate) type Permit<'a> = SemaphorePermit<'a>;

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The deadline passed while waiting.
    Deadline,
    /// As many are waiting as may wait.
    Full,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Self {
        let in_flight = if limits.concurrent { limits.max_in_flight } else { 1 };
        Self::of(in_flight, limits.max_waiting)
    }

    pub(crate) fn of(in_flight: usize, max_waiting: usize) -> Self {
        Self {
            permits: Semaphore::new(in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            max_waiting,
            is_exclusive: in_flight <= 1,
        }
    }

    /// Whether it lets one call through at a time.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    /// A permit that is free right now.
    pub(crate) fn try_acquire(&self) -> Option<Permit<'_>> {
        self.permits.try_acquire().ok()
    }

    /// Waits for a permit, no longer than `deadline`.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<Permit<'_>, Refusal> {
        // The semaphore hands freed permits to waiters first, so this cannot overtake anybody.
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let _place = self.queue()?;
        match timeout_at(deadline, self.permits.acquire()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(Refusal::Deadline),
        }
    }

    fn queue(&self) -> Result<Place<'_>, Refusal> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        }
        Ok(Place(&self.waiting))
    }
}

/// A place in the queue; given up on drop.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::{Gate, Refusal};
    use crate::Limits;

    fn gate(max_in_flight: usize, max_waiting: usize) -> Gate {
        Gate::new(&Limits { max_in_flight, max_waiting, ..Limits::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_the_deadline() {
        let gate = gate(1, 1);
        let start = Instant::now();
        let held = gate.acquire(start).await;
        let refused = gate.acquire(start + Duration::from_secs(2)).await;
        assert_eq!(refused.err(), Some(Refusal::Deadline));
        assert_eq!(start.elapsed().as_secs(), 2);
        drop(held);
        assert!(gate.acquire(start).await.is_ok(), "a freed permit needs no waiting");
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_a_dropped_waiter_leaves_it() {
        let gate = gate(1, 1);
        let late = Instant::now() + Duration::from_secs(9);
        let held = gate.acquire(late).await.expect("free");
        let mut waiter = Box::pin(gate.acquire(late));
        assert!(waiter.as_mut().now_or_never().is_none());
        assert_eq!(gate.acquire(late).await.err(), Some(Refusal::Full));
        drop(waiter);
        let mut waiter = Box::pin(gate.acquire(late));
        assert!(waiter.as_mut().now_or_never().is_none(), "the place is free again");
        drop(held);
        assert!(waiter.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiter_is_served_first() {
        let gate = gate(1, 2);
        let late = Instant::now() + Duration::from_secs(9);
        let held = gate.acquire(late).await.expect("free");
        let mut first = Box::pin(gate.acquire(late));
        let mut second = Box::pin(gate.acquire(late));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(held);
        assert!(second.as_mut().now_or_never().is_none(), "second must not overtake");
        assert!(first.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn without_concurrency_one_call_is_in_flight() {
        let gate = Gate::new(&Limits { concurrent: false, ..Limits::default() });
        let now = Instant::now();
        let held = gate.acquire(now).await;
        assert!(held.is_ok());
        assert_eq!(gate.acquire(now).await.err(), Some(Refusal::Deadline));
    }
}
