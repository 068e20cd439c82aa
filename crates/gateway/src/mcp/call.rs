//! A request for an upstream, from either era: run it, bridge what the eras do differently, answer.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use mpe_engine::{
    CallContext, CallError, CallErrorKind, CallEvents, EndpointId, Executed, OutcomeKind, Relay, RelayReply,
    ToolCall, ToolOutcome, UpstreamKey,
};
use mpe_mcp_protocol::capability::may_ask;
use mpe_mcp_protocol::jsonrpc::{Id, code};
use mpe_mcp_protocol::result::{ResultType, type_of};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::events::{Asks, Level, StreamEvents};
use super::exchange::{self, Ask, EVENT_QUEUE, Holder, Manner, Orphan, Running};
use super::held::{self, CallHolder};
use super::home;
use super::mrtr::{Round, State, digest};
use super::outbox::outbox;
use super::replay::Resumable;
use super::rpc::{self, Answer, Known, Refusal};
use super::sessions::Session;
use super::{uris, url};
use crate::json::{Members, ObjectWriter};
use crate::pinned::pinned;
use crate::problem::log_call_error;
use crate::service::Inbound;
use crate::view::View;
use crate::{Body, Gateway};

/// Who asks, and what it declared.
pub(crate) struct Caller {
    pub(crate) endpoint: EndpointId,
    pub(crate) id: Id,
    pub(crate) version: ProtocolVersion,
    pub(crate) capabilities: Option<Box<RawValue>>,
    pub(crate) client_info: Option<Box<RawValue>>,
    /// `_meta` without the reserved keys.
    pub(crate) meta: Option<Box<RawValue>>,
    pub(crate) level: Option<Level>,
    pub(crate) progress_token: Option<Box<RawValue>>,
    pub(crate) input_responses: Option<Box<RawValue>>,
    /// Our sealed state, as the caller repeats it.
    pub(crate) request_state: Option<String>,
    /// Whether it reads event streams.
    pub(crate) stream: bool,
    /// Its legacy session.
    pub(crate) session: Option<Arc<Session>>,
    /// That session's own name.
    pub(crate) session_id: Option<String>,
    pub(crate) deadline: Option<Instant>,
}

/// What it asks for.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Any other request, already addressed.
    Relay { upstream: UpstreamKey, method: &'static str, params: Option<Box<RawValue>>, name: String },
    /// A tool call.
    Tool { name: String, arguments: Box<RawValue> },
}

/// A result and who gave it.
struct Reply {
    result: Box<RawValue>,
    upstream: UpstreamKey,
    /// Which of its addresses, where it has several.
    address: Option<Arc<str>>,
    /// Whether it is no answer yet but asks for input.
    asks: bool,
    known: Option<Known>,
}

/// How often an upstream may ask for input before a call is given up: a loop of its making is not ours to feed.
const MAX_ROUNDS: usize = 16;

/// For how long a legacy call goes on when its client's stream breaks.
const GRACE: std::time::Duration = std::time::Duration::from_secs(60);

impl Operation {
    fn method(&self) -> &'static str {
        match self {
            Self::Relay { method, .. } => method,
            Self::Tool { .. } => "tools/call",
        }
    }

    /// The tool, prompt or URI it is about.
    fn name(&self) -> &str {
        match self {
            Self::Relay { name, .. } | Self::Tool { name, .. } => name,
        }
    }

    /// What a request state is bound to. Costs a walk through the arguments, so only who needs a state asks for it.
    pub(crate) fn digest(&self) -> String {
        match self {
            Self::Relay { method, params, name, .. } => digest(method, name, params.as_deref()),
            Self::Tool { name, arguments } => digest("tools/call", name, Some(arguments)),
        }
    }

    /// The URI, where a missing one has an error of its own.
    fn uri(&self) -> Option<&str> {
        match self {
            Self::Relay { method: "resources/read", name, .. } => Some(name),
            Self::Relay { .. } | Self::Tool { .. } => None,
        }
    }
}

