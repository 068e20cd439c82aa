//! A task of a server that runs as long as there is something for it to do, once at most.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::Inner;

/// Whether the task runs.
#[derive(Debug, Default)]
pub(super) struct Background {
    is_running: AtomicBool,
}

impl Background {
    /// Starts the task unless it runs already. It ends with the server at the latest, and must not keep it alive.
    pub(super) fn start<F>(&self, inner: &Arc<Inner>, task: impl FnOnce(Weak<Inner>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        // Outside a runtime nothing can run; whoever comes within one starts it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            self.is_running.store(false, Ordering::Release);
            return;
        };
        let (task, stop) = (task(Arc::downgrade(inner)), inner.stop.clone());
        inner.tasks.spawn_on(
            async move {
                stop.run_until_cancelled(task).await;
            },
            &runtime,
        );
    }

    /// Asked by the task itself: true when it must end, because there is nothing to do or another one has been started.
    pub(super) fn is_over(&self, has_work: impl Fn() -> bool) -> bool {
        if has_work() {
            return false;
        }
        self.is_running.store(false, Ordering::Release);
        // Work may have come between the two lines above, and found this task running.
        !has_work() || self.is_running.swap(true, Ordering::AcqRel)
    }
}
