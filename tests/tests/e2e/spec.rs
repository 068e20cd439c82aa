//! Everything the product writes, to servers and to clients of each revision, held against the official schemas.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mpe_engine::{Era, Target, UpstreamConfig};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_tests::{PATIENCE, REVISIONS, RunningGateway, Spec, gateway};
use mpe_transport::Wire;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const MODERN: &str = "2026-07-28";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server of one revision that has one of everything, and keeps what it is sent.
#[derive(Clone)]
struct Peer {
    revision: &'static str,
    heard: Arc<Mutex<Vec<Value>>>,
    /// Answers to questions wake whoever asked.
    answered: Arc<tokio::sync::Notify>,
}

impl Peer {
    fn is_modern(&self) -> bool {
        self.revision == MODERN
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        if head.method != Method::POST {
            return Ok(plain(StatusCode::METHOD_NOT_ALLOWED));
        }
        let Ok(message) = serde_json::from_slice::<Value>(&body) else {
            return Ok(plain(StatusCode::BAD_REQUEST));
        };
        self.heard.lock().unwrap().push(message.clone());
        let Some(method) = message["method"].as_str() else {
            self.answered.notify_one();
            return Ok(plain(StatusCode::ACCEPTED));
        };
        if message.get("id").is_none() {
            return Ok(plain(StatusCode::ACCEPTED));
        }
        Ok(self.respond(method, &message).await)
    }

    async fn respond(&self, method: &str, message: &Value) -> Response<Body> {
        let params = &message["params"];
        let result = match method {
            "server/discover" if self.is_modern() => json!({
                "supportedVersions": [MODERN], "capabilities": self.capabilities(),
                "serverInfo": {"name": "peer", "version": "1"}}),
            "initialize" if !self.is_modern() => json!({
                "protocolVersion": self.revision, "capabilities": self.capabilities(),
                "serverInfo": {"name": "peer", "version": "1"}, "instructions": "Ask."}),
            "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => json!({}),
            "tools/list" => json!({"tools": [
                {"name": "echo", "description": "d", "inputSchema": {"type": "object"}},
                {"name": "talk", "inputSchema": {"type": "object"}},
                {"name": "ask", "inputSchema": {"type": "object"}},
                {"name": "never", "inputSchema": {"type": "object"}}]}),
            "prompts/list" => {
                json!({"prompts": [{"name": "p", "arguments": [{"name": "a", "required": true}]}]})
            }
            "resources/list" => {
                json!({"resources": [{"uri": "x://a", "name": "a", "mimeType": "text/plain"}]})
            }
            "resources/templates/list" => {
                json!({"resourceTemplates": [{"uriTemplate": "y://{a}", "name": "y"}]})
            }
            "resources/read" => json!({"contents": [{"uri": params["uri"], "text": "t"}]}),
            "prompts/get" => {
                json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hello"}}]})
            }
            "completion/complete" => json!({"completion": {"values": ["a"], "total": 1, "hasMore": false}}),
            "tools/call" => return self.call(message).await,
            _ => {
                let error = json!({"code": -32601, "message": "no such method"});
                return self.json(&json!({"jsonrpc": "2.0", "id": message["id"], "error": error}));
            }
        };
        self.json(&self.result(&message["id"], result))
    }

    async fn call(&self, message: &Value) -> Response<Body> {
        let params = &message["params"];
        let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
        let mut asides = Vec::new();
        let result = match params["name"].as_str().unwrap() {
            "echo" => text(&params["arguments"].to_string()),
            "talk" => {
                if let Some(token) = params["_meta"].get("progressToken") {
                    asides.push(json!({"jsonrpc": "2.0", "method": "notifications/progress",
                        "params": {"progressToken": token, "progress": 1, "total": 2}}));
                }
                asides.push(json!({"jsonrpc": "2.0", "method": "notifications/message",
                    "params": {"level": "warning", "data": "careful"}}));
                text("done")
            }
            "ask" if self.is_modern() => match params.get("inputResponses") {
                Some(answers) => text(&answers.to_string()),
                None => json!({"resultType": "input_required", "requestState": "s",
                    "inputRequests": {"q": {"method": "elicitation/create", "params": question()}}}),
            },
            "ask" => {
                let asked = json!({"jsonrpc": "2.0", "id": "q1", "method": "elicitation/create", "params": question()});
                let answered = Arc::clone(&self.answered);
                let last = self.result(&message["id"], text("thanks"));
                let rest = futures_util::stream::once(async move {
                    let _ = tokio::time::timeout(PATIENCE, answered.notified()).await;
                    last
                });
                return events(futures_util::stream::iter([asked]).chain(rest));
            }
            "never" => std::future::pending().await,
            _ => {
                let error =
                    json!({"code": -32602, "message": "no such tool", "data": {"name": params["name"]}});
                return self.json(&json!({"jsonrpc": "2.0", "id": message["id"], "error": error}));
            }
        };
        asides.push(self.result(&message["id"], result));
        events(futures_util::stream::iter(asides))
    }

