//! What a gateway is built from.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mpe_engine::EndpointId;
use mpe_schema::ResponseMapping;
use mpe_schema::openapi::DocumentInfo;

use crate::{Replicas, percent};

/// How one tenant looks from outside.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Title, version and servers of its documents.
    pub info: DocumentInfo,
    /// Paths the operator mapped.
    pub mappings: Vec<ResponseMapping>,
}

/// What a gateway is built from.
#[derive(Clone)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// How each tenant looks at first ([`Gateway::show`](crate::Gateway::show) changes it); a tenant without an entry looks as the
    /// default one.
    pub endpoints: HashMap<EndpointId, EndpointView>,
    /// The tenant at the root of every face; the others are under `/endpoints/{endpoint_id}`. Default:
    /// [`EndpointId::default`].
    pub default_endpoint: EndpointId,
    /// Bytes of a request body. Default: 4 MiB.
    pub max_body_bytes: usize,
    /// Requests under way at once; more get 503. Default: 4096.
    pub max_requests: usize,
    /// Open connections; more wait in the listener's backlog. Default: 10 000.
    pub max_connections: usize,
    /// Open listening streams (`subscriptions/listen`, the legacy GET stream); more get 503. Default: 1024.
    pub max_listeners: usize,
    /// Calls of one batch. Default: 1000.
    pub max_batch: usize,
    /// How long the head of a request may take. Default: 15 s.
    pub header_timeout: Duration,
    /// How long the body of a request may take. Default: 30 s.
    pub body_timeout: Duration,
    /// How long a client may leave what is ready for it unread, on its connection or on one HTTP/2 stream; after that the
    /// connection is closed, or the stream reset. Default: 60 s.
    pub write_timeout: Duration,
    /// How long an MCP answer may wait for its first message before the stream is opened and kept alive. Until
    /// then the HTTP status is still open. Default: 5 s.
    pub hold_head: Duration,
    /// The pause after which a quiet stream gets a comment line. Default: 15 s.
    pub keep_alive: Duration,
    /// Bytes kept of the streams of legacy calls, over all of them, so that a client that loses one can take it up again
    /// with `Last-Event-ID`. `None`: nothing is kept; a client that loses its stream loses the answer. Default: `None`.
    pub resume_buffer: Option<usize>,
    /// With [`resume_buffer`](Self::resume_buffer): the stream of a legacy call is closed after this time, and its client
    /// comes back for the rest, so that a long call holds no connection. It is opened after this time at the latest,
    /// whatever [`hold_head`](Self::hold_head) says. `None`: it stays open. Default: `None`.
    pub poll_after: Option<Duration>,
    /// Items on one page of an MCP list. Default: 1000, so that clients that read one page only lose little.
    pub page_size: usize,
    /// How long a legacy session's token is good. Default: 24 h.
    pub session_lifetime: Duration,
    /// How long a caller may take to answer what a tool asked for. Default: 10 min.
    pub input_lifetime: Duration,
    /// The secret that session tokens, cursors and request states are sealed with; give every replica the same, of
    /// at least 16 random bytes. `None`: fresh randomness, so that tokens end with the process.
    pub secret: Option<Arc<[u8]>>,
    /// The other replicas, for a balancer without sticky sessions. `None`: this one is alone, or clients that meet the wrong
    /// one begin anew.
    pub replicas: Option<Replicas>,
    /// `Host` values accepted beside loopback names; empty: any when bound to a public address.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values accepted beside loopback ones; they also get the CORS headers. `*`: any.
    pub allowed_origins: Vec<String>,
    /// How long a drain may take. Default: 30 s.
    pub drain: Duration,
    /// Check arguments of known tools over MCP too. Default: no.
    pub check_mcp_arguments: bool,
    /// Over which of the other faces arguments are checked before a call.
    pub checks: ArgumentChecks,
    /// Renders `/metrics`; `None`: 404.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

/// Over which faces arguments are held against the tool's `inputSchema` before a call. On AWS Lambda they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArgumentChecks {
    /// `/batch` and `/plan`. Default: yes.
    pub batch: bool,
    /// What a vendor's model emitted. Default: yes.
    pub functions: bool,
    /// GraphQL. Default: yes.
    pub graphql: bool,
    /// REST. Default: yes.
    pub rest: bool,
}

