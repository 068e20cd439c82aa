//! Streams of legacy calls that can be taken up again where they broke (2025-11-25, transports, resumability).
//!
//! The call then runs in a task of its own and writes its events down; whoever reads them, by POST or later by GET with
//! `Last-Event-ID`, reads from there. What is kept is bounded in bytes over all streams: the oldest that have ended go
//! first, then the oldest events of the stream that grows. What its reader has not read yet is not taken from it: while there is
//! no room, the call waits for a reader that is there.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mpe_mcp_protocol::jsonrpc::Id;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::exchange::{KEEP_ALIVE, Running, Step, refuse};
use crate::Body;
use crate::json::one_line;
use crate::seal::random_name;

/// Streams kept at a time. Beyond it a new one is sent without ids, as if nothing were kept.
const MAX_STREAMS: usize = 4096;

/// How soon a client should come back, in milliseconds.
const RETRY: u64 = 500;

/// Every stream that can be taken up.
#[derive(Debug)]
pub(crate) struct Replays {
    /// Bytes of events, at most.
    limit: usize,
    n_bytes: AtomicUsize,
    /// The oldest first.
    streams: Mutex<VecDeque<Arc<Replay>>>,
}

/// What makes a call's stream one that can be taken up.
#[derive(Clone, Debug)]
pub(crate) struct Resumable {
    pub(crate) replays: Arc<Replays>,
    /// The session it belongs to.
    pub(crate) session: String,
    /// This replica's name, where there are several.
    pub(crate) replica: Option<String>,
    /// See [`GatewayConfig::poll_after`](crate::GatewayConfig::poll_after).
    pub(crate) poll_after: Option<Duration>,
    /// For how long the call goes on with nobody reading.
    pub(crate) grace: Duration,
    /// The gateway is about to stop.
    pub(crate) draining: CancellationToken,
}

/// One stream's events.
#[derive(Debug)]
pub(crate) struct Replay {
    name: String,
    session: String,
    events: Mutex<Events>,
    /// Goes up with every event, and when the stream ends.
    moved: watch::Sender<u64>,
    n_readers: watch::Sender<usize>,
    /// How many events the reader has read.
    n_read: watch::Sender<u64>,
    /// Counts readers: an earlier one ends when another begins, since no message may stand on two streams.
    n_turns: AtomicU64,
}

#[derive(Debug, Default)]
struct Events {
    kept: VecDeque<Bytes>,
    /// How many came before the first that is kept.
    n_gone: u64,
    n_bytes: usize,
    is_ended: bool,
}

/// What a reader finds.
enum Found {
    Event(Bytes),
    /// Everything has been read, or what comes next is not kept any more.
    End,
    NothingYet,
}

impl Replays {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, n_bytes: AtomicUsize::new(0), streams: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Replay>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream; `None` when there is room for no other.
    fn begin(&self, resumable: &Resumable) -> Option<Arc<Replay>> {
        let name = match &resumable.replica {
            None => random_name(),
            Some(replica) => format!("{}-{replica}", random_name()),
        };
        let replay = Arc::new(Replay {
            name,
            session: resumable.session.clone(),
            events: Mutex::default(),
            moved: watch::Sender::default(),
            n_readers: watch::Sender::default(),
            n_read: watch::Sender::default(),
            n_turns: AtomicU64::new(0),
        });
        let mut streams = self.lock();
        if streams.len() >= MAX_STREAMS {
            self.n_bytes.fetch_sub(forget_one(&mut streams)?, Ordering::Relaxed);
        }
        streams.push_back(Arc::clone(&replay));
        Some(replay)
    }