/// Runs `operation` for `caller` and answers as JSON or as a stream.
///
/// # Cancel safety
/// Dropping the future or the response's body cancels a modern call; a legacy one goes on for a minute.
pub(crate) async fn answer(
    inbound: &Inbound,
    caller: Box<Caller>,
    operation: Operation,
) -> http::Response<Body> {
    let id = caller.id.clone();
    match start(inbound, caller, operation) {
        Ok(Started::Elsewhere(replica)) => match home::answer(inbound, Some(&replica)).await {
            Some(Ok(response)) => response,
            Some(Err(_)) | None => held::lost().into_response(Some(&id)),
        },
        Ok(Started::Open(holder, running)) => holder.ask_again(running).into_response(Some(&id)),
        Ok(Started::Running(running, manner)) => exchange::respond(running, manner).await,
        Err(refusal) => refusal.into_response(Some(&id)),
    }
}

/// What a request started.
enum Started {
    /// Nothing here: the call is held by another replica.
    Elsewhere(String),
    /// Nothing: it resumed a call but left one of its questions open.
    Open(Arc<CallHolder>, Running),
    Running(Running, Manner),
}

fn start(inbound: &Inbound, mut caller: Box<Caller>, operation: Operation) -> Result<Started, Refusal> {
    let (gateway, view) = (&inbound.gateway, Arc::clone(&inbound.view));
    let era = caller.version.era();
    let operation = Arc::new(operation);
    let endpoint = caller.endpoint.clone();
    let state = match caller.request_state.take() {
        None => None,
        Some(token) => Some(State::open(gateway.sealer(), endpoint.as_str(), &token, &operation.digest())?),
    };
    let config = gateway.config();
    let resumable = resumable(inbound, &caller);
    // A client that is to come back is told so no later than it is to go.
    let polled = resumable.as_ref().and_then(|resumable| resumable.poll_after);
    let manner = Manner {
        id: caller.id.clone(),
        stream: caller.stream,
        hold_head: polled.map_or(config.hold_head, |after| after.min(config.hold_head)),
        keep_alive: config.keep_alive,
        holder: None,
        orphan: match era {
            Era::Legacy => Orphan::Finishes(GRACE),
            Era::Modern => Orphan::Cancelled,
        },
        resumable,
    };
    let held_by = state.as_ref().filter(|state| state.held.is_some()).and_then(|state| state.replica.clone());
    if let Some(replica) = held_by.filter(|replica| Some(replica.as_str()) != home::name(inbound)) {
        return Ok(Started::Elsewhere(replica));
    }
    let gateway = gateway.clone();
    if let Some(handle) = state.as_ref().and_then(|state| state.held.as_deref()) {
        let held = gateway.held().take(handle)?;
        let ear = Arc::clone(&held.ear);
        let (running, open, rounds) =
            held.answer(caller.input_responses.as_deref(), caller.capabilities.as_deref());
        ear.lend(caller.progress_token, caller.level, caller.capabilities);
        let is_open = !open.is_empty();
        let holder =
            Arc::new(CallHolder { gateway, endpoint, operation, ear, open: Mutex::new(open), rounds });
        return Ok(if is_open {
            Started::Open(holder, running)
        } else {
            Started::Running(running, Manner { holder: Some(holder), ..manner })
        });
    }
    let asks = match (&caller.session, era) {
        (_, Era::Modern) => Asks::NextRequest,
        (Some(session), Era::Legacy) if caller.stream => {
            Asks::Client(Arc::clone(session), home::name(inbound).map(str::to_owned))
        }
        (_, Era::Legacy) => Asks::Nobody,
    };
    let (outbox, outgoing) = outbox(EVENT_QUEUE);
    let ear = Arc::new(StreamEvents::new(outbox, caller.progress_token.take(), caller.level, asks));
    let round = state.map(State::round).unwrap_or_default();
    let run = Arc::new(Run { gateway, view, caller, operation, ear });
    let holder = (era == Era::Modern).then(|| Arc::clone(&run) as Arc<dyn Holder>);
    // Lent to its future, not given: that would keep it twice.
    let running = Running::new(pinned(|| async move { run.finish(round).await }), outgoing);
    Ok(Started::Running(running, Manner { holder, ..manner }))
}

