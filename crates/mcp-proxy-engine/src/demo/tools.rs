//! The demo's tools: a tiny shop, and a few tools that show how the engine behaves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::State;

/// What the tools may change: preferences of the three users, under the three keys there are.
#[derive(Debug, Default)]
pub(super) struct Store {
    changed: Mutex<BTreeMap<(String, String), String>>,
}

/// One call of a known tool.
pub(super) struct Job {
    tool: Tool,
    arguments: Map<String, Value>,
}

#[derive(Clone, Copy)]
enum Tool {
    Add,
    Echo,
    Fail,
    GetOrders,
    GetPreferences,
    GetUser,
    ServerStats,
    SetPreference,
    Slow,
}

/// A slow call takes at most this long.
const SLOWEST: u64 = 60_000;

const PREFERENCES: [(&str, &str); 3] = [("language", "en"), ("newsletter", "weekly"), ("theme", "dark")];

impl Job {
    /// The call, if there is such a tool.
    pub(super) fn of(name: &str, arguments: Map<String, Value>) -> Option<Self> {
        let tool = match name {
            "add" => Tool::Add,
            "echo" => Tool::Echo,
            "fail" => Tool::Fail,
            "get_orders" => Tool::GetOrders,
            "get_preferences" => Tool::GetPreferences,
            "get_user" => Tool::GetUser,
            "server_stats" => Tool::ServerStats,
            "set_preference" => Tool::SetPreference,
            "slow" => Tool::Slow,
            _ => return None,
        };
        Some(Self { tool, arguments })
    }

    /// How long it takes; `None` for no time worth naming.
    pub(super) fn delay(&self) -> Option<Duration> {
        match self.tool {
            Tool::Slow => {
                let ms = self.arguments.get("ms").and_then(Value::as_u64).unwrap_or(100);
                Some(Duration::from_millis(ms.min(SLOWEST)))
            }
            _ => None,
        }
    }

    /// Runs it from beginning to end.
    pub(super) async fn run(&self, state: &Arc<State>) -> Value {
        let _running = state.counters.call();
        if let Some(delay) = self.delay() {
            tokio::time::sleep(delay).await;
        }
        self.result(state)
    }

    /// Its `CallToolResult`.
    pub(super) fn result(&self, state: &State) -> Value {
        match self.outcome(state) {
            Ok(structured @ Value::Object(_)) => json!({
                "content": [{ "type": "text", "text": structured.to_string() }],
                "structuredContent": structured,
            }),
            Ok(Value::String(text)) => json!({ "content": [{ "type": "text", "text": text }] }),
            Ok(other) => json!({ "content": [{ "type": "text", "text": other.to_string() }] }),
            Err(message) => json!({ "content": [{ "type": "text", "text": message }], "isError": true }),
        }
    }

    fn outcome(&self, state: &State) -> Result<Value, String> {
        match self.tool {
            Tool::Add => {
                let sum = self.number("a")? + self.number("b")?;
                Ok(json!({ "sum": sum }))
            }
            Tool::Echo => Ok(json!(self.text("message")?)),
            Tool::Fail => Err(self.text("message").unwrap_or_else(|_| "failed, as asked".to_owned())),
            Tool::GetOrders => {
                let user = self.user()?;
                let limit = self.arguments.get("limit").and_then(Value::as_u64).unwrap_or(10);
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let orders: Vec<Value> = orders(user.id).into_iter().take(limit).collect();
                Ok(json!({ "user_id": user.id, "orders": orders }))
            }
            Tool::GetPreferences => {
                Ok(json!({ "user_id": self.user()?.id, "preferences": self.preferences(state)? }))
            }
            Tool::GetUser => {
                let user = self.user()?;
                Ok(json!({ "id": user.id, "name": user.name, "email": user.email, "city": user.city }))
            }
            Tool::ServerStats => Ok(json!(state.counters.now())),
            Tool::SetPreference => self.set_preference(state),
            Tool::Slow => Ok(json!(format!("took {} ms", self.delay().unwrap_or_default().as_millis()))),
        }
    }

    fn preferences(&self, state: &State) -> Result<Value, String> {
        let user = self.user()?;
        let changed = state.store.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let preferences: Map<String, Value> = PREFERENCES
            .into_iter()
            .map(|(key, default)| {
                let value =
                    changed.get(&(user.id.to_owned(), key.to_owned())).map_or(default, String::as_str);
                (key.to_owned(), json!(value))
            })
            .collect();
        Ok(Value::Object(preferences))
    }

    fn set_preference(&self, state: &State) -> Result<Value, String> {
        let user = self.user()?;
        let (key, value) = (self.text("key")?, self.text("value")?);
        if !PREFERENCES.iter().any(|(known, _)| *known == key) {
            return Err(format!("there is no preference {key:?}; there are language, newsletter and theme"));
        }
        if value.len() > 64 {
            return Err("a preference has at most 64 bytes".to_owned());
        }
        state
            .store
            .changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((user.id.to_owned(), key), value);
        Ok(json!({ "user_id": user.id, "preferences": self.preferences(state)? }))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        match self.arguments.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("the argument {name:?} must be a string")),
            None => Err(format!("the argument {name:?} is missing")),
        }
    }

    fn number(&self, name: &str) -> Result<f64, String> {
        match self.arguments.get(name) {
            Some(Value::Number(number)) => Ok(number.as_f64().unwrap_or(f64::NAN)),
            Some(_) => Err(format!("the argument {name:?} must be a number")),
            None => Err(format!("the argument {name:?} is missing")),
        }
    }

    fn user(&self) -> Result<User, String> {
        let id = self.text("user_id")?;
        USERS
            .into_iter()
            .find(|user| user.id == id)
            .ok_or_else(|| format!("there is no user {id:?}; try 123, 124 or 125"))
    }
}

