//! Questions that are open while a call runs: as long as a person is asked, nobody else's place is taken and no clock runs.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How many questions of an upstream are open within one call. Lives in the ear that puts them to the caller
/// ([`CallEvents::asking`](crate::CallEvents::asking)).
#[derive(Debug, Default)]
pub struct Asking {
    open: AtomicUsize,
    changed: Notify,
}

/// A question that is open; dropped, it is not any more.
#[derive(Debug)]
pub struct Question<'a>(&'a Asking);

impl Asking {
    /// Opens a question until what is returned is dropped.
    pub fn begin(&self) -> Question<'_> {
        if self.open.fetch_add(1, Ordering::SeqCst) == 0 {
            self.changed.notify_one();
        }
        Question(self)
    }

    /// Whether a question is open.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }

    /// Ends when [`is_open`](Self::is_open) may have changed since the last time one of these ended. One waiter at a time.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.changed.notify_one();
        }
    }
}
