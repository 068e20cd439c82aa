//! The configuration as a file spells it: a superset of the Python product's `setting` and of desktop clients'
//! `mcpServers`.

use std::net::SocketAddr;
use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::ServerAuth;
use super::behaviour::{Ejection, Hedge, Reuse, ToolOptions};
use super::sources::ServerSource;
use super::values::{Count, Secret, Size, Span};

/// A whole configuration: how the process behaves, and what the default endpoint is.
///
/// Every key may be left out. In strings, `${VARIABLE}` and `${VARIABLE:-default}` are replaced from the environment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "MCP Proxy Engine configuration")]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The JSON Schema of this file, for editors. Not read.
    #[serde(rename = "$schema", skip_serializing)]
    pub schema: Option<String>,

    // The default endpoint.
    /// `info.title` of the OpenAPI document. Default: `MCP Proxy Engine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// `info.version` of the OpenAPI document. Default: `1.0.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `info.description` of the OpenAPI document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `servers` of the OpenAPI document: where *this* API is reached. The MCP servers behind it stand in `mcp_servers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ApiServer>,
    /// `securitySchemes` of the OpenAPI document, by name: how callers of *this* API prove who they are to what stands in
    /// front of it. Each is a Security Scheme Object of the type `apiKey`, `http`, `oauth2` or `openIdConnect`. Default:
    /// none. Nothing is checked here.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub security_schemes: IndexMap<String, serde_json::Value>,
    /// `security` of the OpenAPI document: alternatives, each a table of scheme names with their scopes. Default: any one
    /// of `security_schemes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Vec<IndexMap<String, Vec<String>>>>,
    /// The default endpoint's name: the one at the root of every face. Default: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<String>,
    /// Paths under which tools are served, with the schema of their response: `/get_user/{user_id}` is a GET, a path
    /// without variables a POST. The first segment is the tool's name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub response_mappings: IndexMap<String, serde_json::Value>,
    /// One more MCP server, by the Python product's spelling; it becomes the server `internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_mcp: Option<InternalMcp>,
    /// The MCP servers, in the order in which their tools are listed. `mcpServers` of desktop clients is the same.
    #[serde(alias = "mcpServers", skip_serializing_if = "IndexMap::is_empty")]
    pub mcp_servers: IndexMap<String, Server>,
    /// Registries that name further servers, by names of your choice. Their tools are listed after those above.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub sources: IndexMap<String, ServerSource>,
    /// How tool names of several servers are kept apart.
    pub naming: Naming,
    /// What may go on at once.
    pub limits: Limits,

    // Amazon Web Services, for Lambda functions as servers.
    /// The AWS region. Default: what the environment says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region_name: Option<String>,
    /// The AWS access key. Default: the environment's credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_access_key_id: Option<Secret>,
    /// The AWS secret key. Default: the environment's credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_secret_access_key: Option<Secret>,
    /// The AWS session token of temporary credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_session_token: Option<Secret>,

    // Every endpoint.
    /// Further endpoints (tenants) by name, each under `/endpoints/{name}/`.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub endpoints: IndexMap<String, Endpoint>,
    /// How connections to servers are made and kept.
    pub http2_config: Http2Config,
    /// Whom to trust and who we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    // The HTTP face.
    /// Where to listen. Default: `127.0.0.1:8080`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// `Host` values accepted beside loopback names. Empty: any, when bound to a public address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// `Origin` values accepted beside loopback ones, for web pages elsewhere; `*` is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// What session tokens, cursors and request states are sealed with: at least 16 random bytes, the same for every
    /// replica. Default: fresh randomness, so that they end with the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_secret: Option<Secret>,
    /// The other replicas behind the same balancer, so that it needs no sticky sessions. Needs `session_secret`. Default:
    /// this one is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Replicas>,
    /// Check the arguments of known tools over MCP too. Default: no, the server's own answer is what an MCP client
    /// expects.
    pub check_mcp_arguments: bool,
    /// Over which of the other faces arguments are checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_arguments: Option<Checks>,
    /// Patience and page sizes of the HTTP face.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFace>,
    /// How long a stop waits for what is under way. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Span>,
    /// The folder that logins at servers are kept in, relative to this file. Default: `mcp-proxy-engine/logins` in the
    /// account's folder for state (`XDG_STATE_HOME`, else `~/.local/state`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_store: Option<PathBuf>,
    /// The folder that the last good catalogue of each endpoint of this file is kept in, relative to it: the next start
    /// lists those tools, as stale, until their servers have answered. Holds names and schemas, no addresses and no
    /// secrets. Default: none, every start begins with nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue_store: Option<PathBuf>,
    /// What is logged, to standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// Record metrics and serve them at `/metrics`. Default: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
}

