//! One configured upstream while the engine runs: the way to it, and everything that guards the way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mpe_mcp_protocol::version::Era;
use mpe_transport::Origin;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::breaker::Breaker;
use crate::catalog::build::Share;
use crate::catalog::listing::{Listing, is_wanted};
use crate::eras::{Kind, LegacyCallers};
use crate::hedge::Hedge;
use crate::limit::Gate;
use crate::listen::Watched;
use crate::metrics::UpstreamMeters;
use crate::outputs::Pace;
use crate::performance::{OriginPerformance, Recorder};
use crate::retry::{Budget, Repeatability};
use crate::reuse::Reuse;
use crate::upstream::Upstream;
use crate::variants::Base;
use crate::{Lists, Target, UpstreamConfig, UpstreamState};

/// A configured upstream.
pub(crate) struct Handle {
    pub(crate) config: UpstreamConfig,
    pub(crate) link: Arc<dyn Upstream>,
    pub(crate) gate: Gate,
    /// Of tools that have limits of their own, by original name.
    tool_gates: HashMap<String, Gate>,
    pub(crate) breaker: Breaker,
    pub(crate) budget: Budget,
    /// `None`: every call is made.
    pub(crate) reuse: Option<Reuse>,
    /// `None`: no call is made twice because it takes long.
    pub(crate) hedge: Option<Hedge>,
    /// Paces the looks at results.
    pub(crate) outputs: Pace,
    /// Counts attempts. Of a server with several addresses each address counts its own beside.
    pub(crate) recorder: Arc<Recorder>,
    /// The records that are shown.
    records: Vec<(String, Arc<Recorder>)>,
    pub(crate) meters: UpstreamMeters,
    /// Ends when nobody holds the handle any more: no catalogue, no call, no discovery.
    holders: TaskTracker,
    _held: TaskTrackerToken,
    /// Cancelled when the upstream is retired: its discovery ends with the answer that it waits for.
    pub(crate) retired: CancellationToken,
    /// The newest discovery somebody asked for, and the newest that has ended.
    pub(crate) wanted: watch::Sender<u64>,
    pub(crate) done: watch::Sender<u64>,
    /// Callers of the legacy era, for whom a server may have more.
    pub(crate) legacy_callers: LegacyCallers,
    /// Discoveries that have succeeded.
    rounds: AtomicU64,
    /// Changes of lists that the server has announced.
    announcements: AtomicU64,
    /// Resources that somebody listens to.
    pub(crate) watched: Arc<Watched>,
    /// Held while the upstream is told what to watch, so that the last word is the newest.
    watching: tokio::sync::Mutex<()>,
    standing: Mutex<Standing>,
}

#[derive(Clone)]
struct Standing {
    state: UpstreamState,
    listing: Option<Arc<Listing>>,
    /// The server says that every client sees the same lists.
    is_public: bool,
}

/// What a [`Handle`] is given from outside its configuration.
pub(crate) struct Parts {
    pub(crate) link: Arc<dyn Upstream>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) records: Vec<(String, Arc<Recorder>)>,
    pub(crate) meters: UpstreamMeters,
    /// What an earlier upstream of the same key listed; shown until the first discovery has ended.
    pub(crate) inherited: Option<Arc<Listing>>,
    pub(crate) state: UpstreamState,
    /// What listeners want watched at an upstream of this key.
    pub(crate) watched: Arc<Watched>,
}

impl Handle {
    pub(crate) fn new(config: UpstreamConfig, parts: Parts) -> Self {
        let holders = TaskTracker::new();
        Self {
            _held: holders.token(),
            holders,
            gate: Gate::new(&config.limits),
            tool_gates: config
                .tool_limits
                .iter()
                .map(|(tool, limits)| (tool.clone(), Gate::of(limits.max_in_flight, limits.max_waiting)))
                .collect(),
            breaker: Breaker::new(config.breaker.clone()),
            budget: Budget::new(&config.retry),
            reuse: Reuse::new(config.reuse.clone()),
            hedge: config.hedge.clone().map(Hedge::new),
            outputs: Pace::new(),
            link: parts.link,
            recorder: parts.recorder,
            records: parts.records,
            meters: parts.meters,
            retired: CancellationToken::new(),
            wanted: watch::Sender::new(0),
            done: watch::Sender::new(0),
            legacy_callers: LegacyCallers::default(),
            rounds: AtomicU64::new(0),
            announcements: AtomicU64::new(0),
            watched: parts.watched,
            watching: tokio::sync::Mutex::new(()),
            standing: Mutex::new(Standing { state: parts.state, listing: parts.inherited, is_public: false }),
            config,
        }
    }

    /// Its performance records by name: one, or one for each of its addresses.
    pub(crate) fn performance(&self) -> Vec<(String, OriginPerformance)> {
        self.records.iter().map(|(name, recorder)| (name.clone(), recorder.snapshot())).collect()
    }

    /// The gate of a tool that has limits of its own.
    pub(crate) fn tool_gate(&self, original_name: &str) -> Option<&Gate> {
        // Most upstreams have none, and need not hash the name to know it.
        if self.tool_gates.is_empty() { None } else { self.tool_gates.get(original_name) }
    }

    /// Whether a tool that is not listed may be asked for by name.
    pub(crate) fn may_forward(&self, tool: &str) -> bool {
        let listing = self.listing();
        let is_rejected =
            listing.is_some_and(|listing| listing.rejected.iter().any(|(name, _)| name == tool));
        let is_renamed = self.config.overrides.get(tool).is_some_and(|wish| wish.name.is_some());
        is_wanted(&self.config, tool) && !is_rejected && !is_renamed
    }

    /// Whether the operator says that a tool may run twice.
    pub(crate) fn is_repeatable(&self, original_name: &str) -> bool {
        self.config.repeatable.iter().any(|name| name == original_name)
    }

