//! An upstream that does what a test tells it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_engine::upstream::{Change, Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{
    CallContext, CallErrorKind, EndpointConfig, EndpointId, Engine, Target, ToolCall, UpstreamConfig,
};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, code};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::Sent;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// What the upstream does with one `tools/call`.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Answers with this result.
    Answer(Value),
    /// Fails.
    Fail(CallErrorKind, Sent),
    /// Fails and asks to wait.
    FailFor(CallErrorKind, Sent, Duration),
    /// Never answers.
    Hang,
    /// Answers with an error of its own.
    Reject(i64),
    /// Answers well, after a while.
    Slow(Duration),
}

/// The upstream. Lists its tools in pages, answers calls by its script, and echoes once the script is over.
pub(crate) struct Scripted {
    tools: Mutex<Vec<Value>>,
    page: usize,
    is_up: AtomicBool,
    is_asleep: AtomicBool,
    script: Mutex<VecDeque<Step>>,
    calls: Mutex<Vec<UpstreamRequest>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    introductions: AtomicUsize,
    lists: AtomicUsize,
    answered_lists: AtomicUsize,
    list_pause: Mutex<Duration>,
    ttl: Mutex<Option<u64>>,
    is_closed: AtomicBool,
    changes: Mutex<Option<mpsc::Sender<Change>>>,
    /// Further lists by the member that holds them; declared as capabilities.
    items: Mutex<HashMap<&'static str, Vec<Value>>>,
    watched: Mutex<Vec<String>>,
}

pub(crate) fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

pub(crate) fn hinted(name: &str, hint: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" }, "annotations": { hint: true } })
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

impl Scripted {
    pub(crate) fn new(tools: impl IntoIterator<Item = Value>) -> Arc<Self> {
        Self::paged(tools, 50)
    }

    pub(crate) fn paged(tools: impl IntoIterator<Item = Value>, page: usize) -> Arc<Self> {
        Arc::new(Self {
            tools: Mutex::new(tools.into_iter().collect()),
            page,
            is_up: AtomicBool::new(true),
            is_asleep: AtomicBool::new(false),
            script: Mutex::default(),
            calls: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            introductions: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            answered_lists: AtomicUsize::new(0),
            list_pause: Mutex::default(),
            ttl: Mutex::default(),
            is_closed: AtomicBool::new(false),
            changes: Mutex::default(),
            items: Mutex::default(),
            watched: Mutex::default(),
        })
    }

    pub(crate) fn named(names: &[&str]) -> Arc<Self> {
        Self::new(names.iter().map(|name| tool(name)))
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::SeqCst);
    }

    pub(crate) fn set_asleep(&self, is_asleep: bool) {
        self.is_asleep.store(is_asleep, Ordering::SeqCst);
    }

    pub(crate) fn set_tools(&self, tools: impl IntoIterator<Item = Value>) {
        *self.tools.lock().unwrap() = tools.into_iter().collect();
    }

    /// Sets a further list: `prompts`, `resources` or `resourceTemplates`.
    pub(crate) fn set_items(&self, member: &'static str, items: impl IntoIterator<Item = Value>) {
        self.items.lock().unwrap().insert(member, items.into_iter().collect());
    }

    /// The resources it was told to watch.
    pub(crate) fn watched(&self) -> Vec<String> {
        self.watched.lock().unwrap().clone()
    }

    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.script.lock().unwrap().extend(steps);
    }

    /// Announces a change, if somebody listens.
    pub(crate) fn announce(&self, change: Change) {
        let sender = self.changes.lock().unwrap();
        sender.as_ref().expect("somebody listens").try_send(change).unwrap();
    }

    /// The params of every call so far.
    pub(crate) fn calls(&self) -> Vec<UpstreamRequest> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn n_calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn n_introductions(&self) -> usize {
        self.introductions.load(Ordering::SeqCst)
    }

    pub(crate) fn n_lists(&self) -> usize {
        self.lists.load(Ordering::SeqCst)
    }

    /// Lists of tools that were handed over.
    pub(crate) fn n_answered_lists(&self) -> usize {
        self.answered_lists.load(Ordering::SeqCst)
    }

    /// Says from now on that its tools are fresh for so many milliseconds.
    pub(crate) fn set_ttl(&self, millis: u64) {
        *self.ttl.lock().unwrap() = Some(millis);
    }

    /// Takes so long to list tools from now on.
    pub(crate) fn list_slowly(&self, pause: Duration) {
        *self.list_pause.lock().unwrap() = pause;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn list(&self, params: Option<&RawValue>) -> Result<Box<RawValue>, ErrorObject> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let tools = self.tools.lock().unwrap();
        let start = match params {
            None => 0,
            Some(params) => {
                let params: Value = serde_json::from_str(params.get()).unwrap();
                params["cursor"].as_str().unwrap().parse().unwrap()
            }
        };
        let end = (start + self.page).min(tools.len());
        let mut page = json!({ "tools": tools[start..end] });
        if let Some(ttl) = *self.ttl.lock().unwrap() {
            page["ttlMs"] = json!(ttl);
        }
        if end < tools.len() {
            page["nextCursor"] = json!(end.to_string());
        }
        Ok(raw(&page))
    }

    fn capabilities(&self) -> Value {
        let items = self.items.lock().unwrap();
        let mut capabilities = json!({ "tools": {} });
        if items.contains_key("prompts") {
            capabilities["prompts"] = json!({});
        }
        if items.contains_key("resources") || items.contains_key("resourceTemplates") {
            capabilities["resources"] = json!({ "subscribe": true });
        }
        capabilities
    }

    fn list_items(&self, member: &'static str) -> UpstreamReply {
        let items = self.items.lock().unwrap().get(member).cloned().unwrap_or_default();
        reply(Ok(raw(&json!({ member: items }))))
    }

    async fn call(&self, request: UpstreamRequest) -> Result<UpstreamReply, UpstreamError> {
        let params: Value = serde_json::from_str(request.params.as_ref().unwrap().get()).unwrap();
        self.calls.lock().unwrap().push(request);
        let _under_way = UnderWay::begin(self);
        let step = self.script.lock().unwrap().pop_front();
        let echo = json!({ "content": [{ "type": "text", "text": params["arguments"].to_string() }] });
        match step.unwrap_or(Step::Answer(echo.clone())) {
            Step::Answer(result) => Ok(reply(Ok(raw(&result)))),
            Step::Fail(kind, sent) => Err(failure(kind, sent, None)),
            Step::FailFor(kind, sent, wait) => Err(failure(kind, sent, Some(wait))),
            Step::Hang => std::future::pending().await,
            Step::Reject(code) => {
                Ok(reply(Err(ErrorObject { code, message: "refused by script".to_owned(), data: None })))
            }
            Step::Slow(wait) => {
                sleep(wait).await;
                Ok(reply(Ok(raw(&echo))))
            }
        }
    }
}

