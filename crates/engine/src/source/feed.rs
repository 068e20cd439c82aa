//! One source of one endpoint while the engine runs: asked again and again, its last good list kept.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{SourceConfig, SourceState, SourceStatus, Sourced, UpstreamSource};
use crate::fleet::Fleet;
use crate::metrics::SourceMeters;
use crate::retry::Schedule;
use crate::{EndpointId, UpstreamConfig};

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A source of an endpoint.
pub(crate) struct Feed {
    pub(crate) config: SourceConfig,
    source: Arc<dyn UpstreamSource>,
    meters: SourceMeters,
    standing: Mutex<Standing>,
    /// The newest question somebody asked for, and the newest that has been answered, well or not.
    wanted: watch::Sender<u64>,
    done: watch::Sender<u64>,
    pub(crate) retired: CancellationToken,
}

#[derive(Clone)]
struct Standing {
    list: Arc<Sourced>,
    state: SourceState,
    /// Servers that are not used because their key is taken.
    shadowed: Vec<(String, String)>,
}

impl Feed {
    /// `inherited`: what a predecessor of the same name listed last.
    pub(crate) fn new(
        config: SourceConfig,
        source: Arc<dyn UpstreamSource>,
        meters: SourceMeters,
        inherited: Option<Arc<Sourced>>,
    ) -> Self {
        let list = inherited.unwrap_or_default();
        Self {
            config,
            source,
            meters,
            standing: Mutex::new(Standing { list, state: SourceState::Waiting, shadowed: Vec::new() }),
            wanted: watch::Sender::new(0),
            done: watch::Sender::new(0),
            retired: CancellationToken::new(),
        }
    }

    /// The last good list; an empty one before the first.
    pub(crate) fn list(&self) -> Arc<Sourced> {
        Arc::clone(&self.lock().list)
    }

    /// Whether it has been answered, well or not.
    pub(crate) fn has_been_asked(&self) -> bool {
        self.lock().state != SourceState::Waiting
    }

    /// Whether it has ever been answered well.
    pub(crate) fn has_listed(&self) -> bool {
        let standing = self.lock();
        standing.state == SourceState::Good || *standing.list != Sourced::default()
    }

    /// Says which of its servers are not used because their key is taken.
    pub(crate) fn set_shadowed(&self, shadowed: Vec<(String, String)>) {
        self.lock().shadowed = shadowed;
    }

    pub(crate) fn status(&self) -> SourceStatus {
        let Standing { list, state, shadowed } = self.lock().clone();
        let servers = list.upstreams.len().saturating_sub(shadowed.len());
        let left_out = list.left_out.iter().cloned().chain(shadowed).collect();
        SourceStatus { name: self.config.name().to_owned(), state, servers, left_out }
    }

