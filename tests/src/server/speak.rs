//! MCP as a scripted server speaks it: 2026-07-28 without state, 2025-11-25 with sessions.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::journal::{Exchange, Fate};
use super::{Fault, Offer, Shared};
use crate::Spec;

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";
const SESSION: &str = "mcp-session-id";

/// One connection and what its requests share.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: Arc<Sessions>,
    /// Cancelled, the connection ends at once.
    pub(super) cut: CancellationToken,
}

/// The sessions of one life of the server.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// What the client of each declares.
    known: Mutex<HashMap<String, Value>>,
    ever: AtomicUsize,
}

/// A message as far as a server has to read it.
#[derive(Debug, Deserialize)]
struct Message {
    id: Option<Value>,
    #[serde(default)]
    method: String,
    params: Option<Box<RawValue>>,
}

/// The members of `params` that the script needs.
#[derive(Debug, Default, Deserialize)]
struct Params {
    name: Option<String>,
    arguments: Option<Box<RawValue>>,
    cursor: Option<String>,
    #[serde(rename = "requestState")]
    request_state: Option<String>,
    capabilities: Option<Value>,
    #[serde(rename = "_meta")]
    meta: Option<Value>,
}

/// What goes into a response: a result or an error, both written out.
enum Said {
    Error { status: StatusCode, code: i64, message: String },
    Result(String),
}

