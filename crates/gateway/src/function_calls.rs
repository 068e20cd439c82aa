//! `POST /tools/call?format=…`: takes the function call that a vendor's model emitted, as it stands in the model's message, runs
//! the tool it means, and answers with what that vendor wants to be told.
//!
//! One call, an array of calls, or the whole message that holds them; a message or array is answered by an array, in order. What
//! else stands in a message, such as texts and thoughts, is passed over. A call that fails is an answer too, marked as an error the
//! way the vendor has it, so that the model can mend it; so is one whose arguments are no JSON.

use std::sync::Arc;

use http::StatusCode;
use mpe_engine::{CallContext, OutcomeKind, ToolCall};
use mpe_schema::functions::Vendor;
use mpe_schema::repeated_member;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::json::{Members, raw_value};
use crate::problem::{Problem, ProblemType, log_call_error};
use crate::service::Inbound;
use crate::{Body, body, render, rest};

/// A call as a model wrote it.
struct Emitted {
    /// The vendor's id for it, where there is one.
    id: Value,
    name: String,
    /// What is wrong with them, where they cannot be read.
    arguments: Result<Box<RawValue>, String>,
}

/// Answers the request; `None` when it names no format, and so means a tool that is called `call`.
pub(crate) async fn handle(inbound: &mut Inbound) -> Option<http::Response<Body>> {
    let format = inbound.query_value("format")?;
    let Some(vendor) = Vendor::from_name(&format) else {
        let names = Vendor::ALL.map(Vendor::name).join(", ");
        let detail = format!("there is no format `{format}`; there are: {names}");
        return Some(Problem::new(ProblemType::BadRequest, detail).into_response());
    };
    Some(match run(inbound, vendor).await {
        Ok(answer) => body::response(StatusCode::OK, "application/json", answer.to_string()),
        Err(problem) => problem.into_response(),
    })
}

async fn run(inbound: &mut Inbound, vendor: Vendor) -> Result<Value, Problem> {
    let bytes = rest::json_body(inbound).await?;
    let raw = rest::parse(&bytes)?;
    let listed = calls_in(&raw);
    let limit = inbound.gateway.config().max_batch;
    if listed.as_ref().is_some_and(|calls| calls.len() > limit) {
        return Err(Problem::new(ProblemType::BadRequest, format!("more than {limit} calls")));
    }
    let unreadable = |at: usize| {
        let detail = format!("/{at}: no function call as `{}` models emit it", vendor.name());
        Problem::new(ProblemType::BadRequest, detail)
    };
    match listed {
        None => {
            let emitted = Emitted::read(&raw).ok_or_else(|| unreadable(0))?;
            Ok(one(inbound, vendor, emitted).await)
        }
        Some(calls) => {
            let read = calls.iter().map(|(at, call)| Emitted::read(call).ok_or_else(|| unreadable(*at)));
            let read = read.collect::<Result<Vec<_>, _>>()?;
            let inbound = &*inbound;
            let running = read.into_iter().map(|emitted| one(inbound, vendor, emitted));
            Ok(Value::Array(futures_util::future::join_all(running).await))
        }
    }
}

/// The calls of an array or of a message, each with its place there; `None` when `raw` is one call itself.
fn calls_in(raw: &RawValue) -> Option<Vec<(usize, Box<RawValue>)>> {
    let list = |raw: &RawValue| serde_json::from_str::<Vec<Box<RawValue>>>(raw.get()).ok();
    let without = |parts: Vec<Box<RawValue>>, is_other: fn(&RawValue) -> bool| {
        parts.into_iter().enumerate().filter(|(_, part)| !is_other(part)).collect()
    };
    if let Some(parts) = list(raw) {
        return Some(without(parts, |part| type_of(part).is_some() && is_no_call(part)));
    }
    let members = Members::of(raw)?;
    // OpenAI and Ollama; Gemini; Bedrock and Anthropic, whose content holds much beside the calls.
    if let Some(calls) = members.get("tool_calls").and_then(list) {
        return Some(calls.into_iter().enumerate().collect());
    }
    let parts = members.get("parts").or_else(|| members.get("content")).and_then(list)?;
    Some(without(parts, is_no_call))
}

fn type_of(part: &RawValue) -> Option<String> {
    Members::of(part)?.string("type")
}

