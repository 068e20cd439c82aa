//! The MCP face: one URL for both eras.
//!
//! Which era a request belongs to is decided once, here ([`era_of`]); from there on each era's page reads alone.
//! Everything that reaches an upstream goes through [`call`].

pub(crate) mod call;
pub(crate) mod conversation;
pub(crate) mod declared;
pub(crate) mod events;
pub(crate) mod exchange;
pub(crate) mod headers;
pub(crate) mod held;
pub(crate) mod home;
pub(crate) mod http_sse;
pub(crate) mod identity;
pub(crate) mod legacy;
pub(crate) mod listen;
pub(crate) mod listing;
pub(crate) mod modern;
pub(crate) mod mrtr;
pub(crate) mod outbox;
pub(crate) mod replay;
pub(crate) mod routing;
pub(crate) mod rpc;
pub(crate) mod sessions;
pub(crate) mod uris;
pub(crate) mod url;

use std::borrow::Cow;

use http::{HeaderMap, Method, StatusCode, header};
use mpe_mcp_protocol::jsonrpc::{DecodeErrorKind, Envelope, Id, Notification, Request, Response, code};
use mpe_mcp_protocol::meta::key;
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use serde_json::value::RawValue;

use crate::carrier::Carrier;
use crate::json::Members;
use crate::replicas::Whole;
use crate::service::Inbound;
use crate::{Body, accept, body};
use rpc::Refusal;

/// How a POST is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The legacy handshake.
    Handshake,
    /// Within, or without, a legacy session.
    Legacy,
    /// With its own context.
    Modern,
}

/// Answers one request to the MCP face.
pub(crate) async fn handle(mut inbound: Inbound) -> http::Response<Body> {
    match inbound.parts.method {
        // Boxed, as all that is not the common way: that one stays small.
        Method::GET => Box::pin(listen::legacy(&inbound)).await,
        Method::DELETE => legacy::end(&inbound),
        _ => post(&mut inbound).await,
    }
}

async fn post(inbound: &mut Inbound) -> http::Response<Body> {
    if let Some(refusal) = refuse_media_type(&inbound.parts.headers) {
        return refusal.into_response(None);
    }
    let bytes = match inbound.collect_body().await {
        Ok(bytes) => bytes,
        Err(problem) => return Refusal::from(problem).into_response(None),
    };
    if inbound.gateway.replicas().is_some() {
        inbound.parts.extensions.insert(Whole(bytes.clone()));
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Box::pin(legacy::batch(inbound, &bytes)).await;
    }
    let message = match parse(&bytes) {
        Ok(message) => message,
        Err(response) => return *response,
    };
    match message {
        Envelope::Request { id, method, params } => {
            answer_request(inbound, Asked { id, method, params }).await
        }
        Envelope::Notification { method, params } => {
            let (method, params) = (method.into_owned(), params.map(ToOwned::to_owned));
            Box::pin(legacy::notified(inbound, &Notification { method, params }, &bytes)).await
        }
        Envelope::Response { id, outcome } => {
            let response = Response { id, outcome: outcome.map(ToOwned::to_owned) };
            Box::pin(legacy::answered(inbound, response, &bytes)).await
        }
    }
}

/// A request, borrowed from its bytes but for its id.
struct Asked<'a> {
    id: Id,
    method: Cow<'a, str>,
    params: Option<&'a RawValue>,
}

impl Asked<'_> {
    fn into_request(self) -> Request {
        let params = self.params.map(ToOwned::to_owned);
        Request { id: self.id, method: self.method.into_owned(), params }
    }
}

async fn answer_request(inbound: &mut Inbound, request: Asked<'_>) -> http::Response<Body> {
    let prepared = {
        // Taken apart once, for the decision and for the modern era.
        let params = Members::of_params(request.params);
        let meta = params.as_ref().and_then(|params| params.get("_meta")).and_then(Members::of);
        match era_of(&request.method, meta.as_ref(), &inbound.parts.headers) {
            Reading::Handshake => return legacy::initialize(inbound, &request.into_request()),
            Reading::Legacy => None,
            Reading::Modern => {
                let meta = meta.unwrap_or_default();
                if let Some(capabilities) = declared::any(meta.get(key::CLIENT_CAPABILITIES)) {
                    // Large, and of little use to most.
                    Box::pin(declared::look(inbound, &request.method, params.as_ref(), capabilities)).await;
                }
                Some(modern::prepare(inbound, &request, params, &meta))
            }
        }
    };
    match prepared {
        None => Box::pin(legacy::request(inbound, request.into_request())).await,
        Some(prepared) => modern::answer(inbound, request.id, prepared).await,
    }
}