    /// Whether calls of a tool may run twice, as far as anybody knows.
    pub(crate) fn repeatability(&self, tool: &crate::CatalogueTool) -> Repeatability {
        if self.is_repeatable(&tool.original_name) {
            return Repeatability::Operator;
        }
        Repeatability::of(tool.tool.annotations(), self.config.trust_annotations)
    }

    /// The last good listing.
    pub(crate) fn listing(&self) -> Option<Arc<Listing>> {
        self.lock().listing.clone()
    }

    /// Whether it is known what the server offers under this configuration.
    pub(crate) fn is_known(&self) -> bool {
        let standing = self.lock();
        standing.listing.is_some() && standing.state != UpstreamState::Discovering
    }

    /// The only era in which it lists this; `None`: any.
    pub(crate) fn only_in(&self, kind: Kind, name: &str) -> Option<Era> {
        self.listing()?.divide.only_in(kind, name)
    }

    /// Takes notice of a caller's era. True when what is offered in it has yet to be found out: then wait for
    /// [`Handle::discovered_anew`].
    pub(crate) fn meet(&self, era: Option<Era>) -> bool {
        // A process keeps its era, and a sleeping one need not be woken for the question; a pin holds for everybody.
        let has_one_era =
            matches!(self.config.target, Target::Stdio { .. }) || self.config.era != crate::Era::Auto;
        if era != Some(Era::Legacy) || has_one_era {
            return false;
        }
        self.legacy_callers.meet();
        !self.legacy_callers.is_looked_into()
    }

    /// What it brings into the catalogue now.
    pub(crate) fn share(&self) -> Share {
        let Standing { state, listing, .. } = self.lock().clone();
        Share { key: self.config.key.clone(), state, listing }
    }

    /// The server has said that a list has changed.
    pub(crate) fn note_announcement(&self) {
        self.announcements.fetch_add(1, Ordering::Relaxed);
    }

    /// How far everybody's knowledge of the server has come; `None`: nothing is known.
    pub(crate) fn base(&self) -> Option<Base> {
        Some(Base {
            rounds: self.rounds.load(Ordering::Relaxed),
            announcements: self.announcements.load(Ordering::Relaxed),
            digests: self.lock().listing.as_ref()?.digests,
        })
    }

    /// Whether its lists may depend on what a client declares. `is_alone`: it is the only one, and its names are
    /// untouched.
    pub(crate) fn may_vary(&self, is_alone: bool) -> bool {
        let standing = self.lock();
        let Some(listing) = standing.listing.as_ref() else { return false };
        match (self.config.lists, &self.config.target) {
            (Lists::Shared, _) => false,
            (Lists::PerClient, _) => true,
            // A legacy server would need a process for each set of capabilities; one that shows nothing is worth that.
            (Lists::Auto, Target::Stdio { .. }) => is_alone && listing.tools.is_empty(),
            (Lists::Auto, _) => !standing.is_public,
        }
    }

    /// A discovery succeeded. True when this changes the catalogue.
    pub(crate) fn found(&self, listing: Listing, is_public: bool) -> bool {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        let mut standing = self.lock();
        let is_same = standing.state == UpstreamState::Up
            && standing.is_public == is_public
            && standing.listing.as_ref().is_some_and(|known| known.shows_the_same_as(&listing));
        if is_same {
            return false;
        }
        *standing = Standing { state: UpstreamState::Up, listing: Some(Arc::new(listing)), is_public };
        true
    }

    /// A discovery failed. True when this changes the catalogue.
    pub(crate) fn missed(&self, error: String) -> bool {
        let mut standing = self.lock();
        let state = match standing.listing {
            Some(_) => UpstreamState::Stale { error },
            None => UpstreamState::Down { error },
        };
        let is_change = standing.state != state;
        standing.state = state;
        is_change
    }

    /// Asks for a discovery. Returns its number.
    pub(crate) fn discover_anew(&self) -> u64 {
        let mut asked = 0;
        self.wanted.send_modify(|wanted| {
            *wanted += 1;
            asked = *wanted;
        });
        asked
    }

    /// Asks for a discovery and waits until one that began after the question has ended.
    pub(crate) async fn discovered_anew(&self) {
        let asked = self.discover_anew();
        let mut done = self.done.subscribe();
        // A retired upstream answers no more.
        tokio::select! {
            _ = done.wait_for(|done| *done >= asked) => {}
            () = self.retired.cancelled() => {}
        }
    }

    /// Tells the upstream which resources are watched now. Returns those that it watches by `deadline`.
    pub(crate) async fn watch_resources(&self, deadline: Instant) -> Vec<String> {
        let arming = async {
            let _turn = self.watching.lock().await;
            self.link.watch_resources(self.watched.uris(), deadline).await
        };
        timeout_at(deadline, arming).await.unwrap_or_default()
    }

    /// Resolves when the last holder of this handle has dropped it.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let holders = self.holders.clone();
        holders.close();
        async move { holders.wait().await }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Under which names the performance records of an upstream stand.
pub(crate) fn origin_texts(config: &UpstreamConfig) -> Vec<String> {
    match &config.target {
        Target::Balanced { urls, wire, .. } => urls.iter().map(|url| origin_text(url, *wire)).collect(),
        Target::Custom(_) => vec![format!("custom:{}", config.key)],
        Target::Http { url, wire, .. } => vec![origin_text(url, *wire)],
        Target::Stdio { .. } => vec![format!("stdio:{}", config.key)],
    }
}

/// Without scheme and host there is no origin; connecting says so.
fn origin_text(url: &http::Uri, wire: mpe_transport::Wire) -> String {
    Origin::of(url, wire).map_or_else(|_| url.to_string(), |origin| origin.to_string())
}
