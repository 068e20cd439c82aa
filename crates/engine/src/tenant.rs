//! One endpoint while the engine runs: who is in it, and the catalogue that stands for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::catalog::build::{self, Before, Built, Kept, Share, Way};
use crate::catalog::listing::Digests;
use crate::handle::Handle;
use crate::limit::Gate;
use crate::listen::Listeners;
use crate::metrics::EndpointMeters;
use crate::source::feed::Feed;
use crate::upstream::Change;
use crate::variants::Variants;
use crate::{
    Catalogue, CatalogueTool, Derive, Derived, EndpointConfig, EndpointId, Limits, Naming, Snapshot,
    UpstreamConfig, UpstreamState,
};

/// An endpoint.
pub(crate) struct Tenant {
    pub(crate) id: EndpointId,
    pub(crate) derive: Option<Arc<dyn Derive>>,
    meters: EndpointMeters,
    /// What is configured, and where further upstreams come from.
    declared: ArcSwap<Declared>,
    /// Who takes part. Changes by reload, or when a source lists something else.
    roster: ArcSwap<Roster>,
    /// What calls see. Replaced as a whole.
    view: ArcSwap<View>,
    /// The newest change that wants publishing, and the newest that is published.
    dirty: watch::Sender<u64>,
    published: watch::Sender<u64>,
    revision: watch::Sender<String>,
    pub(crate) listeners: Arc<Listeners>,
    /// What clients see that declare something.
    pub(crate) variants: Variants,
    /// Calls under way.
    pub(crate) calls: TaskTracker,
    /// What is derived from the catalogue is made anew with the next one, whatever that holds.
    is_outdated: AtomicBool,
    /// Made on demand, and retired when idle.
    is_lazy: AtomicBool,
    made: Instant,
    /// Milliseconds from `made` to the last use.
    last_use: AtomicU64,
    /// Cancelled when the endpoint ends: calls still under way end too.
    pub(crate) stop: CancellationToken,
}

/// What the configuration says of an endpoint.
pub(crate) struct Declared {
    /// Without its sources.
    pub(crate) config: EndpointConfig,
    pub(crate) feeds: Vec<Arc<Feed>>,
}

impl Declared {
    /// Every upstream: those that are configured, then those of each source that bring a key of their own.
    pub(crate) fn upstreams(&self) -> Vec<UpstreamConfig> {
        let mut upstreams = self.config.upstreams.clone();
        let mut taken: HashMap<_, _> =
            upstreams.iter().map(|upstream| (upstream.key.clone(), "the configuration".to_owned())).collect();
        for feed in &self.feeds {
            let mut shadowed = Vec::new();
            for upstream in &feed.list().upstreams {
                match taken.entry(upstream.key.clone()) {
                    Entry::Occupied(first) => {
                        let reason = format!("{} has a server of this name already", first.get());
                        shadowed.push((upstream.key.to_string(), reason));
                    }
                    Entry::Vacant(free) => {
                        free.insert(format!("the source `{}`", feed.config.name()));
                        upstreams.push(upstream.clone());
                    }
                }
            }
            feed.set_shadowed(shadowed);
        }
        upstreams
    }
}

/// Who takes part, in order, and what they may use together.
pub(crate) struct Roster {
    pub(crate) upstreams: Vec<Arc<Handle>>,
    pub(crate) naming: Naming,
    pub(crate) limits: Limits,
    pub(crate) gate: Arc<Gate>,
}

/// A catalogue with the ways to its upstreams: everything a call needs, loaded once.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) roster: Arc<Roster>,
    /// The way to each tool of the catalogue.
    ways: Vec<Way>,
    /// Whether some upstream's lists may depend on what a client declares.
    pub(crate) may_vary: bool,
    /// What the next catalogue takes over.
    kept: Kept,
}

impl Roster {
    pub(crate) fn new(upstreams: Vec<Arc<Handle>>, naming: Naming, limits: Limits) -> Self {
        let gate = Arc::new(Gate::new(&limits));
        Self { upstreams, naming, limits, gate }
    }

    /// The only upstream, when names are untouched and unlisted ones are forwarded.
    pub(crate) fn transparent(&self) -> Option<&Arc<Handle>> {
        match self.upstreams.as_slice() {
            [only] if self.naming == Naming::Auto => Some(only),
            _ => None,
        }
    }

    /// The upstreams whose lists may depend on what a client declares.
    pub(crate) fn varying(&self) -> impl Iterator<Item = &Arc<Handle>> {
        let is_alone = self.transparent().is_some();
        self.upstreams.iter().filter(move |upstream| upstream.may_vary(is_alone))
    }

    fn shares(&self) -> Vec<Share> {
        self.upstreams.iter().map(|upstream| upstream.share()).collect()
    }
}