/// Answers one request. Infallible: what cannot be answered is answered with a status.
pub(super) async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    if head.method == Method::DELETE {
        let session = head.headers.get(SESSION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let ended =
            connection.sessions.known.lock().expect("no panic under the lock").remove(session).is_some();
        return Ok(status(if ended { StatusCode::OK } else { StatusCode::NOT_FOUND }));
    }
    if head.method != Method::POST {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    let body = body.to_bytes();
    let Ok(message) = serde_json::from_slice::<Message>(&body) else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    judge(&connection.shared, &body);
    let params: Params =
        message.params.as_deref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let entry = connection.shared.journal.begin(Exchange {
        connection: connection.number,
        method: message.method.clone(),
        tool: params.name.clone().filter(|_| message.method == "tools/call"),
        arguments: params.arguments.as_deref().map(|raw| raw.get().to_owned()),
        params: message.params.as_deref().map(|raw| raw.get().to_owned()),
        headers: head.headers.clone(),
        fate: Fate::Open,
    });
    let response = respond(&connection, &head.headers, message, params).await;
    entry.answered();
    Ok(response)
}

/// Holds what we are sent against the schema of the revision it is written in; the test fails when the server is dropped.
fn judge(shared: &Shared, body: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(body) else { return };
    let is_modern = message["params"]["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some();
    let spec = Spec::of(if is_modern { MODERN } else { LEGACY });
    if let Some(Err(why)) = spec.filter(|_| message.get("method").is_some()).map(|spec| spec.judge(&message))
    {
        shared.misfits.lock().expect("no panic under the lock").push(why);
    }
}

async fn respond(
    connection: &Connection,
    headers: &http::HeaderMap,
    message: Message,
    params: Params,
) -> Response<Full<Bytes>> {
    let Some(id) = message.id else {
        return status(StatusCode::ACCEPTED);
    };
    let offer = Arc::clone(&connection.shared.offer.lock().expect("no panic under the lock"));
    let modern =
        params.meta.as_ref().and_then(|meta| meta.get("io.modelcontextprotocol/protocolVersion")).is_some();
    if modern && offer.modern {
        let said = match message.method.as_str() {
            "server/discover" => Said::Result(discover(&offer)),
            _ => {
                let meta = params.meta.as_ref().unwrap_or(&Value::Null);
                let declared = &meta["io.modelcontextprotocol/clientCapabilities"];
                converse(connection, &offer, declared, &message.method, &params).await
            }
        };
        return written(&id, said, true);
    }
    if message.method == "initialize" && offer.legacy {
        let mut response = written(&id, Said::Result(initialize(&offer)), false);
        let session = connection.sessions.begin(params.capabilities.unwrap_or_default());
        response.headers_mut().insert(SESSION, session.parse().expect("visible ASCII"));
        return response;
    }
    if !offer.legacy {
        return written(&id, unknown_version(), false);
    }
    if modern {
        // A server that has never heard of stateless requests.
        return written(&id, error(StatusCode::BAD_REQUEST, -32600, "session required"), false);
    }
    match headers.get(SESSION).and_then(|value| value.to_str().ok()) {
        None => written(&id, error(StatusCode::BAD_REQUEST, -32600, "session required"), false),
        Some(session) => match connection.sessions.declared_in(session) {
            None => written(&id, error(StatusCode::NOT_FOUND, -32600, "no such session"), false),
            Some(declared) => {
                let said = converse(connection, &offer, &declared, &message.method, &params).await;
                written(&id, said, false)
            }
        },
    }
}

/// What both eras have in common.
async fn converse(
    connection: &Connection,
    offer: &Offer,
    declared: &Value,
    method: &str,
    params: &Params,
) -> Said {
    match method {
        "ping" => Said::Result("{}".to_owned()),
        "tools/list" => list(offer, declared, params.cursor.as_deref()),
        "tools/call" => call(connection, offer, params).await,
        _ => error(StatusCode::NOT_FOUND, -32601, "method not found"),
    }
}

fn list(offer: &Offer, declared: &Value, cursor: Option<&str>) -> Said {
    let Ok(start) = cursor.unwrap_or("0").parse::<usize>() else {
        return error(StatusCode::OK, -32602, "bad cursor");
    };
    let shown: Vec<_> = offer
        .tools
        .iter()
        .filter(|tool| tool.needs.as_ref().is_none_or(|capability| declared.get(capability).is_some()))
        .collect();
    let tools: Vec<_> = shown.iter().skip(start).take(offer.page_size).map(|tool| tool.described()).collect();
    let end = start + tools.len();
    let mut page = json!({ "tools": tools, "ttlMs": 0, "cacheScope": "private" });
    if end < shown.len() {
        page["nextCursor"] = end.to_string().into();
    }
    Said::Result(page.to_string())
}

async fn call(connection: &Connection, offer: &Offer, params: &Params) -> Said {
    let Some(script) = offer.tools.iter().find(|tool| Some(&tool.name) == params.name.as_ref()) else {
        return error(StatusCode::OK, -32602, "unknown tool");
    };
    let fault = connection.shared.faults.lock().expect("no panic under the lock").pop_front();
    match fault {
        Some(Fault::Status(code)) => {
            return error(StatusCode::from_u16(code).expect("a status"), -32603, "on purpose");
        }
        Some(Fault::RefuseHeaders) => {
            return error(StatusCode::BAD_REQUEST, -32020, "headers and body disagree");
        }
        Some(Fault::DropBefore) => cut(connection).await,
        Some(Fault::DropAfter) | None => {}
    }
    match (&script.asks, &params.request_state) {
        (Some(state), None) => {
            let state = Value::from(state.as_str());
            return Said::Result(format!(r#"{{"resultType":"input_required","requestState":{state}}}"#));
        }
        (Some(state), Some(given)) if given != state => {
            return error(StatusCode::OK, -32602, "somebody else's state");
        }
        _ => {}
    }
    tokio::time::sleep(script.takes).await;
    let arguments = params.arguments.as_deref().map_or("{}", RawValue::get);
    let result = (script.answers)(arguments);
    if fault == Some(Fault::DropAfter) {
        cut(connection).await;
    }
    Said::Result(result)
}

/// Ends the connection; never returns, because the request ends with it.
async fn cut(connection: &Connection) -> ! {
    connection.cut.cancel();
    std::future::pending().await
}

fn discover(offer: &Offer) -> String {
    let mut versions = vec![MODERN];
    if offer.legacy && offer.lists_legacy {
        versions.push(LEGACY);
    }
    json!({
        "supportedVersions": versions,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": { "name": offer.name, "version": "1.0.0" },
        "ttlMs": 0,
        "cacheScope": "private",
    })
    .to_string()
}

fn initialize(offer: &Offer) -> String {
    json!({
        "protocolVersion": LEGACY,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": { "name": offer.name, "version": "1.0.0" },
    })
    .to_string()
}

fn unknown_version() -> Said {
    error(StatusCode::BAD_REQUEST, -32022, "unsupported protocol version")
}

fn error(status: StatusCode, code: i64, message: &str) -> Said {
    Said::Error { status, code, message: message.to_owned() }
}

/// The response, written by hand so that a result's bytes stay as the script made them.
fn written(id: &Value, said: Said, modern: bool) -> Response<Full<Bytes>> {
    let (status, text) = match said {
        Said::Result(result) if modern && !result.starts_with(r#"{"resultType""#) => {
            let rest = result.strip_prefix('{').expect("a result is an object");
            let comma = if rest == "}" { "" } else { "," };
            let result = format!(r#"{{"resultType":"complete"{comma}{rest}"#);
            (StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
        }
        Said::Result(result) => {
            (StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
        }
        Said::Error { status, code, message } => {
            let mut error = json!({ "code": code, "message": message });
            if code == -32022 {
                error["data"] = json!({ "supported": [MODERN], "requested": LEGACY });
            }
            (status, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

// === impl Sessions ===

impl Sessions {
    fn begin(&self, declared: Value) -> String {
        let session = format!("session-{}", self.ever.fetch_add(1, Ordering::SeqCst) + 1);
        self.known.lock().expect("no panic under the lock").insert(session.clone(), declared);
        session
    }

    /// What the session's client declares; `None`: there is no such session.
    fn declared_in(&self, session: &str) -> Option<Value> {
        self.known.lock().expect("no panic under the lock").get(session).cloned()
    }
}
