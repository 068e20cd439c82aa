//! One upstream server, whatever carries it.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use mpe_mcp_protocol::jsonrpc::ErrorObject;
use mpe_mcp_protocol::version::ProtocolVersion;
pub use mpe_transport::{Protocol, Sent};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{CallContext, CallError, CallErrorKind, Era, Target, UpstreamConfig};

mod auth;
pub(crate) mod balance;
mod capabilities;
mod error;
mod http;
mod listener;
mod message;
mod notices;
mod pipe;
mod stdio;
mod subscription;
#[cfg(test)]
pub(crate) mod testing;

pub use self::auth::{
    Authorization, AuthorizationCode, Client, ClientAuthentication, Enterprise, Grant, Login,
    MemoryTokenStore, Person, SecretSource, SigningAlgorithm, SigningKey, StoredClient, StoredLogin,
    StoredTokens, TokenStore, canonical_address,
};
pub(crate) use self::capabilities::canonical;
pub use self::http::{HttpTarget, HttpUpstream};
use self::notices::Notices;
pub use self::stdio::{StdioTarget, StdioUpstream};

/// The upstream that a configuration describes. Does no IO. Of several addresses it is the first alone: balancing them is
/// the engine's work.
///
/// # Errors
/// [`CallErrorKind::UpstreamUnreachable`] for a configuration that cannot lead anywhere: a URL without a host, a header
/// value that no header may hold.
pub fn connect(config: &UpstreamConfig, pool: &mpe_transport::Pool) -> Result<Arc<dyn Upstream>, CallError> {
    match &config.target {
        Target::Balanced { urls, headers, wire } => match urls.first() {
            Some(url) => connect_to(config, pool, url, headers, *wire),
            None => Err(unusable(config, "it has no address")),
        },
        Target::Custom(upstream) => Ok(Arc::clone(upstream)),
        Target::Http { url, headers, wire } => connect_to(config, pool, url, headers, *wire),
        Target::Stdio { command, args, env, cwd } => {
            let (process, pinned) = (&config.process, pinned(config));
            let target = StdioTarget { command, args, env, cwd: cwd.as_deref(), pinned, process };
            Ok(Arc::new(StdioUpstream::new(&target)))
        }
    }
}

/// The upstream at one address.
pub(crate) fn connect_to(
    config: &UpstreamConfig,
    pool: &mpe_transport::Pool,
    url: &::http::Uri,
    headers: &[(::http::HeaderName, secrecy::SecretString)],
    wire: mpe_transport::Wire,
) -> Result<Arc<dyn Upstream>, CallError> {
    let authorization = config.authorization.as_ref();
    let target = HttpTarget { url, headers, wire, pinned: pinned(config), authorization };
    match HttpUpstream::new(pool, &target) {
        Ok(upstream) => Ok(Arc::new(upstream)),
        Err(why) => Err(unusable(config, &why)),
    }
}

fn pinned(config: &UpstreamConfig) -> Option<ProtocolVersion> {
    match config.era {
        Era::Auto => None,
        Era::Pinned(version) => Some(version),
    }
}

fn unusable(config: &UpstreamConfig, why: &str) -> CallError {
    let mut error =
        CallError::new(CallErrorKind::UpstreamUnreachable, format!("upstream {}: {why}", config.key));
    error.upstream = Some(config.key.clone());
    error
}

/// An MCP server as the engine sees it: introductions once, then any number of requests at a time.
pub trait Upstream: Send + Sync + 'static {
    /// Finds out era and version and what the server offers. Called before the first list, and again after an outage.
    fn introduce(&self, deadline: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>>;

    /// What the server says of itself in that era, where it speaks it beside the one that [`Upstream::introduce`] found;
    /// `None`: it does not. From then on requests whose [`CallContext::era`] names it are sent in it. Asked when the first
    /// caller of the other era shows up; may open a connection or a session for it.
    fn introduce_in(
        &self,
        era: mpe_mcp_protocol::version::Era,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Option<Introduction>, UpstreamError>> {
        let _ = (era, deadline);
        Box::pin(async { Ok(None) })
    }

    /// Sends one request and waits for its reply. Never sends it twice.
    ///
    /// Dropping the future cancels the request as the era demands.
    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>>;

    /// Changes the server announces, as long as the receiver is held. `None`: it cannot announce.
    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        None
    }

    /// Has [`Upstream::changes`] announce updates of exactly these resources, whatever was asked before, also after the
    /// session or the stream had to be made anew. Returns those that the server has agreed to by `deadline`.
    fn watch_resources(&self, uris: Vec<String>, deadline: Instant) -> BoxFuture<'_, Vec<String>> {
        let _ = (uris, deadline);
        Box::pin(async { Vec::new() })
    }

    /// The server does not run because nobody needs it, and a request would start it. It is not listed meanwhile.
    fn is_asleep(&self) -> bool {
        false
    }

    /// Ends sessions, streams and processes within the deadline.
    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        let _ = deadline;
        Box::pin(async {})
    }
}

/// What a server said of itself.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// The revision we will speak.
    pub version: ProtocolVersion,
    /// `capabilities`, as sent.
    pub capabilities: Arc<RawValue>,
    /// `serverInfo`, as sent.
    pub server_info: Option<Arc<RawValue>>,
    /// `instructions`.
    pub instructions: Option<Arc<str>>,
}

/// A request for an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// The MCP method.
    pub method: Cow<'static, str>,
    /// Its params, an object without `_meta`; `None` for none.
    pub params: Option<Box<RawValue>>,
    /// What `Mcp-Name` repeats of the params: the tool, prompt, URI or task. `None`: nothing, or it is read from them.
    pub name: Option<Arc<str>>,
    /// `Mcp-Param-*` headers a tool's `x-mcp-header` annotations demand: name without the prefix, plain value.
    pub mirrored: Vec<(String, String)>,
    /// What the caller declared and wants to hear.
    pub context: Arc<CallContext>,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// An upstream's reply.
#[derive(Clone, Debug)]
pub struct UpstreamReply {
    /// The result, or the upstream's own error.
    pub outcome: Result<Box<RawValue>, ErrorObject>,
    /// The HTTP version of the exchange; `None` where no HTTP was spoken.
    pub protocol: Option<Protocol>,
    /// Which of a server's addresses answered; `None` where it has one. As in [`CallContext::address`].
    pub address: Option<Arc<str>>,
}

/// Why there is no reply.
#[derive(Debug)]
pub struct UpstreamError {
    /// What went wrong: one of the `Upstream…`, `DeadlineExceeded`, `Overloaded` (no place on our side) or `ShuttingDown`
    /// kinds.
    pub kind: CallErrorKind,
    /// Whether the server may have seen the request.
    pub sent: Sent,
    /// One lower-case sentence, safe to show to the caller.
    pub message: String,
    /// How long the server asked us to wait.
    pub retry_after: Option<std::time::Duration>,
    /// The cause, for the log.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Something at the server changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The prompt list.
    Prompts,
    /// One resource, by URI.
    Resource(String),
    /// The resource list.
    Resources,
    /// The tool list.
    Tools,
}
