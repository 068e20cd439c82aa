//! The ledger's single steps; the events are told in terms of these.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Action, ConnectionBook, ConnectionKey, Grant, HOLD_AFTER_FAILURE, Ledger, MAX_REMEMBERED_ORIGINS,
    OriginBook, OriginKey, State, Ticket,
};
use crate::Origin;
use crate::info::{ConnectTimes, ConnectionId, Protocol};

impl<W, C: Clone> Ledger<W, C> {
    pub(super) fn enter_origin(&mut self, origin: &Origin) -> OriginKey {
        self.next_ticket += 1;
        if let Some(&key) = self.index.get(origin) {
            self.origins[key].last_used = self.next_ticket;
            return key;
        }
        if self.origins.len() >= MAX_REMEMBERED_ORIGINS {
            self.forget_longest_unused();
        }
        let key = self.origins.insert(OriginBook {
            origin: origin.clone(),
            open: Vec::new(),
            connecting: 0,
            waiting: BTreeMap::new(),
            expected: None,
            http1_only: false,
            hold_until: None,
            has_asked_for_room: false,
            opened: 0,
            connect_failed: 0,
            streams: 0,
            http1_exchanges: 0,
            http2_exchanges: 0,
            reused: 0,
            connect_times: ConnectTimes::default(),
            totals: Arc::default(),
            last_used: self.next_ticket,
        });
        self.index.insert(origin.clone(), key);
        key
    }

    pub(super) fn forget_longest_unused(&mut self) {
        let has_connection = |key| self.connections.iter().any(|(_, book)| book.origin == key);
        let unused = self
            .origins
            .iter()
            .filter(|(key, book)| book.waiting.is_empty() && !has_connection(*key))
            .min_by_key(|(_, book)| book.last_used)
            .map(|(key, _)| key);
        if let Some(key) = unused {
            let book = self.origins.remove(key);
            self.index.remove(&book.origin);
        }
    }

    pub(super) fn find(&mut self, key: ConnectionKey) -> Option<&mut ConnectionBook<C>> {
        self.connections.get_mut(key.slot).filter(|book| book.id == key.id)
    }

    /// The open connection with the fewest streams among those with a free place.
    pub(super) fn least_loaded(&self, origin: OriginKey) -> Option<u32> {
        let mut best: Option<(usize, u32)> = None;
        for &slot in &self.origins[origin].open {
            let book = &self.connections[slot];
            if book.streams < book.capacity && best.is_none_or(|(streams, _)| book.streams < streams) {
                best = Some((book.streams, slot));
                if book.streams == 0 {
                    break;
                }
            }
        }
        best.map(|(_, slot)| slot)
    }

    /// Closes what has been idle for too long.
    pub(super) fn expire_idle(&mut self, now: Instant, out: &mut Vec<Action<W, C>>) {
        while let Some((&(since, _), &slot)) = self.idle.first_key_value()
            && since + self.limits.idle_for <= now
        {
            self.drain(slot);
            self.settle(slot, now, out);
        }
    }

    /// Takes one place on a connection known to have one.
    pub(super) fn take(&mut self, slot: u32) -> Grant<C> {
        let book = &mut self.connections[slot];
        book.streams += 1;
        let reused = book.served > 0;
        book.served += 1;
        let grant = Grant {
            connection: ConnectionKey { slot, id: book.id },
            link: book.link.clone().expect("an open connection has a link"),
            reused,
        };
        if let Some(since) = book.idle_since.take() {
            self.idle.remove(&(since, book.id));
        }
        let origin = &mut self.origins[book.origin];
        origin.streams += 1;
        origin.reused += u64::from(reused);
        match book.protocol {
            Protocol::Http1 => origin.http1_exchanges += 1,
            Protocol::Http2 => origin.http2_exchanges += 1,
        }
        grant
    }

    /// Hands free places to waiters, oldest first, then opens what is missing.
    pub(super) fn serve(&mut self, origin: OriginKey, now: Instant, out: &mut Vec<Action<W, C>>) {
        while !self.origins[origin].waiting.is_empty()
            && let Some(slot) = self.least_loaded(origin)
        {
            let grant = self.take(slot);
            let (_, waiter) = self.origins[origin].waiting.pop_first().expect("checked above");
            self.waiting -= 1;
            out.push(Action::Grant(waiter, grant));
        }
        if !self.origins[origin].waiting.is_empty() {
            self.connect_for(origin, now, out);
        }
    }

    /// Open => Draining: no further stream here.
    pub(super) fn drain(&mut self, slot: u32) {
        let book = &mut self.connections[slot];
        if book.state != State::Open {
            return;
        }
        book.state = State::Draining;
        self.origins[book.origin].open.retain(|it| *it != slot);
    }

    /// Decides what becomes of a connection whose last stream may just have ended.
    pub(super) fn settle(&mut self, slot: u32, now: Instant, out: &mut Vec<Action<W, C>>) {
        let book = &mut self.connections[slot];
        if book.streams > 0 {
            return;
        }
        match book.state {
            State::Connecting | State::Closing => {}
            // Draining => Closing
            State::Draining => {
                book.state = State::Closing;
                self.closing += 1;
                if let Some(since) = book.idle_since.take() {
                    self.idle.remove(&(since, book.id));
                }
                out.push(Action::Close(book.link.clone().expect("a draining connection has a link")));
            }
            State::Open if book.idle_since.is_some() => {}
            State::Open => {
                book.idle_since = Some(now);
                self.idle.insert((now, book.id), slot);
                self.close_surplus(now, out);
                self.arm(now + self.limits.idle_for, out);
                if self.waiting > 0 {
                    self.connect_for_all(now, out);
                }
            }
        }
    }

