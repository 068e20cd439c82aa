//! Sessions of legacy servers: one per set of client capabilities, one handshake at a time, ended when idle.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::{HeaderMap, HeaderValue};
use mpe_mcp_protocol::header::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use mpe_mcp_protocol::jsonrpc::Id;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::Sent;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::UpstreamError;
use super::super::listener::LogLevel;
use super::Inner;
use super::background::Background;
use crate::CallContext;

/// Sets of capabilities that sessions are kept for, at most. The least recently used one is retired beyond.
const MAX_SESSIONS: usize = 64;
/// A session that nobody has used for so long, nor listens in, is ended at the server.
const IDLE: Duration = Duration::from_secs(300);
/// How often idle sessions are looked for.
const CHECK: Duration = Duration::from_secs(60);

/// One session with a legacy server.
#[derive(Debug)]
pub(super) struct Session {
    /// `Mcp-Session-Id`, where the server gave one.
    pub(super) id: Option<HeaderValue>,
    /// The revision that was negotiated.
    pub(super) version: ProtocolVersion,
    /// The most verbose level that was asked for.
    pub(super) level: tokio::sync::Mutex<Option<LogLevel>>,
    /// Whether the server offers logging.
    pub(super) has_logging: bool,
    /// Resources it is subscribed to.
    pub(super) subscribed: tokio::sync::Mutex<BTreeSet<String>>,
    /// Calls under way whose caller can be asked, with their deadlines.
    calls: Mutex<HashMap<Id, (Arc<CallContext>, Instant)>>,
    /// Every call under way.
    pub(super) in_flight: TaskTracker,
    /// Cancelled when the session is over.
    pub(super) stop: CancellationToken,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Takes a call out of its session again.
pub(super) struct Presence<'a> {
    session: &'a Session,
    id: Id,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.session.calls().remove(&self.id);
    }
}

impl Session {
    pub(super) fn new(id: Option<HeaderValue>, version: ProtocolVersion, has_logging: bool) -> Self {
        Self {
            id,
            version,
            level: tokio::sync::Mutex::new(None),
            has_logging,
            subscribed: tokio::sync::Mutex::default(),
            calls: Mutex::default(),
            in_flight: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Counts a call as under way until the guard is dropped.
    pub(super) fn enter(&self, id: &Id, context: &Arc<CallContext>, deadline: Instant) -> Presence<'_> {
        self.calls().insert(id.clone(), (Arc::clone(context), deadline));
        Presence { session: self, id: id.clone() }
    }

    /// The call under way, if there is just one.
    pub(super) fn only_call(&self) -> Option<(Arc<CallContext>, Instant)> {
        let calls = self.calls();
        calls.values().next().filter(|_| calls.len() == 1).cloned()
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<Id, (Arc<CallContext>, Instant)>> {
        self.calls.lock().expect("nothing panics while it holds this lock")
    }

    /// Adds what every request of this session carries.
    pub(super) fn stamp(&self, headers: &mut HeaderMap) {
        if let Some(id) = &self.id {
            headers.insert(MCP_SESSION_ID, id.clone());
        }
        // 2025-06-18 brought the header; older servers have not heard of it.
        if self.version >= ProtocolVersion::V2025_06_18 {
            headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(self.version.as_str()));
        }
    }
}

/// Where the session for one set of capabilities stands.
#[derive(Debug, Default)]
pub(super) struct Slot {
    current: ArcSwapOption<Session>,
    /// Held during a handshake, so that everybody else waits for that one.
    handshake: tokio::sync::Mutex<()>,
    used: AtomicU64,
    last_use: Mutex<Option<Instant>>,
}

/// Every session with one server.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
    clock: AtomicU64,
    /// Looks for idle ones.
    tending: Background,
}

impl Sessions {
    /// The session for these capabilities; `open` makes one where there is none. One handshake is under way at a
    /// time; when the call that makes it goes away, the next waiter takes over.
    pub(super) async fn get<F>(
        &self,
        capabilities: &str,
        deadline: Instant,
        open: impl FnOnce() -> F,
    ) -> Result<(Arc<Session>, Option<Arc<Session>>), UpstreamError>
    where
        F: Future<Output = Result<Arc<Session>, UpstreamError>>,
    {
        let (slot, evicted) = self.slot(capabilities);
        if let Some(session) = slot.current.load_full() {
            return Ok((session, evicted));
        }
        let handshake = timeout_at(deadline, slot.handshake.lock()).await;
        let _handshake = handshake.map_err(|_| UpstreamError::deadline(Sent::No, "a session"))?;
        if let Some(session) = slot.current.load_full() {
            return Ok((session, evicted));
        }
        let session = open().await.map_err(UpstreamError::before_sending)?;
        slot.current.store(Some(Arc::clone(&session)));
        Ok((session, evicted))
    }

