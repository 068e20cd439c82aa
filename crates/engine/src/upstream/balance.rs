//! One server behind several addresses: each request goes to the less loaded of two that are drawn (power of two choices),
//! and an address that keeps failing is left out until it answers again.
//!
//! 1. Load is the number of requests under way. Two addresses that are in are drawn; the one with less load is taken.
//! 2. A transport error, a 5xx or the like, or a JSON-RPC error that blames the server counts as a failure. After as many in
//!    a row as the configuration says, the address is out; the last one that is in always stays in.
//! 3. An address that is out is introduced to anew after a pause, in the background, so that no call pays for the question.
//!    An answer puts it back; silence doubles the pause.
//!
//! 4. A request of a multi-round exchange goes to the address that answered the round before, whatever its load, as long
//!    as that is in. The caller carries the address ([`CallContext::address`](crate::CallContext::address)), so nothing is
//!    kept here.
//!
//! Sessions, streams and what was found out about the server belong to each address alone: nothing wanders between them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mpe_mcp_protocol::jsonrpc::code;
use mpe_mcp_protocol::version::Era;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::{Change, Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use crate::attempt::tells_of_outage;
use crate::performance::Recorder;
use crate::{CallErrorKind, EjectionConfig};

/// Counts what happens to addresses.
pub(crate) struct BalanceMeters {
    pub(crate) ejected: metrics::Counter,
    pub(crate) out: metrics::Gauge,
}

/// One address.
pub(crate) struct Member {
    /// How callers name it who come back to it: [`tag`] of its URL.
    pub(crate) tag: Arc<str>,
    /// Its origin, as its performance record is named.
    pub(crate) name: String,
    pub(crate) link: Arc<dyn Upstream>,
    pub(crate) recorder: Arc<Recorder>,
}

/// A server behind several addresses.
pub(crate) struct Balanced {
    inner: Arc<Inner>,
}

struct Inner {
    places: Vec<Place>,
    config: EjectionConfig,
    meters: BalanceMeters,
    /// Feeds the draw. Any sequence that is not the callers' own will do.
    draws: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Place {
    member: Member,
    under_way: AtomicUsize,
    failures: AtomicU32,
    is_out: AtomicBool,
    /// How long it stays out the next time.
    pause: Mutex<Duration>,
}

/// How long an introduction to an address that is out may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Changes that are announced and not heard yet, over all addresses.
const MAX_CHANGES: usize = 64;

impl Balanced {
    /// `members` must not be empty.
    pub(crate) fn new(members: Vec<Member>, config: EjectionConfig, meters: BalanceMeters) -> Self {
        let place = |member| Place {
            member,
            under_way: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            is_out: AtomicBool::new(false),
            pause: Mutex::new(config.first_pause),
        };
        let places = members.into_iter().map(place).collect();
        Self {
            inner: Arc::new(Inner {
                places,
                config,
                meters,
                draws: AtomicU64::new(0),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
    }
}

impl Upstream for Balanced {
    /// The first address that answers speaks for all.
    fn introduce(&self, deadline: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async move {
            let mut last = None;
            for index in self.inner.by_preference() {
                match self.inner.introduce(index, deadline).await {
                    Ok(introduction) => return Ok(introduction),
                    Err(error) => {
                        self.inner.failed(index);
                        last = Some(error);
                    }
                }
            }
            Err(last.expect("there is at least one address"))
        })
    }

    /// Every address is asked, because each keeps what it speaks; the first that speaks the era speaks for all.
    fn introduce_in(
        &self,
        era: Era,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Option<Introduction>, UpstreamError>> {
        Box::pin(async move {
            let asked = self.inner.places.iter().map(|place| place.member.link.introduce_in(era, deadline));
            let mut answers = join_all(asked).await;
            let best = answers.iter().position(|answer| matches!(answer, Ok(Some(_))));
            let best = best.or_else(|| answers.iter().position(Result::is_ok)).unwrap_or(0);
            answers.swap_remove(best)
        })
    }

    /// An address that cannot be reached has seen nothing: the next one is taken at once, each once at most.
    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            let mut tried = Vec::new();
            let mut wanted = request.context.address.as_deref().and_then(|tag| self.inner.inside(tag));
            loop {
                let index = wanted.take().unwrap_or_else(|| self.inner.choose(&tried));
                tried.push(index);
                let outcome = self.inner.ask(index, request.clone()).await;
                match outcome {
                    Err(error) if is_unreached(&error) && tried.len() < self.inner.places.len() => {}
                    outcome => return outcome,
                }
            }
        })
    }

    /// What any address announces.
    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let heard: Vec<_> =
            self.inner.places.iter().filter_map(|place| place.member.link.changes()).collect();
        if heard.is_empty() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(MAX_CHANGES);
        for mut changes in heard {
            let (sender, stop) = (sender.clone(), self.inner.stop.clone());
            self.inner.tasks.spawn(async move {
                loop {
                    let change = tokio::select! {
                        change = changes.recv() => change,
                        () = sender.closed() => return,
                        () = stop.cancelled() => return,
                    };
                    let Some(change) = change else { return };
                    if sender.send(change).await.is_err() {
                        return;
                    }
                }
            });
        }
        Some(receiver)
    }

    fn watch_resources(&self, uris: Vec<String>, deadline: Instant) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let asked = self.inner.places.iter().map(|place| {
                let watched = place.member.link.watch_resources(uris.clone(), deadline);
                async move { timeout_at(deadline, watched).await.unwrap_or_default() }
            });
            let mut agreed: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
            agreed.sort_unstable();
            agreed.dedup();
            agreed
        })
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.inner.stop.cancel();
            join_all(self.inner.places.iter().map(|place| place.member.link.close(deadline))).await;
            self.inner.tasks.close();
            let _ = timeout_at(deadline, self.inner.tasks.wait()).await;
        })
    }
}

