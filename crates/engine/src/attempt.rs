//! Sends one request to one upstream until it is answered or may not be sent again.

use std::sync::Arc;
use std::time::Duration;

use mpe_mcp_protocol::jsonrpc::{ErrorObject, code};
use mpe_transport::{Protocol, Sent};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use crate::handle::Handle;
use crate::hedge;
use crate::limit::{Gate, Permit, Refusal};
use crate::retry::{Decision, Repeatability, Schedule, decide, may_go_at_once};
use crate::tenant::Tenant;
use crate::upstream::{UpstreamError, UpstreamReply, UpstreamRequest};
use crate::{Asking, Attempt, Blame, CallError, CallErrorKind, CallEvents, Executed};

/// A request on its way to one upstream.
pub(crate) struct Errand<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) gate: &'a Gate,
    /// Of a tool that has limits of its own.
    pub(crate) tool_gate: Option<&'a Gate>,
    pub(crate) handle: &'a Arc<Handle>,
    /// What is asked for: the tool by its original name, else the method.
    pub(crate) subject: &'a str,
    pub(crate) request: UpstreamRequest,
    pub(crate) repeatability: Repeatability,
}

/// What an errand brought.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) result: Box<RawValue>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) address: Option<Arc<str>>,
    pub(crate) attempts: Vec<Attempt>,
}

/// The places an errand takes at its gates, from the first attempt to the last.
struct Places<'a> {
    /// Of a tool that has limits of its own.
    tool: Option<Permit<'a>>,
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

/// How one attempt went.
struct Tried {
    outcome: Result<UpstreamReply, UpstreamError>,
    elapsed: Duration,
}

impl History {
    /// Records an attempt.
    fn note(&mut self, tried: &Tried) {
        let failure = tried.outcome.as_ref().err();
        if failure.is_some_and(|error| error.kind == CallErrorKind::CircuitOpen) {
            // The breaker let nothing out.
            return;
        }
        self.may_have_run |= failure.is_some_and(|error| error.sent == Sent::Maybe);
        self.attempts.push(Attempt { failure: failure.map(|error| error.kind), elapsed: tried.elapsed });
    }

    /// Records an attempt that was cancelled because another one was faster.
    fn note_loser(&mut self, elapsed: Duration) {
        self.may_have_run = true;
        self.attempts.push(Attempt { failure: Some(CallErrorKind::Cancelled), elapsed });
    }
}

/// A deadline that passed within this time of the first byte says more about the caller than about the upstream.
const TELLING_SILENCE: Duration = Duration::from_secs(1);

/// For how long, in all, the questions of one attempt may stop its clock. Each has a patience of its own with whoever
/// answers; this is the hard limit beyond which a call is over, however often it asks.
const MAX_ASKING: Duration = Duration::from_secs(60 * 60);