    /// Closes the longest idle connections over the limit, unless they were in use a moment ago.
    ///
    /// Between two calls a connection is idle too. To close it at once, because more calls come and go together than
    /// connections may stay, would open another for the next call, thousands of times a second.
    pub(super) fn close_surplus(&mut self, now: Instant, out: &mut Vec<Action<W, C>>) {
        while self.idle.len() > self.limits.idle {
            let (&(since, _), &slot) = self.idle.first_key_value().expect("longer than the limit");
            // One that waiters of its own origin are about to take is not idle in any useful sense.
            if !self.origins[self.connections[slot].origin].waiting.is_empty() {
                return;
            }
            let ends = since + self.limits.surplus_for();
            if ends > now {
                self.arm(ends, out);
                return;
            }
            self.drain(slot);
            self.settle(slot, now, out);
        }
    }

    /// Opens as many connections as the waiters of one origin need and the limit allows.
    pub(super) fn connect_for(&mut self, origin: OriginKey, now: Instant, out: &mut Vec<Action<W, C>>) {
        if self.is_closed {
            return;
        }
        let book = &self.origins[origin];
        if !book.open.is_empty() && book.hold_until.is_some_and(|at| now < at) {
            return;
        }
        let wanted = match book.expected {
            _ if book.waiting.is_empty() => 0,
            // One flight until it is known what a connection carries.
            None => 1,
            // The peer takes no stream for now; another connection would only ask the same question again.
            Some(0) => usize::from(book.open.is_empty()),
            Some(expected) => book.waiting.len().div_ceil(expected),
        };
        while self.origins[origin].connecting < wanted {
            if self.connections.len() >= self.limits.connections {
                let missing = wanted - self.origins[origin].connecting;
                self.make_room(origin, missing, now, out);
                return;
            }
            self.connect(origin, now, out);
        }
    }

    pub(super) fn connect(&mut self, origin: OriginKey, now: Instant, out: &mut Vec<Action<W, C>>) {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let slot = self.connections.insert(ConnectionBook {
            id,
            origin,
            link: None,
            protocol: Protocol::Http1,
            state: State::Connecting,
            streams: 0,
            capacity: 0,
            served: 0,
            since: now,
            idle_since: None,
        });
        let book = &mut self.origins[origin];
        book.connecting += 1;
        book.has_asked_for_room = false;
        out.push(Action::Connect {
            origin: book.origin.clone(),
            connection: ConnectionKey { slot, id },
            http1_only: book.http1_only,
            totals: Arc::clone(&book.totals),
        });
    }

    /// The limit is reached: closes idle connections; for an origin that has none at all, makes another one's drain.
    pub(super) fn make_room(
        &mut self,
        origin: OriginKey,
        missing: usize,
        now: Instant,
        out: &mut Vec<Action<W, C>>,
    ) {
        while self.closing < missing
            && let Some((_, &slot)) = self.idle.first_key_value()
        {
            self.drain(slot);
            self.settle(slot, now, out);
        }
        let book = &mut self.origins[origin];
        if self.closing > 0 || book.has_asked_for_room || !book.open.is_empty() || book.connecting > 0 {
            return;
        }
        book.has_asked_for_room = true;
        let victim = self
            .connections
            .iter()
            .filter(|(_, book)| book.state == State::Open)
            .min_by_key(|(_, book)| (book.streams, book.id))
            .map(|(slot, _)| slot);
        if let Some(slot) = victim {
            self.drain(slot);
            self.settle(slot, now, out);
        }
    }

    /// Opens what waiters of any origin miss, the oldest waiter's origin first.
    pub(super) fn connect_for_all(&mut self, now: Instant, out: &mut Vec<Action<W, C>>) {
        if self.waiting == 0 {
            return;
        }
        let mut starved: Vec<(Ticket, OriginKey)> = self
            .origins
            .iter()
            .filter_map(|(key, book)| book.waiting.first_key_value().map(|(ticket, _)| (*ticket, key)))
            .collect();
        starved.sort_unstable();
        for (_, origin) in starved {
            self.connect_for(origin, now, out);
        }
    }

    pub(super) fn connect_failed(&mut self, origin: OriginKey, now: Instant, out: &mut Vec<Action<W, C>>) {
        let book = &mut self.origins[origin];
        book.connecting -= 1;
        book.connect_failed += 1;
        if !book.open.is_empty() {
            // Those who wait can still be served by the connections that live.
            let hold = now + HOLD_AFTER_FAILURE;
            book.hold_until = Some(hold);
            self.arm(hold, out);
            return;
        }
        if book.connecting > 0 {
            return;
        }
        let waiters = std::mem::take(&mut book.waiting);
        self.waiting -= waiters.len();
        out.extend(waiters.into_values().map(Action::Fail));
    }

    pub(super) fn arm(&mut self, at: Instant, out: &mut Vec<Action<W, C>>) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            out.push(Action::Wake(at));
        }
    }
}