impl Drop for Balanced {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

impl Inner {
    /// The address that is named so, if it is in.
    fn inside(&self, tag: &str) -> Option<usize> {
        (0..self.places.len()).find(|&n| *self.places[n].member.tag == *tag && !self.is_out(n))
    }

    /// The less loaded of two addresses that are in; of all of them where none is. Never one of `tried`, which are fewer than
    /// there are addresses.
    fn choose(&self, tried: &[usize]) -> usize {
        let left = || (0..self.places.len()).filter(|n| !tried.contains(n));
        let inside: Vec<usize> = left().filter(|&n| !self.is_out(n)).collect();
        let among = if inside.is_empty() { left().collect() } else { inside };
        let n = among.len();
        if n == 1 {
            return among[0];
        }
        let draw = mixed(self.draws.fetch_add(1, Ordering::Relaxed)) as usize;
        let first = draw % n;
        let second = (first + 1 + (draw / n) % (n - 1)) % n;
        let (first, second) = (among[first], among[second]);
        if self.load(second) < self.load(first) { second } else { first }
    }

    /// Every address, those that are in first, and among them the least loaded.
    fn by_preference(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|&n| (self.is_out(n), self.load(n)));
        order
    }

    async fn ask(
        self: &Arc<Self>,
        index: usize,
        request: UpstreamRequest,
    ) -> Result<UpstreamReply, UpstreamError> {
        let place = &self.places[index];
        let _load = Load::new(place);
        let exchange = place.member.recorder.start();
        let deadline = request.deadline;
        let outcome = timeout_at(deadline, place.member.link.request(request)).await;
        let mut outcome =
            outcome.unwrap_or_else(|_| Err(UpstreamError::deadline(super::Sent::Maybe, "an answer")));
        if let Ok(reply) = &mut outcome {
            reply.address = Some(Arc::clone(&place.member.tag));
        }
        match &outcome {
            Ok(reply) => {
                exchange.answered(reply.protocol);
                match &reply.outcome {
                    Err(rejection) if blames_the_server(rejection.code) => self.failed(index),
                    _ => self.succeeded(index),
                }
            }
            Err(error) if tells_of_outage(error, exchange.elapsed()) => self.failed(index),
            Err(error) if error.kind == CallErrorKind::UpstreamProtocol => self.failed(index),
            Err(_) => {}
        }
        outcome
    }

