//! Servers from an MCP registry: `server.json` documents, listed page by page (modelcontextprotocol/registry, "Generic
//! Registry API", `GET /v0.1/servers`; server.json of 2025-12-11).

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use http::{HeaderName, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::fetch::Fetcher;
use super::{MAX_PAGES, SourceError, Sourced, UpstreamSource, filled, parse_url, too_many_pages};
use crate::{EndpointId, UpstreamConfig};

mod server;

/// A registry of `server.json` documents. `{endpoint_id}` in its address is replaced by the endpoint's name.
#[derive(Clone)]
#[non_exhaustive]
pub struct McpRegistry {
    /// How it is called in logs and reports.
    pub name: String,
    /// The address of its list, such as `https://registry.example.com/v0.1/servers`; a document that is one `server.json`
    /// or a list of them will do too.
    pub url: String,
    /// Sent with every question; values are secrets.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// The servers to take, by name (`io.github.user/weather`); `io.github.user/*` is a whole namespace. Empty: all.
    /// Default: all.
    pub only: Vec<String>,
    /// What servers want to be told (variables of addresses, headers, arguments, environment): by the input's name, or
    /// by `SERVER:INPUT` for one server alone. Default: nothing; a server that cannot do without is left out.
    pub inputs: BTreeMap<String, SecretString>,
    /// Run servers that are packages (`npx`, `uvx`, `docker`): code that the registry names then runs on this machine.
    /// Default: no.
    pub run_packages: bool,
}

impl McpRegistry {
    /// The registry whose list is at that address.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            headers: Vec::new(),
            only: Vec::new(),
            inputs: BTreeMap::new(),
            run_packages: false,
        }
    }

    fn wants(&self, server: &str) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(namespace) => server.starts_with(namespace),
                None => server == wanted,
            })
    }

    /// What the operator says an input of a server is.
    fn input(&self, server: &str, input: &str) -> Option<&str> {
        let own = self.inputs.get(&format!("{server}:{input}"));
        own.or_else(|| self.inputs.get(input)).map(ExposeSecret::expose_secret)
    }
}

impl PartialEq for McpRegistry {
    fn eq(&self, other: &Self) -> bool {
        let Self { name, url, headers, only, inputs, run_packages } = self;
        let is_same_input =
            |((name, value), (other_name, other_value)): (
                (&String, &SecretString),
                (&String, &SecretString),
            )| name == other_name && value.expose_secret() == other_value.expose_secret();
        *name == other.name
            && *url == other.url
            && crate::config::is_same(headers, &other.headers)
            && *only == other.only
            && inputs.len() == other.inputs.len()
            && inputs.iter().zip(&other.inputs).all(is_same_input)
            && *run_packages == other.run_packages
    }
}

impl std::fmt::Debug for McpRegistry {
    /// Without headers and inputs: they hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpRegistry")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("only", &self.only)
            .field("run_packages", &self.run_packages)
            .finish_non_exhaustive()
    }
}

/// The registry while it is being asked.
pub(super) struct Asked {
    registry: McpRegistry,
    template: UpstreamConfig,
    fetcher: Fetcher,
}

#[derive(Deserialize)]
struct List {
    servers: Vec<Value>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "nextCursor", alias = "next_cursor", default)]
    next_cursor: Option<String>,
}

impl Asked {
    pub(super) fn new(registry: McpRegistry, template: UpstreamConfig, fetcher: Fetcher) -> Self {
        Self { registry, template, fetcher }
    }

    async fn ask(&self, endpoint: &EndpointId, deadline: Instant) -> Result<Sourced, SourceError> {
        let base = filled(&self.registry.url, endpoint);
        let mut entries = Entries::default();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let uri = page(&base, cursor.as_deref()).map_err(SourceError)?;
            let answer = self.fetcher.get(&uri, &self.registry.headers, deadline).await?;
            let next = entries.add(answer)?;
            if next.is_none() || next == cursor {
                return Ok(self.read(entries));
            }
            cursor = next;
        }
        Err(too_many_pages())
    }

    fn read(&self, entries: Entries) -> Sourced {
        let mut sourced = Sourced::default();
        for (name, document) in entries.servers {
            if !self.registry.wants(&name) {
                continue;
            }
            match server::upstream(&self.registry, &self.template, &name, &document) {
                Ok(upstream) => sourced.upstreams.push(upstream),
                Err(reason) => sourced.left_out.push((name, reason)),
            }
        }
        sourced
    }
}

impl UpstreamSource for Asked {
    fn name(&self) -> &str {
        &self.registry.name
    }

    fn upstreams<'a>(
        &'a self,
        endpoint: &'a EndpointId,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Sourced, SourceError>> {
        Box::pin(self.ask(endpoint, deadline))
    }
}

/// The address of one page. Only the newest version of each server is wanted.
fn page(base: &str, cursor: Option<&str>) -> Result<Uri, String> {
    parse_url(base)?;
    let mut url = base.to_owned();
    let mut add = |name: &str, value: &str| {
        // An operator's own query is kept, and wins.
        if !url.contains(&format!("?{name}=")) && !url.contains(&format!("&{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            value.bytes().for_each(|byte| encode(&mut url, byte));
        }
    };
    add("version", "latest");
    add("limit", "100");
    if let Some(cursor) = cursor {
        add("cursor", cursor);
    }
    parse_url(&url)
}

/// One byte of a query's value (RFC 3986 §2.3).
fn encode(url: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        url.push(char::from(byte));
    } else {
        url.push_str(&format!("%{byte:02X}"));
    }
}

/// The documents that a registry lists, one of each name, in its order.
#[derive(Default)]
struct Entries {
    servers: Vec<(String, Value)>,
    /// Where each name is, and whether that one is marked as the newest.
    places: std::collections::HashMap<String, (usize, bool)>,
}

impl Entries {
    /// Adds one page. Returns the cursor of the next.
    fn add(&mut self, answer: Value) -> Result<Option<String>, SourceError> {
        let is_list = answer.get("servers").is_some();
        let (servers, next) = match answer {
            Value::Array(servers) => (servers, None),
            answer if is_list => {
                let List { servers, metadata } = serde_json::from_value(answer)
                    .map_err(|error| SourceError(format!("its answer is no list of servers: {error}")))?;
                (servers, metadata.next_cursor.filter(|cursor| !cursor.is_empty()))
            }
            answer if answer.get("name").is_some() => (vec![answer], None),
            _ => return Err(SourceError("its answer is no list of servers".to_owned())),
        };
        servers.into_iter().for_each(|entry| self.add_server(entry));
        Ok(next)
    }

    fn add_server(&mut self, mut entry: Value) {
        let official = entry.pointer("/_meta/io.modelcontextprotocol.registry~1official");
        let says = |member: &str| official.and_then(|official| official.get(member));
        if says("status").and_then(Value::as_str) == Some("deleted") {
            return;
        }
        let is_latest = says("isLatest").and_then(Value::as_bool);
        let document = match entry.get_mut("server") {
            Some(server) => server.take(),
            None => entry,
        };
        let name = document.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        match self.places.get(&name) {
            // Two versions of one server: the one that is marked, else the one that was listed first.
            Some(&(place, is_marked)) => {
                if is_latest == Some(true) && !is_marked {
                    self.servers[place].1 = document;
                    self.places.insert(name, (place, true));
                }
            }
            None => {
                self.places.insert(name.clone(), (self.servers.len(), is_latest == Some(true)));
                self.servers.push((name, document));
            }
        }
    }
}
