//! The time an exchange has: to its response head, and then for its body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::FOREVER;
use crate::{Error, ErrorKind, Sent};

/// How long a response body may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyDeadline {
    /// Each wait for the next frame may take this long: for event streams of any length.
    Idle(Duration),
    /// No limit: whoever reads the body watches the time.
    Unbounded,
    /// The deadline of the head covers the body too.
    #[default]
    WithHead,
}

/// One timer that first guards the head, then the body.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    body: BodyDeadline,
    is_in_body: bool,
}

impl Timer {
    pub(crate) fn new(deadline: Instant, body: BodyDeadline) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)), body, is_in_body: false }
    }

    /// The head is here.
    pub(crate) fn enter_body(&mut self) {
        self.is_in_body = true;
        self.progressed();
    }

    /// A frame of the body is here.
    pub(crate) fn progressed(&mut self) {
        if let (true, BodyDeadline::Idle(wait)) = (self.is_in_body, self.body) {
            self.sleep.as_mut().reset(Instant::now() + wait.min(FOREVER));
        }
    }

    /// Ready once the time is up.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_in_body && self.body == BodyDeadline::Unbounded {
            return Poll::Pending;
        }
        self.sleep.as_mut().poll(cx)
    }

    /// What to say once it is.
    pub(crate) fn body_error(&self) -> Error {
        let message = match self.body {
            BodyDeadline::Idle(wait) => format!("nothing of the response body came for {wait:?}"),
            BodyDeadline::Unbounded | BodyDeadline::WithHead => {
                "the deadline passed while the response body was read".to_owned()
            }
        };
        Error::new(ErrorKind::Deadline, Sent::Maybe, message)
    }
}
