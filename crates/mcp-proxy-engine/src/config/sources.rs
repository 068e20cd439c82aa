//! Where further servers come from while the process runs: what a file says, and what the engine is given.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use mpe_engine::source::{GraphqlRegistry, McpRegistry, SourceConfig, SourceKind};
use mpe_transport::PoolConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Source;
use super::node::KeyPath;
use super::resolve::set;
use super::server::{parse_headers, parse_url, upstream};
use super::shape::{Endpoint, Server};
use super::values::{Count, Secret, Span};

/// A registry that is asked for servers again and again. A change is taken up without dropping a call; while it cannot be
/// asked, its last good list stays. `{endpoint_id}` stands for the endpoint's name in `url`, and, towards GraphQL, in
/// `headers` and in the texts of `variables`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSource {
    /// What it speaks.
    #[serde(rename = "type")]
    pub kind: RegistryKind,
    /// Its address: of the GraphQL service, or of the registry's list (`https://registry.example.com/v0.1/servers`).
    pub url: String,
    /// Sent with every question.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, Secret>,
    /// How long between one answer and the next question, a tenth shorter or longer. Default: 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long one answer may take, all of its pages together. Default: 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Servers taken from it; a longer list counts as a failure. Default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_servers: Option<Count>,
    /// At the top of the file: `/endpoints/{name}/` exists for every name, with the servers that this source lists for it.
    /// Default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// What its servers have in common: every key of a server but those that say where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Box<Server>>,

    // GraphQL.
    /// The query. One that uses `$pageNumber` is asked page by page, with `$limit` items on each. Default: the Python
    /// product's `mcpServerList`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Further variables of the query.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub variables: Map<String, Value>,
    /// JSON Pointer to the list within the answer. Default: `/data/mcpServerList/mcpServerList`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The member of an entry that names the server. Default: `mcpLabel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The member that is its address. Default: `mcpServerUrl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The member that holds its headers: an object, the same as a text of JSON, or a list of `name` and `value`.
    /// Default: `headers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_headers: Option<String>,

    // An MCP registry.
    /// The servers to take, by name (`io.github.user/weather`); `io.github.user/*` is a whole namespace. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// What servers want to be told (variables, headers, arguments, environment): by the input's name, or by
    /// `SERVER:INPUT` for one server alone. A server that cannot do without is left out.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub inputs: IndexMap<String, Secret>,
    /// Run servers that are packages (`npx`, `uvx`, `docker`): code that the registry names then runs on this machine.
    /// Default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub run_packages: bool,
}

/// What a registry speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryKind {
    /// GraphQL over HTTP: the Python product's `mcpServerList`, or any query that lists names and addresses.
    Graphql,
    /// The registry API of the MCP project: `server.json` documents.
    Registry,
}

impl RegistryKind {
    fn key(self) -> &'static str {
        match self {
            Self::Graphql => "graphql",
            Self::Registry => "registry",
        }
    }
}

impl Source {
    /// The sources of one endpoint, each with whether it makes endpoints on demand.
    pub(super) fn sources(
        &mut self,
        path: &KeyPath,
        tenant: &Endpoint,
        pool: &PoolConfig,
    ) -> Vec<(SourceConfig, bool)> {
        let path = path.key("sources");
        let mut sources = Vec::with_capacity(tenant.sources.len());
        for (name, source) in &tenant.sources {
            let path = path.key(name.as_str());
            let before = self.problems.len();
            self.check_source(&path, source);
            if self.problems.len() == before {
                sources.push((config(name, source, pool), source.on_demand));
            }
        }
        sources
    }

    fn check_source(&mut self, path: &KeyPath, source: &ServerSource) {
        if let Err(reason) = parse_url(&source.url.replace("{endpoint_id}", "endpoint")) {
            self.report(&path.key("url"), reason);
        }
        self.headers(&path.key("headers"), &source.headers);
        let keys = [
            ("query", RegistryKind::Graphql, source.query.is_some()),
            ("variables", RegistryKind::Graphql, !source.variables.is_empty()),
            ("list", RegistryKind::Graphql, source.list.is_some()),
            ("label", RegistryKind::Graphql, source.label.is_some()),
            ("address", RegistryKind::Graphql, source.address.is_some()),
            ("server_headers", RegistryKind::Graphql, source.server_headers.is_some()),
            ("only", RegistryKind::Registry, !source.only.is_empty()),
            ("inputs", RegistryKind::Registry, !source.inputs.is_empty()),
            ("run_packages", RegistryKind::Registry, source.run_packages),
        ];
        for (key, owner, given) in keys {
            if given && owner != source.kind {
                self.report(&path.key(key), format!("belongs to a source of type `{}`", owner.key()));
            }
        }
        if source.list.as_ref().is_some_and(|list| !list.starts_with('/')) {
            self.report(&path.key("list"), "expected a JSON Pointer such as `/data/servers`");
        }
        if let Some(server) = &source.defaults {
            let path = path.key("defaults");
            let given = [
                ("args", !server.args.is_empty()),
                ("auth", server.auth.is_some()),
                ("command", server.command.is_some()),
                ("cwd", server.cwd.is_some()),
                ("disabled", server.disabled),
                ("env", !server.env.is_empty()),
                ("h2c", server.h2c),
                ("headers", !server.headers.is_empty()),
                ("lambda", server.lambda.is_some()),
                ("type", server.kind.is_some()),
                ("url", server.url.is_some()),
                ("urls", !server.urls.is_empty()),
                ("ejection", server.ejection.is_some()),
            ];
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                self.report(&path.key(key), "is for one server alone; the source says where its servers are");
            }
            self.check_server_limits(&path, server);
            self.check_behaviour(&path, server);
        }
    }
}

fn config(name: &str, source: &ServerSource, pool: &PoolConfig) -> SourceConfig {
    let headers = parse_headers(&source.headers).unwrap_or_default();
    let kind = match source.kind {
        RegistryKind::Graphql => {
            let mut registry = GraphqlRegistry::new(name, source.url.as_str());
            registry.headers = headers;
            registry.variables.clone_from(&source.variables);
            for (target, given) in [
                (&mut registry.query, &source.query),
                (&mut registry.list, &source.list),
                (&mut registry.label, &source.label),
                (&mut registry.address, &source.address),
                (&mut registry.server_headers, &source.server_headers),
            ] {
                set(target, given.clone());
            }
            SourceKind::Graphql(registry)
        }
        RegistryKind::Registry => {
            let mut registry = McpRegistry::new(name, source.url.as_str());
            registry.headers = headers;
            registry.only.clone_from(&source.only);
            registry.run_packages = source.run_packages;
            let inputs = source.inputs.iter();
            let inputs: BTreeMap<_, _> =
                inputs.map(|(name, value)| (name.clone(), value.secret().clone())).collect();
            registry.inputs = inputs;
            SourceKind::Registry(registry)
        }
    };
    let mut config = SourceConfig::new(kind);
    set(&mut config.interval, source.interval.map(Span::get));
    set(&mut config.timeout, source.timeout.map(Span::get));
    set(&mut config.max_servers, source.max_servers.map(Count::get));
    let template = source.defaults.as_deref().cloned().unwrap_or_default();
    config.template = upstream("", config.template.target.clone(), &template, pool);
    config
}