    /// Puts a session there; gives back the one it replaces.
    pub(super) fn put(&self, capabilities: &str, session: Session) -> Option<Arc<Session>> {
        let (slot, _) = self.slot(capabilities);
        slot.current.swap(Some(Arc::new(session)))
    }

    /// Forgets a session the server no longer knows; whoever asks next makes a new one. A newer one stays.
    pub(super) fn forget(&self, capabilities: &str, session: &Arc<Session>) {
        let slots = self.slots.lock().expect("nothing panics while it holds this lock");
        if let Some(slot) = slots.get(capabilities)
            && slot.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, session))
        {
            slot.current.store(None);
            session.stop.cancel();
        }
    }

    fn is_empty(&self) -> bool {
        self.slots.lock().expect("nothing panics while it holds this lock").is_empty()
    }

    /// Takes every session out.
    pub(super) fn take_all(&self) -> Vec<Arc<Session>> {
        let mut slots = self.slots.lock().expect("nothing panics while it holds this lock");
        slots.drain().filter_map(|(_, slot)| slot.current.swap(None)).collect()
    }

    fn slot(&self, capabilities: &str) -> (Arc<Slot>, Option<Arc<Session>>) {
        let mut slots = self.slots.lock().expect("nothing panics while it holds this lock");
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = slots.get(capabilities) {
            slot.touch(now);
            return (Arc::clone(slot), None);
        }
        let evicted = (slots.len() >= MAX_SESSIONS).then(|| evict(&mut slots)).flatten();
        let slot = Arc::<Slot>::default();
        slot.touch(now);
        slots.insert(Arc::from(capabilities), Arc::clone(&slot));
        (slot, evicted)
    }

    /// Takes out what nobody has used for that long, nor uses now.
    fn take_idle(&self, limit: Duration) -> Vec<Arc<Session>> {
        let mut slots = self.slots.lock().expect("nothing panics while it holds this lock");
        let mut idle = Vec::new();
        slots.retain(|_, slot| {
            let keeps = slot.is_in_use() || slot.last_use().elapsed() < limit;
            if !keeps {
                idle.extend(slot.current.swap(None));
            }
            keeps
        });
        idle
    }
}

impl Slot {
    fn touch(&self, now: u64) {
        self.used.store(now, Ordering::Relaxed);
        *self.last_use.lock().expect("nothing panics while it holds this lock") = Some(Instant::now());
    }

    fn last_use(&self) -> Instant {
        let last = *self.last_use.lock().expect("nothing panics while it holds this lock");
        last.unwrap_or_else(Instant::now)
    }

    /// Whether a call, a handshake or somebody who listens holds the session.
    fn is_in_use(&self) -> bool {
        // This look holds it, and so does the slot.
        self.handshake.try_lock().is_err()
            || self.current.load_full().is_some_and(|session| Arc::strong_count(&session) > 2)
    }
}

/// Ends sessions that nobody uses any more, as long as there are any.
pub(super) fn retire_when_idle(inner: &Arc<Inner>) {
    inner.sessions.tending.start(inner, tend);
}

async fn tend(weak: Weak<Inner>) {
    loop {
        sleep(CHECK).await;
        let Some(inner) = weak.upgrade() else { return };
        for session in inner.sessions.take_idle(IDLE) {
            inner.retire(session);
        }
        if inner.sessions.tending.is_over(|| !inner.sessions.is_empty()) {
            return;
        }
    }
}

/// Takes out the least recently used slot. Calls under way in its session go on; it only gets no new ones.
fn evict(slots: &mut HashMap<Arc<str>, Arc<Slot>>) -> Option<Arc<Session>> {
    let oldest = slots.iter().min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed));
    let key = oldest.map(|(key, _)| Arc::clone(key))?;
    slots.remove(&key)?.current.swap(None)
}
