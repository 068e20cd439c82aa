//! What clients see whose capabilities open other lists than those of clients that declare nothing.
//!
//! The catalogue is what servers list to somebody who declares nothing. A server may list more to a client that can be
//! asked, or less. For each set of capabilities that clients of an endpoint declare, such servers are listed once more,
//! when a client of that set first asks and again when its lists may have changed; where something differs, that set has a
//! catalogue of its own. Everybody else's stays as it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use mpe_mcp_protocol::version::Era;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error};

use crate::catalog::build::Share;
use crate::catalog::listing::{Digests, Found, Listing};
use crate::handle::Handle;
use crate::listen::Listeners;
use crate::lister::Lister;
use crate::tenant::{self, Tenant, View};
use crate::upstream::{Change, canonical};
use crate::{CheckerFactory, UpstreamKey};

/// Sets of capabilities of one endpoint at once, at most; whoever declares one more sees what everybody sees.
const MAX_SETS: usize = 64;

/// Ways of writing those sets that are remembered, at most.
const MAX_TEXTS: usize = 256;

/// Capabilities longer than this are nobody's: their client sees what everybody sees.
const MAX_LENGTH: usize = 4 << 10;

/// A set that nobody has declared for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// One that was declared more recently than this does not make room for another.
const IN_USE: Duration = Duration::from_secs(60);

/// For how long a server that lists the same to a set as to everybody is taken to go on so.
const SAME_FOR: Duration = Duration::from_secs(600);

/// Looks in a row because the server goes on announcing changes, at most.
const MAX_REPEATS: usize = 4;

/// How long a request waits until it is known what its client's set sees. What comes later is announced.
const LOOK: Duration = Duration::from_secs(3);

/// What a view is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// To call this tool: only what must be known for that is waited for.
    Tool(&'a str),
    /// To find something else that was listed before.
    Item,
    /// To list: what may have changed is looked at again.
    Lists,
}

/// Every set of capabilities that clients of one endpoint declare.
pub(crate) struct Variants {
    checkers: Option<Arc<dyn CheckerFactory>>,
    sets: Mutex<Sets>,
}

#[derive(Default)]
struct Sets {
    /// In one way of writing each.
    by_set: HashMap<Arc<str>, Arc<Variant>>,
    /// As clients write them, so that a call need not read them.
    by_text: HashMap<Box<str>, Arc<Variant>>,
}

/// One set of capabilities, and what is known of what it sees.
struct Variant {
    capabilities: Box<RawValue>,
    used: Mutex<Instant>,
    looks: Mutex<HashMap<UpstreamKey, Look>>,
    /// Counts the looks that have ended.
    n_looks: AtomicU64,
    /// Servers that were never looked at before and are being looked at.
    n_first: AtomicUsize,
    composed: Mutex<Option<Composed>>,
    /// Held while a catalogue is put together.
    composing: tokio::sync::Mutex<()>,
}

/// What is known of one server's lists.
#[derive(Default)]
struct Look {
    seen: Option<Seen>,
    /// Turns true when the look under way has ended.
    under_way: Option<watch::Receiver<bool>>,
}

/// What a look has found.
#[derive(Clone)]
struct Seen {
    handle: Weak<Handle>,
    at: Instant,
    /// What was known of the server when the look began.
    base: Base,
    is_failed: bool,
    /// `None`: what everybody sees.
    listing: Option<Arc<Listing>>,
}

/// How far everybody's knowledge of a server has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// Discoveries that have succeeded.
    pub(crate) rounds: u64,
    /// Changes of lists that the server has announced.
    pub(crate) announcements: u64,
    pub(crate) digests: Digests,
}

/// The view of a set.
struct Composed {
    base: Weak<View>,
    n_looks: u64,
    /// `None`: everybody's.
    view: Option<Arc<View>>,
}

impl Tenant {
    /// `view` as a client sees it that declares `capabilities`. Waits for servers whose lists it must look at, for a
    /// moment at most.
    pub(crate) async fn view_declaring(
        &self,
        view: Arc<View>,
        capabilities: Option<&RawValue>,
        wish: Wish<'_>,
        deadline: Option<Instant>,
    ) -> Arc<View> {
        let Some(variant) = self.variant(&view, capabilities) else { return view };
        if variant.is_looked_into() {
            if wish != Wish::Lists {
                let ours = self.composed(&variant, &view).await;
                match wish {
                    Wish::Tool(name) if ours.tool(name).is_none() => {}
                    _ => return ours,
                }
            }
        } else if let Wish::Tool(name) = wish
            && view.tool(name).is_some()
        {
            return view;
        }
        let looks = self.look_into(&variant, &view);
        if !looks.is_empty() {
            let patience = Instant::now() + LOOK;
            let deadline = deadline.map_or(patience, |deadline| deadline.min(patience));
            // What is not known by then is shown as everybody sees it.
            let _ = timeout_at(deadline, join_all(looks.into_iter().map(ended))).await;
        }
        self.composed(&variant, &self.view()).await
    }

