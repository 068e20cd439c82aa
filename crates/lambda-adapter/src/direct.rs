//! Direct invocations: a route, a tool, a batch, a GraphQL request or an MCP message as the payload itself.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use mpe_gateway::Carrier;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::InvocationError;
use crate::http_event::{encode_component, uri};

/// A direct payload as requests for the gateway.
#[derive(Debug)]
pub(crate) struct DirectEvent {
    /// The request to make.
    pub(crate) request: Request<Bytes>,
    /// The request to make instead when the gateway answers 405 to the first, which proves that nothing ran: a payload
    /// with a path and no method does not say whether the route is a GET or a POST.
    pub(crate) otherwise: Option<Request<Bytes>>,
    /// How the answer becomes the function's result.
    pub(crate) reply: DirectReply,
}

/// How an answer becomes a function's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectReply {
    /// The body's JSON; an error status is a function error.
    Json,
    /// The JSON-RPC message, whatever the status; nothing for an accepted notification.
    Message,
}

#[derive(Deserialize)]
struct Route<'a> {
    endpoint_id: Option<String>,
    path: String,
    #[serde(alias = "httpMethod")]
    method: Option<String>,
    #[serde(borrow, alias = "params", alias = "body")]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    endpoint_id: Option<String>,
    #[serde(alias = "function_name")]
    tool: String,
    #[serde(borrow, alias = "params", alias = "body")]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Graphql {
    endpoint_id: Option<String>,
}

#[derive(Serialize)]
struct BatchItem<'a> {
    tool: &'a str,
    arguments: &'a RawValue,
}

/// `{"path": "get_user/123", "arguments": {…}}`: that route; GET without arguments, POST with them.
pub(crate) fn route(text: &str) -> Result<DirectEvent, InvocationError> {
    let route: Route<'_> = read(text, "path payload")?;
    let arguments = object("/arguments", route.arguments)?;
    let (path, query) = route.path.split_once('?').unwrap_or((&route.path, ""));
    if path.trim_matches('/').is_empty() {
        return Err(InvocationError::invalid("/path", "empty; expected a route such as \"get_user/123\""));
    }
    let target = uri(&within(route.endpoint_id.as_deref(), path)?, query)?;
    let get = || -> Result<Request<Bytes>, InvocationError> {
        let target = match arguments {
            None => target.clone(),
            Some(arguments) => uri(target.path(), &query_with(target.query(), arguments)?)?,
        };
        Ok(request(Method::GET, target, Bytes::new()))
    };
    let post = || {
        let body = arguments.map_or("{}", RawValue::get);
        request(Method::POST, target.clone(), Bytes::copy_from_slice(body.as_bytes()))
    };
    let (request, otherwise) = match route.method.as_deref().map(str::to_ascii_uppercase).as_deref() {
        Some("GET") => (get()?, None),
        Some("POST") => (post(), None),
        Some(other) => {
            return Err(InvocationError::invalid("/method", format_args!("{other:?}; expected GET or POST")));
        }
        None if arguments.is_some() => (post(), Some(get()?)),
        None => (get()?, Some(post())),
    };
    Ok(DirectEvent { request, otherwise, reply: DirectReply::Json })
}

/// `{"tool": "get_user", "arguments": {…}}`: that tool.
pub(crate) fn tool(text: &str) -> Result<DirectEvent, InvocationError> {
    let call: Tool<'_> = read(text, "tool payload")?;
    if call.tool.is_empty() {
        return Err(InvocationError::invalid("/tool", "empty; expected a tool's name"));
    }
    let path = format!("/tools/{}", encode_component(&call.tool));
    let target = uri(&within(call.endpoint_id.as_deref(), &path)?, "")?;
    let body = object("/arguments", call.arguments)?.map_or("{}", RawValue::get);
    Ok(only(request(Method::POST, target, Bytes::copy_from_slice(body.as_bytes())), DirectReply::Json))
}

