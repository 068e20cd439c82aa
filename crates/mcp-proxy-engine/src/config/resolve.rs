//! From what a file says to what engine and gateway are built from.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};
use indexmap::IndexMap;
use mpe_engine::{EndpointConfig, EndpointId, Target, UpstreamConfig};
use mpe_gateway::{EndpointView, GatewayConfig};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_schema::openapi::DocumentInfo;
use mpe_schema::{PathTemplate, ResponseMapping};
use mpe_transport::{PoolConfig, TlsConfig, Wire};
use serde_json::{Value, json};

use super::node::KeyPath;
use super::problem::ConfigError;
use super::shape::{
    ApiServer, Breaker, Config, Endpoint, Era, Http2Config, InternalMcp, Limits, Log, Naming, Preset, Retry,
    Server, ServerKind, Tls,
};
use super::values::{Count, Secret, Size, Span};
use super::{Source, default_listen};

/// A configuration that makes sense: everything that engine, gateway and process are built from.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Where to listen. Default: `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Every endpoint, the one at the root first.
    pub endpoints: Vec<EndpointConfig>,
    /// How connections are made and kept.
    pub pool: PoolConfig,
    /// Whom to trust and who we are.
    pub tls: TlsConfig,
    /// The HTTP face.
    pub gateway: GatewayConfig,
    /// What is logged.
    pub log: Log,
}

/// The server made of `internal_mcp`.
const INTERNAL: &str = "internal";

/// Bytes of `session_secret`, at least: 128 bits, as the gateway asks.
const SHORTEST_SECRET: usize = 16;