/// How the stream of a call is kept for a client that loses it. Older revisions take an event without data for a message.
fn resumable(inbound: &Inbound, caller: &Caller) -> Option<Box<Resumable>> {
    let is_new_enough = caller.version == ProtocolVersion::LATEST_LEGACY;
    let session = caller.session_id.clone().filter(|_| is_new_enough && caller.stream)?;
    let replays = inbound.gateway.replays()?;
    Some(Box::new(Resumable {
        replays: Arc::clone(replays),
        session,
        replica: home::name(inbound).map(str::to_owned),
        poll_after: inbound.gateway.config().poll_after,
        grace: GRACE,
        draining: inbound.gateway.draining().clone(),
    }))
}

/// One request on its way through the engine, as often as its rounds of input demand.
struct Run {
    gateway: Gateway,
    view: Arc<View>,
    caller: Box<Caller>,
    operation: Arc<Operation>,
    ear: Arc<StreamEvents>,
}

impl Holder for Run {
    fn hold(self: Arc<Self>, running: Running, ask: Ask) -> BoxFuture<'static, Answer> {
        let holder = CallHolder {
            gateway: self.gateway.clone(),
            endpoint: self.caller.endpoint.clone(),
            operation: Arc::clone(&self.operation),
            ear: Arc::clone(&self.ear),
            open: Mutex::default(),
            rounds: 0,
        };
        Arc::new(holder).hold(running, ask)
    }
}

/// A result of a kind that belongs to an extension. None is declared to upstreams, so none is an answer (2026-07-28, basic).
fn strange(kind: &str, upstream: &UpstreamKey) -> CallError {
    let message =
        format!("the server answered with a result of the type `{kind}`, which nobody declared to know");
    let error = CallError::new(CallErrorKind::UpstreamProtocol, message).at(upstream);
    // Whatever it is, the server has begun it.
    CallError { executed: Executed::Unknown, ..error }
}

impl Run {
    async fn finish(&self, round: Round) -> Answer {
        let cancellable = self.caller.session.as_ref().map(|session| session.cancellable(&self.caller.id));
        let mut rounds = pin!(self.rounds(round));
        let outcome = match &cancellable {
            None => rounds.await,
            Some(cancellable) => tokio::select! {
                outcome = &mut rounds => outcome,
                () = cancellable.token.cancelled() => {
                    let refusal = Refusal::new(code::INTERNAL_ERROR, "the client cancelled the call");
                    Err(refusal.with_status(StatusCode::OK))
                }
            },
        };
        match outcome {
            Ok(result) => Answer { status: StatusCode::OK, outcome: Ok(result) },
            Err(refusal) => refusal.into(),
        }
    }

