//! The legacy era (2024-11-05 to 2025-11-25): a handshake, then requests in a session whose id is a sealed token.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use mpe_mcp_protocol::header::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use mpe_mcp_protocol::jsonrpc::{Id, Message, Notification, Request, Response, code};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};

use super::call::{self, Caller, Operation};
use super::events::Level;
use super::identity::OURSELVES;
use super::listing::Listed;
use super::modern::{arguments, invalid, progress_token};
use super::routing::{self, Relayed};
use super::rpc::{Answer, Refusal};
use super::sessions::{Session, Token};
use super::{accepted, passing_meta, reads_streams};
use super::{declared, home};
use crate::json::{Members, ObjectWriter};
use crate::problem::{Problem, ProblemType};
use crate::replicas::Whole;
use crate::service::Inbound;
use crate::{Body, body};

/// Requests in one array, at most.
const MAX_BATCH: usize = 100;

/// The revision and session of a request.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) version: ProtocolVersion,
    pub(super) token: Option<Token>,
    pub(super) session: Option<Arc<Session>>,
}

impl Scope {
    /// Reads the session id; without one, a request stands alone in the revision its header names, or 2025-03-26.
    ///
    /// # Errors
    /// 400 for a revision that nobody knows (2025-11-25, basic/transports); 404 for a session id that is not, or no longer,
    /// good: the client begins anew.
    pub(super) fn of(inbound: &Inbound) -> Result<Self, Refusal> {
        let headers = &inbound.parts.headers;
        if let Some(said) = headers.get(MCP_PROTOCOL_VERSION)
            && said.to_str().ok().and_then(|said| ProtocolVersion::parse(said.trim())).is_none()
        {
            let message = "the header MCP-Protocol-Version names no revision that is served here";
            return Err(Refusal::new(code::INVALID_REQUEST, message).with_status(StatusCode::BAD_REQUEST));
        }
        let Some(session_id) = headers.get(MCP_SESSION_ID) else {
            let said = headers.get(MCP_PROTOCOL_VERSION).and_then(|value| value.to_str().ok());
            let version = said.and_then(|said| ProtocolVersion::parse(said.trim()));
            let version = version.unwrap_or(ProtocolVersion::V2025_03_26);
            return Ok(Self { version, token: None, session: None });
        };
        let session_id = session_id.to_str().unwrap_or_default();
        let token = Token::open(inbound.gateway.sealer(), inbound.endpoint.as_str(), session_id);
        let token = token.ok_or_else(unknown_session)?;
        let session = inbound.gateway.sessions().of(&token).ok_or_else(unknown_session)?;
        Ok(Self { version: token.version(), session: Some(session), token: Some(token) })
    }
}

pub(super) fn unknown_session() -> Refusal {
    Refusal::new(code::INVALID_REQUEST, "the session is unknown or has ended; initialize again")
        .with_status(StatusCode::NOT_FOUND)
}

/// Answers `initialize`.
pub(crate) fn initialize(inbound: &Inbound, request: &Request) -> http::Response<Body> {
    match handshake(inbound, request) {
        Ok(response) => response,
        Err(refusal) => refusal.with_status(StatusCode::OK).into_response(Some(&request.id)),
    }
}

fn handshake(inbound: &Inbound, request: &Request) -> Result<http::Response<Body>, Refusal> {
    let params =
        Members::of_params(request.params.as_deref()).ok_or_else(|| invalid("params is no object"))?;
    let asked =
        params.string("protocolVersion").ok_or_else(|| invalid("params.protocolVersion is no string"))?;
    let version = ProtocolVersion::parse(&asked).filter(|version| version.era() == Era::Legacy);
    let version = version.unwrap_or(ProtocolVersion::LATEST_LEGACY);
    let object =
        |key: &str| params.get(key).filter(|value| Members::of(value).is_some()).map(ToOwned::to_owned);
    let lifetime = inbound.gateway.config().session_lifetime;
    let mut token = Token::new(version, object("capabilities"), object("clientInfo"), lifetime);
    token.home = home::name(inbound).map(str::to_owned);

    // Upstreams may have something for this era alone; by the time the client asks for it, it may be there.
    inbound.gateway.engine().meet(&inbound.endpoint, Era::Legacy, token.capabilities.as_deref());
    let lists = &inbound.view.lists;
    let mut result = ObjectWriter::new();
    result.string("protocolVersion", version.as_str());
    result.raw("capabilities", lists.capabilities(Era::Legacy).get()).raw("serverInfo", OURSELVES);
    if let Some(instructions) = lists.instructions() {
        result.string("instructions", instructions);
    }
    let mut response = Answer::result(result.finish()).into_response(Some(&request.id));
    let session_id = token.seal(inbound.gateway.sealer(), inbound.endpoint.as_str());
    // A token that outgrows a header is not handed out; the client is then served without a session.
    if session_id.len() <= MAX_SESSION_ID
        && let Ok(value) = HeaderValue::try_from(session_id)
    {
        response.headers_mut().insert(MCP_SESSION_ID, value);
    }
    Ok(response)
}

