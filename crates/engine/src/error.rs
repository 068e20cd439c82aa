//! Why a call has no outcome: whose fault, did it run, may it be repeated?

use std::fmt;

use mpe_mcp_protocol::jsonrpc::ErrorObject;

use crate::{Attempt, UpstreamKey, Violation};

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller's.
    Caller,
    /// Ours.
    Engine,
    /// The upstream's, or the network's on the way to it.
    Upstream,
}

/// Whether the upstream ran the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// It provably did not.
    No,
    /// Nobody can know.
    Unknown,
}

/// What went wrong. `gateway` maps every kind to a status and a code in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The caller went away.
    Cancelled,
    /// The upstream is known to be down (breaker open).
    CircuitOpen,
    /// The deadline passed.
    DeadlineExceeded,
    /// The arguments break the tool's `inputSchema`; see [`CallError::violations`].
    InvalidArguments,
    /// The engine cannot be configured like this. Never the answer to a call.
    Misconfigured,
    /// Too many calls in flight and waiting.
    Overloaded,
    /// The upstream answered with a JSON-RPC error; see [`CallError::rejection`].
    Rejected,
    /// The engine is closing.
    ShuttingDown,
    /// No such endpoint.
    UnknownEndpoint,
    /// No such tool in the endpoint's catalogue.
    UnknownTool,
    /// No such upstream in the endpoint.
    UnknownUpstream,
    /// The upstream refused our credentials.
    UpstreamAuth,
    /// The connection was lost after the call was sent.
    UpstreamLost,
    /// The upstream broke the protocol.
    UpstreamProtocol,
    /// The upstream answered with an HTTP status that is no MCP answer (5xx, 429 and the like).
    UpstreamStatus,
    /// The upstream cannot be reached.
    UpstreamUnreachable,
}

/// A call without an outcome.
#[derive(Debug)]
pub struct CallError {
    /// What went wrong.
    pub kind: CallErrorKind,
    /// Whose fault it is.
    pub blame: Blame,
    /// Whether the call ran.
    pub executed: Executed,
    /// One lower-case sentence, safe to show to the caller.
    pub message: String,
    /// The upstream, where one was chosen.
    pub upstream: Option<UpstreamKey>,
    /// Every attempt that was made.
    pub attempts: Vec<Attempt>,
    /// The upstream's own error, code and data intact, when `kind` is `Rejected`.
    pub rejection: Option<ErrorObject>,
    /// Every violation, when `kind` is `InvalidArguments`.
    pub violations: Vec<Violation>,
    /// Seconds the upstream asked us to wait.
    pub retry_after: Option<std::time::Duration>,
    /// The cause, for the log.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CallErrorKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::CircuitOpen,
        Self::DeadlineExceeded,
        Self::InvalidArguments,
        Self::Misconfigured,
        Self::Overloaded,
        Self::Rejected,
        Self::ShuttingDown,
        Self::UnknownEndpoint,
        Self::UnknownTool,
        Self::UnknownUpstream,
        Self::UpstreamAuth,
        Self::UpstreamLost,
        Self::UpstreamProtocol,
        Self::UpstreamStatus,
        Self::UpstreamUnreachable,
    ];

    /// Its name in metrics, logs and machine-readable errors, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::CircuitOpen => "circuit_open",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InvalidArguments => "invalid_arguments",
            Self::Misconfigured => "misconfigured",
            Self::Overloaded => "overloaded",
            Self::Rejected => "rejected",
            Self::ShuttingDown => "shutting_down",
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::UnknownTool => "unknown_tool",
            Self::UnknownUpstream => "unknown_upstream",
            Self::UpstreamAuth => "upstream_auth",
            Self::UpstreamLost => "upstream_lost",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamStatus => "upstream_status",
            Self::UpstreamUnreachable => "upstream_unreachable",
        }
    }

    /// Whose fault it usually is.
    pub fn blame(self) -> Blame {
        match self {
            Self::Cancelled
            | Self::InvalidArguments
            | Self::Misconfigured
            | Self::UnknownEndpoint
            | Self::UnknownTool
            | Self::UnknownUpstream => Blame::Caller,
            Self::Overloaded | Self::ShuttingDown => Blame::Engine,
            Self::CircuitOpen
            | Self::DeadlineExceeded
            | Self::Rejected
            | Self::UpstreamAuth
            | Self::UpstreamLost
            | Self::UpstreamProtocol
            | Self::UpstreamStatus
            | Self::UpstreamUnreachable => Blame::Upstream,
        }
    }
}

impl CallError {
    /// An error of that kind before anything was sent: blame as [`CallErrorKind::blame`] says, provably not executed.
    pub fn new(kind: CallErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            blame: kind.blame(),
            executed: Executed::No,
            message: message.into(),
            upstream: None,
            attempts: Vec::new(),
            rejection: None,
            violations: Vec::new(),
            retry_after: None,
            source: None,
        }
    }

    /// The same error, naming the upstream that was chosen.
    #[must_use]
    pub fn at(mut self, upstream: &UpstreamKey) -> Self {
        self.upstream = Some(upstream.clone());
        self
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
