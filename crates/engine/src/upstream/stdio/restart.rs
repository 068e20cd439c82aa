//! When a process that keeps failing may be started again.

use std::time::Duration;

use mpe_transport::Sent;
use tokio::time::Instant;

use super::super::UpstreamError;
use crate::CallErrorKind;

/// Counts starts that came to nothing, and spaces them out.
///
/// A process has come to something when it has answered a call, or has run for [`STABLE`]. That it answers what it
/// offers proves little: a server that dies at every call does that too.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// In a row.
    failures: u32,
    not_before: Option<Instant>,
    /// What the last one wrote to its standard error.
    last_words: String,
}

/// The pause after the second failure; it doubles with each further one. The first restart is immediate.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A process that has run for so long is not one that only starts and dies.
const STABLE: Duration = Duration::from_secs(60);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

impl Restarts {
    /// # Errors
    /// The process has failed again and again, and its pause is not over.
    pub(super) fn permit(&self) -> Result<(), UpstreamError> {
        let pause =
            self.not_before.map(|at| at.saturating_duration_since(Instant::now())).unwrap_or_default();
        if pause.is_zero() {
            return Ok(());
        }
        let mut message = format!(
            "the process has failed {} times in a row; it is started again in {} ms",
            self.failures,
            pause.as_millis()
        );
        if !self.last_words.is_empty() {
            message.push_str("; its last words: ");
            message.push_str(&self.last_words);
        }
        let mut error = UpstreamError::new(CallErrorKind::UpstreamUnreachable, Sent::No, message);
        error.retry_after = Some(pause);
        Err(error)
    }

    /// A start, or a process that never answered a call, has come to nothing after `age`.
    pub(super) fn failed(&mut self, age: Duration, last_words: String) {
        if age >= STABLE {
            *self = Self::default();
        }
        self.last_words = last_words;
        self.failures = self.failures.saturating_add(1);
        if self.failures > 1 {
            let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 2).min(16));
            self.not_before = Some(Instant::now() + doubled.min(MAX_PAUSE));
        }
    }

    /// A call was answered.
    pub(super) fn works(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Restarts;

    #[tokio::test(start_paused = true)]
    async fn a_process_that_keeps_failing_is_started_less_and_less_often() {
        let mut restarts = Restarts::default();
        let failed = |restarts: &mut Restarts| restarts.failed(Duration::ZERO, "no disk".to_owned());
        failed(&mut restarts);
        restarts.permit().unwrap();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            failed(&mut restarts);
            let pause = restarts.permit().unwrap_err().retry_after.unwrap();
            pauses.push(pause.as_millis());
            tokio::time::advance(pause + Duration::from_millis(1)).await;
            restarts.permit().unwrap();
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        restarts.works();
        failed(&mut restarts);
        restarts.permit().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_ran_for_long_is_started_again_at_once() {
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            restarts.failed(Duration::ZERO, "no disk".to_owned());
        }
        assert!(restarts.permit().unwrap_err().message.ends_with("; its last words: no disk"));
        restarts.failed(Duration::from_secs(3600), String::new());
        restarts.permit().unwrap();
    }
}
