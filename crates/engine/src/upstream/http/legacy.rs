//! Requests in the legacy era over Streamable HTTP: inside a session, resumable, cancelled by a notification.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::HeaderValue;
use mpe_mcp_protocol::header::{LAST_EVENT_ID, MCP_SESSION_ID};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id, Response, code, encode};
use mpe_mcp_protocol::object::{Object, raw_of};
use mpe_mcp_protocol::probe::{Carrier, Found, Heard, Probe, Verdict};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Protocol, Sent};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::super::error::verdict_error;
use super::super::listener::{Listener, LogLevel};
use super::super::{UpstreamError, UpstreamReply, UpstreamRequest, canonical, message};
use super::pump::{Answering, End, Outcome, pump};
use super::reader::Messages;
use super::session::Session;
use super::wire::{Answer, Wire};
use super::{Inner, NO_CAPABILITIES, Told, session, standing};
use crate::CallErrorKind;

/// What an `initialize` brought.
pub(super) struct Handshake {
    pub(super) status: StatusCode,
    /// The reply, where there was one.
    pub(super) outcome: Option<Outcome>,
    session_id: Option<HeaderValue>,
}

/// Sends `initialize`. What its reply means is for a [`Probe`] to say.
pub(super) async fn initialize(
    inner: &Inner,
    version: ProtocolVersion,
    capabilities: &str,
    deadline: Instant,
) -> Result<Handshake, UpstreamError> {
    let id = inner.next_id();
    let message = message::initialize(&id, version, capabilities);
    let mut answer = inner.wire.send(inner.wire.post(message), deadline).await?;
    let session_id = answer.headers.get(MCP_SESSION_ID).cloned();
    let outcome = first_reply(inner, &mut answer, &id).await?;
    Ok(Handshake { status: answer.status, outcome, session_id })
}

async fn first_reply(inner: &Inner, answer: &mut Answer, id: &Id) -> Result<Option<Outcome>, UpstreamError> {
    if !answer.status.is_success() {
        return Ok(answer.explanation().await.map(|(_, error)| Err(error)));
    }
    if !answer.has_messages() {
        return Ok(None);
    }
    let mut nobody = Listener::new(&Arc::default(), id);
    match pump(&mut answer.messages, id, &mut nobody, &super::pump::NoAnswers, &inner.notices).await {
        Ok(End::Reply(outcome)) => Ok(Some(outcome)),
        Ok(End::Closed) => Ok(None),
        // What is no message is no reply; a lost connection is an error of its own.
        Err(error) if error.kind == CallErrorKind::UpstreamProtocol => Ok(None),
        Err(error) => Err(error),
    }
}

/// Completes a handshake that a probe has accepted: tells the server, which may then be asked.
pub(super) async fn complete(
    inner: &Inner,
    handshake: Handshake,
    found: &Found,
    deadline: Instant,
) -> Result<Session, UpstreamError> {
    let has_logging = Object::parse(&found.server.capabilities)
        .is_ok_and(|capabilities| capabilities.present("logging").is_some());
    let session = Session::new(handshake.session_id, found.version, has_logging);
    let mut request = inner.wire.post(encode::notification("notifications/initialized", None));
    session.stamp(request.headers_mut());
    let answer = inner.wire.send(request, deadline).await?;
    if !answer.status.is_success() {
        return Err(answer.status_error(None));
    }
    Ok(session)
}

/// Opens a session with these capabilities.
async fn open(inner: &Inner, capabilities: &str, deadline: Instant) -> Result<Arc<Session>, UpstreamError> {
    let deadline = deadline.min(Instant::now() + super::STEP_TIMEOUT);
    let version = inner.found_version().unwrap_or(ProtocolVersion::LATEST_LEGACY);
    // Discovery has been here; only the handshake is repeated.
    let mut probe = Probe::handshake(Carrier::Http, version, inner.pin());
    let handshake = initialize(inner, version, capabilities, deadline).await?;
    let status = handshake.status.as_u16();
    let heard = match &handshake.outcome {
        Some(outcome) => Heard::Reply { status: Some(status), outcome },
        None => Heard::Status(status),
    };
    match probe.hear(heard) {
        Verdict::Found(found) => {
            let session = Arc::new(complete(inner, handshake, &found, deadline).await?);
            if capabilities != NO_CAPABILITIES {
                // Some servers put their questions there.
                standing::attend(inner, &session).await;
            }
            Ok(session)
        }
        verdict => {
            // What says nothing about the era proves nothing wrong.
            if matches!(verdict, Verdict::Incompatible(_) | Verdict::Next(_)) {
                inner.forget();
            }
            Err(verdict_error(verdict))
        }
    }
}