    fn capabilities(&self) -> Value {
        let mut capabilities = json!({"tools": {}, "prompts": {}, "resources": {}, "logging": {}});
        if !self.is_modern() {
            capabilities["resources"] = json!({"subscribe": true});
        }
        if self.revision > "2024-11-05" {
            capabilities["completions"] = json!({});
        }
        capabilities
    }

    fn result(&self, id: &Value, mut result: Value) -> Value {
        if self.is_modern() && result.get("resultType").is_none() {
            result["resultType"] = json!("complete");
        }
        json!({"jsonrpc": "2.0", "id": id, "result": result})
    }

    fn json(&self, message: &Value) -> Response<Body> {
        let mut response = Response::new(Full::new(Bytes::from(message.to_string())).boxed_unsync());
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }
}

fn question() -> Value {
    json!({"message": "who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}})
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

fn events(messages: impl futures_util::Stream<Item = Value> + Send + 'static) -> Response<Body> {
    let frames = messages.map(|message| Ok(Frame::data(Bytes::from(format!("data: {message}\n\n")))));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    response
}

/// A gateway in front of a server of that revision.
async fn in_front_of(revision: &'static str, tasks: &mut JoinSet<()>) -> (Peer, RunningGateway) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let peer = Peer { revision, heard: Arc::default(), answered: Arc::default() };
    let serving = peer.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let peer = serving.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| peer.clone().answer(request));
                // How a connection ends is the client's business.
                let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let target = Target::Http { url: url.parse().unwrap(), headers: Vec::new(), wire: Wire::H2c };
    let mut config = UpstreamConfig::new("peer", target);
    // Who is asked for the newest legacy revision would otherwise be spoken to in that one only.
    config.era = Era::Pinned(ProtocolVersion::parse(revision).unwrap());
    config.timeout = Duration::from_secs(10);
    (peer, gateway().upstream(config).start().await)
}

/// A client of one revision that holds everything it hears against the schema.
struct Client<'a> {
    gateway: &'a RunningGateway,
    revision: &'static str,
    spec: Spec,
    session: Option<String>,
    n_judged: usize,
    /// Methods of what came that was no response.
    asides: Vec<String>,
}

impl Client<'_> {
    fn is_modern(&self) -> bool {
        self.revision == MODERN
    }

    fn capabilities(&self) -> Value {
        if self.revision >= "2025-06-18" { json!({"elicitation": {}}) } else { json!({}) }
    }

    /// Sends a request and judges every message of the answer; gives the response.
    async fn request(&mut self, method: &str, params: Value) -> Value {
        let message = self.message(Some(json!(format!("{method}-{}", self.n_judged))), method, params);
        let answer = self.gateway.http().send(self.http(method, &message)).await;
        if let Some(session) = Some(answer.header("mcp-session-id")).filter(|session| !session.is_empty()) {
            self.session = Some(session.to_owned());
        }
        let messages: Vec<Value> = match answer.header("content-type").starts_with("text/event-stream") {
            true => {
                let data = answer.text().lines().filter_map(|line| line.strip_prefix("data:"));
                data.filter(|data| !data.trim().is_empty())
                    .map(|data| serde_json::from_str(data).unwrap())
                    .collect()
            }
            false => vec![answer.json()],
        };
        for message in &messages {
            if let Err(why) = self.spec.judge_any(method, message) {
                panic!("a client of {} that asks {method} hears {why}", self.revision);
            }
            self.n_judged += 1;
            self.asides.extend(message["method"].as_str().map(str::to_owned));
        }
        messages.last().cloned().unwrap_or_else(|| panic!("{method}: no message: {answer:?}"))
    }

    async fn notify(&self, method: &str, params: Value) {
        let message = self.message(None, method, params);
        let answer = self.gateway.http().send(self.http(method, &message)).await;
        assert!(answer.status.is_success(), "{method}: {answer:?}");
    }

    fn message(&self, id: Option<Value>, method: &str, mut params: Value) -> Value {
        if self.is_modern() {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.capabilities();
            params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "c", "version": "1"});
        }
        let mut message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        if let Some(id) = id {
            message["id"] = id;
        }
        // What we send must be right before what we hear can be.
        self.spec.judge(&message).unwrap_or_else(|why| panic!("the test itself: {why}"));
        message
    }

    fn http(&self, method: &str, message: &Value) -> Request<Bytes> {
        let mut request = Request::post("/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if self.is_modern() {
            request = request.header("mcp-method", method);
            let name = message["params"]["name"].as_str().or(message["params"]["uri"].as_str());
            if let Some(name) =
                name.filter(|_| matches!(method, "tools/call" | "prompts/get" | "resources/read"))
            {
                request = request.header("mcp-name", name);
            }
        }
        if self.is_modern() || (method != "initialize" && self.revision >= "2025-06-18") {
            request = request.header("mcp-protocol-version", self.revision);
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        request.body(Bytes::from(message.to_string())).unwrap()
    }

    async fn do_everything(&mut self) {
        if self.is_modern() {
            self.request("server/discover", json!({})).await;
        } else {
            let info = json!({"name": "c", "version": "1"});
            self.request(
                "initialize",
                json!({"protocolVersion": self.revision, "capabilities": self.capabilities(), "clientInfo": info}),
            )
            .await;
            self.notify("notifications/initialized", json!({})).await;
            self.request("ping", json!({})).await;
            self.request("logging/setLevel", json!({"level": "info"})).await;
            self.request("resources/subscribe", json!({"uri": "x://a"})).await;
            self.request("resources/unsubscribe", json!({"uri": "x://a"})).await;
        }
        for list in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
            self.request(list, json!({})).await;
        }
        self.request("tools/call", json!({"name": "echo", "arguments": {"a": [1.5, null, "ü"]}})).await;
        let mut talking = json!({"name": "talk", "arguments": {}, "_meta": {"progressToken": "t"}});
        if self.is_modern() {
            talking["_meta"]["io.modelcontextprotocol/logLevel"] = json!("info");
        }
        self.request("tools/call", talking).await;
        self.request("tools/call", json!({"name": "nowhere", "arguments": {}})).await;
        self.request("prompts/get", json!({"name": "p", "arguments": {"a": "b"}})).await;
        self.request("resources/read", json!({"uri": "x://a"})).await;
        self.request("resources/read", json!({"uri": "y://b"})).await;
        self.request("resources/read", json!({"uri": "z://nowhere"})).await;
        let completion =
            json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}});
        self.request("completion/complete", completion).await;
        self.ask().await;
    }

    /// A tool that asks back, as far as the client's era lets it be asked here.
    async fn ask(&mut self) {
        let call = json!({"name": "ask", "arguments": {}});
        if !self.is_modern() {
            return;
        }
        let asked = self.request("tools/call", call.clone()).await;
        if asked["result"]["resultType"] != "input_required" {
            return;
        }
        let requests = asked["result"]["inputRequests"].as_object().unwrap();
        let answers: serde_json::Map<_, _> = requests
            .keys()
            .map(|key| (key.clone(), json!({"action": "accept", "content": {"name": "Ada"}})))
            .collect();
        let mut again = call;
        again["inputResponses"] = Value::Object(answers);
        again["requestState"] = asked["result"]["requestState"].clone();
        let thanked = self.request("tools/call", again).await;
        assert_eq!(thanked["result"]["resultType"], "complete", "{thanked}");
    }
}

