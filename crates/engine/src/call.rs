//! A call and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification};
use mpe_transport::Protocol;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{Asking, CallErrorKind, EndpointId, UpstreamKey, Violation};

/// One tool call, as every face makes it.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The tenant.
    pub endpoint: EndpointId,
    /// The tool's name in that tenant's catalogue.
    pub tool: String,
    /// A JSON object, passed on byte for byte.
    pub arguments: Box<RawValue>,
    /// When the caller stops waiting. `None`: the upstream's configured timeout from now.
    pub deadline: Option<Instant>,
    /// Check `arguments` against the tool's `inputSchema` first. Faces for people say yes, MCP says no.
    pub check_arguments: bool,
    /// What the caller declared and wants to hear.
    pub context: Arc<CallContext>,
}

/// What an MCP client declared on its request, and who listens. Nothing here is ever widened on the way upstream.
#[derive(Clone, Default)]
pub struct CallContext {
    /// `ClientCapabilities` as declared; `None` is `{}`.
    pub capabilities: Option<Box<RawValue>>,
    /// `clientInfo` as declared; `None`: the engine's own.
    pub client_info: Option<Box<RawValue>>,
    /// Every further `_meta` member of the request (trace context and unknown keys), an object without reserved keys.
    pub meta: Option<Box<RawValue>>,
    /// Log messages at or above this level are wanted.
    pub log_level: Option<String>,
    /// Progress is wanted.
    pub wants_progress: bool,
    /// `inputResponses` of a multi-round request, as sent.
    pub input_responses: Option<Box<RawValue>>,
    /// The upstream's own `requestState` of a multi-round request.
    pub request_state: Option<String>,
    /// Where the round before was answered, where the server has several addresses ([`ToolOutcome::address`],
    /// [`RelayReply::address`]): it is asked again as long as it takes calls, another one otherwise. `None`: any.
    pub address: Option<Arc<str>>,
    /// Which era the caller speaks; the engine prefers the same one upstream. `None`: no preference.
    pub era: Option<mpe_mcp_protocol::version::Era>,
    /// Who hears progress and log messages and answers the server's own requests.
    pub events: Option<Arc<dyn CallEvents>>,
}

/// The caller's ear while a call is under way. Called in the order of arrival, never after the outcome.
pub trait CallEvents: Send + Sync {
    /// Progress or a log message that belongs to the call. Progress carries no token: put your own.
    fn notify(&self, notification: Notification);

    /// A request of the server (elicitation, sampling, roots) that belongs to the call.
    fn ask<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<Box<RawValue>, ErrorObject>>;

    /// Where it counts the questions it has put to the caller, so that the call neither keeps its places nor runs out of
    /// time while somebody thinks. `None`: nowhere, the clock goes on.
    fn asking(&self) -> Option<&Asking> {
        None
    }
}

impl std::fmt::Debug for CallContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallContext")
            .field("era", &self.era)
            .field("wants_progress", &self.wants_progress)
            .finish_non_exhaustive()
    }
}

/// What a tool call came to. A tool that ran and reported `isError` is an outcome.
#[derive(Clone, Debug)]
pub struct ToolOutcome {
    /// The `CallToolResult` as the server wrote it.
    pub result: Box<RawValue>,
    /// Which kind of result it is.
    pub kind: OutcomeKind,
    /// Whether the server wrote `resultType` itself.
    pub names_its_type: bool,
    /// Whether `_meta` is in the result.
    pub has_meta: bool,
    /// Who answered.
    pub upstream: UpstreamKey,
    /// The HTTP version of the exchange; `None` where no HTTP was spoken.
    pub protocol: Option<Protocol>,
    /// Which of the server's addresses answered; `None` where it has one. Opaque, the same in every replica: for
    /// [`CallContext::address`] of the next round.
    pub address: Option<Arc<str>>,
    /// Every attempt, the last one being the one that answered. One that was hedged away stands before it as
    /// [`Cancelled`](CallErrorKind::Cancelled).
    pub attempts: Vec<Attempt>,
    /// How the result breaks the tool's `outputSchema`; always empty unless
    /// [`UpstreamConfig::check_outputs`](crate::UpstreamConfig::check_outputs) is on.
    pub violations: Vec<Violation>,
    /// From accepting the call to the outcome.
    pub elapsed: Duration,
}

/// The `resultType` of an outcome, with `isError` told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// The tool ran.
    Complete,
    /// The tool ran and says it failed (`isError: true`).
    Failed,
    /// The server wants input first (`resultType: input_required`).
    InputRequired,
    /// A `resultType` of an extension.
    Other(String),
}

/// One attempt at sending a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How it failed; `None` for the attempt that brought the outcome.
    pub failure: Option<CallErrorKind>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Any other MCP request for one upstream (resources, prompts, completion).
#[derive(Clone, Debug)]
pub struct Relay {
    /// The tenant.
    pub endpoint: EndpointId,
    /// The upstream that shall answer.
    pub upstream: UpstreamKey,
    /// The MCP method.
    pub method: String,
    /// Its params without `_meta`; `None` for none.
    pub params: Option<Box<RawValue>>,
    /// As in [`ToolCall::deadline`].
    pub deadline: Option<Instant>,
    /// What the caller declared and wants to hear.
    pub context: Arc<CallContext>,
}

/// The reply to a [`Relay`].
#[derive(Clone, Debug)]
pub struct RelayReply {
    /// The result as the server wrote it.
    pub result: Box<RawValue>,
    /// The HTTP version of the exchange; `None` where no HTTP was spoken.
    pub protocol: Option<Protocol>,
    /// Which of the server's addresses answered; `None` where it has one. Opaque, the same in every replica: for
    /// [`CallContext::address`] of the next round.
    pub address: Option<Arc<str>>,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
}
