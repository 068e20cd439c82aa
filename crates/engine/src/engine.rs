//! The engine's front door.

use std::sync::Arc;
use std::time::Duration;

use mpe_transport::{PoolConfig, PoolSnapshot, TlsConfig};
use tokio::time::Instant;

use crate::{
    CallError, CheckerFactory, Derive, EndpointConfig, EndpointId, Relay, RelayReply, Snapshot, ToolCall,
    ToolOutcome,
};

/// Many upstream servers as one thing to call. Cheap to clone; the last clone's drop ends the background work.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<()>,
}

/// Collects what an engine needs.
pub struct EngineBuilder {
    _private: (),
}

/// The Python product's performance record of one origin, field for field.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct OriginPerformance {
    /// Exchanges ever started.
    pub total_requests: u64,
    /// Those answered.
    pub successful_requests: u64,
    /// Those not answered.
    pub failed_requests: u64,
    /// `successful / total`, in percent; 0 without any.
    pub success_rate_percent: f64,
    /// Mean time to the end of the answer, in milliseconds.
    pub avg_latency_ms: f64,
    /// Exchanges over HTTP/2.
    pub http2_requests: u64,
    /// Exchanges over HTTP/1.1.
    pub http1_requests: u64,
    /// `http2 / total`, in percent; 0 without any.
    pub http2_usage_percent: f64,
    /// The most exchanges ever in flight at once.
    pub max_concurrent_requests: u64,
}

impl EngineBuilder {
    /// Pool options. Default: [`PoolConfig::default`].
    pub fn pool(self, config: PoolConfig) -> Self {
        let _ = config;
        self
    }
    /// TLS options. Default: the platform's roots.
    pub fn tls(self, config: TlsConfig) -> Self {
        let _ = config;
        self
    }
    /// Adds a tenant.
    pub fn endpoint(self, config: EndpointConfig) -> Self {
        let _ = config;
        self
    }
    /// Who compiles `inputSchema`s. Default: nobody, arguments stay unchecked.
    pub fn checkers(self, factory: Arc<dyn CheckerFactory>) -> Self {
        let _ = factory;
        self
    }
    /// Who derives artefacts from each catalogue. Default: nobody.
    pub fn derive(self, derive: Arc<dyn Derive>) -> Self {
        let _ = derive;
        self
    }
    /// Starts discovery in the background and returns at once. Must run inside a Tokio runtime.
    ///
    /// # Errors
    /// A configuration that cannot work: duplicate endpoint or upstream keys, unreadable TLS material.
    pub fn start(self) -> Result<Engine, CallError> {
        todo!()
    }
}

impl Engine {
    /// Begins with nothing configured.
    pub fn builder() -> EngineBuilder {
        EngineBuilder { _private: () }
    }

    /// Every tenant's name, sorted.
    pub fn endpoints(&self) -> Vec<EndpointId> {
        todo!()
    }

    /// The tenant's catalogue and what was derived from it; `None` for no such tenant. Never waits.
    pub fn snapshot(&self, endpoint: &EndpointId) -> Option<Arc<Snapshot>> {
        let _ = (endpoint, &self.inner);
        todo!()
    }

    /// Waits until every upstream of every tenant has been discovered or has failed once, at most until `deadline`.
    /// True when none is still unknown.
    pub async fn settled(&self, deadline: Instant) -> bool {
        let _ = deadline;
        todo!()
    }

    /// A receiver that sees the tenant's revision whenever its catalogue is replaced.
    pub fn watch(&self, endpoint: &EndpointId) -> Option<tokio::sync::watch::Receiver<String>> {
        let _ = endpoint;
        todo!()
    }

    /// Discovers the tenant's upstreams anew and returns when that has ended.
    pub async fn refresh(&self, endpoint: &EndpointId) -> Result<(), CallError> {
        let _ = endpoint;
        todo!()
    }

    /// Calls one tool.
    ///
    /// # Errors
    /// Every [`CallErrorKind`](crate::CallErrorKind); the error says whose fault it is and whether the call ran.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call upstream and frees its permit; the call may have run.
    pub async fn call(&self, call: ToolCall) -> Result<ToolOutcome, CallError> {
        let _ = call;
        todo!()
    }

    /// Calls many tools, at once where the endpoint allows it. Results in input order, errors as values.
    ///
    /// # Cancel safety
    /// Dropping the future cancels every call that is still under way.
    pub async fn call_many(&self, calls: Vec<ToolCall>) -> Vec<Result<ToolOutcome, CallError>> {
        let _ = calls;
        todo!()
    }

    /// Relays any other request to one upstream.
    ///
    /// # Errors
    /// As [`Engine::call`].
    ///
    /// # Cancel safety
    /// As [`Engine::call`].
    pub async fn relay(&self, relay: Relay) -> Result<RelayReply, CallError> {
        let _ = relay;
        todo!()
    }

    /// The performance record of every origin, by the origin's text.
    pub fn performance(&self) -> indexmap::IndexMap<String, OriginPerformance> {
        todo!()
    }

    /// The pool at this moment.
    pub fn pool(&self) -> PoolSnapshot {
        todo!()
    }

    /// Refuses new calls, lets those under way finish for at most `limit`, then ends sessions, tasks and connections.
    pub async fn close(&self, limit: Duration) {
        let _ = limit;
        todo!()
    }
}
