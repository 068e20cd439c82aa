//! The background task of each upstream: finds out what the server offers, and keeps finding out.
//!
//! 1. Introduce, list, read, publish. A failure is told in the catalogue and tried again soon: after about 250 ms at
//!    first, after 5 s at most, so that a server that was down at start is picked up when it appears.
//! 2. Then wait for the first of: the refresh interval, a change that the server announces (waiting a moment for more of
//!    them), or somebody who asks.
//!
//! No upstream waits for another, and no call waits for a discovery.

use std::sync::Arc;
use std::time::Duration;

use mpe_mcp_protocol::jsonrpc::code;
use mpe_mcp_protocol::pager::{List, Pager, PagerLimits};
use mpe_transport::Sent;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use crate::catalog::listing::{Found, Listing};
use crate::handle::Handle;
use crate::retry::Schedule;
use crate::tenant::Tenant;
use crate::upstream::{Change, Introduction, UpstreamError, UpstreamReply, UpstreamRequest};
use crate::{CallContext, CallErrorKind, CheckerFactory};

/// The first and the longest pause between attempts to discover an upstream that is down.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait for more announcements after one: servers tend to send one per tool.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How often a list is begun again because the server refused its own cursor.
const MAX_RESTARTS: usize = 2;

/// Discovers one upstream until it is retired.
pub(crate) async fn run(tenant: Arc<Tenant>, handle: Arc<Handle>, checkers: Option<Arc<dyn CheckerFactory>>) {
    let retired = handle.retired.clone();
    let discovery = Discovery {
        wanted: handle.wanted.subscribe(),
        pauses: Schedule::steady(FIRST_PAUSE, MAX_PAUSE),
        introduction: None,
        changes: None,
        tenant,
        handle,
        checkers,
    };
    retired.run_until_cancelled(discovery.repeat()).await;
}

struct Discovery {
    tenant: Arc<Tenant>,
    handle: Arc<Handle>,
    checkers: Option<Arc<dyn CheckerFactory>>,
    wanted: watch::Receiver<u64>,
    pauses: Schedule,
    /// What the server said of itself; forgotten by an outage.
    introduction: Option<Introduction>,
    changes: Option<mpsc::Receiver<Change>>,
}

impl Discovery {
    async fn repeat(mut self) {
        loop {
            let asked = *self.wanted.borrow_and_update();
            let next = Instant::now() + self.once().await;
            self.handle.done.send_replace(asked);
            self.wait(next).await;
        }
    }

    /// One discovery. Returns how long to wait before the next.
    async fn once(&mut self) -> Duration {
        let outcome = self.find().await;
        self.handle.meters.discovered(outcome.is_ok());
        match outcome {
            Ok(found) => {
                self.pauses.reset();
                self.introduction = Some(found.introduction.clone());
                self.keep(found).await;
                if self.changes.is_none() {
                    self.changes = self.handle.link.changes();
                }
                jittered(self.handle.config.refresh)
            }
            Err(reason) => {
                self.introduction = None;
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

    async fn find(&self) -> Result<Found, String> {
        let introduction = match &self.introduction {
            Some(known) => known.clone(),
            None => self.introduce().await.map_err(|error| error.message)?,
        };
        let tools = self.list(List::Tools).await?;
        Ok(Found { introduction, tools })
    }

    async fn introduce(&self) -> Result<Introduction, UpstreamError> {
        let deadline = Instant::now() + self.handle.config.timeout;
        let introduction = timeout_at(deadline, self.handle.link.introduce(deadline)).await;
        introduction.unwrap_or_else(|_| Err(overdue("the server did not introduce itself in time")))
    }

    /// Every item of a paged list; none from a server that does not know the method.
    async fn list(&self, list: List) -> Result<Vec<Box<RawValue>>, String> {
        let mut pager = Pager::new(list, PagerLimits::default());
        let mut restarts_left = MAX_RESTARTS;
        while let Some(params) = pager.next_params() {
            let is_first = pager.pages() == 0;
            let reply = request(&self.handle, list.method(), params).await.map_err(|error| error.message)?;
            match reply.outcome {
                Ok(result) => pager.accept(&result).map_err(|error| error.message)?,
                Err(error) if error.code == code::METHOD_NOT_FOUND && is_first => break,
                // The cursor has gone stale: begin again (MCP 2026-07-28, server/utilities/pagination).
                Err(error) if error.code == code::INVALID_PARAMS && !is_first && restarts_left > 0 => {
                    restarts_left -= 1;
                    pager.restart();
                }
                Err(error) => {
                    let method = list.method();
                    return Err(format!("{method} is refused: {} ({})", error.message, error.code));
                }
            }
        }
        Ok(pager.into_items())
    }

    async fn keep(&self, found: Found) {
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
                let is_change = self.handle.found(listing);
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

    /// Waits until `next`, or until there is a reason not to.
    async fn wait(&mut self, next: Instant) {
        tokio::select! {
            () = sleep_until(next) => {}
            _ = self.wanted.changed() => {}
            change = next_change(&mut self.changes) => match change {
                Some(change) => {
                    debug!(upstream = %self.handle.config.key, ?change, "the server announces a change");
                    self.settle_down().await;
                }
                // It can announce no more; the interval goes on, and the next discovery asks again.
                None => {
                    self.changes = None;
                    sleep_until(next).await;
                }
            }
        }
    }

    /// Swallows further announcements for a moment: one discovery answers them all.
    async fn settle_down(&mut self) {
        let end = sleep(DEBOUNCE);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                change = next_change(&mut self.changes) => if change.is_none() {
                    self.changes = None;
                },
            }
        }
    }
}

/// The next announcement; never, from a server that cannot announce.
async fn next_change(changes: &mut Option<mpsc::Receiver<Change>>) -> Option<Change> {
    match changes {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}

async fn request(
    handle: &Handle,
    method: &'static str,
    params: Option<Box<RawValue>>,
) -> Result<UpstreamReply, UpstreamError> {
    let deadline = Instant::now() + handle.config.timeout;
    let request = UpstreamRequest {
        method: method.into(),
        params,
        mirrored: Vec::new(),
        context: Arc::new(CallContext::default()),
        deadline,
    };
    let exchange = handle.recorder.start();
    let reply = timeout_at(deadline, handle.link.request(request)).await;
    let reply = reply.unwrap_or_else(|_| Err(overdue("the server did not answer in time")))?;
    exchange.answered(reply.protocol);
    Ok(reply)
}

fn overdue(message: &str) -> UpstreamError {
    UpstreamError {
        kind: CallErrorKind::DeadlineExceeded,
        sent: Sent::Maybe,
        message: message.to_owned(),
        retry_after: None,
        source: None,
    }
}

/// `interval`, a tenth shorter or longer, so that many upstreams are not all listed at the same moment.
fn jittered(interval: Duration) -> Duration {
    let mut schedule = Schedule::steady(interval, interval);
    schedule.next()
}