impl View {
    fn new(snapshot: Arc<Snapshot>, roster: Arc<Roster>, ways: Vec<Way>, kept: Kept) -> Self {
        let may_vary = roster.varying().next().is_some();
        Self { snapshot, roster, ways, may_vary, kept }
    }

    /// This view with other lists of some upstreams.
    pub(crate) fn varied(
        id: &EndpointId,
        base: &Self,
        shares: &[Share],
        derive: Option<&dyn Derive>,
    ) -> Self {
        let before = Before { catalogue: &base.snapshot.catalogue, ways: &base.ways, kept: &base.kept };
        let Built { catalogue, ways, kept } = build::build(id, base.roster.naming, shares, Some(before));
        let catalogue = Arc::new(catalogue);
        let derived = derive_from(derive, &catalogue);
        let snapshot = Arc::new(Snapshot { catalogue, derived });
        Self { snapshot, roster: Arc::clone(&base.roster), ways, may_vary: base.may_vary, kept }
    }

    /// The revision of its catalogue.
    pub(crate) fn revision(&self) -> &str {
        &self.snapshot.catalogue.revision
    }

    /// The tool of that exposed name and the way to it.
    pub(crate) fn tool(&self, name: &str) -> Option<(&CatalogueTool, &Way)> {
        let catalogue = &self.snapshot.catalogue;
        let index = *catalogue.by_name.get(name)?;
        Some((&catalogue.tools[index], &self.ways[index]))
    }

    /// The upstream at the end of a way.
    pub(crate) fn owner(&self, way: &Way) -> &Arc<Handle> {
        &self.roster.upstreams[way.owner]
    }

    /// Whether every upstream has been discovered or has failed once.
    fn is_settled(&self) -> bool {
        self.snapshot.catalogue.upstreams().iter().all(|status| status.state != UpstreamState::Discovering)
    }
}

impl Tenant {
    /// An endpoint with its first catalogue: whatever its upstreams inherited, which usually is nothing.
    pub(crate) fn new(
        declared: Arc<Declared>,
        roster: Roster,
        derive: Option<Arc<dyn Derive>>,
        meters: EndpointMeters,
        variants: Variants,
    ) -> Self {
        let id = declared.config.id.clone();
        let roster = Arc::new(roster);
        let Built { catalogue, ways, kept } = build::build(&id, roster.naming, &roster.shares(), None);
        let catalogue = Arc::new(catalogue);
        let derived = derive_from(derive.as_deref(), &catalogue);
        let revision = watch::Sender::new(catalogue.revision().to_owned());
        let snapshot = Arc::new(Snapshot { catalogue, derived });
        let view = View::new(snapshot, Arc::clone(&roster), ways, kept);
        Self {
            id,
            derive,
            meters,
            declared: ArcSwap::new(declared),
            roster: ArcSwap::new(roster),
            view: ArcSwap::from_pointee(view),
            dirty: watch::Sender::new(0),
            published: watch::Sender::new(0),
            revision,
            listeners: Arc::default(),
            variants,
            calls: TaskTracker::new(),
            is_outdated: AtomicBool::new(false),
            is_lazy: AtomicBool::new(false),
            made: Instant::now(),
            last_use: AtomicU64::new(0),
            stop: CancellationToken::new(),
        }
    }

    /// The endpoint was asked for.
    pub(crate) fn touch_use(&self) {
        if self.is_lazy() {
            self.last_use.store(self.age_millis(), Ordering::Relaxed);
        }
    }

