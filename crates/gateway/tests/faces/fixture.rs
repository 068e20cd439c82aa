//! A gateway over one upstream that does what its tools' names say, and requests to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use mpe_engine::upstream::{Change, Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{CallErrorKind, EndpointConfig, EndpointId, Engine, Target, UpstreamConfig};
use mpe_gateway::{EndpointView, Gateway, GatewayConfig};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_schema::openapi::DocumentInfo;
use mpe_schema::{PathTemplate, ResponseMapping};
use mpe_transport::Sent;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

/// The upstream. Every request it sees is kept.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) seen: Mutex<Vec<UpstreamRequest>>,
    pub(crate) changes: Mutex<Option<mpsc::Sender<Change>>>,
    pub(crate) watched: Mutex<Vec<String>>,
    pub(crate) more_tools: AtomicBool,
    /// It takes its time before it agrees to watch resources.
    pub(crate) is_slow_to_watch: AtomicBool,
    /// It lists tools only to who declares sampling.
    pub(crate) is_shy: AtomicBool,
}

impl Scripted {
    /// Lists one tool more from now on, and says so.
    pub(crate) fn add_a_tool(&self) {
        self.more_tools.store(true, Ordering::SeqCst);
        self.announce(Change::Tools);
    }

    pub(crate) fn announce(&self, change: Change) {
        self.changes.lock().unwrap().as_ref().expect("somebody listens").try_send(change).unwrap();
    }

    /// The resources it was asked to watch.
    pub(crate) fn watched(&self) -> Vec<String> {
        self.watched.lock().unwrap().clone()
    }

    /// The tool calls it saw.
    pub(crate) fn calls(&self) -> Vec<UpstreamRequest> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.method == "tools/call").cloned().collect()
    }
}

/// The tools, in order.
fn tools() -> Value {
    let open = json!({"type": "object"});
    let tool = |name: &str| json!({"name": name, "description": name, "inputSchema": open});
    json!([
        {
            "name": "get_user",
            "description": "A user",
            "inputSchema": {
                "type": "object",
                "properties": {"user_id": {"type": "integer"}, "verbose": {"type": "boolean"}},
                "required": ["user_id"],
            },
            "annotations": {"readOnlyHint": true},
        },
        tool("echo"), tool("fail"), tool("reject"), tool("image"), tool("several"), tool("plain"),
        tool("progress"), tool("ask"), tool("input"), tool("hang"), tool("slow"), tool("unreachable"),
        {
            "name": "mirrored",
            "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
        },
        {
            "name": "search",
            "inputSchema": {"type": "object", "properties": {
                "id": {"type": "array", "items": {"type": "integer"}},
                "tag": {"type": "array", "items": {"type": "string"}},
                "filter": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
                "deep": {"type": "object", "properties": {
                    "a": {"type": "object", "properties": {"b": {"type": "boolean"}}},
                }},
            }, "required": ["id"]},
        },
    ])
}

