//! From what a file says to what engine and gateway are built from.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use mpe_engine::{EndpointConfig, EndpointId, EndpointSource};
use mpe_gateway::{EndpointView, GatewayConfig};
use mpe_schema::openapi::{DocumentInfo, Security};
use mpe_schema::{PathTemplate, ResponseMapping};
use mpe_transport::{PoolConfig, TlsConfig};
use serde_json::{Value, json};

use super::node::KeyPath;
use super::on_demand::OnDemand;
use super::problem::ConfigError;
use super::shape::{ApiServer, Config, Endpoint, Http2Config, Limits, Log, Naming, Preset, Tls};
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
    /// Who makes endpoints that the file does not name: `internal_mcp` with `{endpoint_id}` in its address.
    pub on_demand: Option<Arc<dyn EndpointSource>>,
    /// The folder that the last good catalogue of each endpoint is kept in.
    pub catalogue_store: Option<PathBuf>,
    /// What is logged.
    pub log: Log,
    /// Whether `serve` records metrics. Default: yes.
    pub metrics: bool,
}

/// What every Lambda function of a configuration shares.
#[cfg(feature = "lambda")]
#[derive(Clone, Default)]
pub(super) struct Aws {
    pub(super) region: Option<String>,
    pub(super) credentials: Option<mpe_lambda_adapter::upstream::StaticCredentials>,
}

/// Bytes of `session_secret`, at least: 128 bits, as the gateway asks.
const SHORTEST_SECRET: usize = 16;

