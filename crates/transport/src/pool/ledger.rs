//! Who holds which place on which connection: the pool's bookkeeping, as a pure state machine.
//!
//! Events go in (`checkout`, `connected`, `released`, …), [`Action`]s come out. There is no IO, no clock and no lock
//! in here: time is an argument, connections and waiters are opaque payloads. A connection's life:
//!
//! ```text
//!   connect ──ok──▶ Open ──GOAWAY, age──▶ Draining ──last stream──▶ Closing ──gone──▶ (forgotten)
//!      │                └──idle too long, limit──────────────────────▲
//!      └──failed──▶ (forgotten)
//! ```
//!
//! It counts against `max_connections` from the first byte of the dial until it is gone.
//!
//! **Fairness.** Waiters of one origin are served in the order they came. Between origins that all want a connection,
//! the one whose first waiter is oldest goes first; an origin that has no connection at all while the limit is
//! reached makes the least loaded connection of another origin drain, so that nobody waits behind a busy neighbour
//! for ever.

mod steps;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::slab::Slab;
use super::{ConnectionId, OriginSnapshot, PoolSnapshot, Protocol};
use crate::info::ConnectTimes;
use crate::metrics::Totals;
use crate::{Origin, PoolConfig};

/// What the bookkeeping may hand out.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) idle: usize,
    pub(crate) idle_for: Duration,
    pub(crate) age: Option<Duration>,
    pub(crate) streams: usize,
    pub(crate) waiting: usize,
}

impl From<&PoolConfig> for Limits {
    fn from(config: &PoolConfig) -> Self {
        Self {
            connections: config.max_connections.max(1),
            idle: config.max_keepalive_connections,
            idle_for: config.keepalive_expiry,
            age: config.max_connection_age,
            streams: config.max_streams.max(1),
            waiting: config.max_waiting,
        }
    }
}

impl Limits {
    /// How long an idle connection over the limit is kept; with a limit of none, not at all.
    fn surplus_for(&self) -> Duration {
        if self.idle == 0 { Duration::ZERO } else { SURPLUS.min(self.idle_for) }
    }
}

/// An origin's place in the book.
pub(crate) type OriginKey = u32;

/// A waiter's place in the queue; a smaller one came earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// A connection's place in the book. The id tells a reused slot from the connection the key was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    slot: u32,
    pub(crate) id: ConnectionId,
}

/// A place on a connection. Whoever gets one owes the book a [`Ledger::released`].
#[derive(Debug)]
pub(crate) struct Grant<C> {
    pub(crate) connection: ConnectionKey,
    pub(crate) link: C,
    /// Whether the connection had served an exchange before.
    pub(crate) reused: bool,
}

/// A connection that has just opened.
#[derive(Debug)]
pub(crate) struct Up<C> {
    pub(crate) link: C,
    pub(crate) protocol: Protocol,
    /// Streams the peer allows.
    pub(crate) capacity: usize,
    pub(crate) times: ConnectTimes,
}

/// What becomes of a checkout.
#[derive(Debug)]
pub(crate) enum Checkout<C> {
    /// The pool is closed.
    Closed,
    /// Every waiting place is taken.
    Exhausted { connections: usize, waiting: usize },
    /// A place on an open connection.
    Granted(Grant<C>),
    /// The waiter is in the queue.
    Waiting(OriginKey, Ticket),
}

/// What the outside has to do.
#[derive(Debug)]
pub(crate) enum Action<W, C> {
    /// Close a connection without streams; report [`Ledger::closed`] when it is gone.
    Close(C),
    /// Open a connection; report [`Ledger::connected`] or [`Ledger::closed`].
    Connect { origin: Origin, connection: ConnectionKey, http1_only: bool, totals: Arc<Totals> },
    /// Tell a waiter that no connection could be made or that the pool has closed.
    Fail(W),
    /// Hand a place to a waiter.
    Grant(W, Grant<C>),
    /// Call [`Ledger::tick`] at this moment; replaces a later one.
    Wake(Instant),
}

/// How a place comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The connection can serve on.
    Reusable,
    /// The connection is spent: an HTTP/1.1 exchange was cut short.
    Spent,
}

