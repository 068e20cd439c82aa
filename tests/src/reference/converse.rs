//! One request and its rounds, whatever carries it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::offer;
use super::world::{Era, World};

const META: &str = "io.modelcontextprotocol/";

/// Log levels, mildest first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Rounds of questions of one call, at most.
const MAX_ROUNDS: usize = 8;

/// How long a client may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is said next.
#[derive(Debug)]
pub(crate) enum Said {
    /// These questions, with what to remember of the conversation.
    Ask(Map<String, Value>, Option<Value>),
    Error(i64, String, Value),
    Result(Value),
}

impl Said {
    pub(crate) fn ask<const N: usize>(requests: impl Into<Requests<N>>, state: Option<Value>) -> Self {
        Self::Ask(requests.into().0, state)
    }
}

/// Named questions.
pub(crate) struct Requests<const N: usize>(Map<String, Value>);

impl<const N: usize> From<[(&str, Value); N]> for Requests<N> {
    fn from(requests: [(&str, Value); N]) -> Self {
        Self(requests.map(|(key, request)| (key.to_owned(), request)).into_iter().collect())
    }
}

impl From<Vec<(&str, Value)>> for Requests<0> {
    fn from(requests: Vec<(&str, Value)>) -> Self {
        Self(requests.into_iter().map(|(key, request)| (key.to_owned(), request)).collect())
    }
}

/// A request under way, for whoever says what comes next.
pub(crate) struct Call<'a> {
    pub(crate) world: &'a World,
    pub(crate) capabilities: &'a Value,
    pub(crate) state: Option<Value>,
    answers: Value,
    level: Option<usize>,
    progress_token: Value,
    out: &'a mpsc::Sender<Value>,
}

impl Call<'_> {
    pub(crate) fn answer(&self, key: &str) -> Option<&Value> {
        self.answers.get(key)
    }

    pub(crate) fn has_answers(&self) -> bool {
        self.answers.as_object().is_some_and(|answers| !answers.is_empty())
    }

    pub(crate) async fn log(&self, line: &str) {
        // Everything here is of the level `info`.
        if self.level.is_some_and(|level| level <= 1) {
            let params = json!({ "level": "info", "logger": "conformance-server", "data": line });
            self.tell("notifications/message", params).await;
        }
    }

    pub(crate) async fn progress(&self, progress: u64, total: u64) {
        if !self.progress_token.is_null() {
            let params =
                json!({ "progressToken": self.progress_token, "progress": progress, "total": total });
            self.tell("notifications/progress", params).await;
        }
    }

    async fn tell(&self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        // Whoever has gone hears nothing.
        let _ = self.out.send(message).await;
    }
}

/// A client of the legacy era that can be asked.
pub(crate) trait Asked: Send + Sync {
    /// Where the answer to that id will arrive.
    fn expect(&self, id: &str) -> tokio::sync::oneshot::Receiver<Value>;
}

/// A request, read.
pub(crate) struct Request {
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) era: Era,
    /// What the client declared.
    pub(crate) capabilities: Value,
    /// The level of a legacy session.
    pub(crate) session_level: Option<usize>,
}

impl Request {
    /// A request of the modern era brings its own context.
    pub(crate) fn modern(id: Value, method: &str, params: Value) -> Self {
        let capabilities = params["_meta"][format!("{META}clientCapabilities")].clone();
        Self { id, method: method.to_owned(), params, era: Era::Modern, capabilities, session_level: None }
    }

    fn level(&self) -> Option<usize> {
        match self.era {
            Era::Legacy => Some(self.session_level.unwrap_or(1)),
            Era::Modern => level_of(self.params["_meta"][format!("{META}logLevel")].as_str()?),
        }
    }
}

pub(crate) fn level_of(name: &str) -> Option<usize> {
    LEVELS.iter().position(|level| *level == name)
}