impl Errand<'_> {
    /// Breaker, permits, then attempts until one is answered or the rule says to give up.
    pub(crate) async fn run(&self) -> Result<Answer, CallError> {
        let handle = self.handle;
        if let Err(wait) = handle.breaker.admit() {
            return Err(self.circuit_open(wait));
        }
        // From the inside out: callers of a slow tool or upstream then queue there and take no place from the others.
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
            if pause.is_zero() {
                // The shortest sleep is a millisecond.
                continue;
            }
            tokio::select! {
                () = sleep_until(Instant::now() + pause) => {}
                () = self.tenant.stop.cancelled() => return Err(self.give_up(failure, history)),
            }
        }
    }

    async fn places(&self) -> Result<Places<'_>, CallError> {
        let deadline = self.request.deadline;
        let waiting = async {
            let tool = match self.tool_gate {
                Some(gate) => Some(gate.acquire(deadline).await.map_err(|refusal| (refusal, "tool"))?),
                None => None,
            };
            let upstream =
                self.handle.gate.acquire(deadline).await.map_err(|refusal| (refusal, "upstream"))?;
            let endpoint = self.gate.acquire(deadline).await.map_err(|refusal| (refusal, "endpoint"))?;
            Ok(Places { tool, upstream: Some(upstream), endpoint: Some(endpoint) })
        };
        let permits = tokio::select! {
            biased;
            permits = waiting => permits,
            () = self.tenant.stop.cancelled() => return Err(shutting_down().at(&self.handle.config.key)),
        };
        permits.map_err(|(refusal, whose)| self.refused(refusal, whose))
    }

    /// One attempt, and a second one beside it if the first takes long and may be hedged. Records what was tried.
    async fn attempt<'a>(
        &'a self,
        history: &mut History,
        places: &mut Places<'a>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let tried = match self.hedges_after(history) {
            None => self.once(&self.request, Some(places)).await,
            // Boxed: the common way stays small.
            Some(delay) => Box::pin(self.hedged(delay, history)).await,
        };
        history.note(&tried);
        tried.outcome
    }

    /// When a second request may be sent beside the first; `None`: not at all.
    fn hedges_after(&self, history: &History) -> Option<Duration> {
        let hedge = self.handle.hedge.as_ref()?;
        let may_try_twice = history.attempts.len() + 1 < self.handle.config.retry.max_attempts as usize;
        let is_harmless =
            self.repeatability == Repeatability::ReadOnly && hedge::allows(&self.request.context);
        if may_try_twice && is_harmless { hedge.delay(self.subject) } else { None }
    }

    /// The first answer of two requests. A failure waits for the other one.
    async fn hedged(&self, delay: Duration, history: &mut History) -> Tried {
        let first_began = Instant::now();
        let mut first = std::pin::pin!(self.once(&self.request, None));
        tokio::select! {
            biased;
            tried = &mut first => return tried,
            () = sleep_until(first_began + delay) => {}
        }
        // No waiting for a place: who waits takes part in an overload.
        let Some(_places) = self.free_places() else { return first.await };
        if self.handle.breaker.is_open() || !self.handle.budget.spend() {
            return first.await;
        }
        self.handle.meters.hedges.increment(1);
        debug!(upstream = %self.handle.config.key, subject = self.subject, ?delay, "hedging");
        let second_began = Instant::now();
        let mut request = self.request.clone();
        // Whatever is told under way, the first request tells it.
        Arc::make_mut(&mut request.context).events = None;
        let mut second = std::pin::pin!(self.once(&request, None));
        let (tried, loser_began, is_first) = tokio::select! {
            tried = &mut first => (tried, second_began, true),
            tried = &mut second => (tried, first_began, false),
        };
        if tried.outcome.is_ok() {
            history.note_loser(loser_began.elapsed());
            return tried;
        }
        history.note(&tried);
        if is_first { second.await } else { first.await }
    }

    /// Places that are free right now.
    fn free_places(&self) -> Option<Places<'_>> {
        let tool = match self.tool_gate {
            Some(gate) => Some(gate.try_acquire()?),
            None => None,
        };
        let (upstream, endpoint) = (self.handle.gate.try_acquire()?, self.gate.try_acquire()?);
        Some(Places { tool, upstream: Some(upstream), endpoint: Some(endpoint) })
    }

    /// One request. Tells the breaker how it went. With `places` they are lent to others while a person is asked.
    async fn once<'a>(&'a self, request: &UpstreamRequest, places: Option<&mut Places<'a>>) -> Tried {
        let handle = self.handle;
        let pass = match handle.breaker.admit() {
            Ok(pass) => pass,
            Err(wait) => {
                let outcome = Err(UpstreamError {
                    kind: CallErrorKind::CircuitOpen,
                    sent: Sent::No,
                    message: format!("upstream '{}' is known to be down", handle.config.key),
                    retry_after: Some(wait),
                    source: None,
                });
                return Tried { outcome, elapsed: Duration::ZERO };
            }
        };
        let exchange = handle.recorder.start();
        let outcome = match (self.who_may_be_asked(), places) {
            // Boxed: few calls may be asked anything.
            (Some(asking), Some(places)) => Box::pin(self.send_and_ask(asking, places)).await,
            _ => self.send(request).await,
        };
        let elapsed = exchange.elapsed();
        match &outcome {
            Ok(reply) => {
                exchange.answered_after(elapsed, reply.protocol);
                pass.succeeded();
                handle.meters.attempted("answered");
                if let Some(hedge) = &handle.hedge {
                    hedge.answered(self.subject, elapsed);
                }
            }
            Err(error) => {
                handle.meters.attempted(error.kind.as_str());
                if tells_of_outage(error, elapsed) && pass.failed() {
                    handle.meters.breaker_opened.increment(1);
                    warn!(upstream = %handle.config.key, "upstream keeps failing; leaving it alone for a while");
                }
            }
        }
        Tried { outcome, elapsed }
    }

    async fn send(&self, request: &UpstreamRequest) -> Result<UpstreamReply, UpstreamError> {
        let reply = timeout_at(self.request.deadline, self.handle.link.request(request.clone()));
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
            let back = places.taken_again(self, at_the_latest);
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
                    places.lend(self);
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
        let pause = if attempts.len() == 1 && may_go_at_once(failure.kind, failure.sent) {
            Duration::ZERO
        } else {
            let new = || Schedule::full_jitter(config.first_pause, config.max_pause);
            pauses.get_or_insert_with(new).next()
        };
        let pause = pause.max(failure.retry_after.unwrap_or_default());
        // Not worth a token: it could not be answered any more.
        if Instant::now() + pause >= self.request.deadline {
            return None;
        }
        self.handle.budget.spend().then_some(pause)
    }

    fn answer(&self, reply: UpstreamReply, history: History) -> Result<Answer, CallError> {
        let (protocol, address) = (reply.protocol, reply.address);
        match reply.outcome {
            Ok(result) => Ok(Answer { result, protocol, address, attempts: history.attempts }),
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

impl Places<'_> {
    /// Gives the places to others, except at a gate that lets one call through at a time: whoever is behind it counts on
    /// that.
    fn lend(&mut self, errand: &Errand<'_>) {
        if errand.tool_gate.is_some_and(|gate| !gate.is_exclusive()) {
            self.tool = None;
        }
        if !errand.handle.gate.is_exclusive() {
            self.upstream = None;
        }
        if !errand.gate.is_exclusive() {
            self.endpoint = None;
        }
    }
}

impl<'a> Places<'a> {
    /// Waits until the places that were lent are taken again; forever when there is none to wait for.
    ///
    /// # Cancel safety
    /// A place that was got is kept.
    async fn taken_again(&mut self, errand: &'a Errand<'_>, deadline: Instant) {
        let places = [
            (&mut self.tool, errand.tool_gate),
            (&mut self.upstream, Some(&errand.handle.gate)),
            (&mut self.endpoint, Some(errand.gate)),
        ];
        let mut has_waited = false;
        for (place, gate) in places {
            if place.is_none()
                && let Some(gate) = gate
            {
                has_waited = true;
                match gate.acquire(deadline).await {
                    Ok(permit) => *place = Some(permit),
                    // No room even to wait: the call goes on uncounted.
                    Err(_) => return std::future::pending().await,
                }
            }
        }
        if !has_waited {
            std::future::pending::<()>().await;
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
pub(crate) fn tells_of_outage(error: &UpstreamError, elapsed: Duration) -> bool {
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