/// Sends one request and reads its reply. Dropping the future tells the server that it is cancelled.
pub(super) async fn request(inner: &Arc<Inner>, request: &UpstreamRequest) -> Result<Told, UpstreamError> {
    // Who cannot be asked, whatever the client declared, shares the session of those who declare nothing.
    let can_be_asked = request.context.events.is_some();
    let capabilities = request.context.capabilities.as_deref().filter(|_| can_be_asked);
    let capabilities = capabilities.map_or(Cow::Borrowed(NO_CAPABILITIES), canonical);
    let mut reopened = false;
    loop {
        let session = match session(inner, &capabilities, request.deadline).await {
            Ok(session) => session,
            Err(error) if inner.found_version().is_none() => {
                return Ok(Told::Misfit { outcome: Err(error.before_sending()), is_certain: true });
            }
            Err(error) => return Err(error),
        };
        match attempt(inner, &session, request).await? {
            Attempt::Told(told) => return Ok(told),
            // 2025-11-25, transports: a 404 means that the session is over, and proves that nothing ran in it.
            Attempt::SessionOver(error) => {
                inner.sessions.forget(&capabilities, &session);
                if std::mem::replace(&mut reopened, true) {
                    return Err(error);
                }
                debug!(server = %inner.wire.shown(), "session over, opening another");
                if inner.is_newer_now(request.deadline).await {
                    return Ok(Told::Misfit { outcome: Err(error), is_certain: true });
                }
            }
        }
    }
}

/// The session for these capabilities.
pub(super) async fn session(
    inner: &Arc<Inner>,
    capabilities: &str,
    deadline: Instant,
) -> Result<Arc<Session>, UpstreamError> {
    let opened = inner.sessions.get(capabilities, deadline, || open(inner, capabilities, deadline));
    let (session, evicted) = opened.await?;
    if let Some(evicted) = evicted {
        inner.retire(evicted);
    }
    session::retire_when_idle(inner);
    Ok(session)
}

enum Attempt {
    Told(Told),
    SessionOver(UpstreamError),
}

async fn attempt(
    inner: &Arc<Inner>,
    session: &Arc<Session>,
    request: &UpstreamRequest,
) -> Result<Attempt, UpstreamError> {
    let id = inner.next_id();
    let mut listener = Listener::new(&request.context, &id);
    if let Some(level) = listener.level()
        && let Err(error) = raise_level(inner, session, level, request.deadline).await
    {
        debug!(%error, "the server's log level could not be set");
    }
    let mut http = inner.wire.post(message::legacy(&id, request, &listener));
    session.stamp(http.headers_mut());
    // A session that is retired meanwhile lives on until its last call has ended.
    let _under_way = session.in_flight.token();
    let _present =
        request.context.events.is_some().then(|| session.enter(&id, &request.context, request.deadline));
    let mut guard =
        CancelGuard { inner: Arc::clone(inner), session: Arc::clone(session), id: id.clone(), armed: true };
    let answer = inner.wire.send(http, request.deadline).await;
    let mut answer = answer.inspect_err(|error| guard.armed = error.sent == Sent::Maybe)?;
    if !answer.status.is_success() {
        guard.armed = false;
        return refused(&mut answer, session, &id).await;
    }
    let protocol = answer.protocol;
    if !answer.has_messages() {
        return Err(UpstreamError::protocol("the answer is neither JSON nor an event stream"));
    }
    let answering =
        Answers { wire: Arc::clone(&inner.wire), session: Arc::clone(session), deadline: request.deadline };
    let reply = read_to_reply(inner, session, &mut answer.messages, &id, &mut listener, &answering);
    // The body's own deadline ends a silent stream; this one ends a wait for an answer of the caller, too.
    let reply = timeout_at(request.deadline, reply).await;
    let outcome = reply.map_err(|_| UpstreamError::deadline(Sent::Maybe, "the reply"))??;
    guard.armed = false;
    Ok(Attempt::Told(told(outcome, protocol)))
}