impl Config {
    /// Whether metrics are recorded.
    pub fn records_metrics(&self) -> bool {
        self.metrics.unwrap_or(true)
    }
}

/// A further endpoint: a tenant with its own servers, names, documents and limits.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// As at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// As at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// As at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As at the top.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ApiServer>,
    /// As at the top.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub security_schemes: IndexMap<String, serde_json::Value>,
    /// As at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Vec<IndexMap<String, Vec<String>>>>,
    /// As at the top.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub response_mappings: IndexMap<String, serde_json::Value>,
    /// As at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_mcp: Option<InternalMcp>,
    /// As at the top.
    #[serde(alias = "mcpServers", skip_serializing_if = "IndexMap::is_empty")]
    pub mcp_servers: IndexMap<String, Server>,
    /// As at the top.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub sources: IndexMap<String, ServerSource>,
    /// As at the top.
    pub naming: Naming,
    /// As at the top, but for those that belong to the HTTP face.
    pub limits: Limits,
}

/// One `servers` entry of the OpenAPI document.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiServer {
    /// Its URL.
    pub url: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The Python product's internal MCP server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InternalMcp {
    /// Its URL; `{endpoint_id}` stands for the endpoint's name.
    pub base_url: String,
    /// At the top of the file, with `{endpoint_id}` in `base_url`: `/endpoints/{name}/` exists for every name, with this
    /// server as its only one. Default: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<bool>,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// Sent with every request.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, Secret>,
}

/// One MCP server: an address, a command to run, or a Lambda function.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    // As desktop clients spell it.
    /// Its Streamable HTTP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its addresses, where it has several: calls are balanced by load, and an address that keeps failing is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Sent with every request.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, Secret>,
    /// How to get tokens for it (OAuth 2.1). Default: those of a login, once somebody has run `login`; none where `headers`
    /// hold an `Authorization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<ServerAuth>,
    /// How it is reached. Default: by whichever of `url` and `command` is there.
    #[serde(rename = "type", alias = "transport", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServerKind>,
    /// The program to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Added to its scrubbed environment.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub env: IndexMap<String, Secret>,
    /// Where it runs. Default: here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// What starts the program. Default: `eager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Stop the program when no call has used it for so long, and nobody waits for updates of its resources; the next
    /// call starts it again. Its tools stay listed meanwhile. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_stop: Option<Span>,
    /// The AWS Lambda function that it is. Credentials and region stand at the top of the file, or in the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<LambdaFunction>,
    /// Leave it out. Default: no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,

    // Ours.
    /// Speak HTTP/2 without TLS (prior knowledge); `http` addresses only. Default: HTTP/1.1 there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub h2c: bool,
    /// The protocol revision to speak, with callers of either era. Default: found out; an HTTP server that speaks both eras is spoken to in each caller's own.
    pub era: Era,
    /// How long a call may take when the caller names no deadline. Default: `http2_config.request_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How often its tools are listed anew. Default: 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Span>,
    /// The tools to show, by the server's own names. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// The tools to hide, by the server's own names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Believe the server's `readOnlyHint` and `idempotentHint` when a failed call might be repeated. Default: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_annotations: Option<bool>,
    /// Tools that may run twice whatever the server says of them, by the server's own names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repeatable: Vec<String>,
    /// How often and how quickly failed calls are sent again, where they may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When the server counts as down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// What may go on at once with this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What is different about single tools, by the server's own names.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub tools: IndexMap<String, ToolOptions>,
    /// Which answers of read-only tools are used more than once. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
    /// When slow calls of read-only tools are made a second time. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// When one of `urls` is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// Whether its lists depend on what a client declares that it can do. Default: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<ListsMode>,
    /// Hold every result against its tool's `outputSchema` before it is handed on. Either way it is handed on as it is;
    /// what breaks the schema is counted. Default: no, a few are looked at in the background.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check_outputs: bool,
}

