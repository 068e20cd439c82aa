//! The error, and the one question it answers: could the peer have seen the request?

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Whether the peer may have seen, and so acted upon, the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It may have.
    Maybe,
    /// It provably has not processed it: never written, or refused by the peer's own word
    /// (RFC 9113 §8.7: REFUSED_STREAM, GOAWAY with a lower last-stream-id).
    No,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The connection ended while the exchange was under way.
    ConnectionLost,
    /// No connection could be made: resolve, dial, proxy.
    Connect,
    /// The deadline passed.
    Deadline,
    /// The peer refused the stream (REFUSED_STREAM or GOAWAY below it).
    Refused,
    /// The peer reset the stream.
    Reset,
    /// The peer broke HTTP.
    Protocol,
    /// The pool is closed.
    PoolClosed,
    /// No lease: connections, streams and waiting places are all taken.
    PoolExhausted,
    /// The request's own body failed while it was sent.
    RequestBody,
    /// TLS failed: certificate, name, version.
    Tls,
    /// Head or body over the limit.
    TooLarge,
    /// The request itself cannot be sent (bad header, bad URI).
    InvalidRequest,
}

impl ErrorKind {
    /// Its name, as metrics carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection_lost",
            Self::Connect => "connect",
            Self::Deadline => "deadline",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::PoolClosed => "pool_closed",
            Self::PoolExhausted => "pool_exhausted",
            Self::RequestBody => "request_body",
            Self::Tls => "tls",
            Self::TooLarge => "too_large",
            Self::InvalidRequest => "invalid_request",
        }
    }
}

/// Why an exchange failed. Its text is whole, cause included, for whoever shows only that; `source` has the cause as a
/// type.
pub struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) sent: Sent,
    pub(crate) message: String,
    pub(crate) source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    pub(crate) request: Option<Box<http::Request<Bytes>>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, sent: Sent, message: impl Into<String>) -> Self {
        Self { kind, sent, message: message.into(), source: None, request: None }
    }

    /// An error of which it is certain that the peer has not processed the request.
    pub(crate) fn unsent(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, Sent::No, message)
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// The same error for another caller; a request held stays with the first.
    pub(crate) fn shared(&self) -> Self {
        Self {
            kind: self.kind,
            sent: self.sent,
            message: self.message.clone(),
            source: self.source.clone(),
            request: None,
        }
    }

    /// Hands the request back, if the error allows it to be sent again.
    pub(crate) fn returning(mut self, request: http::Request<Bytes>) -> Self {
        if self.sent == Sent::No {
            self.request = Some(Box::new(request));
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the peer may have seen the request.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// True when the same request may be sent again without any risk of running twice.
    pub fn is_unsent(&self) -> bool {
        self.sent == Sent::No
    }

    /// True when the deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.kind == ErrorKind::Deadline
    }

    /// The request, handed back when it was provably not processed, unless its caller wanted none
    /// ([`ExchangeOptions::hands_back`](crate::ExchangeOptions::hands_back)).
    pub fn take_request(&mut self) -> Option<http::Request<Bytes>> {
        self.request.take().map(|request| *request)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("sent", &self.sent)
            .field("message", &self.message)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
