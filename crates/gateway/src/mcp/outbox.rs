//! What a call emits on its way to the stream of its caller.
//!
//! Every call has one and few use it, so an empty one is a single small allocation; a channel begins with room for its first
//! thirty-two messages. Those who wait for room get it in no particular order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::exchange::Emitted;

/// Puts messages in.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

/// Takes messages out. Dropping it drops those that are left, and closes the outbox.
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no room.
    Full(Emitted),
    /// Nobody reads any more.
    Closed,
}

struct Shared {
    limit: usize,
    state: Mutex<State>,
    /// A message was taken out, or nobody reads any more.
    room: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Emitted>,
    reader: Option<Waker>,
    is_closed: bool,
}

/// An outbox with room for `limit` messages.
pub(crate) fn outbox(limit: usize) -> (Outbox, Outgoing) {
    let shared = Arc::new(Shared { limit, state: Mutex::default(), room: Notify::new() });
    (Outbox { shared: Arc::clone(&shared) }, Outgoing { shared })
}

impl Outbox {
    /// Puts a message in if there is room.
    ///
    /// # Errors
    /// There is none, or nobody reads any more.
    pub(crate) fn try_send(&self, message: Emitted) -> Result<(), Refused> {
        let mut state = self.shared.state();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        if state.queue.len() >= self.shared.limit {
            return Err(Refused::Full(message));
        }
        state.queue.push_back(message);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Waits for room and puts a message in.
    ///
    /// # Errors
    /// Nobody reads any more.
    ///
    /// # Cancel safety
    /// Dropping the future drops the message.
    pub(crate) async fn send(&self, mut message: Emitted) -> Result<(), Refused> {
        loop {
            // Before the look: what is taken out after it is not missed.
            let mut room = std::pin::pin!(self.shared.room.notified());
            room.as_mut().enable();
            match self.try_send(message) {
                Err(Refused::Full(back)) => message = back,
                taken => return taken,
            }
            room.await;
        }
    }
}

impl Outgoing {
    /// The next message, if there is one; else the task is woken when there is.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Emitted> {
        let mut state = self.shared.state();
        let Some(message) = state.queue.pop_front() else {
            if state.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
                let before = state.reader.replace(cx.waker().clone());
                drop(state);
                // Outside of the lock, as everything here that is not ours.
                drop(before);
            }
            return Poll::Pending;
        };
        drop(state);
        self.shared.room.notify_waiters();
        Poll::Ready(message)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        let left = (std::mem::take(&mut state.queue), state.reader.take());
        drop(state);
        // With the messages go those who wait for an answer.
        drop(left);
        self.shared.room.notify_waiters();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::{Context, Poll, Waker};

    use futures_util::FutureExt;

    use super::{Refused, outbox};
    use crate::mcp::exchange::Emitted;

    fn message(text: &str) -> Emitted {
        Emitted::Message(text.as_bytes().to_vec())
    }

    fn text(emitted: &Emitted) -> &str {
        let Emitted::Message(bytes) = emitted else { panic!("a question") };
        std::str::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn messages_come_out_in_order_and_wake_whoever_waits() {
        let (outbox, mut outgoing) = outbox(4);
        let reader = tokio::spawn(async move {
            let first = poll_fn(|cx| outgoing.poll_next(cx)).await;
            let second = poll_fn(|cx| outgoing.poll_next(cx)).await;
            format!("{} {}", text(&first), text(&second))
        });
        tokio::task::yield_now().await;
        outbox.try_send(message("one")).unwrap();
        tokio::task::yield_now().await;
        outbox.send(message("two")).await.unwrap();
        assert_eq!(reader.await.unwrap(), "one two");
    }

    #[tokio::test]
    async fn a_full_one_refuses_or_waits_until_something_is_taken_out() {
        let (outbox, mut outgoing) = outbox(1);
        outbox.try_send(message("one")).unwrap();
        assert!(matches!(outbox.try_send(message("lost")), Err(Refused::Full(_))));
        let mut waiting = std::pin::pin!(outbox.send(message("two")));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(outgoing.poll_next(&mut cx), Poll::Ready(first) if text(&first) == "one"));
        waiting.await.unwrap();
        assert!(matches!(outgoing.poll_next(&mut cx), Poll::Ready(second) if text(&second) == "two"));
        assert!(outgoing.poll_next(&mut cx).is_pending());
    }

    #[tokio::test]
    async fn senders_learn_that_nobody_reads_any_more() {
        let (outbox, outgoing) = outbox(1);
        outbox.try_send(message("one")).unwrap();
        let mut waiting = std::pin::pin!(outbox.send(message("two")));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(outgoing);
        assert!(matches!(waiting.await, Err(Refused::Closed)));
        assert!(matches!(outbox.try_send(message("three")), Err(Refused::Closed)));
    }
}
