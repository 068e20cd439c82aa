//! Servers from a GraphQL service: the Python product's `mcpServerList`, or any query whose answer holds a list of labels,
//! addresses and headers.

use futures_util::future::BoxFuture;
use http::{HeaderName, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::fetch::Fetcher;
use super::{
    MAX_PAGES, SourceError, Sourced, UpstreamSource, check_key, filled, like, parse_header, parse_url,
    too_many_pages,
};
use crate::{EndpointId, Target, UpstreamConfig};

/// A GraphQL service that lists servers. `{endpoint_id}` in its address, its headers and the strings of its variables is
/// replaced by the endpoint's name.
#[derive(Clone)]
#[non_exhaustive]
pub struct GraphqlRegistry {
    /// How it is called in logs and reports.
    pub name: String,
    /// Where it is: an `http` or `https` address.
    pub url: String,
    /// Sent with every question; values are secrets.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// The query. One that uses `$pageNumber` is asked page by page, with `$limit` items on each. Default:
    /// [`GraphqlRegistry::QUERY`].
    pub query: String,
    /// Further variables. Default: none.
    pub variables: Map<String, Value>,
    /// JSON Pointer to the list within the answer. Default: `/data/mcpServerList/mcpServerList`.
    pub list: String,
    /// The member of an entry that names the server. Default: `mcpLabel`.
    pub label: String,
    /// The member that is its address. Default: `mcpServerUrl`.
    pub address: String,
    /// The member that holds its headers: an object, the same as a string of JSON, or a list of `name` and `value`.
    /// Default: `headers`.
    pub server_headers: String,
}

impl GraphqlRegistry {
    /// The Python product's query.
    pub const QUERY: &str = "query mcpServerList($pageNumber: Int, $limit: Int) { \
        mcpServerList(pageNumber: $pageNumber, limit: $limit) { \
        mcpServerList { mcpLabel mcpServerUrl headers } pageNumber pageSize total } }";

    /// The service at that address, asked as the Python product asks.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            headers: Vec::new(),
            query: Self::QUERY.to_owned(),
            variables: Map::new(),
            list: "/data/mcpServerList/mcpServerList".to_owned(),
            label: "mcpLabel".to_owned(),
            address: "mcpServerUrl".to_owned(),
            server_headers: "headers".to_owned(),
        }
    }
}

impl PartialEq for GraphqlRegistry {
    fn eq(&self, other: &Self) -> bool {
        let Self { name, url, headers, query, variables, list, label, address, server_headers } = self;
        *name == other.name
            && *url == other.url
            && crate::config::is_same(headers, &other.headers)
            && *query == other.query
            && *variables == other.variables
            && *list == other.list
            && *label == other.label
            && *address == other.address
            && *server_headers == other.server_headers
    }
}

impl std::fmt::Debug for GraphqlRegistry {
    /// Without headers and variables: they hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphqlRegistry")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Items on one page.
const PAGE: usize = 100;

/// The registry while it is being asked.
pub(super) struct Asked {
    registry: GraphqlRegistry,
    template: UpstreamConfig,
    fetcher: Fetcher,
}

impl Asked {
    pub(super) fn new(registry: GraphqlRegistry, template: UpstreamConfig, fetcher: Fetcher) -> Self {
        Self { registry, template, fetcher }
    }