/// Proxies on the way cap a header line at 8 KiB.
const MAX_SESSION_ID: usize = 4 << 10;

/// Answers a request within, or without, a session.
pub(crate) async fn request(inbound: &mut Inbound, request: Request) -> http::Response<Body> {
    match Scope::of(inbound) {
        Ok(scope) => {
            // Who reads no stream cannot be asked, whatever it declared.
            let declares = scope.token.as_ref().filter(|_| reads_streams(inbound));
            let capabilities = declares.and_then(|token| token.capabilities.as_deref());
            if let Some(capabilities) = declared::any(capabilities) {
                let params = Members::of_params(request.params.as_deref());
                Box::pin(declared::look(inbound, &request.method, params.as_ref(), capabilities)).await;
            }
            answer(inbound, &scope, request).await
        }
        Err(refusal) => refusal.into_response(Some(&request.id)),
    }
}

async fn answer(inbound: &Inbound, scope: &Scope, request: Request) -> http::Response<Body> {
    if let Some(answer) = at_home(inbound, scope, &request, None).await {
        return answer.unwrap_or_else(|refusal| refusal.into_response(Some(&request.id)));
    }
    match prepare(inbound, scope, &request) {
        Ok(Prepared::Answer(answer)) => {
            // The session's next call may run at any replica.
            if request.method == "logging/setLevel"
                && let Some(whole) = inbound.parts.extensions.get::<Whole>()
            {
                home::tell_all(inbound, &whole.0).await;
            }
            answer.into_response(Some(&request.id))
        }
        Ok(Prepared::Call(caller, operation)) => call::answer(inbound, caller, operation).await,
        // In this era an error is an answer like any other.
        Err(refusal) => refusal.with_status(StatusCode::OK).into_response(Some(&request.id)),
    }
}

/// What a request came to once it was read.
enum Prepared {
    Answer(Answer),
    Call(Box<Caller>, Operation),
}

fn prepare(inbound: &Inbound, scope: &Scope, request: &Request) -> Result<Prepared, Refusal> {
    let params =
        Members::of_params(request.params.as_deref()).ok_or_else(|| invalid("params is no object"))?;
    if let Some(name) = params.repeated() {
        return Err(invalid(format!("params.{name} stands there more than once")));
    }
    let offers = inbound.view.lists.offers();
    let relay = |relayed: Relayed| {
        let operation = relayed.operation(inbound.view.catalogue(), &params).map_err(in_legacy_words)?;
        Ok(Prepared::Call(Box::new(caller(inbound, scope, request, &params)?), operation))
    };
    let empty = || Ok(Prepared::Answer(Answer::result("{}")));
    match request.method.as_str() {
        "ping" => empty(),
        "logging/setLevel" => {
            let name = params.string("level").unwrap_or_default();
            let level =
                Level::parse(&name).ok_or_else(|| invalid(format!("there is no log level `{name}`")))?;
            if let Some(session) = &scope.session {
                session.set_level(level);
            }
            empty()
        }
        "tools/call" => {
            let name = params.string("name").ok_or_else(|| invalid("params.name is no string"))?;
            let arguments = arguments(&params)?;
            let caller = caller(inbound, scope, request, &params)?;
            Ok(Prepared::Call(Box::new(caller), Operation::Tool { name, arguments }))
        }
        "resources/subscribe" | "resources/unsubscribe" if offers.subscribe => {
            let uri = params.string("uri").ok_or_else(|| invalid("params.uri is no string"))?;
            routing::resource(inbound.view.catalogue(), &uri).map_err(in_legacy_words)?;
            if let Some(session) = &scope.session {
                session.set_subscribed(&uri, request.method == "resources/subscribe");
            }
            empty()
        }
        "completion/complete" if offers.completions => relay(Relayed::Complete),
        "prompts/get" if offers.prompts => relay(Relayed::GetPrompt),
        "resources/read" if offers.resources => relay(Relayed::ReadResource),
        method => {
            let Some(listed) = Listed::parse(method, offers) else {
                return Err(Refusal::new(code::METHOD_NOT_FOUND, format!("there is no method {method}")));
            };
            let page = listed.page(inbound, &params, Era::Legacy)?;
            let pieces = vec![Bytes::from_static(b"{"), page, Bytes::from_static(b"}")];
            Ok(Prepared::Answer(Answer { status: StatusCode::OK, outcome: Ok(pieces) }))
        }
    }
}