/// The book.
#[derive(Debug)]
pub(crate) struct Ledger<W, C> {
    limits: Limits,
    index: HashMap<Origin, OriginKey, RandomState>,
    origins: Slab<OriginBook<W>>,
    connections: Slab<ConnectionBook<C>>,
    /// Connections without streams, longest idle first.
    idle: BTreeMap<(Instant, ConnectionId), u32>,
    waiting: usize,
    /// Connections told to close and not yet gone.
    closing: usize,
    next_connection: u64,
    next_ticket: u64,
    /// When the next [`Ledger::tick`] has been asked for.
    armed: Option<Instant>,
    is_closed: bool,
}

#[derive(Debug)]
struct OriginBook<W> {
    origin: Origin,
    /// Slots of the open connections.
    open: Vec<u32>,
    connecting: usize,
    waiting: BTreeMap<Ticket, W>,
    /// Streams a connection is expected to carry; nothing is known before the first.
    expected: Option<usize>,
    /// The peer said HTTP_1_1_REQUIRED.
    http1_only: bool,
    /// No further connection before this, after one failed beside others that live.
    hold_until: Option<Instant>,
    /// Another origin's connection drains for this one's sake; one at a time is enough.
    has_asked_for_room: bool,
    opened: u64,
    connect_failed: u64,
    streams: usize,
    http1_exchanges: u64,
    http2_exchanges: u64,
    reused: u64,
    connect_times: ConnectTimes,
    totals: Arc<Totals>,
    /// Orders origins by last use, so that the longest unused can be forgotten.
    last_used: u64,
}

#[derive(Debug)]
struct ConnectionBook<C> {
    id: ConnectionId,
    origin: OriginKey,
    /// `None` while connecting.
    link: Option<C>,
    protocol: Protocol,
    state: State,
    streams: usize,
    capacity: usize,
    /// Exchanges ever granted.
    served: u64,
    since: Instant,
    /// When the last stream ended; the key in `Ledger::idle`.
    idle_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    Draining,
    Closing,
}

/// How long an origin with live connections waits after a failed attempt to open a further one.
const HOLD_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long an idle connection over the limit is kept: longer than calls that follow each other are apart, and no longer,
/// since the limit is there to have few.
const SURPLUS: Duration = Duration::from_secs(1);

/// Origins remembered without any connection or waiter: what is kept of them is a few counters and the protocol.
const MAX_REMEMBERED_ORIGINS: usize = 1024;

// === impl Ledger: the calling side ===

impl<W, C: Clone> Ledger<W, C> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            index: HashMap::default(),
            origins: Slab::default(),
            connections: Slab::default(),
            idle: BTreeMap::new(),
            waiting: 0,
            closing: 0,
            next_connection: 1,
            next_ticket: 1,
            armed: None,
            is_closed: false,
        }
    }

    /// Asks for a place at `origin`; `waiter` is made only if there is none now.
    pub(crate) fn checkout(
        &mut self,
        origin: &Origin,
        now: Instant,
        waiter: impl FnOnce() -> W,
        out: &mut Vec<Action<W, C>>,
    ) -> Checkout<C> {
        if self.is_closed {
            return Checkout::Closed;
        }
        // Usually the tick was here first. But the timers of a process that was stopped, as Lambda and laptops do, fire
        // only after the first call, and by then the peer has forgotten the connection.
        self.expire_idle(now, out);
        let key = self.enter_origin(origin);
        // Those who wait go first, even when a place is free this very moment.
        if self.origins[key].waiting.is_empty()
            && let Some(slot) = self.least_loaded(key)
        {
            return Checkout::Granted(self.take(slot));
        }
        if self.waiting >= self.limits.waiting {
            return Checkout::Exhausted { connections: self.connections.len(), waiting: self.waiting };
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting += 1;
        self.origins[key].waiting.insert(ticket, waiter());
        self.connect_for(key, now, out);
        Checkout::Waiting(key, ticket)
    }

    /// A waiter went away before it was served. Unknown tickets are ignored: the grant was faster.
    pub(crate) fn cancelled(
        &mut self,
        origin: OriginKey,
        ticket: Ticket,
        now: Instant,
        out: &mut Vec<Action<W, C>>,
    ) {
        if let Some(book) = self.origins.get_mut(origin)
            && book.waiting.remove(&ticket).is_some()
        {
            self.waiting -= 1;
            // An idle connection may have been kept for this one's sake.
            self.close_surplus(now, out);
        }
    }

    /// A place comes back. Keys of connections already gone are ignored.
    pub(crate) fn released(
        &mut self,
        connection: ConnectionKey,
        release: Release,
        now: Instant,
        out: &mut Vec<Action<W, C>>,
    ) {
        let Some(book) = self.connections.get_mut(connection.slot).filter(|book| book.id == connection.id)
        else {
            return;
        };
        debug_assert!(book.streams > 0, "released more than was granted");
        book.streams -= 1;
        let origin = book.origin;
        self.origins[origin].streams -= 1;
        if release == Release::Spent {
            self.drain(connection.slot);
        }
        self.serve(origin, now, out);
        self.settle(connection.slot, now, out);
    }

    /// The peer speaks only HTTP/1.1 for what was asked: open HTTP/2 connections drain, later ones are not offered it.
    pub(crate) fn http1_required(&mut self, origin: &Origin, now: Instant, out: &mut Vec<Action<W, C>>) {
        let key = self.enter_origin(origin);
        let book = &mut self.origins[key];
        book.http1_only = true;
        book.expected = Some(1);
        for slot in book.open.clone() {
            if self.connections[slot].protocol == Protocol::Http2 {
                self.drain(slot);
                self.settle(slot, now, out);
            }
        }
        self.serve(key, now, out);
    }
}

