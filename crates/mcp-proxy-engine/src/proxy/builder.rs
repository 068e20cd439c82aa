//! Collecting what an engine needs.

use std::sync::Arc;
use std::time::Duration;

use mpe_engine::source::SourceConfig;
use mpe_engine::{Engine, LazyLimits, UpstreamConfig};
use mpe_gateway::Gateway;
use mpe_transport::ProxyConfig;
use serde_json::json;

use super::keeper::{Keeper, Store};
use super::{Error, Extra, McpProxyEngine, Started};
use crate::config::{Config, Server, Settings, Source};
use crate::demo::Demo;

/// Renders `/metrics`.
type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Collects what an engine needs.
#[derive(Clone)]
#[must_use = "an engine starts with `start`"]
pub struct McpProxyEngineBuilder {
    source: Option<Source>,
    servers: Vec<(String, String)>,
    upstreams: Vec<UpstreamConfig>,
    sources: Vec<SourceConfig>,
    demo: bool,
    metrics: Option<Metrics>,
    wait: Duration,
}

impl Default for McpProxyEngineBuilder {
    fn default() -> Self {
        Self {
            source: None,
            servers: Vec::new(),
            upstreams: Vec::new(),
            sources: Vec::new(),
            demo: false,
            metrics: None,
            wait: Duration::from_secs(5),
        }
    }
}

impl McpProxyEngineBuilder {
    /// A configuration that was read before. Default: every default, no server.
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// A configuration made in code.
    pub fn config(self, config: Config) -> Self {
        self.source(Source::of(config))
    }

    /// Adds the MCP server at `url` to the default endpoint.
    pub fn server(mut self, key: impl Into<String>, url: impl Into<String>) -> Self {
        self.servers.push((key.into(), url.into()));
        self
    }

    /// Adds any upstream (a Lambda function, a test) to the default endpoint.
    pub fn upstream(mut self, upstream: UpstreamConfig) -> Self {
        self.upstreams.push(upstream);
        self
    }

    /// Adds a place that names servers of the default endpoint while the engine runs.
    pub fn servers_from(mut self, source: SourceConfig) -> Self {
        self.sources.push(source);
        self
    }

    /// Adds the demo server, and its `GET /get_user/{user_id}`.
    pub fn demo(mut self) -> Self {
        self.demo = true;
        self
    }

    /// Who renders `/metrics`. Default: nobody, it answers 404.
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(render));
        self
    }

    /// How long [`start`](Self::start) waits for the servers' tools. Default: 5 s. Zero: not at all.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }

    /// Starts the engine and waits until every server has answered or failed once, at most as long as
    /// [`wait`](Self::wait) says. A server that is down stops nothing: its tools appear when it does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](super::ErrorKind::Config), [`ErrorKind::Demo`](super::ErrorKind::Demo),
    /// [`ErrorKind::Start`](super::ErrorKind::Start).
    ///
    /// # Cancel safety
    /// Dropping the future ends what was started.
    pub async fn start(self) -> Result<McpProxyEngine, Error> {
        let mut source = self.source.unwrap_or_else(|| Source::of(Config::default()));
        for (key, url) in self.servers {
            source.config.mcp_servers.insert(key, Server { url: Some(url), ..Server::default() });
        }
        if self.demo {
            demo_mappings(&mut source.config);
        }
        let mut settings = source.settings()?;
        settings.pool.proxies = proxies(&|name| std::env::var(name).ok())?;
        let demo = if self.demo { Some(Arc::new(Demo::start().await.map_err(Error::demo)?)) } else { None };
        let id = settings.gateway.default_endpoint.clone();
        let root = settings.endpoints.iter_mut().find(|endpoint| endpoint.id == id);
        let root = root.expect("a configuration always has a default endpoint");
        let mut extra = self.upstreams;
        extra.extend(demo.iter().map(|demo| demo.upstream()));
        root.upstreams.extend(extra.iter().cloned());
        root.sources.extend(self.sources.iter().cloned());
        settings.gateway.metrics = self.metrics;

        let wait = self.wait;
        let proxy = launch(settings, demo, Extra { upstreams: extra, sources: self.sources }).await?;
        if !wait.is_zero() {
            // Whoever has not answered by then is looked for in the background.
            let _ = proxy.ready(wait).await;
        }
        Ok(proxy)
    }
}

async fn launch(settings: Settings, demo: Option<Arc<Demo>>, extra: Extra) -> Result<McpProxyEngine, Error> {
    let drain = settings.gateway.drain;
    let root = settings.gateway.default_endpoint.clone();
    let notices = settings.notices().into();
    let started = Arc::new(Started::with(&settings, extra));
    let mut engine = Engine::builder().pool(settings.pool).tls(settings.tls);
    if let Some(source) = settings.on_demand {
        engine = engine.endpoints_on_demand(source, LazyLimits::default());
    }
    let endpoints: Vec<_> = settings.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
    for endpoint in settings.endpoints {
        engine = engine.endpoint(endpoint);
    }
    let Some(folder) = settings.catalogue_store else {
        let gateway = Gateway::start(engine, settings.gateway).map_err(Error::start)?;
        return Ok(McpProxyEngine { gateway, demo, root, drain, notices, started, keeper: None });
    };
    let store = Store::new(folder);
    let (memories, kept) = store.read(&endpoints).await;
    for (endpoint, memory) in memories {
        engine = engine.remember(endpoint, memory);
    }
    let gateway = Gateway::start(engine, settings.gateway).map_err(Error::start)?;
    let keeper = Keeper::start(store, kept, gateway.engine().clone(), endpoints);
    Ok(McpProxyEngine { gateway, demo, root, drain, notices, started, keeper: Some(Arc::new(keeper)) })
}

/// The proxies that the usual environment variables name, in either case. Loopback addresses are never proxied: nothing
/// else could reach this machine's own servers.
pub(crate) fn proxies(variable: &dyn Fn(&str) -> Option<String>) -> Result<ProxyConfig, Error> {
    let either = |name: &str| variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
    let exceptions = either("NO_PROXY").unwrap_or_default();
    let exceptions = format!("{exceptions},localhost,127.0.0.1,::1");
    let (http, https) = (either("HTTP_PROXY"), either("HTTPS_PROXY"));
    ProxyConfig::new(http.as_deref(), https.as_deref(), Some(&exceptions)).map_err(Error::environment)
}

/// The mapped paths that the Python product's examples use.
pub(super) fn demo_mappings(config: &mut Config) {
    let user = json!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "name": { "type": "string" },
            "email": { "type": "string" },
            "city": { "type": "string" },
        },
    });
    config.response_mappings.entry("/get_user/{user_id}".to_owned()).or_insert(user);
    config.title.get_or_insert_with(|| "MCP Proxy Engine demo".to_owned());
}

#[cfg(test)]
mod tests {
    use super::proxies;

    #[test]
    fn a_bad_proxy_variable_is_named_and_not_shown() {
        let error =
            proxies(&|name| (name == "https_proxy").then(|| "ftp://user:hunter2@h".to_owned())).unwrap_err();
        let message = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(message.contains("HTTPS_PROXY") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn an_environment_without_proxies_is_fine() {
        assert!(proxies(&|_| None).is_ok());
    }
}