/// A missing resource has a code of its own in this era.
fn in_legacy_words(mut refusal: Refusal) -> Refusal {
    let names_uri =
        refusal.error.data.as_deref().and_then(Members::of).is_some_and(|data| data.get("uri").is_some());
    if names_uri {
        refusal.error.code = code::LEGACY_RESOURCE_NOT_FOUND;
    }
    refusal
}

/// Who asks, from its session.
fn caller(
    inbound: &Inbound,
    scope: &Scope,
    request: &Request,
    params: &Members<'_>,
) -> Result<Caller, Refusal> {
    let meta = params.get("_meta").and_then(Members::of).unwrap_or_default();
    Ok(Caller {
        endpoint: inbound.endpoint.clone(),
        id: request.id.clone(),
        version: scope.version,
        capabilities: scope.token.as_ref().and_then(|token| token.capabilities.clone()),
        client_info: scope.token.as_ref().and_then(|token| token.client_info.clone()),
        meta: passing_meta(&meta),
        level: scope.session.as_ref().and_then(|session| session.level()),
        progress_token: progress_token(&meta)?,
        input_responses: None,
        request_state: None,
        stream: reads_streams(inbound),
        session: scope.session.clone(),
        session_id: scope.token.as_ref().map(|token| token.id.clone()),
        deadline: inbound.deadline,
    })
}

/// Takes a notification. Only a cancel means anything to us; every other one is accepted and done with.
pub(crate) async fn notified(
    inbound: &Inbound,
    notification: &Notification,
    message: &Bytes,
) -> http::Response<Body> {
    match Scope::of(inbound) {
        Ok(scope) => {
            hear(inbound, &scope, notification, message).await;
            accepted()
        }
        Err(refusal) => refusal.into_response(None),
    }
}

async fn hear(inbound: &Inbound, scope: &Scope, notification: &Notification, message: &Bytes) {
    let (Some(session), "notifications/cancelled") = (&scope.session, notification.method.as_str()) else {
        return;
    };
    let params = notification.params.as_deref().and_then(Members::of).unwrap_or_default();
    let id = params.get("requestId").and_then(|id| serde_json::from_str(id.get()).ok());
    // The id is the client's own and says nothing of where the call runs.
    if let Some(id) = id
        && !session.cancel(&id)
    {
        home::tell_all(inbound, message).await;
    }
}

/// Takes the answer to a question of an upstream.
pub(crate) async fn answered(inbound: &Inbound, response: Response, message: &Bytes) -> http::Response<Body> {
    match Scope::of(inbound) {
        Ok(scope) => {
            take(inbound, &scope, response, message).await;
            accepted()
        }
        Err(refusal) => refusal.into_response(None),
    }
}

async fn take(inbound: &Inbound, scope: &Scope, response: Response, message: &Bytes) {
    if home::hand_over(inbound, response.id.as_ref(), message).await {
        return;
    }
    if let (Some(session), Some(id)) = (&scope.session, &response.id) {
        session.answer(id, response.outcome);
    }
}