    /// Begins to find out what a client sees that declares `capabilities`, because it will soon ask.
    pub(crate) fn foresee(&self, capabilities: Option<&RawValue>) {
        let view = self.view();
        if let Some(variant) = self.variant(&view, capabilities) {
            self.look_into(&variant, &view);
        }
    }

    /// The set, where what it sees may differ from what everybody sees.
    fn variant(&self, view: &View, capabilities: Option<&RawValue>) -> Option<Arc<Variant>> {
        let capabilities = capabilities.filter(|capabilities| view.may_vary && capabilities.get() != "{}")?;
        self.variants.of(capabilities)
    }

    /// Looks at the servers of which something may be unknown to this set.
    fn look_into(&self, variant: &Arc<Variant>, view: &View) -> Vec<watch::Receiver<bool>> {
        let varying = view.roster.varying();
        varying.filter_map(|handle| variant.look(handle, self)).collect()
    }

    /// The view of a set by what is known of it.
    async fn composed(&self, variant: &Arc<Variant>, view: &Arc<View>) -> Arc<View> {
        if let Some(known) = variant.known(view) {
            return known;
        }
        let _turn = variant.composing.lock().await;
        if let Some(known) = variant.known(view) {
            return known;
        }
        let (variant, base) = (Arc::clone(variant), Arc::clone(view));
        let (id, derive) = (self.id.clone(), self.derive.clone());
        let checkers = self.variants.checkers.clone();
        // As everybody's: schemas and documents take a while to derive, and calls must not wait behind them.
        let composed = tokio::task::spawn_blocking(move || {
            let n_looks = variant.n_looks.load(Ordering::Acquire);
            let shares = variant.shares(&base, checkers.as_deref());
            let ours = shares.map(|shares| View::varied(&id, &base, &shares, derive.as_deref()));
            let ours = ours.filter(|ours| ours.revision() != base.revision()).map(Arc::new);
            let view = ours.clone().unwrap_or_else(|| Arc::clone(&base));
            *lock(&variant.composed) = Some(Composed { base: Arc::downgrade(&base), n_looks, view: ours });
            view
        });
        composed.await.unwrap_or_else(|panic| {
            error!(endpoint = %self.id, %panic, "a client's catalogue could not be built; it sees everybody's");
            Arc::clone(view)
        })
    }
}

// === impl Variants ===

impl Variants {
    pub(crate) fn new(checkers: Option<Arc<dyn CheckerFactory>>) -> Self {
        Self { checkers, sets: Mutex::default() }
    }

    /// The set that these capabilities are; `None`: it has no place here.
    fn of(&self, capabilities: &RawValue) -> Option<Arc<Variant>> {
        let text = capabilities.get();
        if text.len() > MAX_LENGTH {
            return None;
        }
        let mut sets = lock(&self.sets);
        if let Some(variant) = sets.by_text.get(text) {
            variant.touch();
            return Some(Arc::clone(variant));
        }
        let set = canonical(capabilities);
        if set == "{}" {
            return None;
        }
        let variant = match sets.by_set.get(&*set) {
            Some(variant) => Arc::clone(variant),
            None => {
                sets.make_room()?;
                let variant = Arc::new(Variant::new(capabilities));
                sets.by_set.insert(Arc::from(&*set), Arc::clone(&variant));
                variant
            }
        };
        variant.touch();
        if sets.by_text.len() >= MAX_TEXTS {
            sets.by_text.clear();
        }
        sets.by_text.insert(text.into(), Arc::clone(&variant));
        Some(variant)
    }
}

impl Sets {
    /// Room for one more set; `None`: every one is in use.
    fn make_room(&mut self) -> Option<()> {
        self.by_set.retain(|_, variant| variant.idle_time() < MEMORY);
        if self.by_set.len() >= MAX_SETS {
            let idlest = self.by_set.iter().max_by_key(|(_, variant)| variant.idle_time())?;
            if idlest.1.idle_time() < IN_USE {
                debug!(MAX_SETS, "clients declare more sets of capabilities than are told apart");
                return None;
            }
            let idlest = Arc::clone(idlest.0);
            self.by_set.remove(&idlest);
        }
        let kept = &self.by_set;
        self.by_text.retain(|_, variant| kept.values().any(|one| Arc::ptr_eq(one, variant)));
        Some(())
    }
}