// === impl Ledger: the connections' side ===

impl<W, C: Clone> Ledger<W, C> {
    /// A connection asked for by [`Action::Connect`] is up.
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionKey,
        up: Up<C>,
        now: Instant,
        out: &mut Vec<Action<W, C>>,
    ) {
        let capacity = up.capacity.min(self.limits.streams);
        let is_closed = self.is_closed;
        let age = self.limits.age;
        let Some(book) = self.find(connection) else { return };
        // Connecting => (Open | Draining)
        book.link = Some(up.link);
        book.protocol = up.protocol;
        book.capacity = capacity;
        book.state = State::Open;
        book.since = now;
        let key = book.origin;
        let origin = &mut self.origins[key];
        origin.connecting -= 1;
        origin.opened += 1;
        origin.connect_times = up.times;
        origin.hold_until = None;
        origin.expected = Some(capacity);
        origin.open.push(connection.slot);
        if is_closed {
            self.drain(connection.slot);
        } else if let Some(age) = age {
            self.arm(now + age, out);
        }
        self.serve(key, now, out);
        self.settle(connection.slot, now, out);
    }

    /// The peer's SETTINGS now allow `capacity` streams.
    pub(crate) fn capacity_changed(
        &mut self,
        connection: ConnectionKey,
        capacity: usize,
        now: Instant,
        out: &mut Vec<Action<W, C>>,
    ) {
        let capacity = capacity.min(self.limits.streams);
        let Some(book) = self.find(connection) else { return };
        book.capacity = capacity;
        let key = book.origin;
        self.origins[key].expected = Some(capacity);
        self.serve(key, now, out);
    }

    /// The peer takes no further stream (GOAWAY).
    pub(crate) fn going_away(
        &mut self,
        connection: ConnectionKey,
        now: Instant,
        out: &mut Vec<Action<W, C>>,
    ) {
        let Some(book) = self.find(connection) else { return };
        let key = book.origin;
        self.drain(connection.slot);
        self.serve(key, now, out);
        self.settle(connection.slot, now, out);
    }

    /// A connection is gone, or could not be made. Places still held on it are forgotten.
    pub(crate) fn closed(&mut self, connection: ConnectionKey, now: Instant, out: &mut Vec<Action<W, C>>) {
        if self.find(connection).is_none() {
            return;
        }
        let book = self.connections.remove(connection.slot);
        if let Some(since) = book.idle_since {
            self.idle.remove(&(since, book.id));
        }
        let key = book.origin;
        let origin = &mut self.origins[key];
        origin.streams -= book.streams;
        match book.state {
            State::Connecting => self.connect_failed(key, now, out),
            State::Open => origin.open.retain(|slot| *slot != connection.slot),
            State::Draining => {}
            State::Closing => self.closing -= 1,
        }
        self.connect_for_all(now, out);
    }

    /// Time has come: expires idle and aged connections, lifts holds.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Vec<Action<W, C>>) {
        self.armed = None;
        self.expire_idle(now, out);
        if let Some(age) = self.limits.age {
            let open = |book: &ConnectionBook<C>| book.state == State::Open;
            let aged: Vec<u32> = self
                .connections
                .iter()
                .filter(|(_, book)| open(book) && book.since + age <= now)
                .map(|(slot, _)| slot)
                .collect();
            for slot in aged {
                self.drain(slot);
                self.settle(slot, now, out);
            }
            let next = self
                .connections
                .iter()
                .filter(|(_, book)| open(book))
                .map(|(_, book)| book.since + age)
                .min();
            if let Some(next) = next {
                self.arm(next, out);
            }
        }
        self.close_surplus(now, out);
        if let Some((&(since, _), _)) = self.idle.first_key_value() {
            self.arm(since + self.limits.idle_for, out);
        }
        self.connect_for_all(now, out);
        if let Some(next) =
            self.origins.iter().filter_map(|(_, book)| book.hold_until.filter(|at| *at > now)).min()
        {
            self.arm(next, out);
        }
    }

    /// Takes no further checkout, fails those who wait, closes what is idle and drains the rest.
    pub(crate) fn close(&mut self, now: Instant, out: &mut Vec<Action<W, C>>) {
        self.is_closed = true;
        self.waiting = 0;
        for (_, book) in self.origins.iter_mut() {
            out.extend(std::mem::take(&mut book.waiting).into_values().map(Action::Fail));
        }
        let open: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, book)| book.state == State::Open)
            .map(|(slot, _)| slot)
            .collect();
        for slot in open {
            self.drain(slot);
            self.settle(slot, now, out);
        }
    }
}

