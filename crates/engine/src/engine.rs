//! The engine's front door.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use indexmap::IndexMap;
use mpe_transport::{PoolConfig, PoolSnapshot, TlsConfig};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::batch::{BatchStream, unknown_endpoint};
use crate::fleet::{Fleet, FleetParts};
use crate::lazy::Lazy;
use crate::source::SourceStatus;
use crate::{
    CallError, CheckerFactory, Derive, EndpointConfig, EndpointId, EndpointSource, Interest, LazyLimits,
    Limits, Listening, Memory, OriginPerformance, Relay, RelayReply, Snapshot, ToolCall, ToolOutcome, Wish,
};

/// Many upstream servers as one thing to call. Cheap to clone; the last clone's drop ends the background work.
#[derive(Clone)]
pub struct Engine {
    fleet: Arc<Fleet>,
}

/// Collects what an engine needs.
#[derive(Default)]
#[must_use]
pub struct EngineBuilder {
    parts: FleetParts,
    endpoints: Vec<EndpointConfig>,
}

impl EngineBuilder {
    /// Pool options. Default: [`PoolConfig::default`].
    pub fn pool(mut self, config: PoolConfig) -> Self {
        self.parts.pool = config;
        self
    }

    /// TLS options. Default: the platform's roots.
    pub fn tls(mut self, config: TlsConfig) -> Self {
        self.parts.tls = config;
        self
    }

    /// Adds a tenant.
    pub fn endpoint(mut self, config: EndpointConfig) -> Self {
        self.endpoints.push(config);
        self
    }

    /// Who compiles `inputSchema`s. Default: nobody, arguments stay unchecked.
    pub fn checkers(mut self, factory: Arc<dyn CheckerFactory>) -> Self {
        self.parts.checkers = Some(factory);
        self
    }

    /// Who derives artefacts from each catalogue. Default: nobody.
    pub fn derive(mut self, derive: Arc<dyn Derive>) -> Self {
        self.parts.derive = Some(derive);
        self
    }

    /// Begins with what an earlier run remembered of an endpoint ([`Engine::memory`]): its upstreams show that, labelled
    /// stale, until they have been discovered, and calls need not wait for it. Upstreams that are not configured any more
    /// are ignored; those that a source names are shown once it has named them.
    pub fn remember(mut self, endpoint: EndpointId, memory: Memory) -> Self {
        self.parts.memories.insert(endpoint, memory);
        self
    }

    /// Who makes endpoints that are not configured by name, when somebody asks for one. They are retired when idle.
    /// Default: nobody, other endpoints do not exist.
    pub fn endpoints_on_demand(mut self, source: Arc<dyn EndpointSource>, limits: LazyLimits) -> Self {
        self.parts.lazy = Some(Lazy { source, limits });
        self
    }

    /// Starts discovery in the background and returns at once. Must run inside a Tokio runtime. Install the recorder of
    /// the `metrics` crate before: the engine keeps its handles.
    ///
    /// # Errors
    /// A configuration that cannot work: duplicate endpoint or upstream keys, unreadable TLS material.
    pub fn start(self) -> Result<Engine, CallError> {
        let fleet = Fleet::new(self.parts);
        fleet.apply(self.endpoints)?;
        fleet.watch_idleness();
        Ok(Engine { fleet })
    }
}

impl Engine {
    /// Begins with nothing configured.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The name of every tenant that is there now, sorted.
    pub fn endpoints(&self) -> Vec<EndpointId> {
        let mut names: Vec<_> = self.fleet.tenants().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// The tenant's catalogue and what was derived from it; `None` for no such tenant. Never waits.
    pub fn snapshot(&self, endpoint: &EndpointId) -> Option<Arc<Snapshot>> {
        Some(Arc::clone(&self.fleet.tenant(endpoint)?.view().snapshot))
    }

    /// The tenant's catalogue as a client sees it that declares `capabilities` (`ClientCapabilities`, an object): servers
    /// whose lists depend on them are listed for this set ([`UpstreamConfig::lists`](crate::UpstreamConfig::lists)). What
    /// is not known yet is waited for, 3 s and until `deadline` at most; `wish` says what must be known. At most 64 sets of
    /// an endpoint are told apart, each of at most 4 KiB; further ones see what [`Engine::snapshot`] shows.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn snapshot_declaring(
        &self,
        endpoint: &EndpointId,
        capabilities: &RawValue,
        wish: Wish<'_>,
        deadline: Option<Instant>,
    ) -> Option<Arc<Snapshot>> {
        let tenant = self.fleet.tenant(endpoint)?;
        let view = tenant.view_declaring(tenant.view(), Some(capabilities), wish, deadline).await;
        Some(Arc::clone(&view.snapshot))
    }

