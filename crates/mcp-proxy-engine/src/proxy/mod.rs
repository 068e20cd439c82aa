//! `McpProxyEngine`: configuration in, tool calls out.

mod answer;
mod builder;
mod error;
mod keeper;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use indexmap::IndexMap;
use mpe_engine::source::SourceConfig;
use mpe_engine::{
    CallContext, CallError, CallErrorKind, EndpointId, Engine, OriginPerformance, Snapshot, ToolCall,
    UpstreamConfig,
};
use mpe_gateway::{Body, Gateway};
use mpe_transport::PoolConfig;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Format, Settings, Source};
use crate::demo::Demo;

pub use answer::Answer;
pub use builder::McpProxyEngineBuilder;
pub(crate) use builder::proxies;
pub use error::{Error, ErrorKind};
use keeper::Keeper;

/// One engine in front of any number of MCP servers, with every face. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use mcp_proxy_engine::McpProxyEngine;
/// use serde_json::json;
///
/// // `.server("weather", "https://mcp.example.com/mcp")` puts a server of yours behind it instead.
/// let engine = McpProxyEngine::builder().demo().start().await?;
///
/// let user = engine.execute_function("get_user", json!({ "user_id": "123" })).await?;
/// assert_eq!(user.value()["name"], "Ada Lovelace");
///
/// engine.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct McpProxyEngine {
    gateway: Gateway,
    /// Kept for as long as anybody may call it.
    demo: Option<Arc<Demo>>,
    /// The endpoint at the root of every face.
    root: EndpointId,
    drain: Duration,
    notices: Arc<[String]>,
    started: Arc<Started>,
    /// Writes the catalogues down, where the configuration says where.
    keeper: Option<Arc<Keeper>>,
}

/// What the engine was started with and keeps until it ends.
struct Started {
    extra: Extra,
    listen: SocketAddr,
    pool: PoolConfig,
    catalogue_store: Option<PathBuf>,
    metrics: bool,
}

/// What the default endpoint has beside what the configuration names: the demo, what was added in code.
struct Extra {
    upstreams: Vec<UpstreamConfig>,
    sources: Vec<SourceConfig>,
}

/// One function to execute: a tool's name and its arguments, spelled as the Python product's `tool_calls`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionCall {
    /// The tool's name in the endpoint's catalogue.
    #[serde(alias = "tool", alias = "name")]
    pub function_name: String,
    /// A JSON object, passed on byte for byte. Default: `{}`.
    #[serde(default = "no_arguments")]
    pub arguments: Box<RawValue>,
    /// The endpoint (tenant). Default: the one at the root.
    #[serde(default)]
    pub endpoint_id: Option<String>,
    /// How long the caller waits. Default: the server's configured timeout.
    #[serde(skip)]
    pub timeout: Option<Duration>,
}

impl McpProxyEngine {
    /// Begins with nothing configured.
    pub fn builder() -> McpProxyEngineBuilder {
        McpProxyEngineBuilder::default()
    }

    /// An engine of the Python product's `setting` dictionary, or any other configuration, as JSON text.
    ///
    /// `${VARIABLE}`s are replaced from the process's environment.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with every problem of the configuration; otherwise as [`McpProxyEngineBuilder::start`].
    ///
    /// # Cancel safety
    /// Dropping the future ends what was started.
    pub async fn from_setting(setting: &str) -> Result<Self, Error> {
        let lookup = |name: &str| std::env::var(name).ok();
        let source = Source::parse(setting, Format::Json, "<setting>", std::path::PathBuf::new(), &lookup)?;
        Self::builder().source(source).start().await
    }

    /// An engine of a configuration made in code.
    ///
    /// # Errors
    /// As [`McpProxyEngine::from_setting`].
    ///
    /// # Cancel safety
    /// As [`McpProxyEngine::from_setting`].
    pub async fn from_config(config: Config) -> Result<Self, Error> {
        Self::builder().source(Source::of(config)).start().await
    }

    /// The engine behind it, for everything that has no shorthand here.
    pub fn engine(&self) -> &Engine {
        self.gateway.engine()
    }