    /// Asks for a question and waits until one that began after that has been answered.
    pub(crate) async fn asked_anew(&self) {
        let mut asked = 0;
        self.wanted.send_modify(|wanted| {
            *wanted += 1;
            asked = *wanted;
        });
        let mut done = self.done.subscribe();
        tokio::select! {
            _ = done.wait_for(|done| *done >= asked) => {}
            () = self.retired.cancelled() => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks until the feed is retired or the endpoint ends.
pub(crate) async fn run(fleet: Weak<Fleet>, endpoint: EndpointId, feed: Arc<Feed>, stop: CancellationToken) {
    let retired = feed.retired.clone();
    let asking = Asking {
        fleet,
        endpoint,
        pauses: Schedule::steady(FIRST_PAUSE.min(feed.config.interval), feed.config.interval),
        wanted: feed.wanted.subscribe(),
        feed,
    };
    tokio::select! {
        () = asking.repeat() => {}
        () = retired.cancelled() => {}
        () = stop.cancelled() => {}
    }
}

struct Asking {
    /// The fleet ends when its last user is gone; this task must not keep it alive.
    fleet: Weak<Fleet>,
    endpoint: EndpointId,
    feed: Arc<Feed>,
    wanted: watch::Receiver<u64>,
    pauses: Schedule,
}

impl Asking {
    async fn repeat(mut self) {
        loop {
            let asked = *self.wanted.borrow_and_update();
            let pause = self.once().await;
            self.feed.done.send_replace(asked);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.feed.source.changed() => {}
                _ = self.wanted.changed() => {}
            }
        }
    }

    /// One question. Returns how long to wait before the next.
    async fn once(&mut self) -> Duration {
        let outcome = self.ask().await.and_then(|list| self.take_up(list));
        self.feed.meters.asked(outcome.is_ok());
        let (source, endpoint) = (self.feed.config.name(), &self.endpoint);
        match outcome {
            Ok(()) => {
                self.pauses.reset();
                Schedule::jittered(self.feed.config.interval)
            }
            Err(error) => {
                let state = SourceState::Failing { error };
                let is_first = std::mem::replace(&mut self.feed.lock().state, state.clone()) != state;
                let SourceState::Failing { error } = state else { unreachable!("it was made above") };
                if is_first {
                    let servers = self.feed.list().upstreams.len();
                    warn!(%endpoint, source, error, servers, "source cannot be asked; its last good list stays");
                } else {
                    debug!(%endpoint, source, error, "source still cannot be asked");
                }
                // Whoever waits for the first answer need not wait any longer.
                if let Some(tenant) = self.fleet.upgrade().and_then(|fleet| fleet.existing(endpoint)) {
                    tenant.touch();
                }
                self.pauses.next()
            }
        }
    }

    async fn ask(&self) -> Result<Sourced, String> {
        let SourceConfig { timeout, max_servers, .. } = self.feed.config;
        let deadline = Instant::now() + timeout;
        let answer = timeout_at(deadline, self.feed.source.upstreams(&self.endpoint, deadline)).await;
        let list = answer
            .unwrap_or_else(|_| Err(super::SourceError(format!("it did not answer within {timeout:?}"))))
            .map_err(|error| error.0)?;
        if list.upstreams.len() > max_servers {
            let n = list.upstreams.len();
            return Err(format!("it lists {n} servers, and at most {max_servers} are taken"));
        }
        Ok(list)
    }

    fn take_up(&self, list: Sourced) -> Result<(), String> {
        // The engine has ended; so will this task.
        let Some(fleet) = self.fleet.upgrade() else { return Ok(()) };
        let list = usable(&fleet, list);
        let n_servers = list.upstreams.len();
        let before = {
            let mut standing = self.feed.lock();
            let is_same = *standing.list == list;
            (!is_same).then(|| std::mem::replace(&mut standing.list, Arc::new(list)))
        };
        let is_news = before.is_some();
        if let Some(before) = before
            && let Err(refused) = fleet.take_up(&self.endpoint)
        {
            self.feed.lock().list = before;
            return Err(refused.message);
        }
        // Said after it is so: whoever waits for the first answer must not overtake it.
        let was = std::mem::replace(&mut self.feed.lock().state, SourceState::Good);
        if was == SourceState::Waiting
            && let Some(tenant) = fleet.existing(&self.endpoint)
        {
            tenant.touch();
        }
        if !is_news {
            return Ok(());
        }
        self.feed.meters.servers(n_servers);
        info!(endpoint = %self.endpoint, source = self.feed.config.name(), servers = n_servers, "source taken up");
        Ok(())
    }
}

/// Leaves out servers that cannot work, so that one bad entry does not cost the others.
fn usable(fleet: &Fleet, list: Sourced) -> Sourced {
    let Sourced { upstreams, mut left_out } = list;
    let mut kept: Vec<UpstreamConfig> = Vec::with_capacity(upstreams.len());
    let mut keys = std::collections::HashSet::with_capacity(upstreams.len());
    for upstream in upstreams {
        let key = upstream.key.to_string();
        if key.is_empty() {
            left_out.push((key, "it has no name".to_owned()));
        } else if !keys.insert(upstream.key.clone()) {
            left_out.push((key, "it is listed twice; the first one is used".to_owned()));
        } else if let Err(refused) = fleet.can_connect(&upstream) {
            left_out.push((key, refused.message));
        } else {
            kept.push(upstream);
        }
    }
    Sourced { upstreams: kept, left_out }
}