/// Whether a server's lists depend on the capabilities that a client declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListsMode {
    /// They may, unless the server calls them public: it is listed once for each set of capabilities. Not so a child
    /// process, unless it is the only server and shows no tool to clients that declare nothing.
    Auto,
    /// They do. A child process of the legacy era is started once for each set of capabilities.
    PerClient,
    /// Every client sees what one sees that declares nothing.
    Shared,
}

/// An AWS Lambda function that is an MCP server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LambdaFunction {
    /// Its name, ARN or partial ARN.
    pub function: String,
    /// Its version or alias. Default: `$LATEST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// Its region. Default: `region_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another address than AWS's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
}

/// How often and how quickly failed calls are sent again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts of one call, the first included; 1 turns retries off. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<Count>,
    /// The longest pause before the second attempt; doubled for each further one. None before the second attempt of a
    /// request that the server left unread. Default: 100 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_pause: Option<Span>,
    /// No pause is drawn from a longer range. Default: 2 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pause: Option<Span>,
    /// Retries at once, beyond those that calls earn. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Count>,
    /// Calls that earn one further retry. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_retry: Option<Count>,
}

/// When a server counts as down, so that calls fail at once instead of waiting for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Off: it never counts as down. Default: on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Failures in a row until then. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<Count>,
    /// How long it is left alone at first; doubled whenever it still does not answer. Default: 1 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_pause: Option<Span>,
    /// It is never left alone for longer. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pause: Option<Span>,
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerKind {
    /// Streamable HTTP.
    #[serde(alias = "streamable-http", alias = "streamableHttp", alias = "streamable_http")]
    Http,
    /// The HTTP+SSE transport of 2024-11-05.
    Sse,
    /// A child process speaking over its pipes.
    Stdio,
}

/// What starts a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The engine does, and again when the program has ended: for the next call, or for the next look at its tools.
    Eager,
    /// A call does. To learn its tools it is started once, and stopped after 5 s without a call.
    #[serde(alias = "on_demand")]
    OnDemand,
}

/// Which protocol revision to speak with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Era {
    /// Found out: `server/discover` first, then `initialize`.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 2025-11-25, the newest with `initialize`.
    #[serde(rename = "legacy")]
    Legacy,
    /// 2026-07-28.
    #[serde(rename = "modern")]
    Modern,
    /// This revision and no other.
    #[serde(rename = "2024-11-05")]
    V2024_11_05,
    /// This revision and no other.
    #[serde(rename = "2025-03-26")]
    V2025_03_26,
    /// This revision and no other.
    #[serde(rename = "2025-06-18")]
    V2025_06_18,
    /// This revision and no other.
    #[serde(rename = "2025-11-25")]
    V2025_11_25,
    /// This revision and no other.
    #[serde(rename = "2026-07-28")]
    V2026_07_28,
}

/// How tool names of several servers are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// One server: untouched. Several: names that only one server has stay, the others get `key_` in front.
    #[default]
    Auto,
    /// Never changed; the first server in the file wins a name.
    Plain,
    /// Always `key_name`.
    Prefix,
}