    async fn introduce(&self, index: usize, deadline: Instant) -> Result<Introduction, UpstreamError> {
        let deadline = deadline.min(Instant::now() + PROBE_TIMEOUT);
        let introduction = timeout_at(deadline, self.places[index].member.link.introduce(deadline)).await;
        introduction.unwrap_or_else(|_| Err(UpstreamError::deadline(super::Sent::Maybe, "an introduction")))
    }

    fn is_out(&self, index: usize) -> bool {
        self.places[index].is_out.load(Ordering::Relaxed)
    }

    fn load(&self, index: usize) -> usize {
        self.places[index].under_way.load(Ordering::Relaxed)
    }

    fn succeeded(&self, index: usize) {
        let place = &self.places[index];
        if place.failures.swap(0, Ordering::Relaxed) != 0 || self.is_out(index) {
            *lock(&place.pause) = self.config.first_pause;
        }
    }

    fn failed(self: &Arc<Self>, index: usize) {
        let place = &self.places[index];
        let failures = place.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if self.config.failures == 0 || failures < self.config.failures {
            return;
        }
        let others_in = (0..self.places.len()).filter(|&n| n != index && !self.is_out(n)).count();
        if others_in == 0 || place.is_out.swap(true, Ordering::AcqRel) {
            return;
        }
        self.meters.ejected.increment(1);
        self.meters.out.increment(1.0);
        warn!(address = %place.member.name, failures, "an address keeps failing; it is left out until it answers again");
        let inner = Arc::clone(self);
        // Outside a runtime nobody could put it back: then it stays in.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            place.is_out.store(false, Ordering::Release);
            return;
        };
        let stop = self.stop.clone();
        self.tasks.spawn_on(
            async move {
                stop.run_until_cancelled(inner.readmit(index)).await;
            },
            &runtime,
        );
    }

    /// Introduces itself again and again until the address answers.
    async fn readmit(&self, index: usize) {
        let place = &self.places[index];
        loop {
            let pause = {
                let mut pause = lock(&place.pause);
                let now = *pause;
                // It starts over once a call has gone well.
                *pause = (now * 2).min(self.config.max_pause);
                now
            };
            sleep(pause).await;
            if self.introduce(index, Instant::now() + PROBE_TIMEOUT).await.is_ok() {
                break;
            }
        }
        place.failures.store(0, Ordering::Relaxed);
        place.is_out.store(false, Ordering::Release);
        self.meters.out.decrement(1.0);
        info!(address = %place.member.name, "an address answers again");
    }
}

/// Keeps the load of an address, however its request ends.
struct Load<'a>(&'a Place);

impl<'a> Load<'a> {
    fn new(place: &'a Place) -> Self {
        place.under_way.fetch_add(1, Ordering::Relaxed);
        Self(place)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The name of an address: short, the same in every process, and silent about a URL that may hold a key.
pub(crate) fn tag(url: &http::Uri) -> Arc<str> {
    let digest = format!("{:x}", Sha256::digest(url.to_string().as_bytes()));
    Arc::from(&digest[..16])
}

/// Whether a request provably never reached an address.
fn is_unreached(error: &UpstreamError) -> bool {
    error.kind == CallErrorKind::UpstreamUnreachable && error.sent == super::Sent::No
}

/// JSON-RPC errors that are not about the request (JSON-RPC 2.0 §5.1): internal and implementation-defined ones, without
/// those to which MCP gives another meaning.
fn blames_the_server(error: i64) -> bool {
    const ABOUT_THE_REQUEST: [i64; 5] = [
        code::HEADER_MISMATCH,
        code::LEGACY_RESOURCE_NOT_FOUND,
        code::MISSING_CLIENT_CAPABILITY,
        code::UNSUPPORTED_PROTOCOL_VERSION,
        // URL elicitation required (MCP 2025-11-25, client/elicitation).
        -32042,
    ];
    let is_implementation_defined = (-32099..=-32000).contains(&error);
    error == code::INTERNAL_ERROR || (is_implementation_defined && !ABOUT_THE_REQUEST.contains(&error))
}

/// Spreads neighbouring numbers over the whole range (SplitMix64's finalizer).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