#[tokio::test]
async fn whatever_is_written_fits_the_schema_of_its_revision() {
    let mut tasks = JoinSet::new();
    for upstream in REVISIONS {
        let Some(theirs) = Spec::of(upstream) else {
            return eprintln!("SKIPPED: MPE_SPEC_DIR is not set: nothing is held against the specification");
        };
        let (peer, gateway) = in_front_of(upstream, &mut tasks).await;
        for revision in REVISIONS {
            let spec = Spec::of(revision).unwrap();
            let mut client =
                Client { gateway: &gateway, revision, spec, session: None, n_judged: 0, asides: Vec::new() };
            client.do_everything().await;
            assert!(client.n_judged >= 15, "{revision} in front of {upstream}: {} messages", client.n_judged);
            assert!(
                client.asides.iter().any(|method| method == "notifications/progress"),
                "{revision} in front of {upstream}: {:?}",
                client.asides
            );
        }
        // A call that is given up is cancelled in the words of the revision.
        let http = gateway.http();
        let mut call = Box::pin(http.post("/tools/never", "{}"));
        let _ = tokio::time::timeout(Duration::from_millis(200), &mut call).await;
        drop(call);
        let is_cancelled = |message: &Value| message["method"] == "notifications/cancelled";
        if upstream != MODERN {
            let cancelled = async {
                while !peer.heard.lock().unwrap().iter().any(is_cancelled) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, cancelled).await.expect("the server is told");
        }
        let heard = peer.heard.lock().unwrap().clone();
        let mut methods: Vec<_> = heard.iter().filter_map(|message| message["method"].as_str()).collect();
        methods.sort_unstable();
        methods.dedup();
        assert!(methods.len() >= 9, "{upstream}: {methods:?}");
        for message in heard.iter().filter(|message| message.get("method").is_some()) {
            if let Err(why) = theirs.judge(message) {
                panic!("a server of {upstream} is sent {why}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_noticed() {
    let Some(spec) = Spec::of(MODERN) else { return };
    let good = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"}}}});
    spec.judge(&good).unwrap();
    for spoil in ["/params/name", "/params/_meta", "/id", "/jsonrpc"] {
        let mut bad = good.clone();
        *bad.pointer_mut(spoil).unwrap() = json!([]);
        spec.judge(&bad).expect_err(spoil);
    }
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "content": [{"type": "text"}]}});
    spec.judge_response("tools/call", &response).expect_err("a text block without a text");
}
