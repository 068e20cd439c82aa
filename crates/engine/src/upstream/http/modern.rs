//! Requests in the modern era: no session, everything in the request itself.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use mpe_mcp_protocol::header::{
    MCP_METHOD, MCP_NAME, MCP_PARAM_PREFIX, MCP_PROTOCOL_VERSION, encode_value, named_member,
};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id, code};
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Protocol, Sent};

use super::super::{UpstreamError, UpstreamReply, UpstreamRequest, listener::Listener, message};
use super::pump::{End, NoAnswers, Outcome, pump};
use super::wire::Answer;
use super::{Inner, Told};
use crate::CallErrorKind;

const METHOD: HeaderName = HeaderName::from_static(MCP_METHOD);
const NAME: HeaderName = HeaderName::from_static(MCP_NAME);
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static(MCP_PROTOCOL_VERSION);

/// Sends one request and reads its reply. Dropping the future closes the stream, which cancels the request.
pub(super) async fn request(
    inner: &Inner,
    version: ProtocolVersion,
    request: &UpstreamRequest,
) -> Result<Told, UpstreamError> {
    let (mut listener, http) = prepare(inner, version, request)?;
    let id = listener.id().clone();
    let mut answer = inner.wire.send(http, request.deadline).await?;
    if !answer.status.is_success() {
        return refused(&mut answer, &id).await;
    }
    let protocol = answer.protocol;
    if !answer.has_messages() {
        return Err(UpstreamError::protocol("the answer is neither JSON nor an event stream"));
    }
    match pump(&mut answer.messages, &id, &mut listener, &NoAnswers, &inner.notices).await? {
        End::Reply(outcome) => Ok(told(outcome, protocol)),
        End::Closed => Err(UpstreamError::new(
            CallErrorKind::UpstreamLost,
            Sent::Maybe,
            "the server closed the stream without a reply",
        )),
    }
}

/// The HTTP request, and who hears what comes before its reply.
pub(super) fn prepare(
    inner: &Inner,
    version: ProtocolVersion,
    request: &UpstreamRequest,
) -> Result<(Listener, Request<Bytes>), UpstreamError> {
    let id = inner.next_id();
    let listener = Listener::new(&request.context, &id);
    let mut http = inner.wire.post(message::modern(version, &id, request, &listener));
    add_headers(http.headers_mut(), version, request)?;
    Ok((listener, http))
}

/// Sends one request and says what came, without judging it.
///
/// # Errors
/// No answer.
pub(super) async fn ask(
    inner: &Inner,
    version: ProtocolVersion,
    request: &UpstreamRequest,
) -> Result<(StatusCode, Option<Outcome>), UpstreamError> {
    let (mut listener, http) = prepare(inner, version, request)?;
    let id = listener.id().clone();
    let mut answer = inner.wire.send(http, request.deadline).await?;
    if !answer.status.is_success() {
        return Ok((answer.status, answer.explanation().await.map(|(_, error)| Err(error))));
    }
    if !answer.has_messages() {
        return Ok((answer.status, None));
    }
    match pump(&mut answer.messages, &id, &mut listener, &NoAnswers, &inner.notices).await {
        Ok(End::Reply(outcome)) => Ok((answer.status, Some(outcome))),
        Ok(End::Closed) => Ok((answer.status, None)),
        // What is no message is no reply.
        Err(error) if error.kind == CallErrorKind::UpstreamProtocol => Ok((answer.status, None)),
        Err(error) => Err(error),
    }
}

async fn refused(answer: &mut Answer, id: &Id) -> Result<Told, UpstreamError> {
    let explanation = answer.explanation().await;
    match explanation {
        Some((about, error)) if about.as_ref() == Some(id) && is_about_the_request(&error) => {
            let is_strange = answer.status == StatusCode::BAD_REQUEST && error.code == code::INVALID_REQUEST;
            match told(Err(error), answer.protocol) {
                // A request we made is not invalid, but to a server that wants another kind.
                Told::Reply(reply) if is_strange => {
                    Ok(Told::Misfit { outcome: Ok(reply), is_certain: false })
                }
                told => Ok(told),
            }
        }
        explanation => {
            let error = answer.status_error(explanation.as_ref().map(|(_, error)| error));
            if is_strange(answer.status) {
                return Ok(Told::Misfit { outcome: Err(error), is_certain: false });
            }
            Err(error)
        }
    }
}

/// What servers of the legacy era, and what stands where a server stood, answer to a modern request.
fn is_strange(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 406 | 410 | 415)
}

/// Old implementation codes name no rule (2026-07-28, error codes): the status says more than they do.
fn is_about_the_request(error: &ErrorObject) -> bool {
    !(-32019..=-32000).contains(&error.code)
}

/// A refused revision concerns the hop and is found before anything runs; every other error is the caller's to see.
fn told(outcome: Outcome, protocol: Option<Protocol>) -> Told {
    match &outcome {
        Err(error) if error.code == code::UNSUPPORTED_PROTOCOL_VERSION => {
            let message = format!("the server no longer speaks the revision it spoke: {}", error.message);
            let error = UpstreamError::new(CallErrorKind::UpstreamProtocol, Sent::No, message);
            Told::Misfit { outcome: Err(error), is_certain: true }
        }
        _ => Told::Reply(UpstreamReply { outcome, protocol, address: None }),
    }
}

/// The headers that repeat what the body says.
fn add_headers(
    headers: &mut HeaderMap,
    version: ProtocolVersion,
    request: &UpstreamRequest,
) -> Result<(), UpstreamError> {
    headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(version.as_str()));
    let method = match request.method {
        // One of our own.
        Cow::Borrowed(method) => HeaderValue::from_static(method),
        Cow::Owned(ref method) => value(method)?,
    };
    headers.insert(METHOD, method);
    if let Some(name) = named(request)? {
        headers.insert(NAME, value(&name)?);
    }
    for (name, text) in &request.mirrored {
        let name = HeaderName::from_bytes(format!("{MCP_PARAM_PREFIX}{name}").as_bytes())
            .map_err(|_| unsendable(format!("{name:?} cannot be part of a header name")))?;
        let mut value = value(text)?;
        // Parameters are the caller's data, not ours to log.
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

/// What `Mcp-Name` says.
fn named(request: &UpstreamRequest) -> Result<Option<Cow<'_, str>>, UpstreamError> {
    let Some(member) = named_member(&request.method) else { return Ok(None) };
    if let Some(name) = &request.name {
        return Ok(Some(Cow::Borrowed(name)));
    }
    let Some(params) = request.params.as_deref() else { return Ok(None) };
    let named = Object::parse(params).and_then(|params| params.string(member));
    named.map_err(|error| unsendable(format!("params: {error}")))
}

fn value(text: &str) -> Result<HeaderValue, UpstreamError> {
    HeaderValue::from_str(&encode_value(text)).map_err(|_| unsendable("a header value cannot be encoded"))
}

fn unsendable(message: impl Into<String>) -> UpstreamError {
    UpstreamError::new(CallErrorKind::UpstreamProtocol, Sent::No, message)
}
