//! An MCP client that does the least a client may do, in either era, and shows everything it is told.

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::{Answer, Http, Spec};

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2025-11-25: a handshake, then a session.
    Legacy,
    /// 2026-07-28: every request carries its own context.
    Modern,
}

impl Era {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Legacy, Self::Modern];
}

/// A JSON-RPC error as received.
#[derive(Clone, Debug, PartialEq)]
pub struct McpError {
    /// The code.
    pub code: i64,
    /// The whole error object.
    pub object: Value,
}

/// A client that has introduced itself.
#[derive(Debug)]
pub struct McpClient {
    http: Http,
    path: String,
    era: Era,
    session: Option<String>,
    capabilities: Value,
    /// What the server said of itself: `DiscoverResult` or `InitializeResult`.
    pub introduction: Value,
    ids: AtomicI64,
}

impl McpClient {
    /// Introduces itself at `path`, declaring no capability.
    pub async fn connect(http: Http, path: &str, era: Era) -> Self {
        Self::connect_declaring(http, path, era, json!({})).await
    }

    /// Introduces itself at `path` as one that can do so much.
    pub async fn connect_declaring(http: Http, path: &str, era: Era, capabilities: Value) -> Self {
        let mut client = Self {
            http,
            path: path.to_owned(),
            era,
            session: None,
            capabilities,
            introduction: Value::Null,
            ids: AtomicI64::new(1),
        };
        match era {
            Era::Modern => {
                client.introduction = client.request("server/discover", "{}").await.expect("discover");
            }
            Era::Legacy => client.initialize().await,
        }
        client
    }

    async fn initialize(&mut self) {
        let params = json!({
            "protocolVersion": LEGACY,
            "capabilities": self.capabilities,
            "clientInfo": { "name": "mpe-tests", "version": "1.0.0" },
        });
        let answer = self.http.send(self.message("initialize", &params.to_string(), Some(0))).await;
        self.judge("initialize", &answer);
        self.session = Some(answer.header("mcp-session-id").to_owned()).filter(|session| !session.is_empty());
        self.introduction = outcome(&answer).expect("initialize");
        let accepted = self.http.send(self.message("notifications/initialized", "{}", None)).await;
        assert_eq!(accepted.status.as_u16(), 202, "{accepted:?}");
    }

    /// One request. `params` is an object as written, without `_meta`.
    ///
    /// # Errors
    /// The error the server answered with.
    pub async fn request(&self, method: &str, params: &str) -> Result<Value, McpError> {
        outcome(&self.exchange(method, params).await)
    }

    /// One request, with the whole HTTP answer.
    pub async fn exchange(&self, method: &str, params: &str) -> Answer {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let answer = self.http.send(self.message(method, params, Some(id))).await;
        self.judge(method, &answer);
        answer
    }

    /// Holds every message of an answer against the schema of our revision. What is no message at all is for the test
    /// to judge.
    fn judge(&self, method: &str, answer: &Answer) {
        let revision = match self.era {
            Era::Legacy => LEGACY,
            Era::Modern => MODERN,
        };
        let Some(spec) = Spec::of(revision) else { return };
        for message in messages(answer).filter(|message| message.get("jsonrpc").is_some()) {
            if let Err(why) = spec.judge_any(method, &message) {
                panic!("asking {method} brings {why}");
            }
        }
    }

    /// Calls a tool; the arguments go out as written.
    ///
    /// # Errors
    /// The error the server answered with.
    pub async fn call(&self, tool: &str, arguments: &str) -> Result<Value, McpError> {
        self.request("tools/call", &call_params(tool, arguments)).await
    }

    /// Calls a tool and gives the result's bytes as received.
    pub async fn call_raw(&self, tool: &str, arguments: &str) -> String {
        let answer = self.exchange("tools/call", &call_params(tool, arguments)).await;
        #[derive(serde::Deserialize)]
        struct Message {
            result: Box<RawValue>,
        }
        let message = message(&answer);
        let message: Message =
            serde_json::from_str(&message).unwrap_or_else(|_| panic!("no result: {answer:?}"));
        message.result.get().to_owned()
    }

    /// Every tool, all pages.
    pub async fn tools(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
            let page = self.request("tools/list", &params.to_string()).await.expect("tools/list");
            all.extend(page["tools"].as_array().expect("an array of tools").iter().cloned());
            match page.get("nextCursor") {
                None => return all,
                Some(next) => cursor = next.clone(),
            }
        }
    }

    /// The HTTP request of a message, with every header its era demands.
    fn message(&self, method: &str, params: &str, id: Option<i64>) -> Request<Bytes> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        let mut params = params.to_owned();
        match self.era {
            Era::Modern => {
                request = request.header("mcp-protocol-version", MODERN).header("mcp-method", method);
                let parsed: Value = serde_json::from_str(&params).expect("params are JSON");
                if let Some(name) = parsed.get("name").and_then(Value::as_str) {
                    request = request.header("mcp-name", name);
                }
                params = with_meta(&params, &self.capabilities);
            }
            Era::Legacy if method != "initialize" => {
                request = request.header("mcp-protocol-version", LEGACY);
                if let Some(session) = &self.session {
                    request = request.header("mcp-session-id", session);
                }
            }
            Era::Legacy => {}
        }
        let id = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
        let body = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}","params":{params}}}"#);
        request.body(body.into()).expect("a request of the fixture's own making")
    }
}

fn call_params(tool: &str, arguments: &str) -> String {
    format!(r#"{{"name":{},"arguments":{arguments}}}"#, Value::from(tool))
}

/// The object with the `_meta` of a stateless request in front; the other members keep their bytes.
fn with_meta(params: &str, capabilities: &Value) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": { "name": "mpe-tests", "version": "1.0.0" },
    });
    let rest = params.trim_start().strip_prefix('{').expect("params are an object");
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    format!(r#"{{"_meta":{meta}{comma}{rest}"#)
}

/// The body, or every event of a stream, where it is JSON.
fn messages(answer: &Answer) -> impl Iterator<Item = Value> {
    let text = String::from_utf8_lossy(&answer.body);
    let texts: Vec<_> = match answer.header("content-type").starts_with("text/event-stream") {
        true => text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::to_owned).collect(),
        false => vec![text.into_owned()],
    };
    texts.into_iter().filter_map(|text| serde_json::from_str(&text).ok())
}

/// The message with an id: the body, or the last event of a stream that is a response.
fn message(answer: &Answer) -> String {
    if !answer.header("content-type").starts_with("text/event-stream") {
        return answer.text().to_owned();
    }
    let mut responses = answer.text().lines().filter_map(|line| line.strip_prefix("data:")).filter(|data| {
        serde_json::from_str::<Value>(data)
            .is_ok_and(|data| data.get("id").is_some() && data.get("method").is_none())
    });
    responses
        .next_back()
        .unwrap_or_else(|| panic!("a stream without a response: {answer:?}"))
        .trim()
        .to_owned()
}

fn outcome(answer: &Answer) -> Result<Value, McpError> {
    let message = message(answer);
    let mut message: Value =
        serde_json::from_str(&message).unwrap_or_else(|error| panic!("no message ({error}): {answer:?}"));
    match message.get_mut("error") {
        Some(error) => Err(McpError { code: error["code"].as_i64().expect("a code"), object: error.take() }),
        None => Ok(message.get_mut("result").unwrap_or_else(|| panic!("no result: {answer:?}")).take()),
    }
}
