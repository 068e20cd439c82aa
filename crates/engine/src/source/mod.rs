//! Where servers come from while the engine runs: registries that are asked again and again.
//!
//! A source is polled at an interval. What it lists stands beside the servers that the endpoint's configuration names; a
//! change is taken up as a reload is, without dropping a call. A source that fails changes nothing: its last good list
//! stays, and the reason stands in [`SourceStatus`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_transport::Pool;
use tokio::time::Instant;

use crate::{EndpointId, RESERVED_HEADERS, UpstreamConfig};

pub(crate) mod feed;
mod fetch;
mod graphql;
mod registry;

pub use graphql::GraphqlRegistry;
pub use registry::McpRegistry;

/// A place that knows servers.
pub trait UpstreamSource: Send + Sync + 'static {
    /// How it is called in logs and reports. No secret.
    fn name(&self) -> &str;

    /// Every server of an endpoint at this moment, by `deadline`. The list replaces the one before it.
    ///
    /// # Errors
    /// The list cannot be had. The last good one stays.
    fn upstreams<'a>(
        &'a self,
        endpoint: &'a EndpointId,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Sourced, SourceError>>;

    /// Resolves when the source knows that its list has changed: it is asked at once then. Default: never, only the
    /// interval counts. Dropped and called again at any time.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// What a source lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sourced {
    /// The servers, in the order their tools are listed. A key that the endpoint has already is left out.
    pub upstreams: Vec<UpstreamConfig>,
    /// Entries that cannot be used, each with the reason.
    pub left_out: Vec<(String, String)>,
}

/// Why a list cannot be had: one lower-case sentence, safe to show to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError(pub String);

impl std::fmt::Display for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SourceError {}

/// A source and how often it is asked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SourceConfig {
    /// Which source.
    pub kind: SourceKind,
    /// How long between one answer and the next question, a tenth shorter or longer. A failing source is asked after 1 s
    /// at first, then more and more rarely up to this. Default: 60 s.
    pub interval: Duration,
    /// How long one answer may take, all of its pages together. Default: 10 s.
    pub timeout: Duration,
    /// Servers taken from it, at most: a list that is longer counts as a failure. Default: 1000.
    pub max_servers: usize,
    /// The options of its servers: everything but key and target. Not used by [`SourceKind::Custom`], whose servers come
    /// complete. Default: the defaults.
    pub template: UpstreamConfig,
}

/// The sources there are.
#[derive(Clone)]
#[non_exhaustive]
pub enum SourceKind {
    /// Somebody else's.
    Custom(Arc<dyn UpstreamSource>),
    /// A GraphQL service that answers the Python product's `mcpServerList`.
    Graphql(GraphqlRegistry),
    /// A registry of `server.json` documents.
    Registry(McpRegistry),
}

/// Equal when they ask the same place the same question; somebody else's source equals only itself.
impl PartialEq for SourceKind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Custom(a), Self::Custom(b)) => Arc::ptr_eq(a, b),
            (Self::Graphql(a), Self::Graphql(b)) => a == b,
            (Self::Registry(a), Self::Registry(b)) => a == b,
            _ => false,
        }
    }
}

impl std::fmt::Debug for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Custom(source) => f.debug_tuple("Custom").field(&source.name()).finish(),
            Self::Graphql(registry) => registry.fmt(f),
            Self::Registry(registry) => registry.fmt(f),
        }
    }
}

impl SourceConfig {
    /// A source with every default.
    pub fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            max_servers: 1000,
            template: UpstreamConfig::new("", nowhere()),
        }
    }

    /// How it is called in logs and reports.
    pub fn name(&self) -> &str {
        match &self.kind {
            SourceKind::Custom(source) => source.name(),
            SourceKind::Graphql(registry) => &registry.name,
            SourceKind::Registry(registry) => &registry.name,
        }
    }

    /// Whether asking needs the engine's connection pool.
    pub(crate) fn is_remote(&self) -> bool {
        !matches!(self.kind, SourceKind::Custom(_))
    }

    /// The source itself. `pool` is there where [`SourceConfig::is_remote`] says so.
    pub(crate) fn connect(&self, pool: Option<&Pool>) -> Arc<dyn UpstreamSource> {
        let remote = || fetch::Fetcher::new(pool.expect("a remote source was given a pool").clone());
        match &self.kind {
            SourceKind::Custom(source) => Arc::clone(source),
            SourceKind::Graphql(registry) => {
                Arc::new(graphql::Asked::new(registry.clone(), self.template.clone(), remote()))
            }
            SourceKind::Registry(registry) => {
                Arc::new(registry::Asked::new(registry.clone(), self.template.clone(), remote()))
            }
        }
    }
}

/// How a source of an endpoint stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: SourceState,
    /// How many servers it brings in now.
    pub servers: usize,
    /// Entries that are not used, each with the reason.
    pub left_out: Vec<(String, String)>,
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// The last question failed; servers of an earlier answer are still used.
    Failing {
        /// Why.
        error: String,
    },
    /// The last question was answered.
    Good,
    /// It has not been answered yet.
    Waiting,
}

/// Pages of one answer, at most.
const MAX_PAGES: usize = 200;

fn too_many_pages() -> SourceError {
    SourceError(format!("it lists more than {MAX_PAGES} pages"))
}

/// The text with the endpoint's name in place of `{endpoint_id}`.
fn filled(text: &str, endpoint: &EndpointId) -> String {
    text.replace("{endpoint_id}", endpoint.as_str())
}

/// The target of a template, which leads nowhere.
fn nowhere() -> crate::Target {
    crate::Target::Stdio { command: String::new(), args: Vec::new(), env: Vec::new(), cwd: None }
}

/// A copy of the template under another key and target.
fn like(template: &UpstreamConfig, key: &str, target: crate::Target) -> UpstreamConfig {
    UpstreamConfig { key: crate::UpstreamKey::new(key), target, ..template.clone() }
}

/// What a key must be, so that it can stand in front of names and in messages.
///
/// # Errors
/// One sentence.
fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        return Err(format!(
            "its name must have 1 to {MAX_KEY} characters, none of them a control character"
        ));
    }
    Ok(())
}

/// Bytes of a key, at most: those of a name in a registry.
const MAX_KEY: usize = 200;

/// An absolute `http` or `https` address without credentials.
///
/// # Errors
/// One sentence that does not repeat the address.
fn parse_url(url: &str) -> Result<http::Uri, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("its address is none: {error}"))?;
    let Some(authority) = uri.authority() else { return Err("its address has no host".to_owned()) };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("its address is neither `http` nor `https`".to_owned());
    }
    if authority.as_str().contains('@') {
        return Err("its address holds credentials; they belong into a header".to_owned());
    }
    Ok(uri)
}

/// A header that a server wants sent.
///
/// # Errors
/// One sentence that does not repeat the value.
fn parse_header(name: &str, value: &str) -> Result<(http::HeaderName, secrecy::SecretString), String> {
    let name = http::HeaderName::try_from(name).map_err(|_| format!("`{name}` cannot name a header"))?;
    if RESERVED_HEADERS.contains(&name.as_str()) {
        return Err(format!("the header `{name}` is set by the engine alone"));
    }
    http::HeaderValue::from_str(value)
        .map_err(|_| format!("the value of `{name}` cannot stand in a header"))?;
    Ok((name, secrecy::SecretString::from(value.to_owned())))
}

#[cfg(test)]
mod tests;
