//! The string by which a connection's task is pulled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

/// Tells the task that drives a connection that there is something to do.
#[derive(Debug, Default)]
pub(crate) struct Control {
    is_closing: AtomicBool,
    waker: AtomicWaker,
}

impl Control {
    /// Asks the task to close the connection.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Asks the task to look around.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// The task's side: registers first, so that no request made from here on is missed.
    pub(crate) fn is_closing(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.is_closing.load(Ordering::Acquire)
    }
}