// === impl Ledger: looking ===

impl<W, C: Clone> Ledger<W, C> {
    /// Connections from the first byte of the dial until they are gone.
    pub(crate) fn n_connections(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting
    }

    /// Whether a waiter of this origin waits for a connection attempt rather than for a place on a full connection.
    pub(crate) fn is_connecting(&self, origin: OriginKey) -> bool {
        self.origins.get(origin).is_some_and(|book| book.connecting > 0 && book.open.is_empty())
    }

    /// Whether a connection takes further streams.
    #[cfg(test)]
    fn is_open(&self, connection: ConnectionKey) -> bool {
        let book = self.connections.get(connection.slot).filter(|book| book.id == connection.id);
        book.is_some_and(|book| book.state == State::Open)
    }

    pub(crate) fn snapshot(&self) -> PoolSnapshot {
        let mut origins: Vec<_> = self
            .origins
            .iter()
            .map(|(key, book)| (book.origin.clone(), self.origin_snapshot(key, book)))
            .collect();
        origins.sort_by_cached_key(|(origin, _)| (origin.to_string(), origin.wire() as u8));
        let connections = origins.iter().map(|(_, origin)| origin.connections).sum();
        PoolSnapshot { origins, connections, waiting: self.waiting }
    }

    fn origin_snapshot(&self, key: OriginKey, book: &OriginBook<W>) -> OriginSnapshot {
        let up = || {
            self.connections
                .iter()
                .filter(move |(_, it)| it.origin == key && it.state != State::Connecting)
                .map(|(_, it)| it)
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let answered = read(&book.totals.answered);
        OriginSnapshot {
            connections: up().count(),
            connecting: book.connecting,
            idle: up().filter(|it| it.streams == 0).count(),
            opened: book.opened,
            connect_failed: book.connect_failed,
            streams: book.streams,
            waiting: book.waiting.len(),
            http2_exchanges: book.http2_exchanges,
            http1_exchanges: book.http1_exchanges,
            reused: book.reused,
            connect_times: book.connect_times,
            answered,
            mean_head_time: Duration::from_micros(
                read(&book.totals.head_micros).checked_div(answered).unwrap_or(0),
            ),
            request_bytes: read(&book.totals.request_bytes),
            response_bytes: read(&book.totals.response_bytes),
        }
    }
}

#[cfg(test)]
mod tests;