/// Limits that belong to the HTTP face, not to an endpoint or a server.
fn face_limits(limits: &Limits) -> [(&'static str, bool); 4] {
    [
        ("max_body", limits.max_body.is_some()),
        ("max_connections", limits.max_connections.is_some()),
        ("max_listeners", limits.max_listeners.is_some()),
        ("max_requests", limits.max_requests.is_some()),
    ]
}

/// Header names that the engine sets itself, or that HTTP/2 forbids (RFC 9113 §8.2.2).
const RESERVED_HEADERS: [&str; 16] = [
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

impl Settings {
    /// What is odd but works: one sentence each.
    pub fn notices(&self) -> Vec<String> {
        let root = &self.gateway.default_endpoint;
        let has_others = self.endpoints.len() > 1;
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.upstreams.is_empty() && !(has_others && endpoint.id == *root))
            .map(|endpoint| format!("the endpoint `{}` has no server: it will show no tools", endpoint.id))
            .collect()
    }
}

impl Source {
    /// What engine and gateway are built from.
    ///
    /// # Errors
    /// Every problem of the configuration, of form and of meaning, in the order of the file.
    pub fn settings(mut self) -> Result<Settings, ConfigError> {
        let config = std::mem::take(&mut self.config);
        let settings = self.resolve(&config);
        if self.problems.is_empty() { Ok(settings) } else { Err(ConfigError::new(self.problems)) }
    }

    fn resolve(&mut self, config: &Config) -> Settings {
        let root = KeyPath::default();
        let root_id = config.endpoint_id.clone().unwrap_or_else(|| EndpointId::default().to_string());
        self.check_endpoint_id(&root.key("endpoint_id"), &root_id);
        let pool = pool(&config.http2_config);
        let concurrent = concurrent(&config.http2_config);

        let mut endpoints = Vec::new();
        let mut gateway = self.gateway(config);
        gateway.default_endpoint = EndpointId::new(root_id.as_str());
        let tenants = std::iter::once((root.clone(), root_id.clone(), root_tenant(config))).chain(
            config
                .endpoints
                .iter()
                .map(|(id, tenant)| (root.key("endpoints").key(id.as_str()), id.clone(), tenant.clone())),
        );
        for (path, name, tenant) in tenants {
            let is_root = path == root;
            if !is_root {
                self.check_endpoint_id(&path, &name);
                if name == root_id {
                    self.report(
                        &path,
                        "this is the default endpoint's name; give its settings at the top of the file",
                    );
                }
                for (key, given) in face_limits(&tenant.limits) {
                    if given {
                        self.report(
                            &path.key("limits").key(key),
                            "belongs to the HTTP face, not to an endpoint; move it to `limits` at the top of the file",
                        );
                    }
                }
            }
            let id = EndpointId::new(name.as_str());
            let upstreams = self.upstreams(&path, &tenant, &name, &pool);
            let mut endpoint = EndpointConfig::new(id.clone(), upstreams);
            endpoint.naming = naming(tenant.naming);
            endpoint.limits = limits(&tenant.limits, concurrent);
            endpoints.push(endpoint);
            let view = self.view(&path, &tenant);
            gateway.endpoints.insert(id, view);
        }
        Settings {
            listen: config.listen.unwrap_or_else(default_listen),
            endpoints,
            pool,
            tls: config.tls.as_ref().map(|tls| self.tls(tls)).unwrap_or_default(),
            gateway,
            log: self.log(config.log.as_ref()),
        }
    }

    fn gateway(&mut self, config: &Config) -> GatewayConfig {
        let mut gateway = GatewayConfig::default();
        if let Some(size) = config.limits.max_body {
            gateway.max_body_bytes = usize::try_from(size.get()).unwrap_or(usize::MAX);
        }
        set(&mut gateway.max_requests, config.limits.max_requests.map(Count::get));
        set(&mut gateway.max_connections, config.limits.max_connections.map(Count::get));
        set(&mut gateway.max_listeners, config.limits.max_listeners.map(Count::get));
        set(&mut gateway.max_batch, config.limits.max_batch.map(Count::get));
        gateway.secret = self.secret(config.session_secret.as_ref());
        set(&mut gateway.drain, config.drain.map(Span::get));
        gateway.check_mcp_arguments = config.check_mcp_arguments;
        gateway.allowed_hosts.clone_from(&config.allowed_hosts);
        gateway.allowed_origins.clone_from(&config.allowed_origins);
        for (index, origin) in config.allowed_origins.iter().enumerate() {
            let is_origin = origin == "*"
                || origin.parse::<Uri>().is_ok_and(|uri| {
                    uri.scheme().is_some()
                        && uri.authority().is_some()
                        && uri.path() == "/"
                        && !origin.ends_with('/')
                });
            if !is_origin {
                self.report(
                    &KeyPath::of(["allowed_origins"]).index(index),
                    "expected an origin such as `https://app.example.com`: a scheme and a host, no path",
                );
            }
        }
        for (index, host) in config.allowed_hosts.iter().enumerate() {
            if host.is_empty() || host.contains('/') || host.contains(char::is_whitespace) {
                self.report(
                    &KeyPath::of(["allowed_hosts"]).index(index),
                    "expected a host name such as `mcp.example.com` or `mcp.example.com:8080`, no scheme and no path",
                );
            }
        }
        gateway
    }

    fn secret(&mut self, secret: Option<&Secret>) -> Option<Arc<[u8]>> {
        let bytes = secret?.expose().as_bytes();
        if bytes.len() < SHORTEST_SECRET {
            self.report(
                &KeyPath::of(["session_secret"]),
                format!(
                    "expected at least {SHORTEST_SECRET} random bytes, such as `openssl rand -hex 32` prints"
                ),
            );
        }
        Some(bytes.into())
    }

    fn check_endpoint_id(&mut self, path: &KeyPath, id: &str) {
        let is_segment = !id.is_empty()
            && id.len() <= 64
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~'))
            && !id.chars().all(|c| c == '.');
        if !is_segment {
            self.report(
                path,
                "an endpoint's name becomes part of its URL: expected 1 to 64 letters, digits, `_`, `-`, `.` or `~`",
            );
        }
    }

    fn view(&mut self, path: &KeyPath, tenant: &Endpoint) -> EndpointView {
        let mut mappings = Vec::with_capacity(tenant.response_mappings.len());
        for (template, response) in &tenant.response_mappings {
            match PathTemplate::parse(template) {
                Ok(template) => mappings.push(ResponseMapping { path: template, response: response.clone() }),
                Err(error) => self.report(
                    &path.key("response_mappings").key(template.as_str()),
                    format!("not a path template such as `/get_user/{{user_id}}`: {error}"),
                ),
            }
        }
        EndpointView {
            info: DocumentInfo {
                title: tenant.title.clone().unwrap_or_else(|| "MCP Proxy Engine".to_owned()),
                version: tenant.version.clone().unwrap_or_else(|| "1.0.0".to_owned()),
                description: tenant.description.clone(),
                servers: tenant
                    .servers
                    .iter()
                    .map(|ApiServer { url, description }| (url.clone(), description.clone()))
                    .collect(),
            },
            mappings,
        }
    }

    fn upstreams(
        &mut self,
        path: &KeyPath,
        tenant: &Endpoint,
        name: &str,
        pool: &PoolConfig,
    ) -> Vec<UpstreamConfig> {
        let here = self.spelled(path, ["mcp_servers", "mcpServers"]);
        let mut upstreams = Vec::with_capacity(tenant.mcp_servers.len() + 1);
        for (key, server) in &tenant.mcp_servers {
            let path = here.key(key.as_str());
            self.check_server_key(&path, key);
            let target = self.target(&path, server);
            let (Some(target), false) = (target, server.disabled) else {
                continue;
            };
            upstreams.push(upstream(key, target, server, pool));
        }
        if let Some(internal) = &tenant.internal_mcp {
            let path = path.key("internal_mcp");
            if tenant.mcp_servers.contains_key(INTERNAL) {
                self.report(
                    &path,
                    format!("becomes the server `{INTERNAL}`, which `mcp_servers` has already"),
                );
            }
            let server = internal_server(internal, name);
            // The keys of an internal server are spelled differently; everything else is the same.
            let url = server.url.as_deref().unwrap_or_default();
            let url = self.url(&path.key("base_url"), url, false);
            let headers = self.headers(&path.key("headers"), &server.headers);
            if let (Some(url), Some(headers)) = (url, headers) {
                let target = Target::Http { url, headers, wire: Wire::Auto };
                upstreams.push(upstream(INTERNAL, target, &server, pool));
            }
        }
        upstreams
    }

    fn check_server_key(&mut self, path: &KeyPath, key: &str) {
        if key.is_empty() || key.len() > 64 || key.chars().any(char::is_control) {
            self.report(path, "a server's name has 1 to 64 characters, none of them a control character");
        }
    }

    fn target(&mut self, path: &KeyPath, server: &Server) -> Option<Target> {
        let before = self.problems.len();
        if let Some(limits) = &server.limits {
            let batch = ("max_batch", limits.max_batch.is_some());
            for (key, given) in std::iter::once(batch).chain(face_limits(limits)) {
                if given {
                    self.report(
                        &path.key("limits").key(key),
                        "is no limit of a server; move it to `limits` further out",
                    );
                }
            }
        }
        let is_command = match (&server.url, &server.command) {
            (Some(_), Some(_)) => {
                self.report(
                    path,
                    "has both `url` and `command`; keep the one by which the server is reached",
                );
                return None;
            }
            (None, None) => {
                self.report(
                    path,
                    "lacks an address: expected `url` (Streamable HTTP) or `command` (a child process)",
                );
                return None;
            }
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        match server.kind {
            Some(ServerKind::Stdio) if !is_command => {
                self.report(
                    &self.spelled(path, ["type", "transport"]),
                    "`stdio` needs a `command`, not a `url`",
                );
            }
            Some(ServerKind::Http | ServerKind::Sse) if is_command => {
                self.report(
                    &self.spelled(path, ["type", "transport"]),
                    "`http` and `sse` need a `url`, not a `command`",
                );
            }
            _ => {}
        }
        let misplaced: &[(&str, bool)] = if is_command {
            &[("headers", !server.headers.is_empty()), ("h2c", server.h2c)]
        } else {
            &[
                ("args", !server.args.is_empty()),
                ("cwd", server.cwd.is_some()),
                ("env", !server.env.is_empty()),
            ]
        };
        let other = if is_command { "url" } else { "command" };
        for (key, given) in misplaced {
            if *given {
                self.report(&path.key(*key), format!("belongs to a server with a `{other}`"));
            }
        }
        let target = if is_command { self.command(path, server) } else { self.address(path, server) };
        target.filter(|_| self.problems.len() == before)
    }

    fn command(&mut self, path: &KeyPath, server: &Server) -> Option<Target> {
        let command = server.command.clone()?;
        if command.trim().is_empty() {
            self.report(&path.key("command"), "expected a program, found nothing");
            return None;
        }
        Some(Target::Stdio {
            command,
            args: server.args.clone(),
            env: server.env.iter().map(|(name, value)| (name.clone(), value.secret().clone())).collect(),
            cwd: server.cwd.as_ref().map(|cwd| self.base.join(cwd)),
        })
    }

    fn address(&mut self, path: &KeyPath, server: &Server) -> Option<Target> {
        let url = self.url(&path.key("url"), server.url.as_deref()?, server.h2c);
        let headers = self.headers(&path.key("headers"), &server.headers);
        let wire = if server.h2c { Wire::H2c } else { Wire::Auto };
        Some(Target::Http { url: url?, headers: headers?, wire })
    }

    fn url(&mut self, path: &KeyPath, url: &str, is_h2c: bool) -> Option<Uri> {
        match parse_url(url) {
            Ok(uri) if is_h2c && uri.scheme_str() == Some("https") => {
                self.report(path, "`h2c` is HTTP/2 without TLS: expected an `http://` address, or no `h2c`");
                None
            }
            Ok(uri) => Some(uri),
            Err(reason) => {
                self.report(path, reason);
                None
            }
        }
    }

    fn headers(
        &mut self,
        path: &KeyPath,
        headers: &IndexMap<String, Secret>,
    ) -> Option<Vec<(HeaderName, secrecy::SecretString)>> {
        let before = self.problems.len();
        let mut valid = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            match check_header(name, value.expose()) {
                Ok(header) => valid.push((header, value.secret().clone())),
                Err(reason) => self.report(&path.key(name.as_str()), reason),
            }
        }
        (self.problems.len() == before).then_some(valid)
    }

    fn tls(&mut self, tls: &Tls) -> TlsConfig {
        let path = KeyPath::of(["tls"]);
        let mut config = TlsConfig::default();
        for (index, file) in tls.extra_roots.iter().enumerate() {
            let pem = self.pem(&path.key("extra_roots").index(index), file);
            config.extra_roots_pem.extend(pem);
        }
        match (&tls.client_certificate, &tls.client_key) {
            (Some(certificate), Some(key)) => {
                let certificate = self.pem(&path.key("client_certificate"), certificate);
                let key = self.pem(&path.key("client_key"), key);
                config.client_identity_pem = certificate.zip(key);
            }
            (Some(_), None) => self.report(&path, "`client_certificate` needs its `client_key`"),
            (None, Some(_)) => self.report(&path, "`client_key` needs its `client_certificate`"),
            (None, None) => {}
        }
        config
    }

    fn pem(&mut self, path: &KeyPath, file: &Path) -> Option<Vec<u8>> {
        let file = self.base.join(file);
        match std::fs::read(&file) {
            Ok(bytes) if bytes.windows(11).any(|window| window == b"-----BEGIN ") => Some(bytes),
            Ok(_) => {
                self.report(
                    path,
                    format!("{} is no PEM file: it has no `-----BEGIN …` line", file.display()),
                );
                None
            }
            Err(error) => {
                self.report(path, format!("{} cannot be read: {error}", file.display()));
                None
            }
        }
    }

    fn log(&mut self, log: Option<&Log>) -> Log {
        let log = log.cloned().unwrap_or_default();
        if let Some(filter) = &log.filter
            && let Err(error) = tracing_subscriber::EnvFilter::try_new(filter)
        {
            self.report(
                &KeyPath::of(["log", "filter"]),
                format!("not a level or a list of directives such as `info,mpe_engine=debug`: {error}"),
            );
        }
        log
    }

    /// The path of the spelling that the file uses; the first one if it uses none.
    fn spelled(&self, path: &KeyPath, spellings: [&str; 2]) -> KeyPath {
        let second = path.key(spellings[1]);
        let parent = self.tree.locate(path);
        let is_second = self.tree.has(&second) && parent <= self.tree.locate(&second);
        if is_second { second } else { path.key(spellings[0]) }
    }
}

/// The default endpoint's share of a configuration.
fn root_tenant(config: &Config) -> Endpoint {
    Endpoint {
        title: config.title.clone(),
        version: config.version.clone(),
        description: config.description.clone(),
        servers: config.servers.clone(),
        response_mappings: config.response_mappings.clone(),
        internal_mcp: config.internal_mcp.clone(),
        mcp_servers: config.mcp_servers.clone(),
        naming: config.naming,
        limits: config.limits.clone(),
    }
}

fn internal_server(internal: &InternalMcp, endpoint: &str) -> Server {
    let mut headers = internal.headers.clone();
    if let Some(token) = &internal.bearer_token {
        headers.insert("authorization".to_owned(), Secret::new(format!("Bearer {}", token.expose())));
    }
    Server { url: Some(internal.base_url.replace("{endpoint_id}", endpoint)), headers, ..Server::default() }
}

fn upstream(key: &str, target: Target, server: &Server, pool: &PoolConfig) -> UpstreamConfig {
    let mut upstream = UpstreamConfig::new(key, target);
    upstream.timeout = server.timeout.map_or(pool.request_timeout, |span| span.get());
    set(&mut upstream.refresh, server.refresh.map(Span::get));
    upstream.era = era(server.era);
    set(&mut upstream.trust_annotations, server.trust_annotations);
    upstream.allow.clone_from(&server.allow);
    upstream.deny.clone_from(&server.deny);
    upstream.repeatable.clone_from(&server.repeatable);
    if let Some(given) = &server.retry {
        retry(&mut upstream.retry, given);
    }
    if let Some(given) = &server.breaker {
        breaker(&mut upstream.breaker, given);
    }
    if let Some(given) = &server.limits {
        upstream.limits = limits(given, true);
    }
    upstream
}

fn era(era: Era) -> mpe_engine::Era {
    mpe_engine::Era::Pinned(match era {
        Era::Auto => return mpe_engine::Era::Auto,
        Era::Legacy => ProtocolVersion::LATEST_LEGACY,
        Era::Modern => ProtocolVersion::LATEST,
        Era::V2024_11_05 => ProtocolVersion::V2024_11_05,
        Era::V2025_03_26 => ProtocolVersion::V2025_03_26,
        Era::V2025_06_18 => ProtocolVersion::V2025_06_18,
        Era::V2025_11_25 => ProtocolVersion::V2025_11_25,
        Era::V2026_07_28 => ProtocolVersion::V2026_07_28,
    })
}

fn naming(naming: Naming) -> mpe_engine::Naming {
    match naming {
        Naming::Auto => mpe_engine::Naming::Auto,
        Naming::Plain => mpe_engine::Naming::Plain,
        Naming::Prefix => mpe_engine::Naming::Prefix,
    }
}

fn limits(given: &Limits, concurrent: bool) -> mpe_engine::Limits {
    let mut limits = mpe_engine::Limits::default();
    limits.concurrent = concurrent;
    for (target, count) in [
        (&mut limits.max_in_flight, given.max_in_flight),
        (&mut limits.max_waiting, given.max_waiting),
        (&mut limits.max_batch, given.max_batch),
    ] {
        set(target, count.map(Count::get));
    }
    limits
}

fn retry(retry: &mut mpe_engine::RetryConfig, given: &Retry) {
    for (target, count) in [
        (&mut retry.max_attempts, given.max_attempts),
        (&mut retry.budget, given.budget),
        (&mut retry.calls_per_retry, given.calls_per_retry),
    ] {
        set(target, count.map(Count::small));
    }
    set(&mut retry.first_pause, given.first_pause.map(Span::get));
    set(&mut retry.max_pause, given.max_pause.map(Span::get));
}

fn breaker(breaker: &mut mpe_engine::BreakerConfig, given: &Breaker) {
    set(&mut breaker.failures, given.failures.map(Count::small));
    set(&mut breaker.first_pause, given.first_pause.map(Span::get));
    set(&mut breaker.max_pause, given.max_pause.map(Span::get));
    if given.enabled == Some(false) {
        breaker.failures = 0;
    }
}

/// Puts a given value in place of the default.
fn set<T>(target: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *target = given;
    }
}