#[derive(Clone, Copy)]
struct User {
    id: &'static str,
    name: &'static str,
    email: &'static str,
    city: &'static str,
}

const USERS: [User; 3] = [
    User { id: "123", name: "Ada Lovelace", email: "ada@example.com", city: "London" },
    User { id: "124", name: "Grace Hopper", email: "grace@example.com", city: "New York" },
    User { id: "125", name: "Katsuko Saruhashi", email: "katsuko@example.com", city: "Tokyo" },
];

fn orders(user: &str) -> Vec<Value> {
    let order = |id: &str, placed_on: &str, total: f64, items: &[&str]| json!({ "id": id, "placed_on": placed_on, "total": total, "currency": "EUR", "items": items });
    match user {
        "123" => vec![
            order("A-1007", "2026-03-14", 49.9, &["difference engine, scale model"]),
            order("A-1001", "2026-01-05", 12.5, &["punched cards, 500", "ink"]),
        ],
        "124" => vec![order("A-1003", "2026-02-11", 7.25, &["moth, framed"])],
        _ => Vec::new(),
    }
}

/// Every tool as `tools/list` shows it.
pub(super) fn list() -> Value {
    let user_id = json!({ "type": "string", "description": "123, 124 or 125", "examples": ["123"] });
    let of_user = json!({ "type": "object", "properties": { "user_id": user_id }, "required": ["user_id"] });
    let reads = json!({ "readOnlyHint": true, "openWorldHint": false });
    let preferences = json!({
        "type": "object",
        "properties": {
            "user_id": { "type": "string" },
            "preferences": { "type": "object", "additionalProperties": { "type": "string" } },
        },
        "required": ["user_id", "preferences"],
    });
    json!([
        {
            "name": "get_user",
            "title": "Get a user",
            "description": "Name, e-mail address and city of a user.",
            "inputSchema": of_user,
            "outputSchema": {
                "type": "object",
                "properties": {
                    "id": { "type": "string" },
                    "name": { "type": "string" },
                    "email": { "type": "string", "format": "email" },
                    "city": { "type": "string" },
                },
                "required": ["id", "name", "email", "city"],
            },
            "annotations": reads,
        },
        {
            "name": "get_orders",
            "title": "Get a user's orders",
            "description": "The orders of a user, newest first.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "user_id": user_id,
                    "limit": { "type": "integer", "minimum": 1, "maximum": 100, "default": 10 },
                },
                "required": ["user_id"],
            },
            "outputSchema": {
                "type": "object",
                "properties": {
                    "user_id": { "type": "string" },
                    "orders": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "id": { "type": "string" },
                                "placed_on": { "type": "string", "format": "date" },
                                "total": { "type": "number" },
                                "currency": { "type": "string" },
                                "items": { "type": "array", "items": { "type": "string" } },
                            },
                            "required": ["id", "placed_on", "total", "currency", "items"],
                        },
                    },
                },
                "required": ["user_id", "orders"],
            },
            "annotations": reads,
        },
        {
            "name": "get_preferences",
            "title": "Get a user's preferences",
            "description": "Language, newsletter and theme of a user.",
            "inputSchema": of_user,
            "outputSchema": preferences,
            "annotations": reads,
        },
        {
            "name": "set_preference",
            "title": "Set a user's preference",
            "description": "Changes one preference of a user until the demo ends.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "user_id": user_id,
                    "key": { "type": "string", "enum": ["language", "newsletter", "theme"] },
                    "value": { "type": "string", "maxLength": 64 },
                },
                "required": ["user_id", "key", "value"],
            },
            "outputSchema": preferences,
            "annotations": { "readOnlyHint": false, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false },
        },
        {
            "name": "echo",
            "description": "Says what it is told.",
            "inputSchema": {
                "type": "object",
                "properties": { "message": { "type": "string" } },
                "required": ["message"],
            },
            "annotations": reads,
        },
        {
            "name": "add",
            "description": "Adds two numbers.",
            "inputSchema": {
                "type": "object",
                "properties": { "a": { "type": "number" }, "b": { "type": "number" } },
                "required": ["a", "b"],
            },
            "outputSchema": {
                "type": "object",
                "properties": { "sum": { "type": "number" } },
                "required": ["sum"],
            },
            "annotations": reads,
        },
        {
            "name": "slow",
            "description": "Takes as long as it is told, and reports progress to whoever wants it.",
            "inputSchema": {
                "type": "object",
                "properties": { "ms": { "type": "integer", "minimum": 0, "maximum": SLOWEST, "default": 100 } },
            },
            "annotations": reads,
        },
        {
            "name": "fail",
            "description": "Fails: a tool's own failure is a result, not an error of the engine.",
            "inputSchema": {
                "type": "object",
                "properties": { "message": { "type": "string" } },
            },
        },
        {
            "name": "server_stats",
            "description": "How many connections and requests the demo server has seen.",
            "inputSchema": { "type": "object" },
            "outputSchema": {
                "type": "object",
                "properties": {
                    "connections_opened": { "type": "integer" },
                    "connections_open": { "type": "integer" },
                    "requests": { "type": "integer" },
                    "http2_requests": { "type": "integer" },
                    "calls_running": { "type": "integer" },
                    "max_calls_running": { "type": "integer" },
                },
                "required": ["connections_opened", "connections_open", "requests", "http2_requests"],
            },
            "annotations": reads,
        },
    ])
}