    async fn ask(&self, endpoint: &EndpointId, deadline: Instant) -> Result<Sourced, SourceError> {
        let registry = &self.registry;
        let uri = parse_url(&filled(&registry.url, endpoint)).map_err(SourceError)?;
        let headers: Vec<_> = registry
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), SecretString::from(filled(value.expose_secret(), endpoint))))
            .collect();
        let is_paged = registry.query.contains("$pageNumber");
        let mut sourced = Sourced::default();
        let mut seen = 0;
        for page in 1..=MAX_PAGES {
            let answer = self.page(&uri, &headers, is_paged.then_some(page), endpoint, deadline).await?;
            let entries = list(&answer, &registry.list)?;
            for entry in entries {
                self.read(entry, &mut sourced);
            }
            seen += entries.len();
            let total = total(&answer, &registry.list);
            let is_last = entries.is_empty() || total.map_or(entries.len() < PAGE, |total| seen >= total);
            if !is_paged || is_last {
                return Ok(sourced);
            }
        }
        Err(too_many_pages())
    }

    async fn page(
        &self,
        uri: &Uri,
        headers: &[(HeaderName, SecretString)],
        page: Option<usize>,
        endpoint: &EndpointId,
        deadline: Instant,
    ) -> Result<Value, SourceError> {
        let mut variables = self.registry.variables.clone();
        variables.values_mut().for_each(|value| fill(value, endpoint));
        if let Some(page) = page {
            variables.insert("pageNumber".to_owned(), json!(page));
            variables.entry("limit").or_insert(json!(PAGE));
        }
        let body = json!({ "query": self.registry.query, "variables": variables });
        let answer = self.fetcher.post(uri, headers, &body, deadline).await?;
        let errors = answer.get("errors").and_then(Value::as_array).filter(|errors| !errors.is_empty());
        if let Some(errors) = errors {
            let message = errors[0].get("message").and_then(Value::as_str).unwrap_or("no reason given");
            let message: String = message.chars().take(200).collect();
            return Err(SourceError(format!("the query is refused: {message}")));
        }
        Ok(answer)
    }

    fn read(&self, entry: &Value, sourced: &mut Sourced) {
        let registry = &self.registry;
        let label = entry.get(&registry.label).and_then(Value::as_str).unwrap_or_default();
        match self.upstream(label, entry) {
            Ok(upstream) => sourced.upstreams.push(upstream),
            Err(reason) => sourced.left_out.push((label.to_owned(), reason)),
        }
    }

    fn upstream(&self, label: &str, entry: &Value) -> Result<UpstreamConfig, String> {
        let registry = &self.registry;
        if label.is_empty() {
            return Err(format!("it has no `{}`", registry.label));
        }
        check_key(label)?;
        let address = entry.get(&registry.address).and_then(Value::as_str);
        let url = parse_url(address.ok_or_else(|| format!("it has no `{}`", registry.address))?)?;
        let headers = headers(entry.get(&registry.server_headers))?;
        Ok(like(&self.template, label, Target::Http { url, headers, wire: mpe_transport::Wire::Auto }))
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

/// Replaces the endpoint's name in every string.
fn fill(value: &mut Value, endpoint: &EndpointId) {
    match value {
        Value::String(text) => *text = filled(text, endpoint),
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, endpoint)),
        Value::Object(members) => members.values_mut().for_each(|value| fill(value, endpoint)),
        _ => {}
    }
}

fn list<'a>(answer: &'a Value, pointer: &str) -> Result<&'a [Value], SourceError> {
    match answer.pointer(pointer) {
        Some(Value::Array(entries)) => Ok(entries),
        Some(Value::Null) => Ok(&[]),
        Some(_) => Err(SourceError(format!("what its answer has at {pointer} is no list"))),
        None => Err(SourceError(format!("its answer has nothing at {pointer}"))),
    }
}

/// `total` beside the list.
fn total(answer: &Value, pointer: &str) -> Option<usize> {
    let (parent, _) = pointer.rsplit_once('/')?;
    usize::try_from(answer.pointer(parent)?.get("total")?.as_u64()?).ok()
}

fn headers(value: Option<&Value>) -> Result<Vec<(HeaderName, SecretString)>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => {
            let value: Value = serde_json::from_str(text).map_err(|_| NO_HEADERS.to_owned())?;
            if value.is_string() { Err(NO_HEADERS.to_owned()) } else { headers(Some(&value)) }
        }
        Some(Value::Object(members)) => members
            .iter()
            .map(|(name, value)| parse_header(name, value.as_str().ok_or_else(|| NO_HEADERS.to_owned())?))
            .collect(),
        Some(Value::Array(pairs)) => pairs
            .iter()
            .map(|pair| {
                let member = |name: &str| pair.get(name).and_then(Value::as_str);
                let (name, value) =
                    member("name").zip(member("value")).ok_or_else(|| NO_HEADERS.to_owned())?;
                parse_header(name, value)
            })
            .collect(),
        Some(_) => Err(NO_HEADERS.to_owned()),
    }
}

const NO_HEADERS: &str = "its headers are neither an object of strings nor a list of `name` and `value`";