/// Whether a part of a message is something else than a call: a text, a thought, an image.
fn is_no_call(part: &RawValue) -> bool {
    let Some(members) = Members::of(part) else { return false };
    match type_of(part).as_deref() {
        Some("function" | "function_call" | "tool_use") => false,
        // Gemini and Bedrock name each part by its only member.
        _ => ["function", "functionCall", "name", "toolUse"].iter().all(|key| members.get(key).is_none()),
    }
}

impl Emitted {
    fn read(raw: &RawValue) -> Option<Self> {
        let outer = Members::of(raw)?;
        let inner =
            ["function", "functionCall", "toolUse"].into_iter().find_map(|key| Members::of(outer.get(key)?));
        let call = inner.as_ref().unwrap_or(&outer);
        let id = ["call_id", "id", "toolUseId"]
            .into_iter()
            .find_map(|key| outer.get(key).or_else(|| call.get(key)));
        let arguments = ["arguments", "input", "args"].into_iter().find_map(|key| call.get(key));
        let arguments = match arguments {
            None => Ok(raw_value(b"{}".to_vec())),
            // OpenAI's models write the arguments as a text that holds JSON.
            Some(text) if text.get().starts_with('"') => {
                let text: String = serde_json::from_str(text.get()).ok()?;
                if text.trim().is_empty() {
                    Ok(raw_value(b"{}".to_vec()))
                } else {
                    RawValue::from_string(text).map_err(|error| format!("the arguments are no JSON: {error}"))
                }
            }
            Some(arguments) => Ok(arguments.to_owned()),
        };
        let id = id.and_then(|id| serde_json::from_str(id.get()).ok()).unwrap_or(Value::Null);
        Some(Self { id, name: call.string("name")?, arguments })
    }
}

/// Runs one call. Whatever goes wrong is told to the model.
async fn one(inbound: &Inbound, vendor: Vendor, emitted: Emitted) -> Value {
    let Emitted { id, name, arguments } = emitted;
    let meant = arguments.and_then(|arguments| {
        // Beneath the names that are turned back, the last of two would win unseen.
        let twice = repeated_member(&arguments).map(|twice| vec![twice]);
        let meant = twice.map_or_else(|| inbound.view.lowered(vendor).call(&name, &arguments), Err);
        meant.map_err(|violations| {
            let lines = violations.iter().map(|v| format!("{} {}", v.pointer, v.message).trim().to_owned());
            lines.collect::<Vec<_>>().join("\n")
        })
    });
    let outcome = match meant {
        Err(message) => Err(message),
        Ok(meant) => {
            let call = ToolCall {
                endpoint: inbound.endpoint.clone(),
                tool: meant.tool.clone(),
                arguments: meant.arguments,
                deadline: inbound.deadline,
                check_arguments: inbound.gateway.config().checks.functions,
                context: Arc::new(CallContext::default()),
            };
            match inbound.gateway.engine().call(call).await {
                Ok(outcome) if outcome.kind == OutcomeKind::Complete => Ok(render::value(&outcome.result)),
                Ok(outcome) => Err(render::failure(&outcome).detail),
                Err(error) => {
                    log_call_error(&error, &meant.tool);
                    let lines = error.violations.iter().map(|v| format!("{} {}", v.pointer, v.message));
                    Err(std::iter::once(error.message.clone()).chain(lines).collect::<Vec<_>>().join("\n"))
                }
            }
        }
    };
    told(vendor, &id, &name, outcome)
}

/// The result in the vendor's words.
fn told(vendor: Vendor, id: &Value, name: &str, outcome: Result<Box<RawValue>, String>) -> Value {
    let is_error = outcome.is_err();
    // A text stands as itself, anything else as its JSON.
    let text = match &outcome {
        Ok(value) => serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned()),
        Err(message) => format!("error: {message}"),
    };
    match vendor {
        Vendor::OpenAi | Vendor::OpenAiStrict => json!({"role": "tool", "tool_call_id": id, "content": text}),
        Vendor::Ollama => json!({"role": "tool", "tool_name": name, "content": text}),
        Vendor::Anthropic => {
            json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": is_error})
        }
        Vendor::Bedrock => json!({"toolResult": {
            "toolUseId": id, "content": [{"text": text}], "status": if is_error { "error" } else { "success" },
        }}),
        Vendor::Gemini => {
            let response = if is_error { json!({"error": text}) } else { json!({"result": text}) };
            let mut answer = json!({"name": name, "response": response});
            if !id.is_null() {
                answer["id"] = id.clone();
            }
            json!({"functionResponse": answer})
        }
        Vendor::Mcp => json!({"content": [{"type": "text", "text": text}], "isError": is_error}),
    }
}
