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