    /// Writes an event down, and makes room for it.
    fn push(&self, replay: &Replay, message: Vec<u8>) {
        let added = replay.push(message);
        let mut n_bytes = self.n_bytes.fetch_add(added, Ordering::Relaxed) + added;
        let mut freed = 0;
        while n_bytes - freed > self.limit
            && let Some(more) = forget_one(&mut self.lock())
        {
            freed += more;
        }
        n_bytes -= freed;
        freed += replay.trim(n_bytes.saturating_sub(self.limit));
        self.n_bytes.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Waits while there is no room and somebody reads who has not read everything yet.
    async fn room(&self, replay: &Replay) {
        let mut n_read = replay.n_read.subscribe();
        let mut n_readers = replay.n_readers.subscribe();
        while self.n_bytes.load(Ordering::Relaxed) > self.limit && replay.is_being_read() {
            tokio::select! {
                _ = n_read.changed() => {}
                _ = n_readers.changed() => {}
            }
        }
    }

    /// The stream that an event id names, and how many of its events its reader has seen.
    pub(crate) fn find(&self, session: &str, event_id: &str) -> Option<(Arc<Replay>, u64)> {
        let (seen, name) = event_id.split_once(':')?;
        let seen = seen.parse().ok()?;
        let streams = self.lock();
        let replay = streams.iter().find(|stream| stream.name == name && stream.session == session)?;
        Some((Arc::clone(replay), seen))
    }
}

/// The name that an event id ends with.
pub(crate) fn name_of(event_id: &str) -> Option<&str> {
    event_id.split_once(':').map(|(_, name)| name)
}

/// Forgets the oldest stream that has ended; the bytes it had.
fn forget_one(streams: &mut VecDeque<Arc<Replay>>) -> Option<usize> {
    let at = streams.iter().position(|stream| stream.lock().is_ended)?;
    streams.remove(at).map(|stream| stream.lock().n_bytes)
}

impl Replay {
    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the bytes that were added.
    fn push(&self, message: Vec<u8>) -> usize {
        let mut events = self.lock();
        let number = events.n_gone + events.kept.len() as u64 + 1;
        let message = one_line(message);
        let mut event = format!("id: {number}:{}\nevent: message\ndata: ", self.name).into_bytes();
        event.extend_from_slice(&message);
        event.extend_from_slice(b"\n\n");
        let added = event.len();
        events.n_bytes += added;
        events.kept.push_back(event.into());
        drop(events);
        self.moved.send_modify(|n| *n += 1);
        added
    }

    /// Whether somebody reads and has not read everything yet.
    fn is_being_read(&self) -> bool {
        let events = self.lock();
        *self.n_readers.borrow() > 0 && *self.n_read.borrow() < events.n_gone + events.kept.len() as u64
    }

    /// Drops the oldest events until so many bytes are free, but never the newest, nor what somebody is about to read. Returns
    /// the bytes that were freed.
    fn trim(&self, excess: usize) -> usize {
        let mut events = self.lock();
        let n_read = if *self.n_readers.borrow() > 0 { *self.n_read.borrow() } else { u64::MAX };
        let mut freed = 0;
        while freed < excess && events.kept.len() > 1 && events.n_gone < n_read {
            let Some(event) = events.kept.pop_front() else { break };
            events.n_gone += 1;
            events.n_bytes -= event.len();
            freed += event.len();
        }
        freed
    }

    fn end(&self) {
        self.lock().is_ended = true;
        self.moved.send_modify(|n| *n += 1);
    }

    /// What comes after the first `seen` events, for the reader whose turn it is; it counts as read then.
    fn after(&self, seen: u64, turn: u64) -> Found {
        let events = self.lock();
        if self.n_turns.load(Ordering::Acquire) != turn {
            return Found::End;
        }
        let at = seen.checked_sub(events.n_gone).and_then(|at| usize::try_from(at).ok());
        match at.map(|at| events.kept.get(at)) {
            None => Found::End,
            Some(Some(event)) => {
                self.n_read.send_replace(seen + 1);
                Found::Event(event.clone())
            }
            Some(None) if events.is_ended => Found::End,
            Some(None) => Found::NothingYet,
        }
    }