    /// Every HTTP face over it, for a server of one's own.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The demo server, where there is one.
    pub fn demo(&self) -> Option<&Demo> {
        self.demo.as_deref()
    }

    /// What is odd in the configuration but works: one sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The default endpoint's catalogue and everything derived from it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.engine().snapshot(&self.root).expect("there is always a default endpoint")
    }

    /// The default endpoint: the one at the root of every face.
    pub fn default_endpoint(&self) -> &EndpointId {
        &self.root
    }

    /// Makes the engine what `source` says, without dropping a call: servers, tenants, names and limits, and how the tenants look from
    /// outside (titles, versions, where they are served, mapped paths). What has not
    /// changed keeps its connections, sessions and tools; a removed server finishes the calls it has.
    ///
    /// Returns the keys whose change takes effect at the next start only.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] and [`ErrorKind::Start`]; nothing has changed then.
    pub fn apply(&self, mut source: Source) -> Result<Vec<&'static str>, Error> {
        if self.demo.is_some() {
            builder::demo_mappings(&mut source.config);
        }
        let mut settings = source.settings()?;
        let later = self.started.later(&settings);
        let root = settings.endpoints.iter_mut().find(|endpoint| endpoint.id == self.root);
        if let Some(root) = root {
            root.upstreams.extend(self.started.extra.upstreams.iter().cloned());
            root.sources.extend(self.started.extra.sources.iter().cloned());
        }
        let endpoints = settings.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
        self.engine().apply(settings.endpoints).map_err(Error::start)?;
        if let Some(keeper) = &self.keeper {
            keeper.replace(endpoints);
        }
        self.gateway.show(settings.gateway.endpoints);
        Ok(later)
    }

    /// Waits until every server has answered or failed once, at most for `limit`. True when none is still unknown.
    ///
    /// # Cancel safety
    /// Waiting changes nothing.
    pub async fn ready(&self, limit: Duration) -> bool {
        self.engine().settled(Instant::now() + limit).await
    }

    /// Executes one function at the default endpoint (the Python product's `execute_function`).
    ///
    /// # Errors
    /// Every [`CallErrorKind`]. A tool that ran and failed is no error: see [`Answer::is_error`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; the tool may have run.
    pub async fn execute_function(&self, name: &str, arguments: impl Serialize) -> Result<Answer, CallError> {
        let call = FunctionCall::new(name, arguments).map_err(invalid_arguments)?;
        self.execute(call).await
    }

    /// Executes one function.
    ///
    /// # Errors
    /// As [`McpProxyEngine::execute_function`].
    ///
    /// # Cancel safety
    /// As [`McpProxyEngine::execute_function`].
    pub async fn execute(&self, call: FunctionCall) -> Result<Answer, CallError> {
        self.engine().call(call.into_tool_call(&self.root)).await.map(Answer::new)
    }

    /// Executes many functions at once (the Python product's `execute_concurrent_functions`). Answers in the order of
    /// the calls, errors as values.
    ///
    /// # Cancel safety
    /// Dropping the future cancels every call that is still under way.
    pub async fn execute_concurrent_functions(
        &self,
        calls: impl IntoIterator<Item = FunctionCall>,
    ) -> Vec<Result<Answer, CallError>> {
        let calls = calls.into_iter().map(|call| call.into_tool_call(&self.root)).collect();
        let outcomes = self.engine().call_many(calls).await;
        outcomes.into_iter().map(|outcome| outcome.map(Answer::new)).collect()
    }

    /// Answers a REST path of an endpoint (the Python product's `mcp_proxy_dispatch`): `get_user/123`, `tools/echo`,
    /// `openapi.json`, `graphql` and every other path that the HTTP face has. Without `body` it is a GET, with one a POST.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call behind it; the tool may have run.
    pub async fn dispatch(
        &self,
        endpoint_id: Option<&str>,
        path: &str,
        body: Option<&RawValue>,
    ) -> http::Response<Bytes> {
        let path = path.trim_start_matches('/');
        let path = match endpoint_id {
            Some(id) if id != self.root.as_str() => format!("/endpoints/{id}/{path}"),
            _ => format!("/{path}"),
        };
        let mut request = http::Request::builder().uri(path).header(http::header::HOST, "localhost");
        let bytes = match body {
            Some(body) => {
                request =
                    request.method(http::Method::POST).header(http::header::CONTENT_TYPE, "application/json");
                Bytes::copy_from_slice(body.get().as_bytes())
            }
            None => Bytes::new(),
        };
        let request = match request.body(whole(bytes)) {
            Ok(request) => request,
            Err(error) => return unanswerable(http::StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let (head, body) = self.gateway.handle(request).await.into_parts();
        match body.collect().await {
            Ok(body) => http::Response::from_parts(head, body.to_bytes()),
            Err(error) => unanswerable(http::StatusCode::BAD_GATEWAY, &error.to_string()),
        }
    }

    /// The performance record of every server (the Python product's `get_http2_performance_metrics`), by origin.
    pub fn performance_metrics(&self) -> IndexMap<String, OriginPerformance> {
        self.engine().performance()
    }

    /// Serves every face on `listener` until `stop`, then drains.
    ///
    /// # Errors
    /// Only what makes accepting impossible.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting and ends every connection.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        mpe_gateway::serve(self.gateway.clone(), listener, stop).await
    }

    /// Refuses new calls, lets those under way finish within the configured time, then ends sessions and connections
    /// (the Python product's `cleanup_http2_clients`).
    pub async fn close(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.finish().await;
        }
        self.engine().close(self.drain).await;
    }
}

