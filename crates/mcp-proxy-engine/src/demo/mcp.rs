//! The server's side of MCP over Streamable HTTP, in both eras.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use mpe_mcp_protocol::jsonrpc::code;
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use serde_json::{Map, Value, json};

use super::State;
use super::tools::{self, Job};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The `_meta` key that makes a request a modern one.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// Bytes of a request, at most.
const MAX_BODY: usize = 1 << 20;

/// A JSON-RPC error and the HTTP status it travels with.
struct Refusal {
    status: StatusCode,
    code: i64,
    message: String,
    data: Option<Value>,
}

/// A request that has passed every check of its era.
struct Accepted {
    id: Value,
    method: String,
    params: Map<String, Value>,
    era: Era,
}

/// Answers one HTTP request.
pub(super) async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Body>, Infallible> {
    state.counters.request(request.version());
    let (head, body) = request.into_parts();
    if head.uri.path() != "/mcp" {
        return Ok(bare(StatusCode::NOT_FOUND));
    }
    if head.method != Method::POST {
        let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return Ok(response);
    }
    // Only the engine in this process has business here; a web page has not.
    if head.headers.contains_key(header::ORIGIN) {
        return Ok(bare(StatusCode::FORBIDDEN));
    }
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return Ok(bare(StatusCode::PAYLOAD_TOO_LARGE));
    };
    Ok(message(&head.headers, &body.to_bytes(), &state).await)
}

async fn message(headers: &HeaderMap, body: &[u8], state: &Arc<State>) -> Response<Body> {
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => {
            return refused(&Value::Null, Refusal::new(400, code::PARSE_ERROR, format!("not JSON: {error}")));
        }
    };
    let id = value.get("id").cloned().unwrap_or(Value::Null);
    let is_notification = value.get("method").is_some() && value.get("id").is_none();
    if is_notification {
        return bare(StatusCode::ACCEPTED);
    }
    let request = match accept(headers, value) {
        Ok(request) => request,
        Err(refusal) => return refused(&id, refusal),
    };
    match request.method.as_str() {
        "initialize" if request.era == Era::Legacy => done(&request, initialize(&request.params)),
        "ping" if request.era == Era::Legacy => done(&request, json!({})),
        "server/discover" if request.era == Era::Modern => done(&request, discover()),
        "tools/call" => call(headers, request, state).await,
        "tools/list" => done(&request, json!({ "tools": tools::list() })),
        other => {
            // The modern era answers 404 (2026-07-28, Streamable HTTP); in the older one it is an answer like any other.
            let status = if request.era == Era::Modern { 404 } else { 200 };
            let refusal =
                Refusal::new(status, code::METHOD_NOT_FOUND, format!("there is no method {other:?} here"));
            refused(&request.id, refusal)
        }
    }
}

/// Checks envelope, era and headers, in the order that the specification's checks expect.
fn accept(headers: &HeaderMap, value: Value) -> Result<Accepted, Refusal> {
    let invalid = |message: &str| Refusal::new(400, code::INVALID_REQUEST, message);
    let Value::Object(mut envelope) = value else {
        return Err(invalid("expected one JSON-RPC request, an object"));
    };
    let id = envelope.remove("id").unwrap_or(Value::Null);
    if envelope.get("jsonrpc") != Some(&json!("2.0")) || !(id.is_string() || id.is_i64() || id.is_u64()) {
        return Err(invalid("expected \"jsonrpc\": \"2.0\" and an id that is a string or an integer"));
    }
    let Some(Value::String(method)) = envelope.remove("method") else {
        return Err(invalid("expected a \"method\""));
    };
    let params = match envelope.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => {
            return Err(Refusal::new(400, code::INVALID_PARAMS, "expected \"params\" to be an object"));
        }
    };

    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let meta = params.get("_meta").and_then(Value::as_object);
    let meta_version = meta.and_then(|meta| meta.get(VERSION_KEY)).and_then(Value::as_str);
    let header_version = text("mcp-protocol-version");
    let is_legacy_header = header_version
        .is_none_or(|date| ProtocolVersion::parse(date).is_some_and(|v| v.era() == Era::Legacy));
    let is_legacy = meta_version.is_none() && (method == "initialize" || is_legacy_header);
    if is_legacy {
        return Ok(Accepted { id, method, params, era: Era::Legacy });
    }

    let mismatch = |message: String| Refusal::new(400, code::HEADER_MISMATCH, message);
    let header_version =
        header_version.ok_or_else(|| mismatch("the header MCP-Protocol-Version is missing".into()))?;
    let missing = |key: &str| Refusal::new(400, code::INVALID_PARAMS, format!("params._meta lacks {key:?}"));
    let meta_version = meta_version.ok_or_else(|| missing(VERSION_KEY))?;
    if meta.is_none_or(|meta| !meta.contains_key(CAPABILITIES_KEY)) {
        return Err(missing(CAPABILITIES_KEY));
    }
    if header_version != meta_version {
        return Err(mismatch(format!(
            "MCP-Protocol-Version says {header_version}, params._meta {meta_version}"
        )));
    }
    if ProtocolVersion::parse(meta_version).is_none() {
        let data = json!({ "supported": supported(), "requested": meta_version });
        return Err(Refusal {
            data: Some(data),
            ..Refusal::new(400, code::UNSUPPORTED_PROTOCOL_VERSION, "this revision is not spoken here")
        });
    }
    if text("mcp-method") != Some(&method) {
        return Err(mismatch(format!("the header Mcp-Method must be {method:?}")));
    }
    if method == "tools/call" {
        let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
        // Every name here is plain ASCII, so a name in the Base64 form of the header is none of them.
        if text("mcp-name") != Some(name) {
            return Err(mismatch(format!("the header Mcp-Name must be {name:?}")));
        }
    }
    Ok(Accepted { id, method, params, era: Era::Modern })
}

