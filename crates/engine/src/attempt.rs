//! Sends one request to one upstream until it is answered or may not be sent again.

use std::sync::Arc;
use std::time::Duration;

use mpe_mcp_protocol::jsonrpc::{ErrorObject, code};
use mpe_transport::{Protocol, Sent};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use crate::handle::Handle;
use crate::limit::{Gate, Permit, Refusal};
use crate::retry::{Decision, Repeatability, Schedule, decide};
use crate::tenant::Tenant;
use crate::upstream::{UpstreamError, UpstreamReply, UpstreamRequest};
use crate::{Asking, Attempt, Blame, CallError, CallErrorKind, CallEvents, Executed};

/// A request on its way to one upstream.
pub(crate) struct Errand<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) gate: &'a Gate,
    pub(crate) handle: &'a Arc<Handle>,
    pub(crate) request: UpstreamRequest,
    pub(crate) repeatability: Repeatability,
}

/// What an errand brought.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) result: Box<RawValue>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) attempts: Vec<Attempt>,
}

/// The places an errand takes at its gates, from the first attempt to the last.
struct Places<'a> {
    upstream: Option<Permit<'a>>,
    endpoint: Option<Permit<'a>>,
}

/// What has happened to an errand so far.
#[derive(Debug, Default)]
struct History {
    attempts: Vec<Attempt>,
    /// One attempt whose fate is unknown makes the fate of the call unknown, however the later ones end.
    may_have_run: bool,
}

/// A deadline that passed within this time of the first byte says more about the caller than about the upstream.
const TELLING_SILENCE: Duration = Duration::from_secs(1);

/// For how long, in all, the questions of one attempt may stop its clock. Each has a patience of its own with whoever
/// answers; this is the hard limit beyond which a call is over, however often it asks.
const MAX_ASKING: Duration = Duration::from_secs(60 * 60);

