//! The background task of each upstream: finds out what the server offers, and keeps finding out.
//!
//! 1. Introduce, list, read, publish. A failure is told in the catalogue and tried again soon: after about 250 ms at
//!    first, after 5 s at most, so that a server that was down at start is picked up when it appears.
//! 2. Then wait for the first of: the refresh interval, or the time for which the server says its lists are fresh if that is
//!    shorter; a change that the server announces (waiting a moment for more of
//!    them), or somebody who asks.
//!
//! A process that sleeps (idle, or started on demand) is left alone by 2. until a call wakes it or somebody asks.
//!
//! No upstream waits for another, and no call waits for a discovery. A retired upstream's discovery ends with the answer it
//! waits for: a reload that cut many of them short at once would look like an attack to a server that others share (HTTP/2
//! servers answer a burst of resets by closing the connection).

use std::sync::Arc;
use std::time::Duration;

use mpe_mcp_protocol::version::Era;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use crate::CheckerFactory;
use crate::catalog::listing::{Digests, Found, Listing};
use crate::handle::Handle;
use crate::lister::{Lister, overdue};
use crate::retry::Schedule;
use crate::tenant::{self, Tenant};
use crate::upstream::{Change, Introduction, UpstreamError};

/// The first and the longest pause between attempts to discover an upstream that is down.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait for more announcements after one: servers tend to send one per tool.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How often a server is asked what it speaks although nothing has gone wrong: one that was replaced by a newer version of
/// itself may speak more.
const REINTRODUCTION: Duration = Duration::from_secs(600);

/// A server whose lists are fresh for less is not asked more often than this.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// Discovers one upstream until it is retired.
pub(crate) async fn run(tenant: Arc<Tenant>, handle: Arc<Handle>, checkers: Option<Arc<dyn CheckerFactory>>) {
    let stop = tenant.stop.clone();
    let discovery = Discovery {
        wanted: handle.wanted.subscribe(),
        pauses: Schedule::steady(FIRST_PAUSE, MAX_PAUSE),
        introduction: None,
        other: None,
        tenant,
        handle,
        checkers,
    };
    stop.run_until_cancelled(discovery.repeat()).await;
}

/// On which terms a server gives its lists.
struct Terms {
    fresh_for: Duration,
    is_public: bool,
}

struct Discovery {
    tenant: Arc<Tenant>,
    handle: Arc<Handle>,
    checkers: Option<Arc<dyn CheckerFactory>>,
    wanted: watch::Receiver<u64>,
    pauses: Schedule,
    /// What the server said of itself; forgotten by an outage.
    introduction: Option<(Introduction, Instant)>,
    /// What it listed in its other era, since a caller of that has been here.
    other: Option<Found>,
}

impl Discovery {
    async fn repeat(mut self) {
        let mut ear = Ear {
            tenant: Arc::clone(&self.tenant),
            handle: Arc::clone(&self.handle),
            changes: None,
            heard: Vec::new(),
        };
        let retired = self.handle.retired.clone();
        while !retired.is_cancelled() {
            let asked = *self.wanted.borrow_and_update();
            let announced = std::mem::take(&mut ear.heard);
            let before = self.tenant.view().snapshot.catalogue.digests;
            let next = Instant::now()
                + match announced.is_empty() && self.lets_sleep(asked) {
                    true => Schedule::jittered(self.handle.config.refresh),
                    false => ear.open_during(self.once()).await,
                };
            self.handle.done.send_replace(asked);
            if !announced.is_empty() {
                self.tenant.is_published().await;
                self.pass_on(&announced, &before);
            }
            ear.open();
            tokio::select! {
                () = sleep_until(next) => {}
                _ = self.wanted.changed() => {}
                () = retired.cancelled() => return,
                () = ear.hears_of_a_list() => ear.open_during(sleep(DEBOUNCE)).await,
            }
        }
    }

    /// Whether the server sleeps and need not be woken: what it offers is known, and nobody asks for more.
    fn lets_sleep(&self, asked: u64) -> bool {
        asked == *self.handle.done.borrow() && self.handle.is_known() && self.handle.link.is_asleep()
    }

    /// Tells listeners what the server announced and the catalogue does not show: something else may have changed than
    /// what is listed, or listing may have failed.
    fn pass_on(&self, announced: &[Change], before: &Digests) {
        let told = tenant::changes(before, &self.tenant.view().snapshot.catalogue.digests);
        for change in announced.iter().filter(|change| !told.contains(change)) {
            self.tenant.listeners.announce(change);
        }
    }

