//! A gateway in front of scripted servers, on a port of its own.

use std::net::SocketAddr;
use std::time::Duration;

use mpe_engine::{EndpointConfig, EndpointId, Engine, Naming, Target, UpstreamConfig};
use mpe_gateway::{DocumentInfo, EndpointView, Gateway, GatewayConfig, PathTemplate, ResponseMapping, serve};
use mpe_transport::{PoolConfig, TlsConfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Authority, Era, Http, McpClient, PATIENCE, Server};

/// Begins a gateway without upstreams.
pub fn gateway() -> GatewayBuilder {
    GatewayBuilder {
        endpoints: vec![EndpointConfig::new(EndpointId::default(), Vec::new())],
        config: GatewayConfig::default(),
        pool: PoolConfig::default(),
        tls: TlsConfig::default(),
    }
}

/// Collects what a gateway is built from.
pub struct GatewayBuilder {
    endpoints: Vec<EndpointConfig>,
    config: GatewayConfig,
    pool: PoolConfig,
    tls: TlsConfig,
}

/// A gateway that serves. Dropping it ends it at once; [`RunningGateway::stop`] lets it drain.
pub struct RunningGateway {
    gateway: Gateway,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

/// An upstream as an operator would write it down for this server, with a refresh fast enough for a test.
fn upstream(key: &str, server: &Server) -> UpstreamConfig {
    let url = server.url().parse().expect("a fixture's URL");
    let mut config = UpstreamConfig::new(key, Target::Http { url, headers: Vec::new(), wire: server.wire() });
    config.refresh = Duration::from_millis(300);
    config
}

// === impl GatewayBuilder ===

impl GatewayBuilder {
    /// Adds a server to the tenant at hand, under the operator's key.
    pub fn server(self, key: &str, server: &Server) -> Self {
        self.server_with(key, server, |_| {})
    }

    /// Adds a server with some of its options changed.
    pub fn server_with(self, key: &str, server: &Server, change: impl FnOnce(&mut UpstreamConfig)) -> Self {
        let mut config = upstream(key, server);
        change(&mut config);
        self.upstream(config)
    }

    /// Adds an upstream of any kind to the tenant at hand.
    pub fn upstream(mut self, config: UpstreamConfig) -> Self {
        self.tenant().upstreams.push(config);
        self
    }

    /// How names are shown by the tenant at hand.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.tenant().naming = naming;
        self
    }

    /// Begins another tenant: what follows belongs to it.
    pub fn endpoint(mut self, id: &str) -> Self {
        self.endpoints.push(EndpointConfig::new(EndpointId::new(id), Vec::new()));
        self
    }

    /// Changes the tenant at hand.
    pub fn tenant_with(mut self, change: impl FnOnce(&mut EndpointConfig)) -> Self {
        change(self.tenant());
        self
    }

    /// Changes the gateway's own options.
    pub fn configure(mut self, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Maps a path of the default tenant.
    ///
    /// # Panics
    /// When `path` is no template.
    pub fn mapping(mut self, path: &str) -> Self {
        let path = PathTemplate::parse(path).expect("a path template");
        let info = DocumentInfo::new("T", "1");
        let view = EndpointView { info, mappings: Vec::new() };
        let view = self.config.endpoints.entry(EndpointId::default()).or_insert(view);
        view.mappings.push(ResponseMapping { path, response: json!({}) });
        self
    }

    /// Changes the pool's options.
    pub fn pool(mut self, change: impl FnOnce(&mut PoolConfig)) -> Self {
        change(&mut self.pool);
        self
    }

    /// Trusts this authority's certificates.
    pub fn trust(mut self, authority: &Authority) -> Self {
        self.tls.extra_roots_pem.push(authority.root_pem());
        self
    }

    /// Starts it and returns once every upstream has been discovered or has failed once.
    pub async fn start(self) -> RunningGateway {
        let mut engine = Engine::builder().pool(self.pool).tls(self.tls);
        for endpoint in self.endpoints {
            engine = engine.endpoint(endpoint);
        }
        let gateway = Gateway::start(engine, self.config).expect("a configuration that works");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("a bound address");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(gateway.clone(), listener, stop.clone()));
        assert!(gateway.engine().settled(Instant::now() + PATIENCE).await, "discovery does not end");
        RunningGateway { gateway, address, stop, serving }
    }

    fn tenant(&mut self) -> &mut EndpointConfig {
        self.endpoints.last_mut().expect("there is always a tenant")
    }
}

// === impl RunningGateway ===

impl RunningGateway {
    /// The engine and the faces, without the sockets.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// An HTTP/1.1 client of it.
    pub fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// An MCP client of it that has introduced itself.
    pub async fn mcp(&self, era: Era) -> McpClient {
        McpClient::connect(self.http(), "/mcp", era).await
    }

    /// A client of the default tenant that declares these capabilities.
    pub async fn mcp_declaring(&self, era: Era, capabilities: serde_json::Value) -> McpClient {
        McpClient::connect_declaring(self.http(), "/mcp", era, capabilities).await
    }

    /// The names of the default tenant's tools, in catalogue order.
    pub fn tools(&self) -> Vec<String> {
        self.tools_of(&EndpointId::default())
    }

    /// The names of a tenant's tools, in catalogue order.
    pub fn tools_of(&self, endpoint: &EndpointId) -> Vec<String> {
        let snapshot = self.gateway.engine().snapshot(endpoint).expect("a tenant");
        snapshot.catalogue.tools().iter().map(|tool| tool.tool.name().to_owned()).collect()
    }

    /// Waits until the default tenant's tools are such; panics with them after [`PATIENCE`].
    pub async fn until_tools(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        let mut revisions = self.gateway.engine().watch(&EndpointId::default()).expect("a tenant");
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds(&self.tools()) {
                revisions.changed().await.expect("the engine lives");
            }
        });
        if waited.await.is_err() {
            panic!("the catalogue never came to this: {what}; it has {:?}", self.tools());
        }
    }

    /// Asks it to stop, as SIGTERM does, and waits until it has drained.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, &mut self.serving).await.expect("it must drain in time");
        ended.expect("no panic").expect("no error");
    }

    /// Asks it to stop, but does not wait.
    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