impl Errand<'_> {
    /// Breaker, permits, then attempts until one is answered or the rule says to give up.
    pub(crate) async fn run(self) -> Result<Answer, CallError> {
        let handle = self.handle;
        if let Err(wait) = handle.breaker.admit() {
            return Err(self.circuit_open(wait));
        }
        // The upstream's permit first: callers of a slow upstream then queue there and take no place from the others.
        let mut places = self.places().await?;
        handle.budget.earn();
        let mut pauses = None;
        let mut history = History::default();
        loop {
            let failure = match self.attempt(&mut history, &mut places).await {
                Ok(reply) => return self.answer(reply, history),
                Err(failure) => failure,
            };
            let Some(pause) = self.pause_before_retry(&failure, &history.attempts, &mut pauses) else {
                return Err(self.give_up(failure, history));
            };
            debug!(upstream = %handle.config.key, kind = ?failure.kind, ?pause, "sending again");
            handle.meters.retries.increment(1);
            tokio::select! {
                () = sleep_until(Instant::now() + pause) => {}
                () = self.tenant.stop.cancelled() => return Err(self.give_up(failure, history)),
            }
        }
    }

    async fn places(&self) -> Result<Places<'_>, CallError> {
        let deadline = self.request.deadline;
        let waiting = async {
            let upstream =
                self.handle.gate.acquire(deadline).await.map_err(|refusal| (refusal, "upstream"))?;
            let endpoint = self.gate.acquire(deadline).await.map_err(|refusal| (refusal, "endpoint"))?;
            Ok(Places { upstream: Some(upstream), endpoint: Some(endpoint) })
        };
        let permits = tokio::select! {
            biased;
            permits = waiting => permits,
            () = self.tenant.stop.cancelled() => return Err(shutting_down().at(&self.handle.config.key)),
        };
        permits.map_err(|(refusal, whose)| self.refused(refusal, whose))
    }

    /// One attempt. Records it, and tells the breaker.
    async fn attempt<'a>(
        &'a self,
        history: &mut History,
        places: &mut Places<'a>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let handle = self.handle;
        let pass = handle.breaker.admit().map_err(|wait| UpstreamError {
            kind: CallErrorKind::CircuitOpen,
            sent: Sent::No,
            message: format!("upstream '{}' is known to be down", handle.config.key),
            retry_after: Some(wait),
            source: None,
        })?;
        let exchange = handle.recorder.start();
        let outcome = match self.who_may_be_asked() {
            Some(asking) => self.send_and_ask(asking, places).await,
            None => self.send().await,
        };
        let elapsed = exchange.elapsed();
        history.attempts.push(Attempt { failure: outcome.as_ref().err().map(|error| error.kind), elapsed });
        match &outcome {
            Ok(reply) => {
                exchange.answered(reply.protocol);
                pass.succeeded();
                handle.meters.attempted("answered");
            }
            Err(error) => {
                history.may_have_run |= error.sent == Sent::Maybe;
                handle.meters.attempted(error.kind.as_str());
                if tells_of_outage(error, elapsed) && pass.failed() {
                    handle.meters.breaker_opened.increment(1);
                    warn!(upstream = %handle.config.key, "upstream keeps failing; leaving it alone for a while");
                }
            }
        }
        outcome
    }

    async fn send(&self) -> Result<UpstreamReply, UpstreamError> {
        let reply = timeout_at(self.request.deadline, self.handle.link.request(self.request.clone()));
        tokio::select! {
            biased;
            reply = reply => reply.unwrap_or_else(|_| Err(self.too_late())),
            () = self.tenant.stop.cancelled() => Err(closed_under_way()),
        }
    }

    /// Where the questions of this call are counted, if it may be asked any.
    fn who_may_be_asked(&self) -> Option<&Asking> {
        let context = &self.request.context;
        let declared = context.capabilities.as_deref().is_some_and(|declared| {
            ["elicitation", "roots", "sampling"].iter().any(|kind| declared.get().contains(kind))
        });
        context.events.as_deref().filter(|_| declared).and_then(CallEvents::asking)
    }

    /// As [`send`](Self::send). While a question is open, the places are free and the deadline moves on: a person takes
    /// minutes to answer, and meanwhile the upstream does nothing.
    async fn send_and_ask<'a>(
        &'a self,
        asking: &Asking,
        places: &mut Places<'a>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let mut deadline = self.request.deadline;
        let at_the_latest = deadline + MAX_ASKING;
        let mut request = self.request.clone();
        request.deadline = at_the_latest;
        let mut reply = self.handle.link.request(request);
        let mut asked_since = None;
        loop {
            // Whoever got its place back late goes on without: the upstream works on the call already, and new calls queue
            // behind the one that is waited for here.
            let back = places.taken_again(&self.handle.gate, self.gate, at_the_latest);
            tokio::select! {
                biased;
                reply = &mut reply => return reply,
                () = self.tenant.stop.cancelled() => return Err(closed_under_way()),
                () = sleep_until(deadline), if asked_since.is_none() => return Err(self.too_late()),
                () = sleep_until(at_the_latest), if asked_since.is_some() => return Err(self.too_late()),
                () = asking.changed() => {}
                () = back, if asked_since.is_none() => {}
            }
            match (asking.is_open(), asked_since) {
                (true, None) => {
                    asked_since = Some(Instant::now());
                    places.lend(&self.handle.gate, self.gate);
                }
                (false, Some(since)) => {
                    asked_since = None;
                    deadline = (deadline + since.elapsed()).min(at_the_latest);
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
    }

    fn too_late(&self) -> UpstreamError {
        UpstreamError {
            kind: CallErrorKind::DeadlineExceeded,
            sent: Sent::Maybe,
            message: format!("upstream '{}' did not answer in time", self.handle.config.key),
            retry_after: None,
            source: None,
        }
    }

    /// How long to wait before the next attempt; `None`: there is none.
    fn pause_before_retry(
        &self,
        failure: &UpstreamError,
        attempts: &[Attempt],
        pauses: &mut Option<Schedule>,
    ) -> Option<Duration> {
        let config = &self.handle.config.retry;
        if decide(failure.kind, self.repeatability, failure.sent) == Decision::GiveUp
            || attempts.len() >= config.max_attempts as usize
            || self.handle.breaker.is_open()
        {
            return None;
        }
        let pause = pauses
            .get_or_insert_with(|| Schedule::full_jitter(config.first_pause, config.max_pause))
            .next()
            .max(failure.retry_after.unwrap_or_default());
        // Not worth a token: it could not be answered any more.
        if Instant::now() + pause >= self.request.deadline {
            return None;
        }
        self.handle.budget.spend().then_some(pause)
    }

    fn answer(&self, reply: UpstreamReply, history: History) -> Result<Answer, CallError> {
        let protocol = reply.protocol;
        match reply.outcome {
            Ok(result) => Ok(Answer { result, protocol, attempts: history.attempts }),
            // About the hop: never the caller's to see. Whoever knows the tool may build its headers anew.
            Err(rejection) if rejection.code == code::HEADER_MISMATCH => {
                let message =
                    format!("the server found our headers and body to disagree: {}", rejection.message);
                let mut error =
                    CallError::new(CallErrorKind::UpstreamProtocol, message).at(&self.handle.config.key);
                error.executed = if history.may_have_run { Executed::Unknown } else { Executed::No };
                error.attempts = history.attempts;
                error.rejection = Some(rejection);
                Err(error)
            }
            Err(rejection) => {
                let mut error = CallError::new(CallErrorKind::Rejected, rejection.message.clone())
                    .at(&self.handle.config.key);
                error.executed =
                    if history.may_have_run { Executed::Unknown } else { executed_before(&rejection) };
                if rejection.code == code::INVALID_PARAMS {
                    error.blame = Blame::Caller;
                }
                error.attempts = history.attempts;
                error.rejection = Some(rejection);
                Err(error)
            }
        }
    }

    fn give_up(&self, failure: UpstreamError, history: History) -> CallError {
        let mut error = CallError::new(failure.kind, failure.message).at(&self.handle.config.key);
        error.executed = if history.may_have_run { Executed::Unknown } else { Executed::No };
        error.attempts = history.attempts;
        error.retry_after = failure.retry_after;
        error.source = failure.source;
        error
    }

    fn circuit_open(&self, wait: Duration) -> CallError {
        let key = &self.handle.config.key;
        let mut error = CallError::new(
            CallErrorKind::CircuitOpen,
            format!("upstream '{key}' keeps failing and is left alone for a while"),
        );
        error.retry_after = Some(wait);
        error.at(key)
    }

    fn refused(&self, refusal: Refusal, whose: &str) -> CallError {
        let key = &self.handle.config.key;
        match refusal {
            Refusal::Deadline => {
                let message = format!("the deadline passed while the call waited for a place at its {whose}");
                let mut error = CallError::new(CallErrorKind::DeadlineExceeded, message).at(key);
                error.blame = Blame::Engine;
                error
            }
            Refusal::Full => {
                let message = format!("too many calls are in flight and waiting at this {whose}");
                CallError::new(CallErrorKind::Overloaded, message).at(key)
            }
        }
    }
}

impl<'a> Places<'a> {
    /// Gives the places to others, except at a gate that lets one call through at a time: whoever is behind it counts on
    /// that.
    fn lend(&mut self, upstream: &Gate, endpoint: &Gate) {
        if !upstream.is_exclusive() {
            self.upstream = None;
        }
        if !endpoint.is_exclusive() {
            self.endpoint = None;
        }
    }

    /// Waits until the places that were lent are taken again; forever when there is none to wait for.
    ///
    /// # Cancel safety
    /// A place that was got is kept.
    async fn taken_again(&mut self, upstream: &'a Gate, endpoint: &'a Gate, deadline: Instant) {
        if self.upstream.is_some() && self.endpoint.is_some() {
            return std::future::pending().await;
        }
        for (place, gate) in [(&mut self.upstream, upstream), (&mut self.endpoint, endpoint)] {
            if place.is_none() {
                match gate.acquire(deadline).await {
                    Ok(permit) => *place = Some(permit),
                    // No room even to wait: the call goes on uncounted.
                    Err(_) => return std::future::pending().await,
                }
            }
        }
    }
}

fn closed_under_way() -> UpstreamError {
    UpstreamError {
        kind: CallErrorKind::ShuttingDown,
        sent: Sent::Maybe,
        message: "the engine closed while the call was under way".to_owned(),
        retry_after: None,
        source: None,
    }
}

/// Whether a failure says that the upstream, and not this one call, is in trouble.
fn tells_of_outage(error: &UpstreamError, elapsed: Duration) -> bool {
    match error.kind {
        CallErrorKind::UpstreamLost | CallErrorKind::UpstreamStatus | CallErrorKind::UpstreamUnreachable => {
            true
        }
        CallErrorKind::DeadlineExceeded => elapsed >= TELLING_SILENCE,
        _ => false,
    }
}

/// A server that could not make sense of a request ran nothing; what another one did before it refused is its own business.
fn executed_before(rejection: &ErrorObject) -> Executed {
    match rejection.code {
        code::PARSE_ERROR | code::INVALID_REQUEST | code::METHOD_NOT_FOUND | code::INVALID_PARAMS => {
            Executed::No
        }
        _ => Executed::Unknown,
    }
}

pub(crate) fn shutting_down() -> CallError {
    CallError::new(CallErrorKind::ShuttingDown, "the engine is closing")
}