    async fn rounds(&self, mut round: Round) -> Result<Vec<Bytes>, Refusal> {
        let mut responses = self.caller.input_responses.clone();
        let mut visits: Vec<String> = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let context = self.context(responses.take(), std::mem::take(&mut round));
            let outcome = self.attempt(context).await;
            // The upstream has gone on: whatever happened behind the URLs is done.
            for visit in visits.drain(..) {
                self.ear.tell("notifications/elicitation/complete", &url::completed(&visit)).await;
            }
            let reply = match outcome {
                Ok(reply) => reply,
                Err(error) => return self.failed(&error),
            };
            if reply.asks {
                self.refuse_questions(&reply)?;
            }
            match (reply.asks, self.caller.version.era()) {
                (false, _) => return self.finished(reply),
                (true, Era::Modern) => return self.asked(reply),
                (true, Era::Legacy) => {
                    let members = Members::of(&reply.result).unwrap_or_default();
                    responses = Some(self.ask_the_client(&members, &mut visits).await?);
                    let state = members.string("requestState");
                    drop(members);
                    round = Round { state, address: reply.address };
                }
            }
        }
        let message = format!("the upstream asked for input {MAX_ROUNDS} times; the call was given up");
        Err(Refusal::new(code::INTERNAL_ERROR, message))
    }

    /// A client is asked what it declared that it can be asked, and nothing else (2026-07-28, basic/patterns/mrtr).
    ///
    /// # Errors
    /// What the upstream had no right to ask.
    fn refuse_questions(&self, reply: &Reply) -> Result<(), Refusal> {
        let declared = self.capabilities();
        let members = Members::of(&reply.result).unwrap_or_default();
        let requests = members.get("inputRequests").and_then(Members::of).unwrap_or_default();
        for (key, request) in requests.iter() {
            let request = Members::of(request).unwrap_or_default();
            let method = request.string("method").unwrap_or_default();
            if let Err(why) = may_ask(declared, &method, request.get("params")) {
                let upstream = &reply.upstream;
                let message = format!("`{upstream}` asks under `{key}` what it may not: {why}");
                return Err(Refusal::new(code::INTERNAL_ERROR, message));
            }
        }
        Ok(())
    }

    /// What the caller declared. A legacy client that reads no stream, or has no session, cannot be asked: then it declared
    /// nothing.
    fn capabilities(&self) -> Option<&RawValue> {
        let caller = &self.caller;
        let can_be_asked = match caller.version.era() {
            Era::Modern => true,
            Era::Legacy => caller.stream && caller.session.is_some(),
        };
        caller.capabilities.as_deref().filter(|_| can_be_asked)
    }

    async fn attempt(&self, context: Arc<CallContext>) -> Result<Reply, CallError> {
        let engine = self.gateway.engine();
        let endpoint = self.caller.endpoint.clone();
        let deadline = self.caller.deadline;
        match &*self.operation {
            Operation::Tool { name, arguments } => {
                let call = ToolCall {
                    endpoint,
                    tool: name.clone(),
                    arguments: arguments.clone(),
                    deadline,
                    check_arguments: self.gateway.config().check_mcp_arguments,
                    context,
                };
                let outcome = engine.call(call).await?;
                if let OutcomeKind::Other(kind) = &outcome.kind {
                    return Err(strange(kind, &outcome.upstream));
                }
                let asks = outcome.kind == OutcomeKind::InputRequired;
                let known = Known { is_typed: outcome.names_its_type, has_meta: outcome.has_meta };
                let ToolOutcome { result, upstream, address, .. } = outcome;
                Ok(Reply { result, upstream, address, asks, known: Some(known) })
            }
            Operation::Relay { upstream, method, params, .. } => {
                let relay = Relay {
                    endpoint,
                    upstream: upstream.clone(),
                    method: (*method).to_owned(),
                    params: params.clone(),
                    deadline,
                    context,
                };
                let reply = engine.relay(relay).await?;
                let kind = type_of(&reply.result);
                if let Ok(ResultType::Other(kind)) = &kind {
                    return Err(strange(kind, upstream));
                }
                let asks = matches!(kind, Ok(ResultType::InputRequired));
                // 2026-07-28, basic/patterns/mrtr: in answers to these alone.
                if asks && !matches!(*method, "prompts/get" | "resources/read") {
                    return Err(strange("input_required", upstream));
                }
                let RelayReply { result, address, .. } = reply;
                Ok(Reply { result, upstream: upstream.clone(), address, asks, known: None })
            }
        }
    }

    fn context(&self, responses: Option<Box<RawValue>>, round: Round) -> Arc<CallContext> {
        let caller = &self.caller;
        Arc::new(CallContext {
            capabilities: self.capabilities().map(ToOwned::to_owned),
            client_info: caller.client_info.clone(),
            meta: caller.meta.clone(),
            log_level: caller.level.map(|level| level.as_str().to_owned()),
            wants_progress: self.ear.wants_progress(),
            input_responses: responses,
            request_state: round.state,
            address: round.address,
            era: Some(caller.version.era()),
            events: Some(Arc::clone(&self.ear) as Arc<dyn CallEvents>),
        })
    }

    /// The answer to a call without an outcome.
    fn failed(&self, error: &CallError) -> Result<Vec<Bytes>, Refusal> {
        log_call_error(error, self.operation.name());
        // Arguments that break the schema are the tool's to complain about, so that a model can mend them.
        if error.kind == CallErrorKind::InvalidArguments {
            let lines = error.violations.iter().map(|v| format!("{}: {}", v.pointer, v.message));
            let text = std::iter::once(error.message.clone()).chain(lines).collect::<Vec<_>>().join("\n");
            let mut block = ObjectWriter::new();
            block.string("type", "text").string("text", &text);
            let mut result = ObjectWriter::new();
            result.raw("content", &format!("[{}]", block.finish_raw().get())).raw("isError", "true");
            return self.finished_with(result.finish_raw(), None, &[]);
        }
        if self.caller.version.era() == Era::Modern
            && let Some(upstream) = &error.upstream
            && let Some(requests) = error.rejection.as_ref().and_then(url::required)
            && url::can_visit(self.caller.capabilities.as_deref())
        {
            let mut result = ObjectWriter::new();
            result.string("resultType", "input_required").raw("inputRequests", requests.get());
            let (result, upstream) = (result.finish_raw(), upstream.clone());
            return self.asked(Reply { result, upstream, address: None, asks: true, known: None });
        }
        Err(rpc::refusal_of_call(error, self.caller.version.era(), self.operation.uri()))
    }

    /// The final answer.
    fn finished(&self, mut reply: Reply) -> Result<Vec<Bytes>, Refusal> {
        reply.result = uris::shown(reply.result, self.view.catalogue(), &reply.upstream);
        let is_cacheable = matches!(self.operation.method(), "resources/read" | "tools/list");
        if !is_cacheable || self.caller.version.era() == Era::Legacy {
            return self.finished_with(reply.result, reply.known, &[]);
        }
        // What the upstream did not say of keeping it reads as "not at all, for nobody else".
        let members = Members::of(&reply.result).unwrap_or_default();
        let ttl =
            members.get("ttlMs").and_then(|ttl| serde_json::from_str::<u64>(ttl.get()).ok()).unwrap_or(0);
        let public = members.string("cacheScope").as_deref() == Some("public");
        let scope = if public { "\"public\"" } else { "\"private\"" };
        drop(members);
        self.finished_with(reply.result, reply.known, &[("ttlMs", &ttl.to_string()), ("cacheScope", scope)])
    }

    fn finished_with(
        &self,
        result: Box<RawValue>,
        known: Option<Known>,
        extra: &[(&str, &str)],
    ) -> Result<Vec<Bytes>, Refusal> {
        match self.caller.version.era() {
            Era::Modern => rpc::modern_result(result, known, extra),
            Era::Legacy => Ok(vec![rpc::legacy_result(result, self.caller.version)]),
        }
    }

    /// The answer that asks a modern caller for input: the upstream's, its state in our envelope.
    fn asked(&self, reply: Reply) -> Result<Vec<Bytes>, Refusal> {
        let upstream_state = Members::of(&reply.result).and_then(|members| members.string("requestState"));
        let lifetime = self.gateway.config().input_lifetime;
        let round = Round { state: upstream_state, address: reply.address.clone() };
        let state = State::new(&reply.upstream, round, self.operation.digest(), lifetime);
        let sealed = state.seal(self.gateway.sealer(), self.caller.endpoint.as_str());
        self.finished_with(reply.result, reply.known, &[("requestState", &format!("\"{sealed}\""))])
    }

    /// Asks a legacy client on its stream what a modern upstream wants to know, one request after the other.
    /// Puts the ids of the URLs it was sent to into `visits`.
    async fn ask_the_client(
        &self,
        members: &Members<'_>,
        visits: &mut Vec<String>,
    ) -> Result<Box<RawValue>, Refusal> {
        let requests = members.get("inputRequests").and_then(Members::of).unwrap_or_default();
        let mut responses = ObjectWriter::new();
        for (key, request) in requests.iter() {
            let request = Members::of(request).unwrap_or_default();
            let method = request.string("method").unwrap_or_default();
            let mut params = request.get("params").map(ToOwned::to_owned);
            if let Some((named, visit)) = url::with_id(&method, params.as_deref()) {
                params = Some(named);
                visits.push(visit);
            }
            match self.ear.ask(&method, params).await {
                Ok(response) => {
                    responses.raw(key, response.get());
                }
                Err(error) => {
                    let message = format!("the client did not answer {method}: {}", error.message);
                    return Err(Refusal::new(code::INTERNAL_ERROR, message));
                }
            }
        }
        Ok(responses.finish_raw())
    }
}