fn supported() -> Vec<&'static str> {
    ProtocolVersion::ALL.into_iter().map(ProtocolVersion::as_str).collect()
}

fn server_info() -> Value {
    json!({ "name": "mcp-proxy-engine-demo", "title": "Demo", "version": env!("CARGO_PKG_VERSION") })
}

const INSTRUCTIONS: &str = "A demo. The users are 123, 124 and 125.";

fn initialize(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str).and_then(ProtocolVersion::parse);
    let version =
        asked.filter(|version| version.era() == Era::Legacy).unwrap_or(ProtocolVersion::LATEST_LEGACY);
    json!({
        "protocolVersion": version.as_str(),
        "capabilities": { "tools": {} },
        "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    })
}

fn discover() -> Value {
    json!({
        "supportedVersions": supported(),
        "capabilities": { "tools": {} },
        "instructions": INSTRUCTIONS,
    })
}

/// Runs a tool: as plain JSON, or as a stream when progress is wanted.
async fn call(headers: &HeaderMap, request: Accepted, state: &Arc<State>) -> Response<Body> {
    let name = request.params.get("name").and_then(Value::as_str).unwrap_or_default();
    let arguments = match request.params.get("arguments") {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        Some(_) => {
            let refusal = Refusal::new(200, code::INVALID_PARAMS, "expected \"arguments\" to be an object");
            return refused(&request.id, refusal);
        }
    };
    let Some(job) = Job::of(name, arguments) else {
        return refused(
            &request.id,
            Refusal::new(200, code::INVALID_PARAMS, format!("unknown tool: {name}")),
        );
    };
    let token = request.params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned();
    let takes_stream = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|accept| accept.contains("text/event-stream") || accept.contains("*/*"));
    match (job.delay(), token) {
        (Some(delay), Some(token)) if takes_stream => progress(request, job, delay, token, Arc::clone(state)),
        _ => {
            let result = job.run(state).await;
            done(&request, result)
        }
    }
}

/// Steps of progress that a slow call reports.
const STEPS: u32 = 10;

/// A stream of progress notifications that ends with the result. Dropping it ends the call.
fn progress(request: Accepted, job: Job, delay: Duration, token: Value, state: Arc<State>) -> Response<Body> {
    struct Running {
        request: Accepted,
        job: Job,
        step: u32,
        state: Arc<State>,
    }
    let running = Running { request, job, step: 0, state };
    let events = stream::unfold(Some(running), move |running| {
        let token = token.clone();
        async move {
            let mut running = running?;
            let _running_call = running.state.counters.call();
            tokio::time::sleep(delay / STEPS).await;
            running.step += 1;
            if running.step < STEPS {
                let notification = json!({
                    "jsonrpc": "2.0",
                    "method": "notifications/progress",
                    "params": { "progressToken": token, "progress": running.step, "total": STEPS },
                });
                drop(_running_call);
                return Some((event(&notification), Some(running)));
            }
            let result = running.job.result(&running.state);
            let response = response(&running.request, result);
            Some((event(&response), None))
        }
    });
    let body = StreamBody::new(events).boxed_unsync();
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .header(header::CACHE_CONTROL, "no-store")
        .header("x-accel-buffering", "no")
        .body(body)
        .expect("constant headers")
}

fn event(message: &Value) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n"))))
}

/// The response message. A modern result says what kind it is, who made it and how long a list may be kept.
fn response(request: &Accepted, mut result: Value) -> Value {
    if let (Era::Modern, Value::Object(members)) = (request.era, &mut result) {
        members.insert("resultType".into(), json!("complete"));
        members.insert("_meta".into(), json!({ "io.modelcontextprotocol/serverInfo": server_info() }));
        if matches!(request.method.as_str(), "server/discover" | "tools/list") {
            // The tools of a demo never change while it runs.
            members.insert("ttlMs".into(), json!(3_600_000));
            members.insert("cacheScope".into(), json!("public"));
        }
    }
    json!({ "jsonrpc": "2.0", "id": request.id, "result": result })
}

fn done(request: &Accepted, result: Value) -> Response<Body> {
    json_response(StatusCode::OK, &response(request, result))
}

fn refused(id: &Value, refusal: Refusal) -> Response<Body> {
    let mut error = json!({ "code": refusal.code, "message": refusal.message });
    if let Some(data) = refusal.data {
        error["data"] = data;
    }
    let mut message = json!({ "jsonrpc": "2.0", "error": error });
    if !id.is_null() {
        message["id"] = id.clone();
    }
    json_response(refusal.status, &message)
}

fn json_response(status: StatusCode, message: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(message.to_string())).boxed_unsync())
        .expect("constant headers")
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = status;
    response
}

impl Refusal {
    fn new(status: u16, code: i64, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).expect("a constant status");
        Self { status, code, message: message.into(), data: None }
    }
}