impl Default for ArgumentChecks {
    fn default() -> Self {
        Self { batch: true, functions: true, graphql: true, rest: true }
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            endpoints: HashMap::new(),
            default_endpoint: EndpointId::default(),
            max_body_bytes: 4 << 20,
            max_requests: 4096,
            max_connections: 10_000,
            max_listeners: 1024,
            max_batch: 1000,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            hold_head: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
            resume_buffer: None,
            poll_after: None,
            page_size: 1000,
            session_lifetime: Duration::from_secs(24 * 60 * 60),
            input_lifetime: Duration::from_secs(10 * 60),
            secret: None,
            replicas: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            drain: Duration::from_secs(30),
            check_mcp_arguments: false,
            checks: ArgumentChecks::default(),
            metrics: None,
        }
    }
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("endpoints", &self.endpoints)
            .field("max_body_bytes", &self.max_body_bytes)
            .field("max_requests", &self.max_requests)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("allowed_origins", &self.allowed_origins)
            .finish_non_exhaustive()
    }
}

/// How every tenant looks, at one moment.
#[derive(Debug)]
pub(crate) struct Looks {
    pub(crate) endpoints: HashMap<EndpointId, EndpointView>,
    pub(crate) default_endpoint: EndpointId,
}

impl Looks {
    /// How a tenant looks: its entry, else that of the default endpoint (a tenant made on demand has none of its own),
    /// else an API at `/` under our own name.
    ///
    /// Where it is reached follows from where the default endpoint is, unless its own entry says so.
    pub(crate) fn of(&self, endpoint: &EndpointId) -> EndpointView {
        let own = self.endpoints.get(endpoint);
        let root = self.endpoints.get(&self.default_endpoint);
        let mut view = own.or(root).cloned().unwrap_or_else(|| EndpointView {
            info: DocumentInfo::new("MCP Proxy Engine", env!("CARGO_PKG_VERSION")),
            mappings: Vec::new(),
        });
        if *endpoint != self.default_endpoint && own.is_none_or(|own| own.info.servers.is_empty()) {
            view.info.servers = below(root, endpoint);
        }
        view
    }
}

/// The servers of the root with the endpoint's path after them; the path alone when the root names none.
fn below(root: Option<&EndpointView>, endpoint: &EndpointId) -> Vec<(String, Option<String>)> {
    let path = format!("/endpoints/{}", percent::encode(endpoint.as_str()));
    match root.map(|root| root.info.servers.as_slice()) {
        None | Some([]) => vec![(path, None)],
        Some(servers) => servers
            .iter()
            .map(|(url, description)| (format!("{}{path}", url.trim_end_matches('/')), description.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use mpe_engine::EndpointId;
    use mpe_schema::openapi::DocumentInfo;

    use super::{EndpointView, Looks};

    fn view(servers: &[&str]) -> EndpointView {
        let info = DocumentInfo {
            servers: servers.iter().map(|url| ((*url).to_owned(), None)).collect(),
            ..DocumentInfo::new("T", "1")
        };
        EndpointView { info, mappings: Vec::new() }
    }

    fn servers(root: &[&str], own: Option<&[&str]>, endpoint: &str) -> Vec<String> {
        let mut endpoints = std::collections::HashMap::from([(EndpointId::default(), view(root))]);
        if let Some(own) = own {
            endpoints.insert(EndpointId::new(endpoint), view(own));
        }
        let looks = Looks { endpoints, default_endpoint: EndpointId::default() };
        looks.of(&EndpointId::new(endpoint)).info.servers.into_iter().map(|(url, _)| url).collect()
    }

    #[test]
    fn an_endpoint_is_reached_below_the_root_unless_it_says_where() {
        assert_eq!(servers(&[], None, "a b"), ["/endpoints/a%20b"]);
        assert_eq!(servers(&[], Some(&[]), "a"), ["/endpoints/a"]);
        assert_eq!(servers(&["https://h/x/"], None, "a"), ["https://h/x/endpoints/a"]);
        assert_eq!(servers(&["https://h"], Some(&["https://a.h"]), "a"), ["https://a.h"]);
        assert_eq!(servers(&["https://h"], None, EndpointId::default().as_str()), ["https://h"]);
    }
}