/// Answers an array, which only 2025-03-26 knows: requests at once, answers together.
pub(crate) async fn batch(inbound: &Inbound, bytes: &Bytes) -> http::Response<Body> {
    let refuse = |message: &str| {
        let refusal = Refusal::new(code::INVALID_REQUEST, message).with_status(StatusCode::BAD_REQUEST);
        refusal.into_response(None)
    };
    let scope = match Scope::of(inbound) {
        Ok(scope) => scope,
        Err(refusal) => return refusal.into_response(None),
    };
    if scope.version != ProtocolVersion::V2025_03_26 || scope.token.is_none() {
        return refuse("arrays are served within a session of 2025-03-26 only");
    }
    let Ok(messages) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(bytes) else {
        return Refusal::new(code::PARSE_ERROR, "the body is no JSON").into_response(None);
    };
    if messages.is_empty() || messages.len() > MAX_BATCH {
        return refuse(&format!("an array has 1 to {MAX_BATCH} messages"));
    }
    let mut requests = Vec::new();
    for message in messages {
        let text = bytes.slice_ref(message.get().as_bytes());
        match Message::parse(&text) {
            Ok(Message::Request(request)) if request.method == "initialize" => {
                return refuse("initialize does not stand in an array");
            }
            Ok(Message::Request(request)) => requests.push(answer_in_batch(inbound, &scope, request, text)),
            Ok(Message::Notification(notification)) => hear(inbound, &scope, &notification, &text).await,
            Ok(Message::Response(response)) => take(inbound, &scope, response, &text).await,
            Err(error) => return refuse(&error.message),
        }
    }
    if requests.is_empty() {
        return accepted();
    }
    let answers = futures_util::future::join_all(requests).await;
    let mut body = vec![b'['];
    body.extend_from_slice(&answers.join(&b","[..]));
    body.push(b']');
    body::response(StatusCode::OK, "application/json", body)
}

async fn answer_in_batch(inbound: &Inbound, scope: &Scope, request: Request, message: Bytes) -> Vec<u8> {
    let id = request.id.clone();
    let prepared = match at_home(inbound, scope, &request, Some(&message)).await {
        None => prepare(inbound, scope, &request),
        Some(Ok(response)) => return collected(response, &id).await,
        Some(Err(refusal)) => Err(refusal),
    };
    let response = match prepared {
        Ok(Prepared::Answer(answer)) => {
            // As outside of an array: the session's next call may run at any replica.
            if request.method == "logging/setLevel" {
                home::tell_all(inbound, &message).await;
            }
            return answer.message(Some(&id));
        }
        Ok(Prepared::Call(mut caller, operation)) => {
            // The answers of an array come together in one body, so nothing in it can be asked back on a stream.
            caller.stream = false;
            call::answer(inbound, caller, operation).await
        }
        Err(refusal) => return Answer::from(refusal).message(Some(&id)),
    };
    collected(response, &id).await
}

async fn collected(response: http::Response<Body>, id: &Id) -> Vec<u8> {
    match response.into_body().collect().await {
        Ok(collected) => collected.to_bytes().to_vec(),
        Err(error) => {
            let message = format!("the answer broke off: {error}");
            Answer::from(Refusal::new(code::INTERNAL_ERROR, message)).message(Some(id))
        }
    }
}

/// The answer of the session's home, where its listening stream is, to a request about that: the whole one, or one message of
/// it. `None`: home is here, or the request is about something else.
///
/// # Errors
/// The home is gone.
async fn at_home(
    inbound: &Inbound,
    scope: &Scope,
    request: &Request,
    message: Option<&Bytes>,
) -> Option<Result<http::Response<Body>, Refusal>> {
    if !matches!(request.method.as_str(), "resources/subscribe" | "resources/unsubscribe") {
        return None;
    }
    let home = scope.token.as_ref().and_then(|token| token.home.as_deref());
    let answer = match message {
        None => home::answer(inbound, home).await,
        Some(message) => home::answer_to(inbound, home, message.clone()).await,
    };
    Some(answer?.map_err(|error| {
        tracing::debug!(%error, "a session's replica cannot be reached; its client begins anew");
        unknown_session()
    }))
}

/// Answers DELETE. What ended has to stay ended, and a sealed token cannot be taken back: so sessions are ended by
/// remembering that they are, where no other replica shares the key, and end by themselves where one may.
pub(crate) fn end(inbound: &Inbound) -> http::Response<Body> {
    match Scope::of(inbound) {
        Ok(Scope { token: Some(token), .. }) if inbound.gateway.config().secret.is_none() => {
            if inbound.gateway.sessions().end(&token) {
                body::status_only(StatusCode::NO_CONTENT)
            } else {
                method_not_allowed("too many sessions have ended; this one ends by itself")
            }
        }
        Ok(_) => method_not_allowed("sessions end by themselves"),
        Err(refusal) => refusal.into_response(None),
    }
}

pub(super) fn method_not_allowed(detail: &str) -> http::Response<Body> {
    Problem::new(ProblemType::MethodNotAllowed, detail)
        .with_header(header::ALLOW, HeaderValue::from_static("POST"))
        .into_response()
}