/// What may go on at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls in flight. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<Count>,
    /// Calls waiting for their turn; more are refused at once. Default: 4096.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<Count>,
    /// Calls of one batch. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch: Option<Count>,
    /// Bytes of a request's body (top level only). Default: 4 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Size>,
    /// Requests under way at once over every face (top level only). Default: 4096.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<Count>,
    /// Open connections to the HTTP face (top level only). Default: 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<Count>,
    /// Open streams of clients that wait for changes (top level only). Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_listeners: Option<Count>,
}

/// The replicas of one deployment. What only one of them can answer (a session's listening stream, a call that waits for
/// its client's answer) is forwarded to it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// This one's name: 1 to 64 letters, digits, `_`, `-` or `.`, such as `${HOSTNAME}`.
    pub name: String,
    /// Where the others reach each replica, by its name: `http://10.0.0.7:8080`. Its own entry is not used, so that all can
    /// have the same table.
    pub peers: IndexMap<String, String>,
}

/// Over which faces arguments are held against the tool's `inputSchema` before a call; what breaks it is listed whole. On AWS
/// Lambda they are the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// REST. Default: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<bool>,
    /// GraphQL. Default: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graphql: Option<bool>,
    /// `/batch` and `/plan`. Default: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
    /// What a vendor's model emitted. Default: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<bool>,
}

/// Patience and page sizes of the HTTP face.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpFace {
    /// How long the head of a request may take. Default: 15 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_timeout: Option<Span>,
    /// How long the body of a request may take. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_timeout: Option<Span>,
    /// How long a client may leave unread what is ready for it, before its connection or its HTTP/2 stream is cut. Default:
    /// 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout: Option<Span>,
    /// How long an MCP answer may wait for its first message before its stream is opened. Default: 5 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_head: Option<Span>,
    /// The pause after which a quiet stream gets a comment line. Default: 15 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Span>,
    /// Bytes kept of the streams of calls by clients of 2025-11-25, over all of them, so that one that breaks can be taken up
    /// again (`Last-Event-ID`). Default: nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_buffer: Option<Size>,
    /// With `resume_buffer`: open such a stream after this time at the latest, close it after this time again, and let its
    /// client come back for the rest, so that long calls hold no connections. Default: it stays open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_after: Option<Span>,
    /// Items on one page of an MCP list. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<Count>,
    /// How long a legacy session's token is good. Default: 24 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_lifetime: Option<Span>,
    /// How long a caller may take to answer what a tool asked for. Default: 10 min.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_lifetime: Option<Span>,
}

/// The Python product's connection options, and the limits it lacked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http2Config {
    /// A starting point for the other options; each of them still wins where it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Offer HTTP/2. Default: yes; `false` forces HTTP/1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_http2: Option<bool>,
    /// Open connections over all servers, at most. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<Count>,
    /// Idle connections kept, at most; those over it were in use within the last second. 0: none at all. Default: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keepalive_connections: Option<Count>,
    /// How long an idle connection is kept. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_expiry: Option<Span>,
    /// How long a request may take. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Span>,
    /// Many calls at once. Default: yes; `false` makes one call after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_concurrent_requests: Option<bool>,
    /// How long one connection attempt may take, TLS included. Default: 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span>,
    /// Calls on one HTTP/2 connection at once, at most. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_streams: Option<Count>,
    /// Calls that may wait for a connection, at most. Default: 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<Count>,
    /// Bytes of a server's answer, at most. Default: 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_response: Option<Size>,
}

/// The Python product's three presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// 50 connections, 10 idle for 15 s, 60 s a request, one call at a time.
    Conservative,
    /// 200 connections, 50 idle for 60 s, 10 s a request.
    #[serde(alias = "high_throughput")]
    HighThroughput,
    /// 20 connections, 5 idle for 10 s, 30 s a request.
    #[serde(alias = "lambda")]
    Serverless,
}

/// Whom to trust and who we are. Paths are relative to the configuration file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM files with further root certificates, beside the platform's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_roots: Vec<PathBuf>,
    /// PEM file with our client certificate and its chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// PEM file with the client certificate's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
}

/// What is logged.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as `info,mpe_engine=debug`. Default:
    /// `warn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Default: text.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}
