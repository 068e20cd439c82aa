//! Every tenant of one engine, the pool they share, and the tasks behind them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::future::join_all;
use mpe_transport::{Pool, PoolConfig, PoolSnapshot, TlsConfig};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::attempt::shutting_down;
use crate::catalog::listing::Listing;
use crate::discovery;
use crate::handle::{Handle, Parts, origin_texts};
use crate::lazy::Lazy;
use crate::metrics::{Labels, Whose};
use crate::performance::{Performance, Recorder};
use crate::source::SourceConfig;
use crate::source::feed::{self, Feed};
use crate::tenant::{Declared, Roster, Tenant};
use crate::upstream::balance::{self, Balanced, Member};
use crate::upstream::{self, Upstream};
use crate::variants::Variants;
use crate::{
    CallError, CallErrorKind, CheckerFactory, Derive, EndpointConfig, EndpointId, Memory, Target,
    UpstreamConfig, UpstreamState,
};

/// How long a retired upstream's calls may go on before it is closed under them. Longer than any sensible deadline.
const RETIREMENT: Duration = Duration::from_secs(300);

/// How long after its removal an endpoint still takes calls of those who found it before.
const GRACE: Duration = Duration::from_secs(1);

/// How long an upstream may take to end its sessions and processes.
const FAREWELL: Duration = Duration::from_secs(5);

/// Every tenant by name.
pub(crate) type Tenants = HashMap<EndpointId, Arc<Tenant>, RandomState>;

/// What a fleet is built from.
#[derive(Default)]
pub(crate) struct FleetParts {
    pub(crate) pool: PoolConfig,
    pub(crate) tls: TlsConfig,
    pub(crate) checkers: Option<Arc<dyn CheckerFactory>>,
    pub(crate) derive: Option<Arc<dyn Derive>>,
    pub(crate) lazy: Option<Lazy>,
    /// What earlier runs remember of their endpoints.
    pub(crate) memories: HashMap<EndpointId, Memory>,
}

/// Every tenant of one engine.
pub(crate) struct Fleet {
    /// For the tasks that ask sources: they must not keep the fleet alive.
    me: Weak<Self>,
    parts: FleetParts,
    /// Behind a lock, unlike what is inside a tenant: held for one look or one change, never across a wait.
    tenants: RwLock<Tenants>,
    /// Made when the first upstream needs it.
    pool: Mutex<Option<Pool>>,
    performance: Performance,
    labels: Labels,
    /// Every task ever spawned here; joined by `close`.
    tasks: TaskTracker,
    applying: Mutex<()>,
    pub(crate) lazy: Option<Lazy>,
    /// Cancelled when the fleet ends.
    pub(crate) ended: CancellationToken,
}