/// The whole answer to a request. `asked`: who answers questions, in the legacy era.
pub(crate) async fn answer(
    world: &Arc<World>,
    request: &Request,
    out: &mpsc::Sender<Value>,
    asked: Option<&dyn Asked>,
) -> Value {
    let mut answers = request.params.get("inputResponses").cloned().unwrap_or_else(|| json!({}));
    let mut state = match request.params["requestState"].as_str() {
        None => None,
        Some(token) => match world.recall(token) {
            Some(state) => Some(state),
            None => return failed(request, -32602, "the requestState is not ours", &Value::Null),
        },
    };
    for _ in 0..MAX_ROUNDS {
        let call = Call {
            world,
            capabilities: &request.capabilities,
            state: state.take(),
            answers: answers.clone(),
            level: request.level(),
            progress_token: request.params["_meta"]["progressToken"].clone(),
            out,
        };
        match say(&call, request).await {
            Said::Result(result) => return succeeded(request, result),
            Said::Error(code, message, data) => return failed(request, code, &message, &data),
            Said::Ask(requests, kept) => {
                if let Some(lacking) = lacking(&requests, &request.capabilities) {
                    let data = json!({ "requiredCapabilities": { lacking: {} } });
                    let message = format!("the client lacks the capability {lacking}");
                    return match request.era {
                        Era::Modern => failed(request, -32021, &message, &data),
                        Era::Legacy => succeeded(
                            request,
                            json!({ "content": [{ "type": "text", "text": message }], "isError": true }),
                        ),
                    };
                }
                let Some(asked) = asked.filter(|_| request.era == Era::Legacy) else {
                    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
                    if let Some(kept) = kept {
                        result["requestState"] = json!(world.remember(kept));
                    }
                    return succeeded(request, result);
                };
                // All at once: whoever is asked may answer in any order.
                let asking = requests.iter().map(|(_, question)| put(world, question, out, asked));
                let answered = futures_util::future::join_all(asking).await;
                for (key, answer) in requests.keys().zip(answered) {
                    match answer {
                        Some(answer) => answers[key] = answer,
                        None => return failed(request, -32603, "the client did not answer", &Value::Null),
                    }
                }
                state = kept;
            }
        }
    }
    failed(request, -32603, "the conversation does not end", &Value::Null)
}

/// The capability that one of these questions needs and the client has not declared.
fn lacking(requests: &Map<String, Value>, capabilities: &Value) -> Option<&'static str> {
    requests.values().find_map(|request| {
        let needed = match request["method"].as_str()? {
            "elicitation/create" => "elicitation",
            "roots/list" => "roots",
            _ => "sampling",
        };
        (!capabilities[needed].is_object()).then_some(needed)
    })
}

/// Puts a question to a legacy client.
async fn put(world: &World, question: &Value, out: &mpsc::Sender<Value>, asked: &dyn Asked) -> Option<Value> {
    let id = format!("q-{}", world.number());
    let answer = asked.expect(&id);
    let message =
        json!({ "jsonrpc": "2.0", "id": id, "method": question["method"], "params": question["params"] });
    out.send(message).await.ok()?;
    let answer = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
    answer.get("result").cloned()
}

async fn say(call: &Call<'_>, request: &Request) -> Said {
    let (world, params) = (call.world, &request.params);
    let text = |key: &str| params[key].as_str().unwrap_or_default();
    let listed = |key: &str, items: Vec<Value>| {
        Said::Result(json!({ key: items, "ttlMs": 0, "cacheScope": "private" }))
    };
    match request.method.as_str() {
        "tools/list" => listed("tools", offer::tools(world.has_dynamic_tool())),
        "tools/call" => offer::call_tool(call, text("name"), &params["arguments"]).await,
        "prompts/list" => listed("prompts", offer::prompts(world.has_dynamic_prompt())),
        "prompts/get" => offer::get_prompt(call, text("name"), &params["arguments"]),
        "resources/list" => listed("resources", offer::resources()),
        "resources/templates/list" => listed("resourceTemplates", offer::templates()),
        "resources/read" => match offer::read(text("uri"), world.revision()) {
            Some(mut result) => {
                result["ttlMs"] = json!(0);
                result["cacheScope"] = json!("private");
                Said::Result(result)
            }
            None => {
                let code = if request.era == Era::Modern { -32602 } else { -32002 };
                Said::Error(code, "there is no such resource".to_owned(), json!({ "uri": text("uri") }))
            }
        },
        "completion/complete" => {
            Said::Result(offer::complete(params["argument"]["value"].as_str().unwrap_or_default()))
        }
        "server/discover" if request.era == Era::Modern => Said::Result(json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": offer::capabilities(),
            "ttlMs": 0,
            "cacheScope": "private",
        })),
        method => Said::Error(-32601, format!("there is no method {method}"), Value::Null),
    }
}

fn succeeded(request: &Request, mut result: Value) -> Value {
    match request.era {
        Era::Modern => {
            if result["resultType"].is_null() {
                result["resultType"] = json!("complete");
            }
            result["_meta"][format!("{META}serverInfo")] = offer::server_info();
        }
        Era::Legacy => {
            let members = result.as_object_mut().expect("a result is an object");
            members.remove("ttlMs");
            members.remove("cacheScope");
        }
    }
    json!({ "jsonrpc": "2.0", "id": request.id, "result": result })
}

pub(crate) fn failed(request: &Request, code: i64, message: &str, data: &Value) -> Value {
    error(&request.id, code, message, data)
}

pub(crate) fn error(id: &Value, code: i64, message: &str, data: &Value) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if !data.is_null() {
        error["data"] = data.clone();
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

/// What a legacy client is told of us.
pub(crate) fn introduction(asked_for: &str) -> Value {
    let known = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
    let version = if known.contains(&asked_for) { asked_for } else { known[0] };
    json!({ "protocolVersion": version, "capabilities": offer::capabilities(), "serverInfo": offer::server_info() })
}