    /// Waits until nobody has read for `grace`.
    async fn abandoned(&self, grace: Duration) {
        let mut n_readers = self.n_readers.subscribe();
        loop {
            // The sender is part of us.
            let _ = n_readers.wait_for(|n| *n == 0).await;
            if tokio::time::timeout(grace, n_readers.wait_for(|n| *n > 0)).await.is_err() {
                return;
            }
        }
    }
}

/// Runs a call whose stream can be taken up, and gives the first reader's body. `first` was said already.
///
/// # Errors
/// There is no room for another such stream; the call is given back.
pub(crate) fn open(
    resumable: &Resumable,
    running: Running,
    first: Option<Vec<u8>>,
    id: Id,
    keep_alive: Duration,
) -> Result<Body, (Running, Option<Vec<u8>>)> {
    let Some(replay) = resumable.replays.begin(resumable) else { return Err((running, first)) };
    if let Some(first) = first {
        resumable.replays.push(&replay, first);
    }
    let body = read(Arc::clone(&replay), 0, resumable.poll_after, keep_alive, resumable.draining.clone());
    let (replays, grace) = (Arc::clone(&resumable.replays), resumable.grace);
    // Bounded by the call's own deadline, and by `grace` once nobody reads.
    tokio::spawn(async move {
        tokio::select! {
            () = run(&replays, &replay, running, &id) => {}
            () = replay.abandoned(grace) => {
                tracing::debug!("nobody came back for a call, and it is cancelled");
            }
        }
        replay.end();
    });
    Ok(body)
}

async fn run(replays: &Replays, replay: &Replay, mut running: Running, id: &Id) {
    loop {
        match running.step().await {
            Step::Message(message) => {
                replays.push(replay, message);
                replays.room(replay).await;
            }
            // Legacy clients are asked on the stream; there is no next request that could answer.
            Step::Ask(ask) => refuse(ask),
            Step::Done(answer) => return replays.push(replay, answer.message(Some(id))),
        }
    }
}

/// Counts one reader for as long as it lives.
struct Reader {
    replay: Arc<Replay>,
    seen: u64,
    /// Its place among the readers.
    turn: u64,
    moved: watch::Receiver<u64>,
    /// While the gateway drains, there is nobody to come back to.
    draining: CancellationToken,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.replay.n_readers.send_modify(|n| *n -= 1);
    }
}