/// One message; what cannot be read is answered with -32700 or -32600 and its id, if that could be read.
fn parse(bytes: &[u8]) -> Result<Envelope<'_>, Box<http::Response<Body>>> {
    Envelope::parse(bytes).map_err(|error| {
        let code = match error.kind {
            DecodeErrorKind::Parse => code::PARSE_ERROR,
            DecodeErrorKind::InvalidRequest | DecodeErrorKind::InvalidShape | DecodeErrorKind::TooLarge => {
                code::INVALID_REQUEST
            }
        };
        let refusal = Refusal::new(code, error.message).with_status(StatusCode::BAD_REQUEST);
        Box::new(refusal.into_response(error.id.as_ref()))
    })
}

/// Decides the era of a request that is no array, by its `_meta` among others; the first rule that fits counts.
fn era_of(method: &str, meta: Option<&Members<'_>>, headers: &HeaderMap) -> Reading {
    if meta.is_some_and(|meta| meta.get(key::PROTOCOL_VERSION).is_some()) {
        return Reading::Modern;
    }
    if method == "initialize" {
        return Reading::Handshake;
    }
    let said = headers.get(headers::PROTOCOL_VERSION).map(|value| value.to_str().unwrap_or_default().trim());
    match said.map(ProtocolVersion::parse) {
        None => Reading::Legacy,
        Some(Some(version)) if version.era() == Era::Legacy => Reading::Legacy,
        Some(_) => Reading::Modern,
    }
}

/// A POST says that it is JSON. A missing media type is taken for it; another one is how a browser's form would try.
fn refuse_media_type(headers: &HeaderMap) -> Option<Refusal> {
    let value = headers.get(header::CONTENT_TYPE).filter(|value| *value != "application/json")?;
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") || essence.is_empty() {
        return None;
    }
    let message = format!("the body is {essence}; only application/json is read here");
    Some(Refusal::new(code::INVALID_REQUEST, message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// Whether the caller reads event streams. One that says nothing is taken to.
fn reads_streams(inbound: &Inbound) -> bool {
    if inbound.parts.extensions.get::<conversation::OverChannel>().is_some() {
        return true;
    }
    inbound.carrier != Some(Carrier::Message) && accepts_streams(&inbound.parts.headers)
}

fn accepts_streams(headers: &HeaderMap) -> bool {
    match headers.get(header::ACCEPT) {
        None => return true,
        // What MCP's clients send, word for word: nothing to weigh.
        Some(usual) if usual == "application/json, text/event-stream" => return true,
        Some(_) => {}
    }
    // What is named counts before what is only meant, too.
    let named = accept::weight(headers, &["text/event-stream"]);
    named.or_else(|| accept::weight(headers, &["text/*", "*/*"])).is_some_and(|weight| weight > 0.0)
}

/// `_meta` without the members that have a meaning of their own on each hop; `None` when nothing is left.
fn passing_meta(meta: &Members<'_>) -> Option<Box<RawValue>> {
    let hop = |key: &str| {
        key == "progressToken"
            || key.strip_prefix("io.modelcontextprotocol/").is_some_and(|name| {
                matches!(
                    name,
                    "protocolVersion"
                        | "clientCapabilities"
                        | "clientInfo"
                        | "logLevel"
                        | "subscriptionId"
                        | "serverInfo"
                )
            })
    };
    let mut passing = meta.iter().filter(|(key, _)| !hop(key)).peekable();
    passing.peek()?;
    let mut kept = crate::json::ObjectWriter::new();
    for (key, value) in passing {
        kept.raw(key, value.get());
    }
    Some(kept.finish_raw())
}

/// 202, as every accepted notification and response gets.
fn accepted() -> http::Response<Body> {
    body::status_only(StatusCode::ACCEPTED)
}

#[cfg(test)]
mod tests;