    pub(crate) fn is_lazy(&self) -> bool {
        self.is_lazy.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lazy(&self) {
        self.is_lazy.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_configured(&self) {
        self.is_lazy.store(false, Ordering::Relaxed);
    }

    /// How long ago it was last asked for.
    pub(crate) fn idle_time(&self) -> Duration {
        Duration::from_millis(self.age_millis().saturating_sub(self.last_use.load(Ordering::Relaxed)))
    }

    /// Whether it was made on demand and nobody has used it for that long, nor does now.
    pub(crate) fn is_idle_for(&self, limit: Duration) -> bool {
        self.is_lazy() && self.calls.is_empty() && self.idle_time() >= limit
    }

    fn age_millis(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What calls see now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// What is configured now, and where further upstreams come from.
    pub(crate) fn declared(&self) -> Arc<Declared> {
        self.declared.load_full()
    }

    pub(crate) fn declare(&self, declared: Arc<Declared>) {
        self.declared.store(declared);
    }

    /// Who takes part now.
    pub(crate) fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// Puts another roster in place. Calls see it with the next catalogue.
    pub(crate) fn replace_roster(&self, roster: Roster) {
        self.roster.store(Arc::new(roster));
        self.touch();
    }

    /// The revision, whenever it changes.
    pub(crate) fn watch_revision(&self) -> watch::Receiver<String> {
        self.revision.subscribe()
    }

    /// Wakes whenever the catalogue has been replaced, also by one of the same revision.
    pub(crate) fn watch_published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Says that the catalogue must be put together anew.
    pub(crate) fn touch(&self) {
        self.dirty.send_modify(|dirty| *dirty += 1);
    }

    /// Says that what is derived from the catalogue must be derived anew.
    pub(crate) fn touch_derived(&self) {
        self.is_outdated.store(true, Ordering::Release);
        self.touch();
    }

    /// Waits until everything that has been touched so far is published.
    pub(crate) async fn is_published(&self) {
        let touched = *self.dirty.borrow();
        let mut published = self.published.subscribe();
        tokio::select! {
            _ = published.wait_for(|published| *published >= touched) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Whether every source has been asked and every upstream has been discovered or has failed once, and the catalogue
    /// says so.
    pub(crate) fn is_settled(&self) -> bool {
        // Sources first: what they bring is dirty from then on.
        self.declared.load().feeds.iter().all(|feed| feed.has_been_asked())
            && *self.published.borrow() >= *self.dirty.borrow()
            && self.view().is_settled()
    }

    /// Waits until [`Tenant::is_settled`].
    pub(crate) async fn settled(&self) {
        let mut published = self.published.subscribe();
        while !self.is_settled() {
            tokio::select! {
                _ = published.changed() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Publishes a catalogue whenever something has changed, until the endpoint ends. Changes that arrive while one is
    /// being built share the next one.
    pub(crate) async fn publish_forever(self: Arc<Self>) {
        let mut dirty = self.dirty.subscribe();
        loop {
            let touched = *dirty.borrow_and_update();
            if touched > *self.published.borrow() {
                let tenant = Arc::clone(&self);
                // Schemas and documents of a large catalogue take a while to derive; calls must not wait behind them.
                let published = tokio::task::spawn_blocking(move || tenant.publish()).await;
                if let Err(panic) = published {
                    error!(endpoint = %self.id, %panic, "the catalogue could not be built; the last one stays");
                }
                self.published.send_replace(touched);
            }
            if dirty.changed().await.is_err() {
                return;
            }
        }
    }

    fn publish(&self) {
        let roster = self.roster();
        let before = self.view();
        let same = Before { catalogue: &before.snapshot.catalogue, ways: &before.ways, kept: &before.kept };
        let Built { catalogue, ways, kept } =
            build::build(&self.id, roster.naming, &roster.shares(), Some(same));
        let catalogue = Arc::new(catalogue);
        let is_new = catalogue.revision != before.snapshot.catalogue.revision;
        let is_outdated = self.is_outdated.swap(false, Ordering::AcqRel);
        // The same content gives the same artefacts, as long as who derives them means the same.
        let derived = match is_new || is_outdated {
            true => derive_from(self.derive.as_deref(), &catalogue),
            false => Arc::clone(&before.snapshot.derived),
        };
        report_collisions(&catalogue, &before.snapshot.catalogue);
        self.meters.tools.set(catalogue.tools.len() as f64);
        let revision = catalogue.revision.clone();
        let n_tools = catalogue.tools.len();
        let changes = changes(&before.snapshot.catalogue.digests, &catalogue.digests);
        let snapshot = Arc::new(Snapshot { catalogue, derived });
        self.view.store(Arc::new(View::new(snapshot, roster, ways, kept)));
        // Told after the swap: whoever lists again because of it must see what is new.
        for change in changes {
            self.listeners.announce(&change);
        }
        if is_new {
            self.meters.published.increment(1);
            info!(endpoint = %self.id, revision, tools = n_tools, "catalogue published");
            self.revision.send_replace(revision);
        }
    }
}

/// The lists that differ.
pub(crate) fn changes(before: &Digests, after: &Digests) -> Vec<Change> {
    let mut changes = Vec::new();
    if before.tools != after.tools {
        changes.push(Change::Tools);
    }
    if before.prompts != after.prompts {
        changes.push(Change::Prompts);
    }
    if before.resources != after.resources {
        changes.push(Change::Resources);
    }
    changes
}

fn derive_from(derive: Option<&dyn Derive>, catalogue: &Arc<Catalogue>) -> Derived {
    derive.map_or_else(|| Arc::new(()) as Derived, |derive| derive.derive(catalogue))
}

/// Logs each collision once: when it first appears.
fn report_collisions(catalogue: &Catalogue, before: &Catalogue) {
    let known: HashMap<_, _> =
        before.collisions.iter().map(|collision| ((collision.kind, &collision.name), collision)).collect();
    for collision in &catalogue.collisions {
        if known.get(&(collision.kind, &collision.name)) == Some(&collision) {
            continue;
        }
        let upstreams: Vec<_> = collision.upstreams.iter().map(crate::UpstreamKey::as_str).collect();
        warn!(
            endpoint = %catalogue.endpoint,
            name = collision.name,
            ?upstreams,
            resolved = ?collision.resolved,
            "several upstreams claim one name"
        );
    }
}
