//! One message a line on standard input and output, both eras.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::converse::{self, Asked, Request, answer, error, level_of};
use super::world::{Change, Era, World};

/// The one conversation of a pipe.
struct Pipe {
    world: Arc<World>,
    out: mpsc::Sender<Value>,
    legacy: Mutex<Legacy>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Value>>>,
}

/// What a legacy client has said so far.
#[derive(Default)]
struct Legacy {
    capabilities: Value,
    level: Option<usize>,
    watched: Vec<String>,
    /// The lists it is told of; everything, once it has introduced itself.
    is_told: bool,
}

impl Asked for Pipe {
    fn expect(&self, id: &str) -> oneshot::Receiver<Value> {
        let (answer, arrives) = oneshot::channel();
        lock(&self.waiting).insert(id.to_owned(), answer);
        arrives
    }
}

/// Serves until standard input ends.
pub(crate) async fn serve(world: Arc<World>) -> std::io::Result<()> {
    let (out, mut messages) = mpsc::channel::<Value>(256);
    let pipe = Arc::new(Pipe { world, out, legacy: Mutex::default(), waiting: Mutex::default() });
    let telling = tokio::spawn(Arc::clone(&pipe).tell());
    // Both ends of the pipe block, so each has a thread; they end with the process.
    std::thread::spawn(move || {
        let mut stdout = std::io::stdout();
        while let Some(message) = messages.blocking_recv() {
            if writeln!(stdout, "{message}").and_then(|()| stdout.flush()).is_err() {
                return;
            }
        }
    });
    let (line, mut lines) = mpsc::channel::<String>(64);
    std::thread::spawn(move || {
        for read in std::io::stdin().lines().map_while(Result::ok) {
            if line.blocking_send(read).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        pipe.take(&line).await;
    }
    telling.abort();
    Ok(())
}

impl Pipe {
    /// Tells a legacy client what it wants to hear of.
    async fn tell(self: Arc<Self>) {
        let mut changes = self.world.changes();
        while let Ok(change) = changes.recv().await {
            let is_wanted = {
                let legacy = lock(&self.legacy);
                match &change {
                    Change::Resource(uri) => legacy.watched.iter().any(|watched| watched == uri),
                    Change::Prompts | Change::Tools => legacy.is_told,
                }
            };
            if is_wanted && self.out.send(change.notification(None)).await.is_err() {
                return;
            }
        }
    }

    async fn take(self: &Arc<Self>, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return self.say(error(&Value::Null, -32700, "no JSON", &Value::Null)).await;
        };
        self.world.note(&message);
        let (id, method) = (message["id"].clone(), message["method"].as_str().unwrap_or_default().to_owned());
        if method.is_empty() {
            let waiting = id.as_str().and_then(|id| lock(&self.waiting).remove(id));
            if let Some(waiting) = waiting {
                // The call that asked may have ended.
                let _ = waiting.send(message);
            }
            return;
        }
        if id.is_null() {
            return;
        }
        let params = message["params"].clone();
        let is_modern = params["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some();
        let era = if is_modern { Era::Modern } else { Era::Legacy };
        if !self.world.eras.has(era) {
            let answer = match era {
                Era::Modern => error(&id, -32601, &format!("there is no method {method}"), &Value::Null),
                Era::Legacy => error(
                    &id,
                    -32022,
                    "not served",
                    &json!({ "supported": ["2026-07-28"], "requested": "2025-11-25" }),
                ),
            };
            return self.say(answer).await;
        }
        match (era, method.as_str()) {
            (Era::Modern, "subscriptions/listen") => self.listen(id, &params["notifications"]).await,
            (Era::Modern, _) => self.answer(Request::modern(id, &method, params)),
            (Era::Legacy, _) => self.take_legacy(id, &method, params).await,
        }
    }

    async fn take_legacy(self: &Arc<Self>, id: Value, method: &str, params: Value) {
        let uri = params["uri"].as_str().unwrap_or_default().to_owned();
        let result = match method {
            "initialize" => {
                let mut legacy = lock(&self.legacy);
                legacy.capabilities = params["capabilities"].clone();
                legacy.is_told = true;
                drop(legacy);
                converse::introduction(params["protocolVersion"].as_str().unwrap_or_default())
            }
            "logging/setLevel" => {
                lock(&self.legacy).level = params["level"].as_str().and_then(level_of);
                json!({})
            }
            "ping" => json!({}),
            "resources/subscribe" => {
                lock(&self.legacy).watched.push(uri);
                json!({})
            }
            "resources/unsubscribe" => {
                lock(&self.legacy).watched.retain(|watched| *watched != uri);
                json!({})
            }
            _ => {
                let (capabilities, level) = {
                    let legacy = lock(&self.legacy);
                    (legacy.capabilities.clone(), legacy.level)
                };
                let method = method.to_owned();
                let era = Era::Legacy;
                return self.answer(Request { id, method, params, era, capabilities, session_level: level });
            }
        };
        self.say(json!({ "jsonrpc": "2.0", "id": id, "result": result })).await;
    }

    /// Answers in a task of its own; it ends with the process.
    fn answer(self: &Arc<Self>, request: Request) {
        let pipe = Arc::clone(self);
        tokio::spawn(async move {
            let said = answer(&pipe.world, &request, &pipe.out, Some(pipe.as_ref())).await;
            pipe.say(said).await;
        });
    }

    /// A modern subscription: acknowledged here, told of in a task that ends with the process.
    async fn listen(self: &Arc<Self>, id: Value, wanted: &Value) {
        let mut armed = wanted.as_object().cloned().unwrap_or_default();
        armed.retain(|_, value| value == &json!(true) || value.is_array());
        let mut changes = self.world.changes();
        self.say(json!({
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": {
                "notifications": armed,
                "_meta": { "io.modelcontextprotocol/subscriptionId": id },
            },
        }))
        .await;
        let pipe = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok(change) = changes.recv().await {
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
                    pipe.say(change.notification(Some(&id))).await;
                }
            }
        });
    }

    async fn say(&self, message: Value) {
        // The writer ends with the process only.
        let _ = self.out.send(message).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under the lock")
}