impl Upstream for Scripted {
    fn introduce(&self, _: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async {
            Ok(Introduction {
                version: ProtocolVersion::LATEST,
                capabilities: Arc::from(raw(
                    r#"{"tools":{},"prompts":{},"resources":{"subscribe":true},"completions":{}}"#,
                )),
                server_info: None,
                instructions: Some(Arc::from("be kind")),
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        self.seen.lock().unwrap().push(request.clone());
        Box::pin(async move {
            match request.method.as_ref() {
                "tools/list" => {
                    let declared = request.context.capabilities.as_ref().map_or("", |raw| raw.get());
                    let is_hidden = self.is_shy.load(Ordering::SeqCst) && !declared.contains("sampling");
                    let mut tools = if is_hidden { json!([]) } else { tools() };
                    if self.more_tools.load(Ordering::SeqCst) {
                        let added = json!({"name": "added", "inputSchema": {"type": "object"}});
                        tools.as_array_mut().unwrap().push(added);
                    }
                    Ok(ok(&json!({"tools": tools}).to_string()))
                }
                "tools/call" => call(&request).await,
                "prompts/list" => Ok(ok(r#"{"prompts":[{"name":"greet","x":1.0}]}"#)),
                "resources/list" => Ok(ok(r#"{"resources":[{"uri":"test://a","name":"a"}]}"#)),
                "resources/templates/list" => {
                    Ok(ok(r#"{"resourceTemplates":[{"uriTemplate":"test://t/{id}","name":"t"}]}"#))
                }
                "resources/read" => Ok(read(&request)),
                "prompts/get" | "completion/complete" => {
                    let params = request.params.as_ref().unwrap().get();
                    let says = serde_json::from_str::<Value>(params).unwrap()["says"].clone();
                    if says.is_object() {
                        return Ok(ok(&says.to_string()));
                    }
                    Ok(ok(&format!(r#"{{"echo":{}}}"#, request.params.as_ref().unwrap().get())))
                }
                other => Ok(rejected(-32601, other)),
            }
        })
    }

    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let (sender, receiver) = mpsc::channel(16);
        *self.changes.lock().unwrap() = Some(sender);
        Some(receiver)
    }

    fn watch_resources(&self, uris: Vec<String>, _: Instant) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            if self.is_slow_to_watch.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            self.watched.lock().unwrap().clone_from(&uris);
            uris
        })
    }
}

fn read(request: &UpstreamRequest) -> UpstreamReply {
    let params = request.params.as_ref().unwrap().get();
    if params.contains("missing") {
        return UpstreamReply {
            outcome: Err(ErrorObject::new(-32002, "gone".to_owned())),
            protocol: None,
            address: None,
        };
    }
    ok(&format!(r#"{{"contents":[{{"uri":"test://a","text":"x"}}],"echo":{params}}}"#))
}

fn ok(result: &str) -> UpstreamReply {
    UpstreamReply { outcome: Ok(raw(result)), protocol: None, address: None }
}

fn text(text: &str) -> UpstreamReply {
    ok(&json!({"content": [{"type": "text", "text": text}]}).to_string())
}

fn rejected(code: i64, message: &str) -> UpstreamReply {
    let data = Some(raw(r#"{"why":[1.0]}"#));
    UpstreamReply {
        outcome: Err(ErrorObject { code, message: message.to_owned(), data }),
        protocol: None,
        address: None,
    }
}

async fn call(request: &UpstreamRequest) -> Result<UpstreamReply, UpstreamError> {
    let params: HashMap<String, Box<RawValue>> =
        serde_json::from_str(request.params.as_ref().unwrap().get()).unwrap();
    let name: String = serde_json::from_str(params["name"].get()).unwrap();
    let arguments = params["arguments"].get();
    let context = &request.context;
    let says = serde_json::from_str::<Value>(arguments).unwrap()["says"].clone();
    Ok(match name.as_str() {
        // The bytes as they came, so that a test sees every change on the way.
        "echo" | "get_user" | "mirrored" | "search" => {
            ok(&format!(r#"{{"content":[],"structuredContent":{arguments},"x":1.50}}"#))
        }
        "fail" => ok(r#"{"content":[{"type":"text","text":"no such user"}],"isError":true}"#),
        "reject" => rejected(-32050, "refused"),
        "image" => ok(r#"{"content":[{"type":"image","data":"AQID","mimeType":"image/png"}]}"#),
        "several" => ok(r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#),
        "plain" => text("plain words"),
        "progress" => {
            for n in 1..=3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let Some(events) = &context.events else { continue };
                let params = Some(raw(&format!(r#"{{"progress":{n},"total":3}}"#)));
                events.notify(Notification { method: "notifications/progress".to_owned(), params });
                let params = Some(raw(&format!(r#"{{"level":"info","data":"step {n}"}}"#)));
                events.notify(Notification { method: "notifications/message".to_owned(), params });
            }
            text("done")
        }
        "ask" => {
            let events = context.events.as_ref().expect("an ear");
            let question =
                Some(raw(r#"{"message":"who?","requestedSchema":{"type":"object","properties":{}}}"#));
            match events.ask("elicitation/create", question).await {
                Ok(answer) => text(&format!("answered {}", answer.get())),
                Err(error) => text(&format!("refused {}", error.code)),
            }
        }
        "ask_url" => {
            let events = context.events.as_ref().expect("an ear");
            let visit = raw(
                r#"{"mode":"url","message":"pay","url":"https://example.com/pay","elicitationId":"theirs"}"#,
            );
            match events.ask("elicitation/create", Some(visit)).await {
                Ok(answer) => text(&format!("answered {}", answer.get())),
                Err(error) => text(&format!("refused {}", error.code)),
            }
        }
        "input_url" => match &context.input_responses {
            Some(responses) => text(responses.get()),
            None => ok(concat!(
                r#"{"resultType":"input_required","inputRequests":{"visit":{"method":"elicitation/create","#,
                r#""params":{"mode":"url","message":"pay","url":"https://example.com/pay"}}}}"#
            )),
        },
        "needs_url" => match &context.input_responses {
            Some(_) => text("paid"),
            None => {
                let data = r#"{"elicitations":[{"mode":"url","message":"pay","url":"https://example.com/pay","elicitationId":"e"}]}"#;
                let data = Some(raw(data));
                UpstreamReply {
                    outcome: Err(ErrorObject { code: -32042, message: "pay first".to_owned(), data }),
                    protocol: None,
                    address: None,
                }
            }
        },
        // What a test wants said.
        "input" if says.is_object() => ok(&says.to_string()),
        "input" => match (&context.input_responses, &context.request_state) {
            (Some(responses), state) => {
                text(&format!("{} with {}", responses.get(), state.as_deref().unwrap_or("-")))
            }
            (None, _) => ok(concat!(
                r#"{"resultType":"input_required","requestState":"theirs","inputRequests":{"user_name":"#,
                r#"{"method":"elicitation/create","params":{"message":"who?"}}}}"#
            )),
        },
        "hang" => std::future::pending().await,
        "slow" => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            text("at last")
        }
        "unreachable" => {
            return Err(UpstreamError {
                kind: CallErrorKind::UpstreamUnreachable,
                sent: Sent::No,
                message: "cannot connect".to_owned(),
                retry_after: None,
                source: None,
            });
        }
        other => rejected(-32602, other),
    })
}

/// A gateway over the scripted upstream, and the upstream.
pub(crate) struct Fixture {
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Arc<Scripted>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        Self::over(Scripted::default(), change).await
    }

    /// With room for that many calls at its upstream at a time, and none to wait.
    pub(crate) async fn limited(max_in_flight: usize) -> Self {
        Self::built(
            Scripted::default(),
            |_| {},
            |upstream| {
                upstream.limits.max_in_flight = max_in_flight;
                upstream.limits.max_waiting = 0;
            },
            &[],
        )
        .await
    }

    pub(crate) async fn over(upstream: Scripted, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        Self::built(upstream, change, |_| {}, &[]).await
    }

    /// The same server a second time, under the key `twin`: names and URIs collide.
    pub(crate) async fn twins() -> Self {
        Self::built(Scripted::default(), |_| {}, |_| {}, &["twin"]).await
    }

    async fn built(
        upstream: Scripted,
        change: impl FnOnce(&mut GatewayConfig),
        configure: impl FnOnce(&mut UpstreamConfig),
        more: &[&str],
    ) -> Self {
        let upstream = Arc::new(upstream);
        let mut config = GatewayConfig::default();
        let view = EndpointView {
            info: DocumentInfo::new("Test", "1"),
            mappings: vec![ResponseMapping {
                path: PathTemplate::parse("/get_user/{user_id}").unwrap(),
                response: json!({"type": "object"}),
            }],
        };
        config.endpoints.insert(EndpointId::default(), view);
        change(&mut config);
        let target = Target::Custom(Arc::clone(&upstream) as Arc<dyn Upstream>);
        let mut up = UpstreamConfig::new("up", target.clone());
        configure(&mut up);
        let more = more.iter().map(|key| UpstreamConfig::new(*key, target.clone()));
        let upstreams = std::iter::once(up).chain(more).collect();
        let other = vec![UpstreamConfig::new("up", Target::Custom(Arc::new(Scripted::default())))];
        let engine = Engine::builder()
            .endpoint(EndpointConfig::new(EndpointId::default(), upstreams))
            .endpoint(EndpointConfig::new(EndpointId::new("other"), other));
        let gateway = Gateway::start(engine, config).unwrap();
        assert!(gateway.engine().settled(Instant::now() + Duration::from_secs(30)).await);
        Self { gateway, upstream }
    }

    pub(crate) async fn send(&self, request: http::Request<&str>) -> Answer {
        let request = request.map(|body| {
            Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {}).boxed_unsync()
        });
        Answer::of(self.gateway.handle(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(http::Request::get(path).body("").unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        let request = http::Request::post(path).header("content-type", "application/json");
        self.send(request.body(body).unwrap()).await
    }

    /// A modern request with every header it needs, changed by `change`.
    pub(crate) async fn modern_with(
        &self,
        method: &str,
        params: Value,
        change: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Answer {
        let name =
            params.get("name").or_else(|| params.get("uri")).and_then(Value::as_str).map(str::to_owned);
        let mut request = http::Request::post("/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
        let body =
            json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": with_meta(params)}).to_string();
        self.send(change(request).body(body.as_str()).unwrap()).await
    }

    pub(crate) async fn modern(&self, method: &str, params: Value) -> Answer {
        self.modern_with(method, params, |request| request).await
    }

    /// A legacy handshake; the session's id.
    pub(crate) async fn initialize(&self, version: &str, capabilities: Value) -> String {
        let params = json!({
            "protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"},
        });
        let answer = self.legacy(None, "initialize", params).await;
        assert_eq!(answer.json()["result"]["protocolVersion"], version, "{}", answer.body);
        answer.header("mcp-session-id").to_owned()
    }

    /// A legacy request.
    pub(crate) async fn legacy(&self, session: Option<&str>, method: &str, params: Value) -> Answer {
        let body = json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params}).to_string();
        self.legacy_post(session, &body).await
    }

    pub(crate) async fn legacy_post(&self, session: Option<&str>, body: &str) -> Answer {
        self.send(legacy_request(session).body(body).unwrap()).await
    }
}

/// The next event's message of a stream that goes on.
pub(crate) async fn next_event(body: &mut mpe_gateway::Body) -> Value {
    loop {
        let frame = body.frame().await.expect("the stream goes on").unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        if let Some((_, data)) = text.split_once("data: ") {
            return serde_json::from_str(data).unwrap_or_else(|_| Value::from(data.trim()));
        }
    }
}

/// A request's body.
pub(crate) fn body(text: &str) -> mpe_gateway::Body {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync()
}

/// The head of a legacy POST.
pub(crate) fn legacy_request(session: Option<&str>) -> http::request::Builder {
    let request = http::Request::post("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    match session {
        Some(session) => request.header("mcp-session-id", session),
        None => request,
    }
}

/// `params` with the context that a modern request carries; what it has of `_meta` stays.
fn with_meta(mut params: Value) -> Value {
    let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
    let meta = meta.as_object_mut().unwrap();
    for (key, value) in [
        ("io.modelcontextprotocol/protocolVersion", json!("2026-07-28")),
        ("io.modelcontextprotocol/clientCapabilities", json!({})),
    ] {
        meta.entry(key).or_insert(value);
    }
    meta.retain(|_, value| !value.is_null());
    params
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: http::Response<mpe_gateway::Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Self { status: parts.status.as_u16(), headers: parts.headers, body, bytes }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The messages of an event stream.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), "text/event-stream", "{}", self.body);
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}