/// Limits that belong to the HTTP face, not to an endpoint or a server.
pub(super) fn face_limits(limits: &Limits) -> [(&'static str, bool); 4] {
    [
        ("max_body", limits.max_body.is_some()),
        ("max_connections", limits.max_connections.is_some()),
        ("max_listeners", limits.max_listeners.is_some()),
        ("max_requests", limits.max_requests.is_some()),
    ]
}

impl Settings {
    /// What is odd but works: one sentence each.
    pub fn notices(&self) -> Vec<String> {
        let root = &self.gateway.default_endpoint;
        let has_others = self.endpoints.len() > 1;
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.upstreams.is_empty() && endpoint.sources.is_empty())
            .filter(|endpoint| !(has_others && endpoint.id == *root))
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
        self.logins = self.token_store();
        let config = std::mem::take(&mut self.config);
        let settings = self.resolve(&config);
        if self.problems.is_empty() { Ok(settings) } else { Err(ConfigError::new(self.problems)) }
    }

    fn resolve(&mut self, config: &Config) -> Settings {
        let root = KeyPath::default();
        let root_id = config.endpoint_id.clone().unwrap_or_else(|| EndpointId::default().to_string());
        self.check_endpoint_id(&root.key("endpoint_id"), &root_id);
        #[cfg(feature = "lambda")]
        {
            self.aws = self.aws(config);
        }
        let pool = pool(&config.http2_config);
        let concurrent = concurrent(&config.http2_config);

        let mut endpoints = Vec::new();
        let mut on_demand = Vec::new();
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
            for (source, makes_endpoints) in self.sources(&path, &tenant, &pool) {
                if makes_endpoints && is_root {
                    on_demand.push(source.clone());
                } else if makes_endpoints {
                    let name = source.name().to_owned();
                    self.report(
                        &path.key("sources").key(name).key("on_demand"),
                        "makes endpoints at the top of the file alone",
                    );
                }
                endpoint.sources.push(source);
            }
            endpoint.naming = naming(tenant.naming);
            endpoint.limits = limits(&tenant.limits, concurrent);
            endpoints.push(endpoint);
            let view = self.view(&path, &tenant);
            gateway.endpoints.insert(id, view);
        }
        let internal = config.internal_mcp.as_ref().filter(|internal| {
            internal.on_demand.unwrap_or(true) && internal.base_url.contains("{endpoint_id}")
        });
        let on_demand = (internal.is_some() || !on_demand.is_empty()).then(|| -> Arc<dyn EndpointSource> {
            Arc::new(OnDemand {
                internal: internal.cloned(),
                sources: on_demand,
                pool: pool.clone(),
                naming: naming(config.naming),
                limits: limits(&config.limits, concurrent),
            })
        });
        Settings {
            listen: config.listen.unwrap_or_else(default_listen),
            endpoints,
            pool,
            tls: config.tls.as_ref().map(|tls| self.tls(tls)).unwrap_or_default(),
            gateway,
            on_demand,
            catalogue_store: config.catalogue_store.as_ref().map(|folder| self.base.join(folder)),
            log: self.log(config.log.as_ref()),
            metrics: config.records_metrics(),
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
        if let Some(http) = &config.http {
            for (target, span) in [
                (&mut gateway.header_timeout, http.header_timeout),
                (&mut gateway.body_timeout, http.body_timeout),
                (&mut gateway.write_timeout, http.write_timeout),
                (&mut gateway.hold_head, http.hold_head),
                (&mut gateway.keep_alive, http.keep_alive),
                (&mut gateway.session_lifetime, http.session_lifetime),
                (&mut gateway.input_lifetime, http.input_lifetime),
            ] {
                set(target, span.map(Span::get));
            }
            set(&mut gateway.page_size, http.page_size.map(Count::get));
            gateway.resume_buffer =
                http.resume_buffer.map(|size| usize::try_from(size.get()).unwrap_or(usize::MAX));
            gateway.poll_after = http.poll_after.map(Span::get);
            if http.poll_after.is_some() && http.resume_buffer.is_none() {
                self.report(
                    &KeyPath::of(["http", "poll_after"]),
                    "needs `resume_buffer`, or what a client comes back for is gone",
                );
            }
        }
        gateway.secret = self.secret(config.session_secret.as_ref());
        gateway.replicas = self.replicas(config);
        set(&mut gateway.drain, config.drain.map(Span::get));
        gateway.check_mcp_arguments = config.check_mcp_arguments;
        if let Some(given) = &config.check_arguments {
            for (check, given) in [
                (&mut gateway.checks.rest, given.rest),
                (&mut gateway.checks.graphql, given.graphql),
                (&mut gateway.checks.batch, given.batch),
                (&mut gateway.checks.functions, given.functions),
            ] {
                set(check, given);
            }
        }
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

    #[cfg(feature = "lambda")]
    fn aws(&mut self, config: &Config) -> Aws {
        let credentials = match (&config.aws_access_key_id, &config.aws_secret_access_key) {
            (Some(id), Some(secret)) => Some(mpe_lambda_adapter::upstream::StaticCredentials {
                access_key_id: id.expose().to_owned(),
                secret_access_key: secret.secret().clone(),
                session_token: config.aws_session_token.as_ref().map(|token| token.secret().clone()),
            }),
            (Some(_), None) => {
                self.report(&KeyPath::of(["aws_access_key_id"]), "needs `aws_secret_access_key` beside it");
                None
            }
            (None, Some(_)) => {
                self.report(&KeyPath::of(["aws_secret_access_key"]), "needs `aws_access_key_id` beside it");
                None
            }
            (None, None) => None,
        };
        Aws { region: config.region_name.clone(), credentials }
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

    fn replicas(&mut self, config: &Config) -> Option<mpe_gateway::Replicas> {
        let replicas = config.replicas.as_ref()?;
        let path = KeyPath::of(["replicas"]);
        if config.session_secret.is_none() {
            self.report(&path, "needs `session_secret`, the same at every replica");
        }
        let mut peers = std::collections::HashMap::new();
        for (key, name) in std::iter::once((path.key("name"), &replicas.name))
            .chain(replicas.peers.keys().map(|name| (path.key("peers").key(name.as_str()), name)))
        {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
                self.report(&key, "expected 1 to 64 letters, digits, `_`, `-` or `.`");
            }
        }
        for (name, url) in &replicas.peers {
            let uri = url.parse::<Uri>().ok().filter(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.path() == "/"
                    && uri.query().is_none()
            });
            match uri {
                Some(uri) => drop(peers.insert(name.clone(), uri)),
                None => self.report(
                    &path.key("peers").key(name.as_str()),
                    "expected a URL without a path, such as `http://10.0.0.7:8080`",
                ),
            }
        }
        match crate::peers::Peers::new(config.tls.as_ref().map(|tls| self.tls(tls)).unwrap_or_default()) {
            Ok(forward) => {
                Some(mpe_gateway::Replicas { name: replicas.name.clone(), peers, forward: Arc::new(forward) })
            }
            Err(error) => {
                self.report(&path, format!("connections to other replicas cannot be made: {error}"));
                None
            }
        }
    }

    fn check_endpoint_id(&mut self, path: &KeyPath, id: &str) {
        if !is_endpoint_id(id) {
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
                security: self.security(path, tenant),
            },
            mappings,
        }
    }

    fn security(&mut self, path: &KeyPath, tenant: &Endpoint) -> Security {
        let mut security = Security::default();
        for (name, scheme) in &tenant.security_schemes {
            if let Err(problem) = security.add(name, scheme) {
                self.report(&path.key("security_schemes").key(name.as_str()), problem);
            }
        }
        if let Some(alternatives) = &tenant.security
            && let Err(problem) = security.require(alternatives.clone())
        {
            self.report(&path.key("security"), problem);
        }
        security
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

    pub(super) fn pem(&mut self, path: &KeyPath, file: &Path) -> Option<Vec<u8>> {
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
    pub(super) fn spelled(&self, path: &KeyPath, spellings: [&str; 2]) -> KeyPath {
        let second = path.key(spellings[1]);
        let parent = self.tree.locate(path);
        let is_second = self.tree.has(&second) && parent <= self.tree.locate(&second);
        if is_second { second } else { path.key(spellings[0]) }
    }
}

/// Whether a name is one segment of a path, whatever surrounds it.
pub(super) fn is_endpoint_id(id: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
    !id.is_empty() && id.len() <= 64 && id.chars().all(is_plain) && !id.chars().all(|c| c == '.')
}

/// The default endpoint's share of a configuration.
fn root_tenant(config: &Config) -> Endpoint {
    Endpoint {
        title: config.title.clone(),
        version: config.version.clone(),
        description: config.description.clone(),
        servers: config.servers.clone(),
        security_schemes: config.security_schemes.clone(),
        security: config.security.clone(),
        response_mappings: config.response_mappings.clone(),
        internal_mcp: config.internal_mcp.clone(),
        mcp_servers: config.mcp_servers.clone(),
        sources: config.sources.clone(),
        naming: config.naming,
        limits: config.limits.clone(),
    }
}

fn naming(naming: Naming) -> mpe_engine::Naming {
    match naming {
        Naming::Auto => mpe_engine::Naming::Auto,
        Naming::Plain => mpe_engine::Naming::Plain,
        Naming::Prefix => mpe_engine::Naming::Prefix,
    }
}

pub(super) fn limits(given: &Limits, concurrent: bool) -> mpe_engine::Limits {
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

/// Puts a given value in place of the default.
pub(super) fn set<T>(target: &mut T, given: Option<T>) {
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
