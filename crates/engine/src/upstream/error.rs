//! Making an [`UpstreamError`].

use mpe_mcp_protocol::probe::Verdict;
use mpe_transport::{ErrorKind, Sent};

use super::UpstreamError;
use crate::CallErrorKind;

impl UpstreamError {
    pub(crate) fn new(kind: CallErrorKind, sent: Sent, message: impl Into<String>) -> Self {
        Self { kind, sent, message: message.into(), retry_after: None, source: None }
    }

    /// The server broke the protocol, and may have acted upon the request.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(CallErrorKind::UpstreamProtocol, Sent::Maybe, message)
    }

    /// The deadline passed.
    pub(crate) fn deadline(sent: Sent, waiting_for: &str) -> Self {
        Self::new(
            CallErrorKind::DeadlineExceeded,
            sent,
            format!("the deadline passed while waiting for {waiting_for}"),
        )
    }

    /// The same error, but the request has provably not been acted upon: it concerns something sent before it.
    #[must_use]
    pub(crate) fn before_sending(mut self) -> Self {
        self.sent = Sent::No;
        self
    }
}

impl From<mpe_transport::Error> for UpstreamError {
    fn from(error: mpe_transport::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::ConnectionLost | ErrorKind::Refused | ErrorKind::Reset => CallErrorKind::UpstreamLost,
            ErrorKind::Connect | ErrorKind::Tls => CallErrorKind::UpstreamUnreachable,
            // Our own places are taken: no fault of the server, whose breaker must not hear of it.
            ErrorKind::PoolExhausted => CallErrorKind::Overloaded,
            ErrorKind::Deadline => CallErrorKind::DeadlineExceeded,
            ErrorKind::PoolClosed => CallErrorKind::ShuttingDown,
            // InvalidRequest, Protocol, TooLarge, and what may come.
            _ => CallErrorKind::UpstreamProtocol,
        };
        Self {
            kind,
            sent: error.sent(),
            message: error.to_string(),
            retry_after: None,
            source: Some(Box::new(error)),
        }
    }
}

impl std::fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UpstreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// A probe that ended without a find, as an error. The request itself was never sent.
pub(super) fn verdict_error(verdict: Verdict) -> UpstreamError {
    let (kind, message) = match verdict {
        Verdict::Incompatible(why) => (CallErrorKind::UpstreamProtocol, why),
        Verdict::Unauthorized(status) => {
            (CallErrorKind::UpstreamAuth, format!("the server wants credentials (HTTP status {status})"))
        }
        Verdict::Unavailable(why) => {
            (CallErrorKind::UpstreamUnreachable, format!("the server cannot answer now: {why}"))
        }
        Verdict::Found(_) | Verdict::Next(_) => {
            (CallErrorKind::UpstreamProtocol, "the server speaks another transport than it did".to_owned())
        }
    };
    UpstreamError::new(kind, Sent::No, message)
}