/// A body with everything after the first `seen` events. With `poll_after` it ends after that time at the latest, for the
/// client to come back.
pub(crate) fn read(
    replay: Arc<Replay>,
    seen: u64,
    poll_after: Option<Duration>,
    keep_alive: Duration,
    draining: CancellationToken,
) -> Body {
    let turn = {
        // Together, so that the reader before cannot say any more what it has read.
        let _events = replay.lock();
        replay.n_read.send_replace(seen);
        replay.n_readers.send_modify(|n| *n += 1);
        replay.n_turns.fetch_add(1, Ordering::AcqRel) + 1
    };
    // Wakes the reader before, which finds that its turn is over.
    replay.moved.send_modify(|_| {});
    let moved = replay.moved.subscribe();
    // Primes the client: with an id, and without data (2025-11-25, transports).
    let primer = Bytes::from(format!("id: {seen}:{}\nretry: {RETRY}\ndata:\n\n", replay.name));
    let until = poll_after.map(|after| Instant::now() + after);
    let reader = Reader { replay, seen, turn, moved, draining };
    let events = futures_util::stream::unfold(reader, move |mut reader| async move {
        reader.next(until, keep_alive).await.map(|event| (event, reader))
    });
    let all = futures_util::StreamExt::chain(futures_util::stream::once(std::future::ready(primer)), events);
    let frames = futures_util::StreamExt::map(all, |bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync()
}

impl Reader {
    async fn next(&mut self, until: Option<Instant>, keep_alive: Duration) -> Option<Bytes> {
        let quiet = Instant::now() + keep_alive;
        loop {
            match self.replay.after(self.seen, self.turn) {
                Found::Event(event) => {
                    self.seen += 1;
                    return Some(event);
                }
                Found::End => return None,
                Found::NothingYet => {}
            }
            let until = until.filter(|_| !self.draining.is_cancelled());
            let next = until.map_or(quiet, |until| until.min(quiet));
            match tokio::time::timeout_at(next, self.moved.changed()).await {
                // The sender is part of what we read.
                Ok(_) => {}
                Err(_) if until.is_some_and(|until| until <= Instant::now()) => {
                    if !self.draining.is_cancelled() {
                        return None;
                    }
                }
                Err(_) => return Some(Bytes::from_static(KEEP_ALIVE)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http_body_util::BodyExt;
    use tokio_util::sync::CancellationToken;

    use super::{Replays, Resumable, read};

    fn resumable(limit: usize) -> Resumable {
        Resumable {
            replays: Arc::new(Replays::new(limit)),
            session: "s".to_owned(),
            replica: None,
            poll_after: None,
            grace: Duration::from_secs(60),
            draining: CancellationToken::new(),
        }
    }

    async fn text(body: crate::Body) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_comes_back_for_what_it_has_not_seen() {
        let resumable = resumable(1 << 20);
        let replay = resumable.replays.begin(&resumable).unwrap();
        for n in 1..=3 {
            resumable.replays.push(&replay, format!("{{\"n\":{n}}}").into_bytes());
        }
        replay.end();
        let all =
            text(read(Arc::clone(&replay), 0, None, Duration::from_secs(15), CancellationToken::new())).await;
        assert!(all.starts_with("id: 0:") && all.contains("retry: 500\ndata:\n\n"), "{all}");
        assert_eq!(all.matches("event: message").count(), 3);
        let second = all.lines().filter_map(|line| line.strip_prefix("id: ")).nth(2).unwrap();
        assert!(resumable.replays.find("another session", second).is_none());
        let (found, seen) = resumable.replays.find("s", second).unwrap();
        let rest = text(read(found, seen, None, Duration::from_secs(15), CancellationToken::new())).await;
        assert!(rest.contains("{\"n\":3}") && !rest.contains("{\"n\":2}"), "{rest}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_gets_everything_however_little_is_kept() {
        let resumable = resumable(600);
        // Somebody else's events take all the room.
        let other = resumable.replays.begin(&resumable).unwrap();
        resumable.replays.push(&other, vec![b'1'; 700]);
        let replay = resumable.replays.begin(&resumable).unwrap();
        let body = read(Arc::clone(&replay), 0, None, Duration::from_secs(15), CancellationToken::new());
        let say = async {
            for n in 1..=100 {
                resumable.replays.push(&replay, format!("{{\"n\":{n}}}").into_bytes());
                resumable.replays.room(&replay).await;
            }
            replay.end();
        };
        let (all, ()) = tokio::join!(text(body), say);
        assert_eq!(all.matches("event: message").count(), 100);
        let n_bytes = replay.lock().n_bytes;
        assert!(n_bytes < 600, "what was read is given back: {n_bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_ends_when_another_takes_over() {
        let resumable = resumable(1 << 20);
        let replay = resumable.replays.begin(&resumable).unwrap();
        let first = read(Arc::clone(&replay), 0, None, Duration::from_secs(15), CancellationToken::new());
        let say = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let second =
                read(Arc::clone(&replay), 0, None, Duration::from_secs(15), CancellationToken::new());
            resumable.replays.push(&replay, b"{}".to_vec());
            replay.end();
            text(second).await
        };
        let (first, second) = tokio::join!(text(first), say);
        assert_eq!(
            (first.matches("event: message").count(), second.matches("event: message").count()),
            (0, 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_away_to_come_back_while_the_gateway_stops() {
        let resumable = resumable(1 << 20);
        let replay = resumable.replays.begin(&resumable).unwrap();
        let draining = CancellationToken::new();
        let after = Some(Duration::from_secs(1));
        let body = read(Arc::clone(&replay), 0, after, Duration::from_secs(15), draining.clone());
        let say = async {
            draining.cancel();
            tokio::time::sleep(Duration::from_secs(20)).await;
            resumable.replays.push(&replay, b"{}".to_vec());
            replay.end();
        };
        let (all, ()) = tokio::join!(text(body), say);
        assert_eq!(all.matches("event: message").count(), 1, "{all}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_and_a_gap_ends_the_stream() {
        let resumable = resumable(600);
        let old = resumable.replays.begin(&resumable).unwrap();
        resumable.replays.push(&old, vec![b'1'; 100]);
        old.end();
        let replay = resumable.replays.begin(&resumable).unwrap();
        for _ in 0..50 {
            resumable.replays.push(&replay, vec![b'1'; 100]);
        }
        let n_bytes: usize = resumable.replays.lock().iter().map(|stream| stream.lock().n_bytes).sum();
        assert!(n_bytes <= 600, "{n_bytes}");
        assert_eq!(resumable.replays.lock().len(), 1, "what has ended goes first");
        let body = text(read(replay, 0, None, Duration::from_secs(15), CancellationToken::new())).await;
        assert_eq!(body.matches("event: message").count(), 0, "{body}");
    }
}
