//! Who wants to hear that something has changed.
//!
//! Each listener has an inbox of distinct changes: what is still unread is not put in twice, so a slow listener costs
//! little and misses nothing but repetitions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::Wish;
use crate::handle::Handle;
use crate::tenant::Tenant;
use crate::upstream::Change;

/// How long arming may take before the listener is told what is armed so far.
const ARMING: Duration = Duration::from_millis(500);

/// Unread changes of one listener, at most: three lists and as many resources.
const MAX_UNREAD: usize = 1024;

/// What a listener wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Changes of the tool list.
    pub tools: bool,
    /// Changes of the prompt list.
    pub prompts: bool,
    /// Changes of the resource list.
    pub resources: bool,
    /// Updates of these resources, by the URIs that the endpoint shows, and of what lies below them.
    pub uris: Vec<String>,
}

/// An ear at an endpoint. Dropping `changes` unsubscribes.
#[derive(Debug)]
pub struct Listening {
    /// What will be heard: of the URIs those whose upstream has agreed so far, of the lists everything asked for.
    pub armed: Interest,
    /// What is heard.
    pub changes: Changes,
}

/// The changes a listener has not read yet.
pub struct Changes {
    inbox: Arc<Inbox>,
    /// Which upstreams watch resources for this listener, and which.
    watched: Vec<(Weak<Handle>, Arc<Watched>, Vec<String>)>,
    tasks: TaskTracker,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    interest: Interest,
    unread: Mutex<Unread>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Unread {
    changes: VecDeque<Change>,
    is_ended: bool,
}

// === impl Changes ===

impl Changes {
    /// The next change; `None` once the endpoint has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn recv(&mut self) -> Option<Change> {
        loop {
            let arrived = self.inbox.arrived.notified();
            {
                let mut unread = lock(&self.inbox.unread);
                match unread.changes.pop_front() {
                    Some(change) => return Some(change),
                    None if unread.is_ended => return None,
                    None => {}
                }
            }
            arrived.await;
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("interest", &self.inbox.interest).finish_non_exhaustive()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // A closing fleet ends every subscription anyway.
        let can_spawn = !self.tasks.is_closed() && tokio::runtime::Handle::try_current().is_ok();
        for (handle, watched, uris) in self.watched.drain(..) {
            watched.remove(&uris);
            let Some(handle) = handle.upgrade().filter(|_| can_spawn) else { continue };
            self.tasks.spawn(async move {
                handle.watch_resources(Instant::now() + ARMING).await;
            });
        }
    }
}

// === impl Inbox ===

impl Inbox {
    fn put(&self, change: &Change) {
        if !self.interest.covers(change) {
            return;
        }
        let mut unread = lock(&self.unread);
        if unread.changes.contains(change) {
            return;
        }
        if unread.changes.len() >= MAX_UNREAD {
            // Whoever reads so slowly learns at least that the resources are not what they were.
            unread.changes.retain(|unread| !matches!(unread, Change::Resource(_)));
            unread
                .changes
                .extend(self.interest.uris.iter().take(MAX_UNREAD / 2).cloned().map(Change::Resource));
        } else {
            unread.changes.push_back(change.clone());
        }
        drop(unread);
        self.arrived.notify_one();
    }

    fn end(&self) {
        lock(&self.unread).is_ended = true;
        self.arrived.notify_one();
    }
}

impl Interest {
    fn covers(&self, change: &Change) -> bool {
        match change {
            Change::Prompts => self.prompts,
            Change::Resource(uri) => self.uris.iter().any(|watched| is_below(uri, watched)),
            Change::Resources => self.resources,
            Change::Tools => self.tools,
        }
    }
}

/// Whether a resource is this one, or one below it.
fn is_below(uri: &str, watched: &str) -> bool {
    let Some(rest) = uri.strip_prefix(watched).filter(|_| !watched.is_empty()) else { return false };
    rest.is_empty() || watched.ends_with('/') || rest.starts_with(['/', '?', '#'])
}

// === Listeners ===

/// Every listener of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Vec<Weak<Inbox>>>);

impl Listeners {
    pub(crate) fn announce(&self, change: &Change) {
        for inbox in self.living() {
            inbox.put(change);
        }
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        for inbox in self.living() {
            inbox.end();
        }
    }