// === impl Variant ===

impl Variant {
    fn new(capabilities: &RawValue) -> Self {
        Self {
            capabilities: capabilities.to_owned(),
            used: Mutex::new(Instant::now()),
            looks: Mutex::default(),
            n_looks: AtomicU64::new(0),
            n_first: AtomicUsize::new(0),
            composed: Mutex::default(),
            composing: tokio::sync::Mutex::default(),
        }
    }

    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    fn idle_time(&self) -> Duration {
        lock(&self.used).elapsed()
    }

    /// Whether something is known of every server that was asked for this set.
    fn is_looked_into(&self) -> bool {
        self.n_looks.load(Ordering::Acquire) > 0 && self.n_first.load(Ordering::Acquire) == 0
    }

    /// The view that was put together of all that is known now.
    fn known(&self, base: &Arc<View>) -> Option<Arc<View>> {
        let composed = lock(&self.composed);
        let composed = composed.as_ref()?;
        let is_current = std::ptr::eq(composed.base.as_ptr(), Arc::as_ptr(base))
            && composed.n_looks == self.n_looks.load(Ordering::Acquire);
        is_current.then(|| Arc::clone(composed.view.as_ref().unwrap_or(base)))
    }

    /// What each server brings into the catalogue of this set; `None`: the same as into everybody's.
    fn shares(&self, view: &View, checkers: Option<&dyn CheckerFactory>) -> Option<Vec<Share>> {
        let looks: HashMap<UpstreamKey, Seen> = {
            let looks = lock(&self.looks);
            looks.iter().filter_map(|(key, look)| Some((key.clone(), look.seen.clone()?))).collect()
        };
        let mut is_own = false;
        let is_alone = view.roster.transparent().is_some();
        let mut share = |handle: &Arc<Handle>| {
            let mut share = handle.share();
            let seen = looks.get(&handle.config.key);
            let seen = seen.filter(|_| handle.may_vary(is_alone));
            if let Some(listing) = seen.and_then(|seen| seen.listing_for(handle, checkers)) {
                share.listing = Some(listing);
                is_own = true;
            }
            share
        };
        let shares: Vec<_> = view.roster.upstreams.iter().map(&mut share).collect();
        is_own.then_some(shares)
    }

    /// Looks at what a server lists to this set, unless that is known. Returns what to wait for.
    fn look(self: &Arc<Self>, handle: &Arc<Handle>, tenant: &Tenant) -> Option<watch::Receiver<bool>> {
        let base = handle.base()?;
        let mut looks = lock(&self.looks);
        let look = looks.entry(handle.config.key.clone()).or_default();
        if let Some(under_way) =
            look.under_way.as_ref().filter(|look| !*look.borrow() && look.has_changed().is_ok())
        {
            return Some(under_way.clone());
        }
        if look.seen.as_ref().is_some_and(|seen| seen.is_current(handle, base)) {
            return None;
        }
        let first = look.seen.is_none().then(|| First::of(self));
        let (done, under_way) = watch::channel(false);
        look.under_way = Some(under_way.clone());
        drop(looks);
        let stop = tenant.stop.clone();
        let looking = Arc::clone(self).find_out(
            Arc::clone(handle),
            tenant.variants.checkers.clone(),
            Arc::clone(&tenant.listeners),
        );
        // Owned by the endpoint: it ends with it, and with what its server takes for a list at most.
        tokio::spawn(async move {
            stop.run_until_cancelled(looking).await;
            drop(first);
            done.send_replace(true);
        });
        Some(under_way)
    }

    /// Looks until nothing has been announced meanwhile: whoever waits was told of that, and asks because of it.
    async fn find_out(
        self: Arc<Self>,
        handle: Arc<Handle>,
        checkers: Option<Arc<dyn CheckerFactory>>,
        listeners: Arc<Listeners>,
    ) {
        let begun = Instant::now();
        for _ in 0..MAX_REPEATS {
            let Some(base) = handle.base() else { return };
            let changes = self.look_once(&handle, base, checkers.clone()).await;
            self.n_looks.fetch_add(1, Ordering::Release);
            // Whoever asked has had its answer, without this.
            if begun.elapsed() >= LOOK {
                changes.iter().for_each(|change| listeners.announce(change));
            }
            if handle.base().is_none_or(|now| now.announcements == base.announcements) {
                return;
            }
        }
    }