impl Started {
    fn with(settings: &Settings, extra: Extra) -> Self {
        Self {
            extra,
            listen: settings.listen,
            pool: settings.pool.clone(),
            catalogue_store: settings.catalogue_store.clone(),
            metrics: settings.metrics,
        }
    }

    /// The keys that differ and cannot be changed under way.
    fn later(&self, settings: &Settings) -> Vec<&'static str> {
        // Proxies come from the environment, not from the file.
        let mut pool = settings.pool.clone();
        pool.proxies.clone_from(&self.pool.proxies);
        let changed = [
            ("listen", self.listen != settings.listen),
            ("http2_config", self.pool != pool),
            ("catalogue_store", self.catalogue_store != settings.catalogue_store),
            ("metrics", self.metrics != settings.metrics),
        ];
        changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
    }
}

impl FunctionCall {
    /// A call of `name` at the default endpoint.
    ///
    /// # Errors
    /// `arguments` cannot be written as JSON.
    pub fn new(name: impl Into<String>, arguments: impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self {
            function_name: name.into(),
            arguments: serde_json::value::to_raw_value(&arguments)?,
            endpoint_id: None,
            timeout: None,
        })
    }

    /// The same call at another endpoint.
    #[must_use]
    pub fn at(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint_id = Some(endpoint.into());
        self
    }

    /// The same call by a caller who waits no longer than `timeout`.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn into_tool_call(self, root: &EndpointId) -> ToolCall {
        ToolCall {
            endpoint: self.endpoint_id.map_or_else(|| root.clone(), EndpointId::new),
            tool: self.function_name,
            arguments: self.arguments,
            deadline: self.timeout.map(|timeout| Instant::now() + timeout),
            check_arguments: true,
            context: Arc::new(CallContext::default()),
        }
    }
}

fn no_arguments() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

fn invalid_arguments(error: serde_json::Error) -> CallError {
    CallError::new(
        CallErrorKind::InvalidArguments,
        format!("the arguments cannot be written as JSON: {error}"),
    )
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An answer for what never reached the gateway, or never came back whole.
fn unanswerable(status: http::StatusCode, detail: &str) -> http::Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Error");
    let problem = serde_json::json!({ "title": title, "status": status.as_u16(), "detail": detail });
    http::Response::builder()
        .status(status)
        .header(http::header::CONTENT_TYPE, "application/problem+json")
        .body(Bytes::from(problem.to_string()))
        .expect("constant headers")
}
