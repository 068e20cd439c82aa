//! A server that speaks both eras, for callers of either.
//!
//! Discovery finds the modern era where a server has it. A caller of the legacy era gets more out of such a server in its
//! own: questions reach it the way it knows, and some servers offer other tools there. So the first such caller has
//! the legacy era tried: a second connection, pinned to it, with sessions of its own. What came of it is remembered. Where
//! discovery finds the legacy era there is nothing to try, because the modern one has just been refused.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use mpe_transport::Sent;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::super::{UpstreamError, UpstreamReply, UpstreamRequest};
use super::Inner;
use crate::CallErrorKind;

/// How long a try may keep its caller waiting. Whoever does not answer by then is spoken to as before.
const TRY: Duration = Duration::from_secs(3);
/// How long a server that refused the other era is not asked again.
const REFUSED: Duration = Duration::from_secs(600);
/// How long one is not asked again that could not answer.
const FAILED: Duration = Duration::from_secs(15);

/// The connection in the era that discovery did not choose.
#[derive(Default)]
pub(super) struct OtherEra {
    state: Mutex<State>,
    /// Held by the one call that tries; everybody else waits for it.
    trying: tokio::sync::Mutex<()>,
}

#[derive(Default)]
enum State {
    /// Nobody has asked for it yet.
    #[default]
    Untried,
    Spoken(Arc<Inner>),
    /// Not spoken; not asked again before then.
    Refused(Instant),
}

impl OtherEra {
    /// Sends a request in the era its caller speaks, where the server does too.
    pub(super) async fn request(
        &self,
        first: &Arc<Inner>,
        request: &UpstreamRequest,
    ) -> Result<UpstreamReply, UpstreamError> {
        let connection = self.connection(first, request.context.era, request.deadline).await?;
        if Arc::ptr_eq(&connection, first) {
            return first.request(request).await;
        }
        match connection.request(request).await {
            // The server has given this era up.
            Err(error) if error.sent == Sent::No && connection.found.load().is_none() => {
                debug!(server = %first.wire.shown(), %error, "the server no longer speaks the legacy era");
                self.forget(REFUSED);
                first.request(request).await
            }
            outcome => outcome,
        }
    }

    /// The connection for callers of this era; the first one where there is no other.
    pub(super) async fn connection(
        &self,
        first: &Arc<Inner>,
        era: Option<Era>,
        deadline: Instant,
    ) -> Result<Arc<Inner>, UpstreamError> {
        if era != Some(Era::Legacy) || first.pinned.is_some() {
            return Ok(Arc::clone(first));
        }
        let found = first.found(deadline).await.map_err(UpstreamError::before_sending)?;
        if found.version.era() == Era::Legacy {
            return Ok(Arc::clone(first));
        }
        if let Some(known) = self.known(first) {
            return Ok(known);
        }
        let trying = timeout_at(deadline, self.trying.lock()).await;
        let _trying = trying.map_err(|_| UpstreamError::deadline(Sent::No, "the server's other era"))?;
        if let Some(known) = self.known(first) {
            return Ok(known);
        }
        Ok(self.attempt(first, deadline.min(Instant::now() + TRY)).await)
    }

    async fn attempt(&self, first: &Arc<Inner>, deadline: Instant) -> Arc<Inner> {
        let other = Arc::new(Inner::new(
            Arc::clone(&first.wire),
            Arc::clone(&first.notices),
            Some(ProtocolVersion::LATEST_LEGACY),
        ));
        let tried = timeout_at(deadline, other.found(deadline)).await;
        let tried = tried.unwrap_or_else(|_| Err(UpstreamError::deadline(Sent::Maybe, "initialize")));
        match tried {
            Ok(_) => {
                *self.state() = State::Spoken(Arc::clone(&other));
                other
            }
            Err(error) => {
                debug!(server = %first.wire.shown(), %error, "the server speaks the modern era only");
                let is_verdict = error.kind == CallErrorKind::UpstreamProtocol;
                *self.state() = State::Refused(Instant::now() + if is_verdict { REFUSED } else { FAILED });
                Arc::clone(first)
            }
        }
    }

    /// What is known already; `None`: it must be tried.
    fn known(&self, first: &Arc<Inner>) -> Option<Arc<Inner>> {
        match &*self.state() {
            State::Spoken(other) => Some(Arc::clone(other)),
            State::Refused(until) if Instant::now() < *until => Some(Arc::clone(first)),
            State::Refused(_) | State::Untried => None,
        }
    }

    /// The server may have been replaced by a newer or an older one: what it refused is tried again.
    pub(super) fn reconsider(&self) {
        let mut state = self.state();
        if let State::Refused(_) = *state {
            *state = State::Untried;
        }
    }

    fn forget(&self, pause: Duration) {
        let was = std::mem::replace(&mut *self.state(), State::Refused(Instant::now() + pause));
        if let State::Spoken(other) = was {
            other.end();
        }
    }

    /// The other connection, if there is one; there will be none after it.
    pub(super) fn take(&self) -> Option<Arc<Inner>> {
        match std::mem::take(&mut *self.state()) {
            State::Spoken(other) => Some(other),
            State::Untried | State::Refused(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}