/// Reads the stream, and takes it up again where it breaks and the server lets us.
async fn read_to_reply(
    inner: &Inner,
    session: &Session,
    messages: &mut Messages,
    id: &Id,
    listener: &mut Listener,
    answering: &Answers,
) -> Result<Outcome, UpstreamError> {
    let mut resumed = 0;
    let mut last_seen: Option<String> = None;
    let mut retry = DEFAULT_RETRY;
    loop {
        let end = pump(messages, id, listener, answering, &inner.notices).await;
        let error = match end {
            Ok(End::Reply(outcome)) => return Ok(outcome),
            Ok(End::Closed) => UpstreamError::new(
                CallErrorKind::UpstreamLost,
                Sent::Maybe,
                "the server closed the stream without a reply",
            ),
            Err(error) if error.kind == CallErrorKind::UpstreamLost => error,
            Err(error) => return Err(error),
        };
        if let Some((event, named)) = messages.resume_point() {
            // A stream that brought something new is worth another round of attempts.
            if last_seen.as_ref() != Some(&event) {
                resumed = 0;
            }
            last_seen = Some(event);
            retry = named.unwrap_or(retry);
        }
        let Some(event) = last_seen.as_ref().filter(|_| resumed < MAX_RESUMPTIONS) else { return Err(error) };
        resumed += 1;
        sleep(retry.min(MAX_RETRY)).await;
        match resume(inner, session, event, answering.deadline).await {
            Ok(stream) => *messages = stream,
            Err(refusal) => {
                debug!(%refusal, "the stream could not be taken up again");
                return Err(error);
            }
        }
    }
}

/// How long to wait before a stream is taken up again, unless the server says otherwise.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// The longest wait a server may ask for.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// Attempts to take up a stream that bring nothing new, at most.
const MAX_RESUMPTIONS: u32 = 5;

async fn resume(
    inner: &Inner,
    session: &Session,
    event: &str,
    deadline: Instant,
) -> Result<Messages, UpstreamError> {
    let mut request = inner.wire.get();
    session.stamp(request.headers_mut());
    let event = HeaderValue::from_str(event)
        .map_err(|_| UpstreamError::protocol("an event id that no header may hold"))?;
    request.headers_mut().insert(LAST_EVENT_ID, event);
    let answer = inner.wire.send(request, deadline).await?;
    if answer.status.is_success() && answer.messages.is_event_stream() {
        return Ok(answer.messages);
    }
    Err(answer.status_error(None))
}

async fn refused(answer: &mut Answer, session: &Session, id: &Id) -> Result<Attempt, UpstreamError> {
    let explanation = answer.explanation().await;
    let error = answer.status_error(explanation.as_ref().map(|(_, error)| error));
    if is_session_over(answer, session, explanation.as_ref(), id).await {
        return Ok(Attempt::SessionOver(error.before_sending()));
    }
    match explanation {
        Some((about, said)) if about.as_ref() == Some(id) => {
            // What a server of the modern era makes of a request without `_meta`.
            let is_strange = matches!(
                (answer.status, said.code),
                (StatusCode::NOT_FOUND, code::METHOD_NOT_FOUND)
                    | (StatusCode::BAD_REQUEST, code::INVALID_PARAMS | code::INVALID_REQUEST)
            );
            Ok(Attempt::Told(match told(Err(said), answer.protocol) {
                Told::Reply(reply) if is_strange => Told::Misfit { outcome: Ok(reply), is_certain: false },
                told => told,
            }))
        }
        _ if matches!(answer.status.as_u16(), 400 | 404 | 405 | 410) => {
            Ok(Attempt::Told(Told::Misfit { outcome: Err(error), is_certain: false }))
        }
        _ => Err(error),
    }
}

/// Errors that only the modern era has come from a server that speaks nothing else any more; it ran nothing.
fn told(outcome: Outcome, protocol: Option<Protocol>) -> Told {
    match &outcome {
        Err(error) if matches!(error.code, code::UNSUPPORTED_PROTOCOL_VERSION | code::HEADER_MISMATCH) => {
            let message = format!("the server no longer speaks the revision it spoke: {}", error.message);
            let error = UpstreamError::new(CallErrorKind::UpstreamProtocol, Sent::No, message);
            Told::Misfit { outcome: Err(error), is_certain: true }
        }
        _ => Told::Reply(UpstreamReply { outcome, protocol, address: None }),
    }
}

async fn is_session_over(
    answer: &mut Answer,
    session: &Session,
    explanation: Option<&(Option<Id>, ErrorObject)>,
    id: &Id,
) -> bool {
    if session.id.is_none() {
        return false;
    }
    match (answer.status, explanation) {
        // Some servers answer an unknown method with 404, too; then they know which request they mean.
        (StatusCode::NOT_FOUND, Some((Some(about), error))) => {
            about != id || error.code != code::METHOD_NOT_FOUND
        }
        (StatusCode::NOT_FOUND, _) => true,
        // What SDKs and their examples, and so many servers, answer to an id they do not know, or after a restart.
        (StatusCode::BAD_REQUEST, Some((_, error))) => {
            let is_general = (-32099..=-32000).contains(&error.code) || error.code == code::INVALID_REQUEST;
            is_general && speaks_of_the_session(&error.message)
        }
        (StatusCode::BAD_REQUEST, None) => {
            answer.text().await.is_some_and(|text| speaks_of_the_session(&text))
        }
        _ => false,
    }
}