/// `[{"tool": …}, …]`: all of them at once, results in order, errors as values.
pub(crate) fn batch(text: &str) -> Result<DirectEvent, InvocationError> {
    let calls: Vec<Tool<'_>> = read(text, "list of tool payloads")?;
    let endpoint = calls.first().and_then(|call| call.endpoint_id.clone());
    let empty = RawValue::from_string("{}".to_owned()).expect("an empty object is JSON");
    let mut items = Vec::with_capacity(calls.len());
    for (index, call) in calls.iter().enumerate() {
        if call.endpoint_id != endpoint {
            let pointer = format!("/{index}/endpoint_id");
            return Err(InvocationError::invalid(
                &pointer,
                "differs from the first; one batch belongs to one endpoint",
            ));
        }
        let arguments = object(&format!("/{index}/arguments"), call.arguments)?.unwrap_or(&empty);
        items.push(BatchItem { tool: &call.tool, arguments });
    }
    let body = serde_json::to_vec(&items).expect("names and raw JSON serialize");
    let target = uri(&within(endpoint.as_deref(), "/batch")?, "")?;
    Ok(only(request(Method::POST, target, Bytes::from(body)), DirectReply::Json))
}

/// `{"query": "{ … }", "variables": {…}}`: a GraphQL request, passed on as it is.
pub(crate) fn graphql(text: &str) -> Result<DirectEvent, InvocationError> {
    let payload: Graphql = read(text, "GraphQL payload")?;
    let target = uri(&within(payload.endpoint_id.as_deref(), "/graphql")?, "")?;
    Ok(only(request(Method::POST, target, Bytes::copy_from_slice(text.as_bytes())), DirectReply::Json))
}

#[derive(Deserialize)]
struct Message {
    endpoint_id: Option<String>,
    method: Option<String>,
    params: Option<MessageParams>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MessageParams {
    #[serde(rename = "_meta")]
    meta: Option<MessageMeta>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MessageMeta {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<String>,
}

/// `{"jsonrpc": "2.0", …}`: an MCP message. The body alone counts; headers say what it says.
pub(crate) fn message(payload: &RawValue) -> Result<DirectEvent, InvocationError> {
    let text = payload.get();
    let message: Message = read(text, "JSON-RPC message")?;
    let target = uri(&within(message.endpoint_id.as_deref(), "/mcp")?, "")?;
    let mut request = request(Method::POST, target, Bytes::copy_from_slice(text.as_bytes()));
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    mirror(headers, "mcp-method", message.method.as_deref());
    let version = message.params.and_then(|params| params.meta).and_then(|meta| meta.version);
    mirror(headers, "mcp-protocol-version", version.as_deref());
    Ok(only(request, DirectReply::Message))
}

/// Puts a value of the body into its header where a header can hold it; the gateway reads the body in any case.
fn mirror(headers: &mut HeaderMap, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn only(request: Request<Bytes>, reply: DirectReply) -> DirectEvent {
    DirectEvent { request, otherwise: None, reply }
}

fn request(method: Method, target: http::Uri, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if method == Method::POST {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    *request.method_mut() = method;
    *request.uri_mut() = target;
    request.extensions_mut().insert(Carrier::Message);
    request
}

fn read<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, InvocationError> {
    serde_json::from_str(text)
        .map_err(|error| InvocationError::invalid("", format_args!("not a {what}: {error}")))
}

/// The path in the endpoint that was named; the root is the default endpoint.
fn within(endpoint: Option<&str>, path: &str) -> Result<String, InvocationError> {
    let path = path.trim_start_matches('/');
    match endpoint {
        None => Ok(format!("/{path}")),
        Some("") => {
            Err(InvocationError::invalid("/endpoint_id", "empty; leave it out for the default endpoint"))
        }
        Some(endpoint) => Ok(format!("/endpoints/{}/{path}", encode_component(endpoint))),
    }
}

fn object<'a>(pointer: &str, value: Option<&'a RawValue>) -> Result<Option<&'a RawValue>, InvocationError> {
    match value {
        None => Ok(None),
        Some(value) if value.get() == "null" => Ok(None),
        Some(value) if value.get().starts_with('{') => Ok(Some(value)),
        Some(_) => Err(InvocationError::invalid(pointer, "expected an object")),
    }
}

/// The arguments as query pairs after those already there: strings as they are, everything else as JSON.
fn query_with(query: Option<&str>, arguments: &RawValue) -> Result<String, InvocationError> {
    let members: serde_json::Map<String, Value> = read(arguments.get(), "arguments object")?;
    let mut pairs: Vec<String> =
        query.filter(|query| !query.is_empty()).map(str::to_owned).into_iter().collect();
    for (name, value) in &members {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => encode_component(text),
            other => encode_component(&other.to_string()),
        };
        pairs.push(format!("{}={value}", encode_component(name)));
    }
    Ok(pairs.join("&"))
}

#[cfg(test)]
mod tests;
