//! What an engine is built from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::Wire;
use secrecy::{ExposeSecret, SecretString};

use crate::breaker::BreakerConfig;
use crate::hedge::HedgeConfig;
use crate::retry::RetryConfig;
use crate::reuse::ReuseConfig;
use crate::source::SourceConfig;
use crate::upstream::{Authorization, Upstream};
use crate::{EndpointId, UpstreamKey};

/// One tenant: its servers and how their names are shown.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// The tenant's name.
    pub id: EndpointId,
    /// Its servers, in the order their tools are listed.
    pub upstreams: Vec<UpstreamConfig>,
    /// Where further servers come from; theirs are listed after those above. Default: nowhere.
    pub sources: Vec<SourceConfig>,
    /// How names are shown.
    pub naming: Naming,
    /// What it may use.
    pub limits: Limits,
}

/// How tool names of several servers are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// One server: untouched, and unlisted names are forwarded. Several: names that only one server has stay as they
    /// are, the others get `key_` in front.
    #[default]
    Auto,
    /// Always `key_name`.
    Prefix,
    /// Never; the first server in configuration order wins a name and the collision is reported.
    Plain,
}

/// What an endpoint or an upstream may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Calls in flight at once. Default: 1024.
    pub max_in_flight: usize,
    /// Calls waiting for their turn. Default: 4096.
    pub max_waiting: usize,
    /// Off: one call after the other, also within a batch (`enable_concurrent_requests`). Default: on.
    pub concurrent: bool,
    /// Calls of one batch. Default: 1000.
    pub max_batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_in_flight: 1024, max_waiting: 4096, concurrent: true, max_batch: 1000 }
    }
}

/// What one tool may use, beside what its upstream and the endpoint may.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolLimits {
    /// Calls in flight at once.
    pub max_in_flight: usize,
    /// Calls waiting for their turn. Default: 4096.
    pub max_waiting: usize,
}

impl ToolLimits {
    /// So many calls at once, and as many waiting as anywhere else.
    pub fn new(max_in_flight: usize) -> Self {
        Self { max_in_flight, max_waiting: Limits::default().max_waiting }
    }
}

/// One upstream server.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// The operator's key.
    pub key: UpstreamKey,
    /// Where it is.
    pub target: Target,
    /// How long a call may take when the caller names no deadline. Default: 30 s.
    pub timeout: Duration,
    /// How often tools are listed anew. Default: 60 s.
    pub refresh: Duration,
    /// Which era to speak. Default: found out.
    pub era: Era,
    /// How the engine gets tokens for an HTTP server (OAuth 2.1). Default: it gets none.
    pub authorization: Option<Authorization>,
    /// Trust the server's `readOnlyHint` and `idempotentHint` for retries. Default: yes.
    pub trust_annotations: bool,
    /// Exposed original names; empty: all. Default: all.
    pub allow: Vec<String>,
    /// Hidden original names. Default: none.
    pub deny: Vec<String>,
    /// What is shown differently, by original name. `allow`, `deny` and `repeatable` mean original names too. Default: none.
    pub overrides: BTreeMap<String, ToolOverride>,
    /// Original names of tools that may run twice whatever the server says of them. Default: none.
    pub repeatable: Vec<String>,
    /// Whether its lists depend on what a client declares. Default: found out, where that costs little.
    pub lists: Lists,
    /// What it may use.
    pub limits: Limits,
    /// What single tools may use, by original name. Default: as much as the upstream.
    pub tool_limits: BTreeMap<String, ToolLimits>,
    /// How often and how quickly calls are sent again.
    pub retry: RetryConfig,
    /// When it counts as down.
    pub breaker: BreakerConfig,
    /// When one of its addresses is left out, where it has several.
    pub ejection: EjectionConfig,
    /// Which answers are used more than once. Default: none.
    pub reuse: ReuseConfig,
    /// When a server that is a child process runs.
    pub process: ProcessConfig,
    /// When calls of read-only tools are made a second time because the first takes long. Default: never.
    pub hedge: Option<HedgeConfig>,
    /// Hold every result against its tool's `outputSchema` before it is handed on, and say in the outcome what is wrong
    /// with it ([`ToolOutcome::violations`](crate::ToolOutcome::violations)). Default: no, a few are looked at in the
    /// background and counted.
    pub check_outputs: bool,
}

/// Whether a server's lists depend on the capabilities that a client declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lists {
    /// They may, unless the server says that they are `public`: it is listed once more for each set of capabilities that
    /// clients declare. Not so a child process, which a legacy server would have to start once more for each set, unless
    /// it is the only server and lists no tool to clients that declare nothing.
    #[default]
    Auto,
    /// They do.
    PerClient,
    /// Every client sees what one sees that declares nothing.
    Shared,
}

/// When a child process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessConfig {
    /// What starts it. Default: the engine.
    pub start: Start,
    /// It is stopped when no call has used it for so long, and nobody waits for updates of its resources; the next call
    /// starts it again. Its tools stay listed meanwhile. Default: never.
    pub idle_stop: Option<Duration>,
}

/// What starts a child process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The engine's start, and its regular listing after the process has ended by itself.
    #[default]
    Eager,
    /// A call. Listing starts it only while nothing is known of what it offers, and leaves it running for 5 s.
    OnDemand,
}