    /// One discovery. Returns how long to wait before the next.
    async fn once(&mut self) -> Duration {
        let has_legacy_callers = self.handle.legacy_callers.are_about();
        let outcome = self.find(has_legacy_callers).await;
        if self.handle.retired.is_cancelled() {
            return Duration::ZERO;
        }
        self.handle.legacy_callers.looked(has_legacy_callers);
        self.handle.meters.discovered(outcome.is_ok());
        match outcome {
            Ok((found, terms)) => {
                self.pauses.reset();
                self.keep(found, terms.is_public).await;
                Schedule::jittered(self.handle.config.refresh).min(terms.fresh_for.max(SHORTEST_REFRESH))
            }
            Err(reason) => {
                self.introduction = None;
                self.other = None;
                let upstream = &self.handle.config.key;
                if self.handle.missed(reason.clone()) {
                    warn!(endpoint = %self.tenant.id, %upstream, reason, "upstream cannot be discovered");
                    self.tenant.touch();
                } else {
                    debug!(endpoint = %self.tenant.id, %upstream, reason, "upstream still cannot be discovered");
                }
                self.pauses.next()
            }
        }
    }

    async fn find(&mut self, has_legacy_callers: bool) -> Result<(Found, Terms), String> {
        let introduction = match &self.introduction {
            // A legacy server would have to begin a session anew; that of one that was replaced ends by itself.
            Some((known, since))
                if known.version.era() == Era::Legacy || since.elapsed() < REINTRODUCTION =>
            {
                known.clone()
            }
            Some(_) | None => {
                let introduction = self.introduce().await.map_err(|error| error.message)?;
                self.introduction = Some((introduction.clone(), Instant::now()));
                if !self.handle.watched.uris().is_empty() {
                    self.handle.watch_resources(Instant::now() + self.handle.config.timeout).await;
                }
                introduction
            }
        };
        let lister = Lister::new(&self.handle);
        let found = lister.found(introduction).await?;
        let terms = Terms { fresh_for: lister.fresh_for(), is_public: lister.is_public() };
        if !has_legacy_callers || found.introduction.version.era() == Era::Legacy {
            self.other = None;
            return Ok((found, terms));
        }
        match lister.found_in(Era::Legacy).await {
            Ok(other) => self.other = other,
            // What was listed last stays: the era that was found has just answered.
            Err(reason) => {
                debug!(upstream = %self.handle.config.key, reason, "the legacy era cannot be listed");
            }
        }
        let found = match &self.other {
            Some(other) => found.joined_with(other),
            None => found,
        };
        Ok((found, terms))
    }

    async fn introduce(&self) -> Result<Introduction, UpstreamError> {
        let deadline = Instant::now() + self.handle.config.timeout;
        let introduction = timeout_at(deadline, self.handle.link.introduce(deadline)).await;
        introduction.unwrap_or_else(|_| Err(overdue("the server did not introduce itself in time")))
    }

    async fn keep(&self, found: Found, is_public: bool) {
        let handle = Arc::clone(&self.handle);
        let checkers = self.checkers.clone();
        // Reading and compiling hundreds of schemas takes milliseconds; calls must not wait behind it.
        let read = tokio::task::spawn_blocking(move || {
            let known = handle.listing();
            Listing::read(found, &handle.config, checkers.as_deref(), known.as_deref())
        });
        let is_change = match read.await {
            Ok(listing) => {
                let (key, tools) = (&self.handle.config.key, listing.tools.len());
                let is_change = self.handle.found(listing, is_public);
                if is_change {
                    info!(endpoint = %self.tenant.id, upstream = %key, tools, "upstream discovered");
                }
                is_change
            }
            Err(panic) => self.handle.missed(format!("its list could not be read: {panic}")),
        };
        // It answers again: calls need not wait for the breaker's next probe.
        self.handle.breaker.close();
        if is_change {
            self.tenant.touch();
        }
    }
}

/// Hears what the server announces, also while something else is being done.
struct Ear {
    tenant: Arc<Tenant>,
    handle: Arc<Handle>,
    changes: Option<mpsc::Receiver<Change>>,
    /// Lists that are said to have changed.
    heard: Vec<Change>,
}

impl Ear {
    /// Begins to listen, where the server can announce and nobody listens yet.
    fn open(&mut self) {
        if self.changes.is_none() {
            self.changes = self.handle.link.changes();
        }
    }

    async fn open_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.hear() => {}
            }
        }
    }

    async fn hears_of_a_list(&mut self) {
        while self.heard.is_empty() {
            self.hear().await;
        }
    }

    /// One announcement. Never, from a server that cannot announce (any more: the next discovery asks again).
    async fn hear(&mut self) {
        let Some(changes) = &mut self.changes else { return std::future::pending().await };
        match changes.recv().await {
            None => self.changes = None,
            Some(Change::Resource(uri)) => {
                let view = self.tenant.view();
                let shown = view.snapshot.catalogue.exposed_uri(&self.handle.config.key, &uri);
                self.tenant.listeners.announce(&Change::Resource(shown.into_owned()));
            }
            Some(list) => {
                debug!(upstream = %self.handle.config.key, change = ?list, "the server announces a change");
                self.handle.note_announcement();
                if !self.heard.contains(&list) {
                    self.heard.push(list);
                }
            }
        }
    }
}