impl Upstream for Scripted {
    fn introduce(&self, _deadline: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        self.introductions.fetch_add(1, Ordering::SeqCst);
        let is_up = self.is_up.load(Ordering::SeqCst);
        Box::pin(async move {
            if !is_up {
                return Err(failure(CallErrorKind::UpstreamUnreachable, Sent::No, None));
            }
            Ok(Introduction {
                version: ProtocolVersion::LATEST,
                capabilities: Arc::from(raw(&self.capabilities())),
                server_info: None,
                instructions: None,
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            if !self.is_up.load(Ordering::SeqCst) {
                return Err(failure(CallErrorKind::UpstreamUnreachable, Sent::No, None));
            }
            match request.method.as_ref() {
                "tools/list" => {
                    let page = self.list(request.params.as_deref());
                    let pause = *self.list_pause.lock().unwrap();
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                    self.answered_lists.fetch_add(1, Ordering::SeqCst);
                    Ok(reply(page))
                }
                "prompts/list" => Ok(self.list_items("prompts")),
                "resources/list" => Ok(self.list_items("resources")),
                "resources/templates/list" => Ok(self.list_items("resourceTemplates")),
                "tools/call" => self.call(request).await,
                other => Ok(reply(Err(ErrorObject {
                    code: code::METHOD_NOT_FOUND,
                    message: format!("no method {other}"),
                    data: None,
                }))),
            }
        })
    }

    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let (sender, receiver) = mpsc::channel(16);
        *self.changes.lock().unwrap() = Some(sender);
        Some(receiver)
    }

    fn watch_resources(&self, uris: Vec<String>, _deadline: Instant) -> BoxFuture<'_, Vec<String>> {
        *self.watched.lock().unwrap() = uris.clone();
        Box::pin(async { uris })
    }

    fn is_asleep(&self) -> bool {
        self.is_asleep.load(Ordering::SeqCst)
    }

    fn close(&self, _deadline: Instant) -> BoxFuture<'_, ()> {
        self.is_closed.store(true, Ordering::SeqCst);
        Box::pin(async {})
    }
}

struct UnderWay<'a>(&'a Scripted);

impl<'a> UnderWay<'a> {
    fn begin(scripted: &'a Scripted) -> Self {
        let now = scripted.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        scripted.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(scripted)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

fn reply(outcome: Result<Box<RawValue>, ErrorObject>) -> UpstreamReply {
    UpstreamReply { outcome, protocol: None, address: None }
}

fn failure(kind: CallErrorKind, sent: Sent, retry_after: Option<Duration>) -> UpstreamError {
    UpstreamError { kind, sent, message: format!("scripted {}", kind.as_str()), retry_after, source: None }
}

// === What tests begin with ===

pub(crate) fn upstream(key: &str, scripted: &Arc<Scripted>) -> UpstreamConfig {
    UpstreamConfig::new(key, Target::Custom(Arc::clone(scripted) as Arc<dyn Upstream>))
}

pub(crate) fn endpoint(upstreams: Vec<UpstreamConfig>) -> EndpointConfig {
    EndpointConfig::new(EndpointId::default(), upstreams)
}

/// An engine in front of `upstreams`, discovered.
pub(crate) async fn engine(upstreams: Vec<UpstreamConfig>) -> Engine {
    started(endpoint(upstreams)).await
}

pub(crate) async fn started(endpoint: EndpointConfig) -> Engine {
    let engine = Engine::builder().endpoint(endpoint).start().unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(60)).await);
    engine
}

pub(crate) fn call(tool: &str) -> ToolCall {
    call_with(tool, &json!({}))
}

pub(crate) fn call_with(tool: &str, arguments: &Value) -> ToolCall {
    ToolCall {
        endpoint: EndpointId::default(),
        tool: tool.to_owned(),
        arguments: raw(arguments),
        deadline: None,
        check_arguments: false,
        context: Arc::new(CallContext::default()),
    }
}

pub(crate) fn within(call: ToolCall, limit: Duration) -> ToolCall {
    ToolCall { deadline: Some(Instant::now() + limit), ..call }
}

/// The names in the default endpoint's catalogue.
pub(crate) fn names(engine: &Engine) -> Vec<String> {
    let snapshot = engine.snapshot(&EndpointId::default()).unwrap();
    snapshot.catalogue.tools().iter().map(|entry| entry.tool.name().to_owned()).collect()
}
