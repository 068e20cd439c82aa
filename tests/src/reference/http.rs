//! Streamable HTTP, both eras on one URL.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::converse::{self, Asked, Request, answer, error, level_of};
use super::world::{Change, Era, World};

type Body = UnsyncBoxBody<Bytes, Infallible>;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const MODERN: &str = "2026-07-28";

/// Everything that serves.
struct Server {
    world: Arc<World>,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

/// A legacy session.
struct Session {
    capabilities: Value,
    /// The log level, as an index; `usize::MAX` before one is set.
    level: AtomicUsize,
    waiting: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    watched: Mutex<Vec<String>>,
    /// Calls under way, by their ids as JSON.
    running: Mutex<HashMap<String, CancellationToken>>,
}

impl Asked for Session {
    fn expect(&self, id: &str) -> oneshot::Receiver<Value> {
        let (answer, arrives) = oneshot::channel();
        lock(&self.waiting).insert(id.to_owned(), answer);
        arrives
    }
}

/// Serves until the future is dropped.
pub(crate) async fn serve(world: Arc<World>, listener: TcpListener) -> std::io::Result<()> {
    let server = Arc::new(Server { world, sessions: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.serve(request).await) }
        });
        tokio::spawn(async move {
            // However a connection ends, the suite sees it in its answers.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Server {
    async fn serve(self: Arc<Self>, request: http::Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if !is_local(&head.headers) {
            return status(StatusCode::FORBIDDEN);
        }
        if head.uri.path() != "/mcp" {
            return status(StatusCode::NOT_FOUND);
        }
        match head.method {
            Method::POST => {
                let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
                self.post(&head.headers, &body.to_bytes()).await
            }
            Method::GET => self.listen_in_session(&head.headers),
            Method::DELETE => {
                let ended = session_id(&head.headers).and_then(|id| lock(&self.sessions).remove(id));
                status(if ended.is_some() { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    async fn post(self: &Arc<Self>, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let Ok(message) = serde_json::from_slice::<Value>(body) else {
            return json_answer(
                StatusCode::BAD_REQUEST,
                &error(&Value::Null, -32700, "no JSON", &Value::Null),
            );
        };
        self.world.note(&message);
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let said = header(headers, VERSION);
        let is_modern = message["params"]["_meta"].get(META_VERSION).is_some()
            || said.is_some_and(|version| version >= MODERN);
        let era = if is_modern { Era::Modern } else { Era::Legacy };
        if !self.world.eras.has(era) {
            return self.wrong_era(&message, era);
        }
        match era {
            Era::Modern => self.modern(headers, message, &method).await,
            Era::Legacy => self.legacy(headers, message, &method).await,
        }
    }

    /// What a server of one era answers to the other.
    fn wrong_era(&self, message: &Value, era: Era) -> Response<Body> {
        let id = &message["id"];
        let answer = match era {
            Era::Modern => error(id, -32600, "a session is needed", &Value::Null),
            Era::Legacy => {
                error(id, -32022, "not served", &json!({ "supported": [MODERN], "requested": "2025-11-25" }))
            }
        };
        json_answer(StatusCode::BAD_REQUEST, &answer)
    }

    async fn modern(self: &Arc<Self>, headers: &HeaderMap, message: Value, method: &str) -> Response<Body> {
        let id = message["id"].clone();
        if id.is_null() {
            return status(StatusCode::ACCEPTED);
        }
        if let Some((code, why, data)) = refuse(headers, &message, method) {
            return json_answer(StatusCode::BAD_REQUEST, &error(&id, code, why, &data));
        }
        let params = message["params"].clone();
        if method == "subscriptions/listen" {
            return self.listen(&id, &params["notifications"]);
        }
        let request = Request::modern(id, method, params);
        let (out, events) = mpsc::channel(64);
        let world = Arc::clone(&self.world);
        respond(async move { answer(&world, &request, &out, None).await }, events, is_streamed(headers)).await
    }

    async fn legacy(self: &Arc<Self>, headers: &HeaderMap, message: Value, method: &str) -> Response<Body> {
        let id = message["id"].clone();
        if method == "initialize" {
            return self.begin(&message);
        }
        let session = session_id(headers).map(|id| lock(&self.sessions).get(id).cloned());
        let session = match session {
            None => {
                let answer = error(&id, -32600, "a session is needed", &Value::Null);
                return json_answer(StatusCode::BAD_REQUEST, &answer);
            }
            Some(None) => {
                let answer = error(&id, -32600, "there is no such session", &Value::Null);
                return json_answer(StatusCode::NOT_FOUND, &answer);
            }
            Some(Some(session)) => session,
        };
        if method.is_empty() {
            let answered = message["id"].as_str().and_then(|id| lock(&session.waiting).remove(id));
            if let Some(waiting) = answered {
                // The call that asked may have ended.
                let _ = waiting.send(message);
            }
            return status(StatusCode::ACCEPTED);
        }
        if id.is_null() {
            if method == "notifications/cancelled"
                && let Some(call) = lock(&session.running).get(&message["params"]["requestId"].to_string())
            {
                call.cancel();
            }
            return status(StatusCode::ACCEPTED);
        }
        let params = message["params"].clone();
        let uri = params["uri"].as_str().unwrap_or_default().to_owned();
        match method {
            "logging/setLevel" => {
                let level = params["level"].as_str().and_then(level_of).unwrap_or(1);
                session.level.store(level, Ordering::SeqCst);
            }
            "ping" => {}
            "resources/subscribe" => lock(&session.watched).push(uri),
            "resources/unsubscribe" => lock(&session.watched).retain(|watched| *watched != uri),
            _ => return self.call(&session, id, method, params, is_streamed(headers)).await,
        }
        json_answer(StatusCode::OK, &json!({ "jsonrpc": "2.0", "id": id, "result": {} }))
    }

    async fn call(
        &self,
        session: &Arc<Session>,
        id: Value,
        method: &str,
        params: Value,
        is_streamed: bool,
    ) -> Response<Body> {
        let level = Some(session.level.load(Ordering::SeqCst)).filter(|level| *level != usize::MAX);
        let request = Request {
            id,
            method: method.to_owned(),
            params,
            era: Era::Legacy,
            capabilities: session.capabilities.clone(),
            session_level: level,
        };
        let (out, events) = mpsc::channel(64);
        let (world, session) = (Arc::clone(&self.world), Arc::clone(session));
        let (id, cancelled) = (request.id.to_string(), CancellationToken::new());
        lock(&session.running).insert(id.clone(), cancelled.clone());
        let answering = async move {
            let answer = tokio::select! {
                answer = answer(&world, &request, &out, Some(session.as_ref())) => answer,
                () = cancelled.cancelled() => error(&request.id, -32603, "cancelled", &Value::Null),
            };
            lock(&session.running).remove(&id);
            answer
        };
        respond(answering, events, is_streamed).await
    }

    fn begin(&self, message: &Value) -> Response<Body> {
        let session = Arc::new(Session {
            capabilities: message["params"]["capabilities"].clone(),
            level: AtomicUsize::new(usize::MAX),
            waiting: Mutex::default(),
            watched: Mutex::default(),
            running: Mutex::default(),
        });
        let id = format!("session-{}", self.world.number());
        lock(&self.sessions).insert(id.clone(), session);
        let result =
            converse::introduction(message["params"]["protocolVersion"].as_str().unwrap_or_default());
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        let mut response = json_answer(StatusCode::OK, &answer);
        response.headers_mut().insert(SESSION, id.parse().expect("visible ASCII"));
        response
    }

    /// The GET stream of a legacy session.
    fn listen_in_session(&self, headers: &HeaderMap) -> Response<Body> {
        let Some(id) = session_id(headers) else { return status(StatusCode::METHOD_NOT_ALLOWED) };
        let Some(session) = lock(&self.sessions).get(id).cloned() else {
            return status(StatusCode::NOT_FOUND);
        };
        let changes = self.world.changes();
        let told = futures_util::stream::unfold((changes, session), |(mut changes, session)| async move {
            loop {
                let change = changes.recv().await.ok()?;
                let is_wanted = match &change {
                    Change::Resource(uri) => lock(&session.watched).iter().any(|watched| watched == uri),
                    Change::Prompts | Change::Tools => true,
                };
                if is_wanted {
                    return Some((change.notification(None), (changes, session)));
                }
            }
        });
        stream(told)
    }

    /// The stream of a modern subscription.
    fn listen(&self, id: &Value, wanted: &Value) -> Response<Body> {
        let mut armed = wanted.as_object().cloned().unwrap_or_default();
        armed.retain(|_, value| value == &json!(true) || value.is_array());
        let acknowledged = json!({
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": {
                "notifications": armed,
                "_meta": { "io.modelcontextprotocol/subscriptionId": id },
            },
        });
        let changes = self.world.changes();
        let told = futures_util::stream::unfold(
            (changes, armed, id.clone()),
            |(mut changes, armed, id)| async move {
                loop {
                    let change = changes.recv().await.ok()?;
                    let flag = |key: &str| armed.get(key) == Some(&json!(true));
                    let is_wanted = match &change {
                        Change::Prompts => flag("promptsListChanged"),
                        Change::Tools => flag("toolsListChanged"),
                        Change::Resource(uri) => {
                            let uris = armed.get("resourceSubscriptions").and_then(Value::as_array);
                            uris.is_some_and(|uris| uris.iter().any(|watched| watched == uri))
                        }
                    };
                    if is_wanted {
                        return Some((change.notification(Some(&id)), (changes, armed, id)));
                    }
                }
            },
        );
        stream(futures_util::stream::once(std::future::ready(acknowledged)).chain(told))
    }
}

/// Answers as JSON when the answer comes first, and as a stream when something comes before it.
async fn respond(
    answering: impl Future<Output = Value> + Send + 'static,
    mut events: mpsc::Receiver<Value>,
    is_streamed: bool,
) -> Response<Body> {
    let mut answering = Box::pin(answering);
    let first = tokio::select! {
        biased;
        answer = &mut answering => {
            // What it said just before it ended waits in the channel.
            match events.try_recv().ok().filter(|_| is_streamed) {
                None => return json_answer(status_of(&answer), &answer),
                Some(first) => {
                    let mut all = vec![first];
                    while let Ok(event) = events.try_recv() {
                        all.push(event);
                    }
                    all.push(answer);
                    return stream(futures_util::stream::iter(all));
                }
            }
        }
        event = events.recv() => event,
    };
    let first = first.into_iter();
    let rest = futures_util::stream::unfold(Some((answering, events)), |running| async move {
        let (mut answering, mut events) = running?;
        tokio::select! {
            biased;
            event = events.recv() => Some((event?, Some((answering, events)))),
            answer = &mut answering => Some((answer, None)),
        }
    });
    stream(futures_util::stream::iter(first).chain(rest))
}

/// Why a modern request is refused before anybody looks at what it wants.
fn refuse(headers: &HeaderMap, message: &Value, method: &str) -> Option<(i64, &'static str, Value)> {
    let meta = &message["params"]["_meta"];
    let Some(version) = meta[META_VERSION].as_str() else {
        return Some((-32602, "no protocol version", Value::Null));
    };
    if !meta["io.modelcontextprotocol/clientCapabilities"].is_object() {
        return Some((-32602, "no client capabilities", Value::Null));
    }
    if header(headers, VERSION) != Some(version) {
        return Some((-32020, "the version header differs", Value::Null));
    }
    if version != MODERN {
        return Some((-32022, "not served", json!({ "supported": [MODERN], "requested": version })));
    }
    if header(headers, "mcp-method") != Some(method) {
        return Some((-32020, "the method header differs", Value::Null));
    }
    let named = match method {
        "prompts/get" | "tools/call" => "name",
        "resources/read" => "uri",
        _ => return None,
    };
    let name = message["params"][named].as_str();
    if header(headers, "mcp-name") != name {
        return Some((-32020, "the name header differs", Value::Null));
    }
    let region = &message["params"]["arguments"]["region"];
    if name == Some("test_header_params") && header(headers, "mcp-param-region") != region.as_str() {
        return Some((-32020, "the header of an argument differs", Value::Null));
    }
    None
}

/// The status of a modern error that comes first.
fn status_of(answer: &Value) -> StatusCode {
    match answer["error"]["code"].as_i64() {
        Some(-32601) => StatusCode::NOT_FOUND,
        Some(-32021) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// Whether the request comes from this machine, by its own word (DNS rebinding).
fn is_local(headers: &HeaderMap) -> bool {
    let is_local = |authority: &str| {
        let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    };
    let host = header(headers, "host").is_none_or(is_local);
    let origin = header(headers, "origin");
    host && origin.is_none_or(|origin| origin.split_once("://").is_some_and(|(_, rest)| is_local(rest)))
}

fn is_streamed(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_none_or(|accept| accept.contains("event-stream"))
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    header(headers, SESSION)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn json_answer(status: StatusCode, message: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(message.to_string())).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn stream(messages: impl futures_util::Stream<Item = Value> + Send + 'static) -> Response<Body> {
    let frames = messages.map(|message| Ok(Frame::data(Bytes::from(format!("data: {message}\n\n")))));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/event-stream"));
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under the lock")
}