fn speaks_of_the_session(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("session") || message.contains("not initialized")
}

/// Makes the session at least as talkative as one call wants it; each call hears only its own share.
async fn raise_level(
    inner: &Inner,
    session: &Session,
    wanted: LogLevel,
    deadline: Instant,
) -> Result<(), UpstreamError> {
    if !session.has_logging {
        return Ok(());
    }
    let lock = timeout_at(deadline, session.level.lock()).await;
    let mut level = lock.map_err(|_| UpstreamError::deadline(Sent::No, "the log level"))?;
    if level.is_some_and(|level| level <= wanted) {
        return Ok(());
    }
    let id = inner.next_id();
    let params = raw_of(&serde_json::json!({ "level": wanted.as_str() }));
    match ask(inner, session, &id, encode::request(&id, "logging/setLevel", Some(&params)), deadline).await? {
        Some(Ok(_)) => {
            *level = Some(wanted);
            Ok(())
        }
        Some(Err(error)) => Err(UpstreamError::protocol(error.message)),
        None => Err(UpstreamError::protocol("no answer to logging/setLevel")),
    }
}

/// Sends a request of our own in a session.
pub(super) async fn ask(
    inner: &Inner,
    session: &Session,
    id: &Id,
    message: Vec<u8>,
    deadline: Instant,
) -> Result<Option<Outcome>, UpstreamError> {
    let mut request = inner.wire.post(message);
    session.stamp(request.headers_mut());
    let mut answer = inner.wire.send(request, deadline).await?;
    first_reply(inner, &mut answer, id).await
}

/// Answers what a server asks during a call, by POST.
struct Answers {
    wire: Arc<Wire>,
    session: Arc<Session>,
    deadline: Instant,
}

impl Answering for Answers {
    fn answer(
        &self,
        id: Id,
        method: &str,
        params: Option<&RawValue>,
        listener: &Listener,
    ) -> Option<BoxFuture<'static, ()>> {
        let (wire, session, deadline) = (Arc::clone(&self.wire), Arc::clone(&self.session), self.deadline);
        if method == "ping" {
            let outcome = Ok(message::empty_object());
            return Some(Box::pin(async move { respond(&wire, &session, id, outcome, deadline).await }));
        }
        let answerer = listener.answerer(method, params);
        let (method, params) = (method.to_owned(), params.map(ToOwned::to_owned));
        Some(Box::pin(async move {
            let outcome = match answerer {
                Ok(events) => events.ask(&method, params).await,
                Err(refusal) => Err(refusal),
            };
            respond(&wire, &session, id, outcome, deadline).await;
        }))
    }
}

pub(super) async fn respond(wire: &Wire, session: &Session, id: Id, outcome: Outcome, deadline: Instant) {
    let response = Response { id: Some(id), outcome };
    let mut request = wire.post(response.to_bytes());
    session.stamp(request.headers_mut());
    match wire.send(request, deadline).await {
        Ok(answer) if answer.status.is_success() => {}
        Ok(answer) => debug!(status = answer.status.as_u16(), "the server refused our answer"),
        Err(error) => debug!(%error, "our answer did not reach the server"),
    }
}

/// Ends a session at the server. 405 is fine: some servers end sessions only by themselves.
pub(super) async fn delete(inner: &Inner, session: &Session, deadline: Instant) {
    if session.id.is_none() {
        return;
    }
    let mut request = inner.wire.delete();
    session.stamp(request.headers_mut());
    if let Err(error) = inner.wire.send(request, deadline).await {
        debug!(%error, "a session could not be ended");
    }
}

/// Tells the server that a request is cancelled, unless it was answered.
struct CancelGuard {
    inner: Arc<Inner>,
    session: Arc<Session>,
    id: Id,
    armed: bool,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let params = raw_of(&serde_json::json!({ "requestId": self.id, "reason": "the caller went away" }));
        let mut request =
            self.inner.wire.post(encode::notification("notifications/cancelled", Some(&params)));
        self.session.stamp(request.headers_mut());
        self.inner.afterwards(move |inner, deadline| async move {
            if let Err(error) = inner.wire.send(request, deadline).await {
                debug!(%error, "a cancellation did not reach the server");
            }
        });
    }
}
