//! Responses back in the event's own shape.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::HttpShape;
use crate::{InvocationError, InvocationErrorKind};

/// Bytes of a buffered reply as Lambda counts them, after base64 and JSON escaping: 6 MB and 100 bytes of room
/// (AWS Lambda developer guide, "Lambda quotas": invocation payload, synchronous).
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpReply<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<&'a str, Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<Vec<String>>,
    body: &'a str,
    is_base64_encoded: bool,
}

/// The reply of that shape; one that is too large for Lambda becomes a problem that says so.
pub(crate) fn http(shape: HttpShape, response: &Response<Bytes>) -> Box<RawValue> {
    let reply = shaped(shape, response);
    if reply.get().len() <= MAX_PAYLOAD_BYTES {
        return reply;
    }
    let detail = format!(
        "the answer takes {} bytes as a Lambda payload; Lambda carries at most {MAX_PAYLOAD_BYTES}. \
         Ask for less, or use response streaming",
        reply.get().len()
    );
    shaped(shape, &problem(StatusCode::BAD_GATEWAY, "reply-too-large", "reply too large for Lambda", &detail))
}

/// A problem of the carrier itself (RFC 9457); the gateway's own arrive as responses.
pub(crate) fn problem(status: StatusCode, kind: &str, title: &str, detail: &str) -> Response<Bytes> {
    let body = serde_json::json!({
        "type": format!("urn:mcp-proxy-engine:problem:lambda-{kind}"),
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn shaped(shape: HttpShape, response: &Response<Bytes>) -> Box<RawValue> {
    let status = response.status();
    let encoded;
    let (body, is_base64_encoded) = match text(response) {
        Some(text) => (text, false),
        None => {
            encoded = STANDARD.encode(response.body());
            (encoded.as_str(), true)
        }
    };
    let mut reply = HttpReply {
        status_code: status.as_u16(),
        status_description: None,
        headers: None,
        multi_value_headers: None,
        cookies: None,
        body,
        is_base64_encoded,
    };
    let headers = response.headers();
    match shape {
        HttpShape::PayloadV1 => reply.multi_value_headers = Some(multi(headers)),
        HttpShape::PayloadV2 => {
            reply.cookies = Some(cookies(headers)).filter(|cookies| !cookies.is_empty());
            reply.headers = Some(joined(headers));
        }
        HttpShape::LoadBalancer { multi_value } => {
            reply.status_description =
                Some(format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Unknown")));
            if multi_value {
                reply.multi_value_headers = Some(multi(headers));
            } else {
                let mut single = joined(headers);
                // One header, one value: the first cookie is all such a target group can carry.
                if let Some(first) = cookies(headers).into_iter().next() {
                    single.insert(header::SET_COOKIE.as_str(), first);
                }
                reply.headers = Some(single);
            }
        }
    }
    serde_json::value::to_raw_value(&reply).expect("text and numbers serialize")
}

/// The body as text where it is declared to be text and is.
fn text(response: &Response<Bytes>) -> Option<&str> {
    let headers = response.headers();
    let is_plain = headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    let is_text = match headers.get(header::CONTENT_TYPE) {
        None => true,
        Some(value) => value.to_str().is_ok_and(is_text_type),
    };
    if is_plain && is_text { std::str::from_utf8(response.body()).ok() } else { None }
}

fn is_text_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    kind == "text"
        || ["+json", "+xml", "+yaml"].iter().any(|suffix| subtype.ends_with(suffix))
        || (kind == "application"
            && matches!(
                subtype,
                "graphql"
                    | "javascript"
                    | "json"
                    | "openmetrics-text"
                    | "x-www-form-urlencoded"
                    | "xml"
                    | "yaml"
            ))
}

/// Headers a reply may carry. Length and framing are the service's own business.
fn carried(headers: &HeaderMap) -> impl Iterator<Item = (&str, String)> {
    headers
        .iter()
        .filter(|(name, _)| {
            !matches!(
                **name,
                header::CONNECTION | header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::UPGRADE
            )
        })
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
}

fn multi(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in carried(headers) {
        lists.entry(name).or_default().push(value);
    }
    lists
}

/// One value per name, repeated ones joined (RFC 9110 §5.3); cookies left out, they do not join.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut lists = multi(headers);
    lists.remove(header::SET_COOKIE.as_str());
    lists.into_iter().map(|(name, values)| (name, values.join(", "))).collect()
}

/// Every `Set-Cookie`, in order.
pub(crate) fn cookies(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::SET_COOKIE)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

/// A direct payload's result: the body's JSON, or its text as a JSON string.
///
/// # Errors
/// `Answered` when the status is an error, `Reply` when it is too large.
pub(crate) fn json(response: &Response<Bytes>) -> Result<Box<RawValue>, InvocationError> {
    if response.status().is_client_error() || response.status().is_server_error() {
        return Err(answered(response));
    }
    within_limit(raw(response.body()))
}

/// A message's result: the JSON-RPC response, out of an event stream if need be; `null` where there is none.
///
/// # Errors
/// `Answered` when an error status carries no JSON-RPC message, `Reply` when it is too large or a stream ended without
/// a response.
pub(crate) fn message(response: &Response<Bytes>) -> Result<Box<RawValue>, InvocationError> {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| value.starts_with("text/event-stream")) {
        let last = last_response(response.body()).ok_or_else(|| {
            InvocationError::new(
                InvocationErrorKind::Reply,
                "the event stream ended without a JSON-RPC response",
            )
        })?;
        return within_limit(last);
    }
    if response.body().is_empty() && response.status().is_success() {
        return Ok(raw(b"null"));
    }
    let body = raw(response.body());
    let is_message = serde_json::from_str::<JsonRpc>(body.get()).is_ok();
    if is_message { within_limit(body) } else { Err(answered(response)) }
}

#[derive(serde::Deserialize)]
struct JsonRpc {
    #[serde(rename = "jsonrpc")]
    _version: String,
}

#[derive(serde::Deserialize)]
struct ResponseOutline {
    method: Option<serde::de::IgnoredAny>,
    result: Option<serde::de::IgnoredAny>,
    error: Option<serde::de::IgnoredAny>,
}

/// The last JSON-RPC response of an event stream of our own gateway: one `data:` line per event.
fn last_response(stream: &[u8]) -> Option<Box<RawValue>> {
    stream.rsplit(|&byte| byte == b'\n').find_map(|line| {
        let data = line.strip_prefix(b"data:")?;
        let outline: ResponseOutline = serde_json::from_slice(data).ok()?;
        let is_response = outline.method.is_none() && (outline.result.is_some() || outline.error.is_some());
        is_response.then(|| serde_json::from_slice(data).ok())?
    })
}

fn raw(body: &[u8]) -> Box<RawValue> {
    if body.is_empty() {
        return RawValue::from_string("null".to_owned()).expect("null is JSON");
    }
    serde_json::from_slice(body).unwrap_or_else(|_| {
        serde_json::value::to_raw_value(&String::from_utf8_lossy(body)).expect("text serializes")
    })
}

fn within_limit(reply: Box<RawValue>) -> Result<Box<RawValue>, InvocationError> {
    let bytes = reply.get().len();
    if bytes <= MAX_PAYLOAD_BYTES {
        return Ok(reply);
    }
    let message =
        format!("the reply has {bytes} bytes; Lambda carries at most {MAX_PAYLOAD_BYTES}. Ask for less");
    Err(InvocationError::new(InvocationErrorKind::Reply, message))
}

#[derive(serde::Deserialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    #[serde(borrow)]
    violations: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

fn answered(response: &Response<Bytes>) -> InvocationError {
    let status = response.status();
    let Ok(problem) = serde_json::from_slice::<Problem<'_>>(response.body()) else {
        return InvocationError::answered(
            format!("McpProxyEngine.Status{}", status.as_u16()),
            format!(
                "{status}: {}",
                String::from_utf8_lossy(response.body()).chars().take(1000).collect::<String>()
            ),
        );
    };
    let mut message = match (problem.title, problem.detail) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => status.to_string(),
    };
    for details in [problem.violations, problem.error].into_iter().flatten() {
        message.push_str(": ");
        message.push_str(details.get());
    }
    let kind = problem.kind.unwrap_or_else(|| format!("McpProxyEngine.Status{}", status.as_u16()));
    InvocationError::answered(kind, message)
}

#[cfg(test)]
mod tests;