fn pool(config: &Http2Config) -> PoolConfig {
    let mut pool = match config.preset {
        None => PoolConfig::default(),
        Some(Preset::Conservative) => PoolConfig::preset(mpe_transport::Preset::Conservative),
        Some(Preset::HighThroughput) => PoolConfig::preset(mpe_transport::Preset::HighThroughput),
        Some(Preset::Serverless) => PoolConfig::preset(mpe_transport::Preset::Serverless),
    };
    for (target, count) in [
        (&mut pool.max_connections, config.max_connections),
        (&mut pool.max_keepalive_connections, config.max_keepalive_connections),
        (&mut pool.max_streams, config.max_streams),
        (&mut pool.max_waiting, config.max_waiting),
    ] {
        set(target, count.map(Count::get));
    }
    for (target, span) in [
        (&mut pool.keepalive_expiry, config.keepalive_expiry),
        (&mut pool.request_timeout, config.request_timeout),
        (&mut pool.connect_timeout, config.connect_timeout),
    ] {
        set(target, span.map(Span::get));
    }
    set(&mut pool.enable_http2, config.enable_http2);
    set(&mut pool.max_response_bytes, config.max_response.map(Size::get));
    pool
}

/// The options in effect, spelled as in a file.
pub(super) fn effective_http2(config: &Http2Config) -> Value {
    let pool = pool(config);
    json!({
        "enable_http2": pool.enable_http2,
        "max_connections": pool.max_connections,
        "max_keepalive_connections": pool.max_keepalive_connections,
        "keepalive_expiry": pool.keepalive_expiry.as_secs_f64(),
        "request_timeout": pool.request_timeout.as_secs_f64(),
        "enable_concurrent_requests": concurrent(config),
        "connect_timeout": pool.connect_timeout.as_secs_f64(),
        "max_streams": pool.max_streams,
        "max_waiting": pool.max_waiting,
        "max_response": pool.max_response_bytes,
    })
}