    fn add(&self, interest: Interest) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox { interest, unread: Mutex::default(), arrived: Notify::new() });
        lock(&self.0).push(Arc::downgrade(&inbox));
        inbox
    }

    fn living(&self) -> Vec<Arc<Inbox>> {
        let mut living = Vec::new();
        lock(&self.0).retain(|inbox| {
            let inbox = inbox.upgrade();
            living.extend(inbox.clone());
            inbox.is_some()
        });
        living
    }
}

/// A resource's URI as shown, and the one at its upstream.
type Shown = (String, String);

impl Tenant {
    /// Registers a listener, and has the upstreams watch the resources it asks for.
    pub(crate) async fn listen(
        &self,
        interest: Interest,
        capabilities: Option<&RawValue>,
        tasks: &TaskTracker,
    ) -> Listening {
        let view = self.view();
        let view = match interest.uris.is_empty() {
            true => view,
            false => self.view_declaring(view, capabilities, Wish::Item, None).await,
        };
        let mut by_upstream: Vec<(Arc<Handle>, Vec<Shown>)> = Vec::new();
        // Of resources that lead to nobody nothing is to be heard, whatever others hear of.
        let mut known = Vec::new();
        for uri in &interest.uris {
            let Some((key, original)) = view.snapshot.catalogue.resolve_uri(uri) else { continue };
            let Some(handle) = view.roster.upstreams.iter().find(|handle| handle.config.key == *key) else {
                continue;
            };
            known.push(uri.clone());
            let pair = (uri.clone(), original.into_owned());
            match by_upstream.iter_mut().find(|(known, _)| Arc::ptr_eq(known, handle)) {
                Some((_, pairs)) => pairs.push(pair),
                None => by_upstream.push((Arc::clone(handle), vec![pair])),
            }
        }
        // Listening begins before arming, so that what happens in between is heard.
        let inbox = self.listeners.add(Interest { uris: known, ..interest.clone() });
        if self.stop.is_cancelled() {
            inbox.end();
        }
        let mut watched = Vec::with_capacity(by_upstream.len());
        for (handle, pairs) in &by_upstream {
            let originals: Vec<_> = pairs.iter().map(|(_, original)| original.clone()).collect();
            handle.watched.add(&originals);
            watched.push((Arc::downgrade(handle), Arc::clone(&handle.watched), originals));
        }
        // From here on a dropped future unsubscribes.
        let changes = Changes { inbox, watched, tasks: tasks.clone() };
        let deadline = Instant::now() + ARMING;
        let arming = by_upstream.iter().map(async |(handle, pairs)| {
            let armed = handle.watch_resources(deadline).await;
            let is_armed = |original: &String| armed.contains(original);
            pairs.iter().filter(|(_, o)| is_armed(o)).map(|(uri, _)| uri.clone()).collect::<Vec<_>>()
        });
        let uris = join_all(arming).await.into_iter().flatten().collect();
        Listening { armed: Interest { uris, ..interest }, changes }
    }
}

// === Watched ===

/// How many listeners watch each resource of an upstream.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<std::collections::BTreeMap<String, usize>>);

impl Watched {
    fn add(&self, uris: &[String]) {
        let mut counts = lock(&self.0);
        for uri in uris {
            *counts.entry(uri.clone()).or_default() += 1;
        }
    }

    fn remove(&self, uris: &[String]) {
        let mut counts = lock(&self.0);
        for uri in uris {
            if let Some(count) = counts.get_mut(uri) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(uri);
                }
            }
        }
    }

    /// Every watched URI, sorted.
    pub(crate) fn uris(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