    /// Waits until every source of every tenant has been asked, and every upstream has been discovered or has failed once;
    /// at most until `deadline`. True when none is still unknown.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn settled(&self, deadline: Instant) -> bool {
        let tenants = self.fleet.tenants();
        let all = join_all(tenants.values().map(|tenant| tenant.settled()));
        timeout_at(deadline, all).await.is_ok()
    }

    /// Waits until every upstream of one tenant has been discovered or has failed once, at most until `deadline`. False when
    /// there is no such tenant or time ran out. Worth a call before listing an endpoint that was made on demand.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn settled_at(&self, endpoint: &EndpointId, deadline: Instant) -> bool {
        let Some(tenant) = self.fleet.tenant(endpoint) else { return false };
        timeout_at(deadline, tenant.settled()).await.is_ok()
    }

    /// A receiver that sees the tenant's revision whenever its catalogue is replaced.
    pub fn watch(&self, endpoint: &EndpointId) -> Option<tokio::sync::watch::Receiver<String>> {
        Some(self.fleet.tenant(endpoint)?.watch_revision())
    }

    /// What the tenant's upstreams offered when they were last discovered, for [`EngineBuilder::remember`] of a later
    /// run. What an earlier run remembered of servers that a source has not named yet is passed on. `None` for no such
    /// tenant.
    pub fn memory(&self, endpoint: &EndpointId) -> Option<Memory> {
        self.fleet.memory(endpoint)
    }

    /// How the tenant's sources of servers stand, in configuration order; empty for no such tenant. Never waits.
    pub fn sources(&self, endpoint: &EndpointId) -> Vec<SourceStatus> {
        let Some(tenant) = self.fleet.existing(endpoint) else { return Vec::new() };
        tenant.declared().feeds.iter().map(|feed| feed.status()).collect()
    }

    /// Asks the tenant's sources, discovers its upstreams anew, and returns when that has ended and is published. How each
    /// upstream fared stands in the catalogue, how each source did in [`Engine::sources`].
    ///
    /// # Errors
    /// [`UnknownEndpoint`](crate::CallErrorKind::UnknownEndpoint).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing; the discoveries go on.
    pub async fn refresh(&self, endpoint: &EndpointId) -> Result<(), CallError> {
        let tenant = self.fleet.tenant(endpoint).ok_or_else(|| unknown_endpoint(endpoint))?;
        join_all(tenant.declared().feeds.iter().map(|feed| feed.asked_anew())).await;
        join_all(tenant.roster().upstreams.iter().map(|upstream| upstream.discovered_anew())).await;
        tenant.is_published().await;
        Ok(())
    }

    /// A client of this era has turned up that declares `capabilities`: what the tenant's upstreams offer in that era alone
    /// is found out in the background and joins the catalogue, and what they list to such clients alone is found out for
    /// [`Engine::snapshot_declaring`]. Does nothing for what is known, or for no such tenant.
    pub fn meet(
        &self,
        endpoint: &EndpointId,
        era: mpe_mcp_protocol::version::Era,
        capabilities: Option<&RawValue>,
    ) {
        let Some(tenant) = self.fleet.tenant(endpoint) else { return };
        tenant.foresee(capabilities);
        for upstream in &tenant.roster().upstreams {
            if upstream.meet(Some(era)) {
                upstream.discover_anew();
            }
        }
    }

    /// Calls one tool.
    ///
    /// # Errors
    /// Every [`CallErrorKind`](crate::CallErrorKind); the error says whose fault it is and whether the call ran.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call upstream and frees its permit; the call may have run.
    pub async fn call(&self, call: ToolCall) -> Result<ToolOutcome, CallError> {
        let tenant = self.fleet.tenant(&call.endpoint).ok_or_else(|| unknown_endpoint(&call.endpoint))?;
        tenant.call(&call).await
    }

    /// Calls many tools, at once where the endpoint allows it. Results in input order, errors as values. A batch beyond
    /// the endpoint's [`Limits::max_batch`] is refused whole.
    ///
    /// # Cancel safety
    /// Dropping the future cancels every call that is still under way.
    pub async fn call_many(&self, calls: Vec<ToolCall>) -> Vec<Result<ToolOutcome, CallError>> {
        self.run_batch(calls).await
    }

    /// As [`Engine::call_many`], with each result as soon as it is there, and with a way to cancel one call or all of them
    /// ([`BatchStream::canceller`]). Returns at once; the calls begin when the stream is polled.
    ///
    /// ```
    /// # use futures_util::StreamExt;
    /// # async fn batch(engine: mpe_engine::Engine, calls: Vec<mpe_engine::ToolCall>) {
    /// let mut results = engine.call_many_stream(calls);
    /// while let Some(result) = results.next().await {
    ///     println!("call {} is {}", result.index, if result.outcome.is_ok() { "there" } else { "lost" });
    /// }
    /// # }
    /// ```
    pub fn call_many_stream(&self, calls: Vec<ToolCall>) -> BatchStream {
        BatchStream::new(self.clone(), calls)
    }

    /// Relays any other request to one upstream. Requests that only read are sent again after a failure as calls of
    /// read-only tools are.
    ///
    /// # Errors
    /// As [`Engine::call`].
    ///
    /// # Cancel safety
    /// As [`Engine::call`].
    pub async fn relay(&self, relay: Relay) -> Result<RelayReply, CallError> {
        let tenant = self.fleet.tenant(&relay.endpoint).ok_or_else(|| unknown_endpoint(&relay.endpoint))?;
        tenant.relay(relay).await
    }

    /// Listens for changes. Returns once the upstreams watch what is asked for, at most half a second later, with what is
    /// armed by then. Resources are found as a client sees them that declares `capabilities`. Changes of lists are told when the catalogue shows them, whether the server announced them, a
    /// refresh found them, or a reload brought them.
    ///
    /// # Errors
    /// [`UnknownEndpoint`](crate::CallErrorKind::UnknownEndpoint).
    ///
    /// # Cancel safety
    /// Dropping the future unsubscribes.
    pub async fn listen(
        &self,
        endpoint: &EndpointId,
        interest: Interest,
        capabilities: Option<&RawValue>,
    ) -> Result<Listening, CallError> {
        let tenant = self.fleet.tenant(endpoint).ok_or_else(|| unknown_endpoint(endpoint))?;
        Ok(tenant.listen(interest, capabilities, self.fleet.tasks()).await)
    }

    /// The performance record of every origin, by the origin's text (`https://api.example.com`); `stdio:KEY` and
    /// `custom:KEY` for upstreams that are not reached over HTTP. Sorted.
    pub fn performance(&self) -> IndexMap<String, OriginPerformance> {
        self.fleet.performance().snapshot()
    }

    /// As [`Engine::performance`], for the servers of one tenant alone; `None` for no such tenant. Tenants that share an
    /// origin share its record.
    pub fn performance_of(&self, endpoint: &EndpointId) -> Option<IndexMap<String, OriginPerformance>> {
        let roster = self.fleet.existing(endpoint)?.roster();
        let mut records: IndexMap<_, _> =
            roster.upstreams.iter().flat_map(|upstream| upstream.performance()).collect();
        records.sort_unstable_keys();
        Some(records)
    }

    /// The pool at this moment; empty as long as no upstream needs one.
    pub fn pool(&self) -> PoolSnapshot {
        self.fleet.pool_snapshot()
    }

    /// Refuses new calls, lets those under way finish for at most `limit`, then ends sessions, tasks and connections.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the engine closing; calling again goes on with it.
    pub async fn close(&self, limit: Duration) {
        self.fleet.close(limit).await;
    }

    /// Makes the engine what `endpoints` says, without dropping a call. What has not changed is not touched: it keeps its
    /// connections, sessions and catalogue. A removed upstream or tenant takes no new calls and is closed once the calls
    /// under way have ended. A changed upstream shows its old tools until it has been discovered anew.
    ///
    /// # Errors
    /// As [`EngineBuilder::start`], and [`ShuttingDown`](crate::CallErrorKind::ShuttingDown). Nothing has changed then.
    pub fn apply(&self, endpoints: Vec<EndpointConfig>) -> Result<(), CallError> {
        self.fleet.apply(endpoints)
    }

    /// Has every endpoint's artefacts ([`Derive`](crate::Derive)) derived anew, because what they are derived with has changed. They
    /// are swapped in shortly after; [`settled_at`](Self::settled_at) waits for it.
    pub fn derive_anew(&self) {
        for tenant in self.fleet.tenants().values() {
            tenant.touch_derived();
        }
    }

    pub(crate) fn limits(&self, endpoint: &EndpointId) -> Option<Limits> {
        Some(self.fleet.tenant(endpoint)?.roster().limits.clone())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}