/// When one of several addresses of a server is left out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EjectionConfig {
    /// Failures in a row (transport errors, 5xx and the like, JSON-RPC errors that blame the server) until then; 0: never.
    /// The last address is never left out. Default: 5.
    pub failures: u32,
    /// How long it is left out at least; doubled whenever it still does not answer. Default: 1 s.
    pub first_pause: Duration,
    /// No pause is longer. Default: 30 s.
    pub max_pause: Duration,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self { failures: 5, first_pause: Duration::from_secs(1), max_pause: Duration::from_secs(30) }
    }
}

/// How a tool is shown instead of how its server describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolOverride {
    /// Its name, before names of several servers are kept apart. The original name leads nowhere then.
    pub name: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Its description.
    pub description: Option<String>,
}

/// The era to speak with an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Era {
    /// Ask `server/discover` first, then `initialize`.
    #[default]
    Auto,
    /// This revision. A legacy one is what we ask for: the server may answer with an older one, which is then spoken.
    Pinned(ProtocolVersion),
}

/// Where an upstream server is.
#[derive(Clone)]
#[non_exhaustive]
pub enum Target {
    /// The same Streamable HTTP server at several addresses: calls are balanced by load.
    Balanced {
        /// Absolute `http` or `https` URLs.
        urls: Vec<http::Uri>,
        /// Sent with every request, to each of them; values are secrets. None of [`RESERVED_HEADERS`].
        headers: Vec<(http::HeaderName, SecretString)>,
        /// Which HTTP to speak.
        wire: Wire,
    },
    /// Somebody else's implementation (a Lambda function, a test).
    Custom(Arc<dyn Upstream>),
    /// A Streamable HTTP endpoint.
    Http {
        /// Absolute `http` or `https` URL.
        url: http::Uri,
        /// Sent with every request; values are secrets. None of [`RESERVED_HEADERS`].
        headers: Vec<(http::HeaderName, SecretString)>,
        /// Which HTTP to speak.
        wire: Wire,
    },
    /// A child process speaking over its pipes.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Added to a scrubbed environment; values are secrets.
        env: Vec<(String, SecretString)>,
        /// Where it runs; `None`: here.
        cwd: Option<std::path::PathBuf>,
    },
}

/// Headers that no operator, registry or embedder sets: the engine does so itself, or HTTP/2 forbids them (RFC 9113 §8.2.2).
/// Lower case, sorted.
pub const RESERVED_HEADERS: &[&str] = &[
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Equal when they lead to the same place in the same way; somebody else's implementation equals only itself.
impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Balanced { urls, headers, wire },
                Self::Balanced { urls: other_urls, headers: other_headers, wire: other_wire },
            ) => urls == other_urls && wire == other_wire && is_same(headers, other_headers),
            (Self::Custom(a), Self::Custom(b)) => Arc::ptr_eq(a, b),
            (
                Self::Http { url, headers, wire },
                Self::Http { url: other_url, headers: other_headers, wire: other_wire },
            ) => url == other_url && wire == other_wire && is_same(headers, other_headers),
            (
                Self::Stdio { command, args, env, cwd },
                Self::Stdio { command: other_command, args: other_args, env: other_env, cwd: other_cwd },
            ) => {
                command == other_command && args == other_args && cwd == other_cwd && is_same(env, other_env)
            }
            _ => false,
        }
    }
}

pub(crate) fn is_same<N: PartialEq>(ours: &[(N, SecretString)], theirs: &[(N, SecretString)]) -> bool {
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|((name, secret), (other_name, other_secret))| {
            name == other_name && secret.expose_secret() == other_secret.expose_secret()
        })
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Balanced { urls, wire, .. } => {
                f.debug_struct("Balanced").field("urls", urls).field("wire", wire).finish_non_exhaustive()
            }
            Self::Custom(_) => f.write_str("Custom"),
            Self::Http { url, wire, .. } => {
                f.debug_struct("Http").field("url", url).field("wire", wire).finish_non_exhaustive()
            }
            Self::Stdio { command, args, .. } => {
                f.debug_struct("Stdio").field("command", command).field("args", args).finish_non_exhaustive()
            }
        }
    }
}

impl UpstreamConfig {
    /// An upstream with every default.
    pub fn new(key: impl Into<Arc<str>>, target: Target) -> Self {
        Self {
            key: UpstreamKey::new(key),
            target,
            timeout: Duration::from_secs(30),
            refresh: Duration::from_secs(60),
            era: Era::Auto,
            authorization: None,
            trust_annotations: true,
            allow: Vec::new(),
            deny: Vec::new(),
            overrides: BTreeMap::new(),
            repeatable: Vec::new(),
            lists: Lists::Auto,
            limits: Limits::default(),
            tool_limits: BTreeMap::new(),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
            ejection: EjectionConfig::default(),
            reuse: ReuseConfig::default(),
            process: ProcessConfig::default(),
            hedge: None,
            check_outputs: false,
        }
    }
}

impl EndpointConfig {
    /// An endpoint with every default.
    pub fn new(id: EndpointId, upstreams: Vec<UpstreamConfig>) -> Self {
        Self { id, upstreams, sources: Vec::new(), naming: Naming::default(), limits: Limits::default() }
    }
}
