//! Events that describe an HTTP request: payload 2.0, payload 1.0 and load balancer.
//!
//! Only the members that make the request are read, so that a service may add or change any other. Field lists: AWS
//! Lambda developer guide, "Invoking Lambda function URLs", "Using AWS Lambda with Amazon API Gateway" and "Using AWS
//! Lambda with an Application Load Balancer".

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use serde::Deserialize;

use crate::InvocationError;

type Single = BTreeMap<String, Option<String>>;
type Multi = BTreeMap<String, Option<Vec<String>>>;

/// Function URL and HTTP API, payload 2.0.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayloadV2 {
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    #[serde(default)]
    headers: Option<Single>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    request_context: ContextV2,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Deserialize)]
struct ContextV2 {
    http: HttpV2,
    stage: Option<String>,
}

#[derive(Deserialize)]
struct HttpV2 {
    method: String,
}

/// REST API, and HTTP API with payload 1.0.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayloadV1 {
    version: Option<String>,
    #[serde(default)]
    request_context: ContextV1,
    http_method: String,
    path: String,
    #[serde(default)]
    headers: Option<Single>,
    #[serde(default)]
    multi_value_headers: Option<Multi>,
    #[serde(default)]
    query_string_parameters: Option<Single>,
    #[serde(default)]
    multi_value_query_string_parameters: Option<Multi>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Default, Deserialize)]
struct ContextV1 {
    stage: Option<String>,
}

/// The request of a payload 2.0 event. The stage is no part of the path.
pub(crate) fn payload_v2(text: &str) -> Result<Request<Bytes>, InvocationError> {
    let event: PayloadV2 = read(text, "payload 2.0 event")?;
    let path = match event.request_context.stage.as_deref() {
        None | Some("$default") => event.raw_path.as_str(),
        Some(stage) => without_stage(&event.raw_path, stage),
    };
    let mut headers = HeaderMap::new();
    add_single(&mut headers, event.headers)?;
    if let Some(cookies) = event.cookies.filter(|cookies| !cookies.is_empty()) {
        headers.insert(header::COOKIE, header_value("/cookies", &cookies.join("; "))?);
    }
    let body = body(event.body, event.is_base64_encoded)?;
    request(
        "/requestContext/http/method",
        &event.request_context.http.method,
        path,
        &event.raw_query_string,
        headers,
        body,
    )
}

/// The request of a payload 1.0 event. Its query parameters are decoded, so they are encoded again.
pub(crate) fn payload_v1(text: &str) -> Result<Request<Bytes>, InvocationError> {
    let event: PayloadV1 = read(text, "payload 1.0 event")?;
    let query =
        query(event.multi_value_query_string_parameters, event.query_string_parameters, encode_component);
    let mut headers = HeaderMap::new();
    match event.multi_value_headers {
        Some(multi) if !multi.is_empty() => add_multi(&mut headers, multi)?,
        _ => add_single(&mut headers, event.headers)?,
    }
    let body = body(event.body, event.is_base64_encoded)?;
    // Only HTTP APIs put the stage into the path, and only their events carry a version.
    let path = match (&event.version, event.request_context.stage.as_deref()) {
        (None, _) | (_, None | Some("$default")) => event.path.as_str(),
        (Some(_), Some(stage)) => without_stage(&event.path, stage),
    };
    request("/httpMethod", &event.http_method, path, &query, headers, body)
}