/// Whether calls may run at once: `enable_concurrent_requests`, else what the preset says.
fn concurrent(config: &Http2Config) -> bool {
    config.enable_concurrent_requests.unwrap_or(config.preset != Some(Preset::Conservative))
}

/// An absolute `http` or `https` address.
///
/// # Errors
/// One sentence; it repeats nothing behind the host, which may be secret.
pub(crate) fn parse_url(url: &str) -> Result<Uri, String> {
    const EXPECTED: &str = "expected an absolute address such as `https://mcp.example.com/mcp`";
    if url.is_empty() {
        return Err(format!("{EXPECTED}, found nothing"));
    }
    let uri: Uri = url.parse().map_err(|error| format!("{EXPECTED}: {error}"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(scheme) => return Err(format!("{EXPECTED}, found the scheme `{scheme}`")),
        None => return Err(format!("{EXPECTED}, found no `http://` or `https://` in front")),
    }
    let authority = uri.authority().ok_or_else(|| format!("{EXPECTED}, found no host"))?;
    if authority.as_str().contains('@') {
        return Err("credentials do not belong into an address; put them into `headers`, as `Authorization`"
            .to_owned());
    }
    if authority.host().is_empty() {
        return Err(format!("{EXPECTED}, found no host"));
    }
    Ok(uri)
}

/// A header that an operator may set.
///
/// # Errors
/// One sentence; it never repeats the value.
pub(crate) fn check_header(name: &str, value: &str) -> Result<HeaderName, String> {
    let header: HeaderName =
        name.parse().map_err(|_| "is no header name: expected letters, digits and hyphens".to_owned())?;
    if RESERVED_HEADERS.contains(&header.as_str()) {
        return Err("is set by the engine itself; leave it out".to_owned());
    }
    HeaderValue::from_str(value).map_err(|_| {
        "has a value that no header can carry (a line break or a control character)".to_owned()
    })?;
    Ok(header)
}