impl Fleet {
    pub(crate) fn new(mut parts: FleetParts) -> Arc<Self> {
        let lazy = parts.lazy.take();
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            parts,
            tenants: RwLock::default(),
            pool: Mutex::new(None),
            performance: Performance::default(),
            labels: Labels::default(),
            tasks: TaskTracker::new(),
            applying: Mutex::new(()),
            lazy,
            ended: CancellationToken::new(),
        })
    }

    /// All of them, as they are now.
    pub(crate) fn tenants(&self) -> Tenants {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To change them: hold [`Fleet::applying`] too.
    pub(crate) fn tenants_mut(&self) -> RwLockWriteGuard<'_, Tenants> {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint if it is there already; see [`Fleet::tenant`].
    pub(crate) fn existing(&self, id: &EndpointId) -> Option<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(id).map(Arc::clone)
    }

    /// Held while the tenants are being replaced.
    pub(crate) fn applying(&self) -> MutexGuard<'_, ()> {
        lock(&self.applying)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.tasks.is_closed()
    }

    /// A new endpoint, not yet among the others.
    pub(crate) fn start_tenant(&self, config: EndpointConfig) -> Result<Arc<Tenant>, CallError> {
        check(std::slice::from_ref(&config))?;
        let plan = self.plan(config, None, true)?;
        Ok(self.carry_out(plan))
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn performance(&self) -> &Performance {
        &self.performance
    }

    pub(crate) fn pool_snapshot(&self) -> PoolSnapshot {
        lock(&self.pool).as_ref().map(Pool::snapshot).unwrap_or_default()
    }

    /// Makes the tenants what `configs` says. What has not changed is not touched; what is gone ends once its calls have
    /// ended; an upstream that has changed shows its old tools until it has been discovered anew.
    ///
    /// # Errors
    /// A configuration that cannot work. Nothing has changed then.
    pub(crate) fn apply(&self, configs: Vec<EndpointConfig>) -> Result<(), CallError> {
        let _applying = self.applying();
        if self.is_closing() {
            return Err(shutting_down());
        }
        check(&configs)?;
        let before = self.tenants();
        let configs = self.with_lazy(configs, &before);
        // Everything that can fail comes first.
        let mut planned = Vec::with_capacity(configs.len());
        for (config, is_lazy) in configs {
            let existing = before.get(&config.id).cloned();
            planned.push(self.plan(config, existing, is_lazy)?);
        }
        let mut after = Tenants::default();
        for plan in planned {
            let is_lazy = plan.is_lazy;
            let tenant = self.carry_out(plan);
            if !is_lazy {
                tenant.set_configured();
            }
            after.insert(tenant.id.clone(), tenant);
        }
        let gone: Vec<_> = before
            .iter()
            .filter(|(id, _)| !after.contains_key(id))
            .map(|(_, tenant)| Arc::clone(tenant))
            .collect();
        *self.tenants_mut() = after;
        for tenant in gone {
            info!(endpoint = %tenant.id, "endpoint removed");
            self.tasks.spawn(retire_tenant(tenant));
        }
        Ok(())
    }

    /// The configured endpoints, and those made on demand as their source would make them now.
    fn with_lazy(&self, configs: Vec<EndpointConfig>, before: &Tenants) -> Vec<(EndpointConfig, bool)> {
        let named: HashSet<EndpointId> = configs.iter().map(|config| config.id.clone()).collect();
        let mut all: Vec<_> = configs.into_iter().map(|config| (config, false)).collect();
        if let Some(lazy) = &self.lazy {
            let living = before.values().filter(|tenant| tenant.is_lazy() && !named.contains(&tenant.id));
            let configs = living.filter_map(|tenant| lazy.source.endpoint(&tenant.id));
            all.extend(configs.map(|config| (config, true)));
        }
        all
    }

    /// Takes up what a source of an endpoint lists now, as a reload is taken up.
    ///
    /// # Errors
    /// As [`Fleet::apply`]. Nothing has changed then.
    pub(crate) fn take_up(&self, endpoint: &EndpointId) -> Result<(), CallError> {
        let _applying = self.applying();
        if self.is_closing() {
            return Err(shutting_down());
        }
        // An endpoint that is gone needs no servers.
        let Some(tenant) = self.existing(endpoint) else { return Ok(()) };
        let (declared, is_lazy) = (tenant.declared(), tenant.is_lazy());
        let plan = self.plan_declared(declared, Some(tenant), is_lazy)?;
        self.carry_out(plan);
        Ok(())
    }

    /// Whether an upstream could be reached, as far as its configuration tells. Does no IO.
    pub(crate) fn can_connect(&self, config: &UpstreamConfig) -> Result<(), CallError> {
        match &config.target {
            Target::Balanced { urls, headers, wire } => {
                let pool = self.pool()?;
                urls.iter()
                    .try_for_each(|url| upstream::connect_to(config, &pool, url, headers, *wire).map(drop))?;
                if urls.is_empty() { upstream::connect(config, &pool).map(drop) } else { Ok(()) }
            }
            Target::Custom(_) => Ok(()),
            Target::Http { .. } | Target::Stdio { .. } => upstream::connect(config, &self.pool()?).map(drop),
        }
    }

    /// What becomes of one endpoint; nothing is changed yet.
    fn plan(
        &self,
        mut config: EndpointConfig,
        existing: Option<Arc<Tenant>>,
        is_lazy: bool,
    ) -> Result<Plan, CallError> {
        let known = existing.as_ref().map(|tenant| tenant.declared());
        let known = known.as_ref().map_or(&[][..], |known| &known.feeds);
        let sources = std::mem::take(&mut config.sources);
        let mut feeds = Vec::with_capacity(sources.len());
        for source in sources {
            let same = known.iter().find(|feed| feed.config == source);
            feeds.push(match same {
                Some(same) => Arc::clone(same),
                None => Arc::new(self.feed(&config.id, is_lazy, source, known)?),
            });
        }
        self.plan_declared(Arc::new(Declared { config, feeds }), existing, is_lazy)
    }

    /// A source that has not been asked yet. It begins with what a source of its name listed last.
    fn feed(
        &self,
        endpoint: &EndpointId,
        is_lazy: bool,
        config: SourceConfig,
        known: &[Arc<Feed>],
    ) -> Result<Feed, CallError> {
        let predecessor = known.iter().find(|feed| feed.config.name() == config.name());
        let pool = if config.is_remote() { Some(self.pool()?) } else { None };
        let source = config.connect(pool.as_ref());
        let meters = self.labels.source(Whose::of(endpoint, is_lazy), config.name());
        Ok(Feed::new(config, source, meters, predecessor.map(|feed| feed.list())))
    }

    fn plan_declared(
        &self,
        declared: Arc<Declared>,
        existing: Option<Arc<Tenant>>,
        is_lazy: bool,
    ) -> Result<Plan, CallError> {
        let config = &declared.config;
        let whose = Whose::of(&config.id, is_lazy);
        let roster = existing.as_ref().map(|tenant| tenant.roster());
        let known = roster.as_ref().map_or(&[][..], |roster| &roster.upstreams);
        let mut upstreams = Vec::with_capacity(config.upstreams.len());
        let mut fresh = Vec::new();
        for wanted in declared.upstreams() {
            let old = known.iter().find(|old| old.config.key == wanted.key);
            if let Some(old) = old.filter(|old| old.config == wanted) {
                upstreams.push(Arc::clone(old));
                continue;
            }
            let handle = Arc::new(self.handle(&config.id, whose, wanted, old)?);
            fresh.push(Arc::clone(&handle));
            upstreams.push(handle);
        }
        let is_kept = |old: &&Arc<Handle>| upstreams.iter().any(|kept| Arc::ptr_eq(kept, old));
        let gone = known.iter().filter(|old| !is_kept(old)).map(Arc::clone).collect();
        let is_unchanged = roster.as_ref().is_some_and(|roster| {
            fresh.is_empty()
                && roster.naming == config.naming
                && roster.limits == config.limits
                && roster.upstreams.len() == upstreams.len()
                && roster.upstreams.iter().zip(&upstreams).all(|(a, b)| Arc::ptr_eq(a, b))
        });
        let roster = Roster::new(upstreams, config.naming, config.limits.clone());
        Ok(Plan { declared, roster, existing, fresh, gone, is_unchanged, is_lazy })
    }

    fn carry_out(&self, plan: Plan) -> Arc<Tenant> {
        let known = plan.existing.as_ref().map(|tenant| tenant.declared());
        let tenant = match plan.existing {
            Some(tenant) => {
                tenant.declare(Arc::clone(&plan.declared));
                if !plan.is_unchanged {
                    tenant.replace_roster(plan.roster);
                }
                tenant
            }
            None => self.tenant_of(Arc::clone(&plan.declared), plan.roster, plan.is_lazy),
        };
        let known = known.as_ref().map_or(&[][..], |known| &known.feeds);
        let is_among = |feeds: &[Arc<Feed>], feed: &Arc<Feed>| feeds.iter().any(|one| Arc::ptr_eq(one, feed));
        for feed in plan.declared.feeds.iter().filter(|feed| !is_among(known, feed)) {
            let (me, stop) = (Weak::clone(&self.me), tenant.stop.clone());
            self.tasks.spawn(feed::run(me, tenant.id.clone(), Arc::clone(feed), stop));
        }
        for feed in known.iter().filter(|feed| !is_among(&plan.declared.feeds, feed)) {
            feed.retired.cancel();
        }
        for handle in plan.fresh {
            let checkers = self.parts.checkers.clone();
            self.tasks.spawn(discovery::run(Arc::clone(&tenant), handle, checkers));
        }
        let roster = tenant.roster();
        for handle in plan.gone {
            let is_in_use = roster.upstreams.iter().any(|used| Arc::ptr_eq(&used.link, &handle.link));
            self.tasks.spawn(retire(handle, !is_in_use));
        }
        tenant
    }

    fn tenant_of(&self, declared: Arc<Declared>, roster: Roster, is_lazy: bool) -> Arc<Tenant> {
        let meters = self.labels.endpoint(Whose::of(&declared.config.id, is_lazy));
        let variants = Variants::new(self.parts.checkers.clone());
        let tenant = Tenant::new(declared, roster, self.parts.derive.clone(), meters, variants);
        let tenant = Arc::new(tenant);
        let publishing = Arc::clone(&tenant);
        self.tasks.spawn(async move {
            let stop = publishing.stop.clone();
            stop.run_until_cancelled(Arc::clone(&publishing).publish_forever()).await;
            publishing.listeners.end();
        });
        tenant
    }

    fn handle(
        &self,
        endpoint: &EndpointId,
        whose: Whose<'_>,
        config: UpstreamConfig,
        old: Option<&Arc<Handle>>,
    ) -> Result<Handle, CallError> {
        let same_server = old.filter(|old| {
            old.config.target == config.target
                && old.config.era == config.era
                && old.config.authorization == config.authorization
                && old.config.process == config.process
                && old.config.ejection == config.ejection
        });
        let records: Vec<_> = origin_texts(&config)
            .into_iter()
            .map(|name| {
                let recorder = self.performance.recorder(&name);
                (name, recorder)
            })
            .collect();
        let link = match same_server {
            Some(old) => Arc::clone(&old.link),
            None => self.connect(&config, &records, whose)?,
        };
        // Addresses count for themselves; what the server as a whole counts is shown nowhere then.
        let recorder = match (&config.target, records.as_slice()) {
            (Target::Balanced { .. }, _) | (_, []) => Arc::default(),
            (_, [(_, recorder), ..]) => Arc::clone(recorder),
        };
        let (inherited, state) = self.inheritance(endpoint, &config, old);
        let parts = Parts {
            link,
            recorder,
            records,
            meters: self.labels.upstream(whose, &config.key),
            watched: old.map(|old| Arc::clone(&old.watched)).unwrap_or_default(),
            inherited,
            state,
        };
        Ok(Handle::new(config, parts))
    }

    /// What an endpoint's upstreams offer, for a later run.
    pub(crate) fn memory(&self, endpoint: &EndpointId) -> Option<Memory> {
        let tenant = self.tenant(endpoint)?;
        // Its servers are not known yet: what they offered must not be lost before they are.
        let is_incomplete = tenant.declared().feeds.iter().any(|feed| !feed.has_listed());
        let earlier = self.parts.memories.get(endpoint).filter(|_| is_incomplete);
        Some(Memory::of_roster(&tenant.roster(), earlier))
    }

    /// What an upstream shows before its first discovery: what its predecessor showed, or what an earlier run remembered.
    fn inheritance(
        &self,
        endpoint: &EndpointId,
        config: &UpstreamConfig,
        old: Option<&Arc<Handle>>,
    ) -> (Option<Arc<Listing>>, UpstreamState) {
        let checkers = self.parts.checkers.as_deref();
        if let Some(listing) = old.and_then(|old| old.listing()) {
            let read = Listing::read(listing.found(), config, checkers, Some(&listing));
            return (Some(Arc::new(read)), UpstreamState::Discovering);
        }
        let remembered = self.parts.memories.get(endpoint).and_then(|memory| memory.of(&config.key));
        let Some(found) = remembered else { return (None, UpstreamState::Discovering) };
        let read = Listing::read(found, config, checkers, None);
        let error = "listed as an earlier run remembers it; not asked yet".to_owned();
        (Some(Arc::new(read)), UpstreamState::Stale { error })
    }

    fn connect(
        &self,
        config: &UpstreamConfig,
        records: &[(String, Arc<Recorder>)],
        whose: Whose<'_>,
    ) -> Result<Arc<dyn Upstream>, CallError> {
        match &config.target {
            Target::Custom(upstream) => Ok(Arc::clone(upstream)),
            Target::Balanced { urls, headers, wire } if urls.len() > 1 => {
                let pool = self.pool()?;
                let mut members = Vec::with_capacity(urls.len());
                for (url, (name, recorder)) in urls.iter().zip(records) {
                    let link = upstream::connect_to(config, &pool, url, headers, *wire)?;
                    let (name, recorder) = (name.clone(), Arc::clone(recorder));
                    members.push(Member { tag: balance::tag(url), name, link, recorder });
                }
                let meters = self.labels.balance(whose, &config.key);
                Ok(Arc::new(Balanced::new(members, config.ejection.clone(), meters)))
            }
            Target::Balanced { .. } | Target::Http { .. } | Target::Stdio { .. } => {
                upstream::connect(config, &self.pool()?)
            }
        }
    }

    fn pool(&self) -> Result<Pool, CallError> {
        let mut pool = lock(&self.pool);
        if let Some(pool) = pool.as_ref() {
            return Ok(pool.clone());
        }
        let made = Pool::new(self.parts.pool.clone(), self.parts.tls.clone()).map_err(|error| {
            let mut refused = misconfigured(format!("the connection pool cannot be made: {error}"));
            refused.source = Some(Box::new(error));
            refused
        })?;
        Ok(pool.insert(made).clone())
    }

    /// Refuses new calls, waits for those under way, then ends everything.
    pub(crate) async fn close(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.tasks.close();
        let tenants = self.tenants();
        for tenant in tenants.values() {
            tenant.calls.close();
        }
        let drained =
            timeout_at(deadline, join_all(tenants.values().map(|tenant| tenant.calls.wait()))).await;
        if drained.is_err() {
            warn!(?limit, "calls were still under way when the drain's time was up; they end now");
        }
        self.stop_all();
        let farewell = Instant::now() + FAREWELL;
        let handles = tenants.values().flat_map(|tenant| tenant.roster().upstreams.clone());
        join_all(handles.map(|handle| async move {
            let _ = timeout_at(farewell, handle.link.close(farewell)).await;
        }))
        .await;
        // Retirements that still wait for calls are cut short with everything else.
        let _ = timeout_at(farewell, self.tasks.wait()).await;
        let pool = lock(&self.pool).clone();
        if let Some(pool) = pool {
            pool.close(deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))).await;
        }
    }

    fn stop_all(&self) {
        self.ended.cancel();
        for tenant in self.tenants().values() {
            tenant.stop.cancel();
            for upstream in &tenant.roster().upstreams {
                upstream.retired.cancel();
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop_all();
    }
}

/// One endpoint's part of a reload.
struct Plan {
    declared: Arc<Declared>,
    roster: Roster,
    existing: Option<Arc<Tenant>>,
    /// Upstreams that must be discovered.
    fresh: Vec<Arc<Handle>>,
    /// Upstreams that nobody will call any more.
    gone: Vec<Arc<Handle>>,
    is_unchanged: bool,
    is_lazy: bool,
}

/// Ends an upstream once the last call that can reach it has ended.
async fn retire(handle: Arc<Handle>, closes: bool) {
    let key = handle.config.key.clone();
    let link = Arc::clone(&handle.link);
    let gone = handle.gone();
    handle.retired.cancel();
    drop(handle);
    if timeout(RETIREMENT, gone).await.is_err() {
        warn!(upstream = %key, "calls of a removed upstream are still under way; closing it under them");
    }
    if closes {
        let deadline = Instant::now() + FAREWELL;
        let _ = timeout_at(deadline, link.close(deadline)).await;
    }
    info!(upstream = %key, "upstream retired");
}

pub(crate) async fn retire_tenant(tenant: Arc<Tenant>) {
    // Whoever looked the endpoint up just before it was taken out may still begin a call.
    sleep(GRACE).await;
    tenant.calls.close();
    let _ = timeout(RETIREMENT, tenant.calls.wait()).await;
    tenant.stop.cancel();
    let upstreams = tenant.roster().upstreams.clone();
    drop(tenant);
    join_all(upstreams.into_iter().map(|handle| retire(handle, true))).await;
}

/// Refuses what cannot work, naming where.
fn check(configs: &[EndpointConfig]) -> Result<(), CallError> {
    let mut endpoints = HashSet::new();
    for config in configs {
        if !endpoints.insert(&config.id) {
            return Err(misconfigured(format!("endpoint '{}' is configured twice", config.id)));
        }
        let mut sources = HashSet::new();
        for source in &config.sources {
            if !sources.insert(source.name()) {
                let (name, id) = (source.name(), &config.id);
                return Err(misconfigured(format!("source '{name}' is configured twice in endpoint '{id}'")));
            }
        }
        let mut keys = HashSet::new();
        for upstream in &config.upstreams {
            if upstream.key.as_str().is_empty() {
                return Err(misconfigured(format!(
                    "an upstream of endpoint '{}' has an empty key",
                    config.id
                )));
            }
            if !keys.insert(&upstream.key) {
                let (key, id) = (&upstream.key, &config.id);
                return Err(misconfigured(format!(
                    "upstream '{key}' is configured twice in endpoint '{id}'"
                )));
            }
        }
    }
    Ok(())
}

fn misconfigured(message: String) -> CallError {
    CallError::new(CallErrorKind::Misconfigured, message)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