/// The request of a load balancer event, and whether its headers are lists. Query parameters come as they were sent.
pub(crate) fn load_balancer(text: &str) -> Result<(Request<Bytes>, bool), InvocationError> {
    let event: PayloadV1 = read(text, "load balancer event")?;
    let multi_value = event.multi_value_headers.is_some();
    let query =
        query(event.multi_value_query_string_parameters, event.query_string_parameters, str::to_owned);
    let mut headers = HeaderMap::new();
    match event.multi_value_headers {
        Some(multi) => add_multi(&mut headers, multi)?,
        None => add_single(&mut headers, event.headers)?,
    }
    let body = body(event.body, event.is_base64_encoded)?;
    Ok((request("/httpMethod", &event.http_method, &event.path, &query, headers, body)?, multi_value))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, InvocationError> {
    serde_json::from_str(text)
        .map_err(|error| InvocationError::invalid("", format_args!("not a {what}: {error}")))
}

fn request(
    method_pointer: &str,
    method: &str,
    path: &str,
    query: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Bytes>, InvocationError> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| {
        InvocationError::invalid(method_pointer, format_args!("{method:?} is no HTTP method"))
    })?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri(path, query)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// A path-only URI. Whatever a URI cannot hold is percent-encoded; what is encoded already stays as it is.
pub(crate) fn uri(path: &str, query: &str) -> Result<Uri, InvocationError> {
    let mut target = String::with_capacity(path.len() + query.len() + 2);
    if !path.starts_with('/') {
        target.push('/');
    }
    encode_into(&mut target, path, |byte| is_pchar(byte) || byte == b'/');
    if !query.is_empty() {
        target.push('?');
        encode_into(&mut target, query, |byte| is_pchar(byte) || matches!(byte, b'/' | b'?'));
    }
    target
        .parse()
        .map_err(|error| InvocationError::invalid("", format_args!("the path makes no URI: {error}")))
}

/// One path segment or query component, every reserved character encoded.
pub(crate) fn encode_component(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        push_encoded(&mut encoded, byte, is_unreserved(byte));
    }
    encoded
}

fn encode_into(target: &mut String, text: &str, keep: impl Fn(u8) -> bool) {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let encoded_already = byte == b'%'
            && bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
            && bytes.get(at + 2).is_some_and(u8::is_ascii_hexdigit);
        push_encoded(target, byte, encoded_already || keep(byte));
    }
}

fn push_encoded(target: &mut String, byte: u8, keep: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if keep {
        target.push(char::from(byte));
        return;
    }
    target.push('%');
    target.push(char::from(HEX[usize::from(byte >> 4)]));
    target.push(char::from(HEX[usize::from(byte & 15)]));
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §3.3, without percent.
fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

fn without_stage<'a>(path: &'a str, stage: &str) -> &'a str {
    match path.strip_prefix('/').and_then(|rest| rest.strip_prefix(stage)) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

fn query(multi: Option<Multi>, single: Option<Single>, encode: impl Fn(&str) -> String) -> String {
    let mut pairs = Vec::new();
    match multi.filter(|multi| !multi.is_empty()) {
        Some(multi) => {
            for (name, values) in &multi {
                for value in values.iter().flatten() {
                    pairs.push(format!("{}={}", encode(name), encode(value)));
                }
            }
        }
        None => {
            for (name, value) in single.iter().flatten() {
                pairs.push(format!("{}={}", encode(name), encode(value.as_deref().unwrap_or_default())));
            }
        }
    }
    pairs.join("&")
}

fn add_single(headers: &mut HeaderMap, single: Option<Single>) -> Result<(), InvocationError> {
    for (name, value) in single.into_iter().flatten() {
        add(headers, "/headers", &name, value.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

fn add_multi(headers: &mut HeaderMap, multi: Multi) -> Result<(), InvocationError> {
    for (name, values) in multi {
        for value in values.iter().flatten() {
            add(headers, "/multiValueHeaders", &name, value)?;
        }
    }
    Ok(())
}

fn add(headers: &mut HeaderMap, pointer: &str, name: &str, value: &str) -> Result<(), InvocationError> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| InvocationError::invalid(pointer, format_args!("{name:?} is no header name")))?;
    // They speak of a connection that ended at the service: the body is whole already, and decoded.
    if matches!(
        parsed,
        header::CONNECTION | header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::UPGRADE
    ) {
        return Ok(());
    }
    let value = header_value(&format!("{pointer}/{name}"), value)?;
    headers
        .try_append(parsed, value)
        .map_err(|_| InvocationError::invalid(pointer, "more headers than a request can hold"))?;
    Ok(())
}

fn header_value(pointer: &str, value: &str) -> Result<HeaderValue, InvocationError> {
    HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| InvocationError::invalid(pointer, "a control character in a header value"))
}

fn body(body: Option<String>, is_base64: bool) -> Result<Bytes, InvocationError> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    if !is_base64 {
        return Ok(Bytes::from(body));
    }
    STANDARD
        .decode(body.as_bytes())
        .map(Bytes::from)
        .map_err(|error| InvocationError::invalid("/body", format_args!("isBase64Encoded, but {error}")))
}

#[cfg(test)]
mod tests;