    /// What has changed for this set.
    async fn look_once(
        &self,
        handle: &Arc<Handle>,
        base: Base,
        checkers: Option<Arc<dyn CheckerFactory>>,
    ) -> Vec<Change> {
        let read = match find(handle, &self.capabilities).await {
            Ok(found) => read(found, handle, checkers.clone()).await,
            Err(reason) => Err(reason),
        };
        let is_failed = read.is_err();
        let seen = lock(&self.looks).entry(handle.config.key.clone()).or_default().seen.clone();
        let ours = Arc::clone(handle);
        // Of a server whose configuration has changed, what it listed is read anew: not here, and not under the lock.
        let before = tokio::task::spawn_blocking(move || seen?.listing_for(&ours, checkers.as_deref()));
        let before = before.await.unwrap_or_default();
        let mut looks = lock(&self.looks);
        let look = looks.entry(handle.config.key.clone()).or_default();
        let listing = match read {
            Ok(listing) => listing,
            Err(reason) => {
                let upstream = &handle.config.key;
                debug!(%upstream, reason, "what it lists to a client of other capabilities is not known");
                before.clone()
            }
        };
        let digests =
            |listing: &Option<Arc<Listing>>| listing.as_ref().map_or(base.digests, |own| own.digests);
        let changes = tenant::changes(&digests(&before), &digests(&listing));
        look.seen =
            Some(Seen { handle: Arc::downgrade(handle), at: Instant::now(), base, is_failed, listing });
        changes
    }
}

/// Counts a server that is looked at for the first time, until that has ended.
struct First(Arc<Variant>);

impl First {
    fn of(variant: &Arc<Variant>) -> Self {
        variant.n_first.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(variant))
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.0.n_first.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The end of a look.
async fn ended(mut look: watch::Receiver<bool>) {
    let _ = look.wait_for(|done| *done).await;
}

/// What a server lists to a client that declares `capabilities`.
async fn find(handle: &Handle, capabilities: &RawValue) -> Result<Found, String> {
    let known = handle.listing().ok_or("nothing is known of it")?;
    let lister = Lister::declaring(handle, capabilities);
    let found = lister.found(known.introduction.clone()).await?;
    if !handle.legacy_callers.are_about() || found.introduction.version.era() == Era::Legacy {
        return Ok(found);
    }
    Ok(match lister.found_in(Era::Legacy).await? {
        Some(other) => found.joined_with(&other),
        None => found,
    })
}

/// Reads it; `None`: it is what everybody sees.
async fn read(
    found: Found,
    handle: &Arc<Handle>,
    checkers: Option<Arc<dyn CheckerFactory>>,
) -> Result<Option<Arc<Listing>>, String> {
    let known = handle.listing();
    let (ours, everybodys) = (Arc::clone(handle), known.clone());
    let listing = tokio::task::spawn_blocking(move || {
        Listing::read(found, &ours.config, checkers.as_deref(), everybodys.as_deref())
    });
    let listing = listing.await.map_err(|panic| format!("its list could not be read: {panic}"))?;
    let is_same = known.is_some_and(|known| known.shows_the_same_as(&listing));
    Ok((!is_same).then(|| Arc::new(listing)))
}

// === impl Seen ===

impl Seen {
    fn is_of(&self, handle: &Arc<Handle>) -> bool {
        std::ptr::eq(self.handle.as_ptr(), Arc::as_ptr(handle))
    }

    /// What was seen, for this server: of one that another configuration has taken the place of, what this one lets through.
    fn listing_for(
        &self,
        handle: &Arc<Handle>,
        checkers: Option<&dyn CheckerFactory>,
    ) -> Option<Arc<Listing>> {
        let listing = self.listing.as_ref()?;
        if self.is_of(handle) {
            return Some(Arc::clone(listing));
        }
        Some(Arc::new(Listing::read(listing.found(), &handle.config, checkers, Some(listing))))
    }

    /// Whether looking again would tell nothing new, as far as anybody knows.
    fn is_current(&self, handle: &Arc<Handle>, now: Base) -> bool {
        if !self.is_of(handle) || self.base.announcements != now.announcements {
            return false;
        }
        let is_of_this_round = self.base.rounds == now.rounds;
        match self.listing {
            // A server that makes no difference is not asked every time.
            None if !self.is_failed => {
                is_of_this_round || (self.base.digests == now.digests && self.at.elapsed() < SAME_FOR)
            }
            _ => is_of_this_round,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
