//! Tools, resources, prompts and completions: their names and payloads are those that the suite's scenarios ask for.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::converse::{Call, Said};
use super::world::{WATCHED, World};

/// The smallest pictures and sounds there are.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

/// What was read, prompted or completed is complete and may not be kept.
pub(crate) fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "listChanged": true, "subscribe": true },
        "completions": {},
        "logging": {},
    })
}

pub(crate) fn server_info() -> Value {
    json!({ "name": "conformance-server", "version": "1.0.0" })
}

/// Names and descriptions of tools without arguments.
const PLAIN_TOOLS: &[(&str, &str)] = &[
    ("test_simple_text", "A line of text"),
    ("test_image_content", "A picture"),
    ("test_audio_content", "A sound"),
    ("test_embedded_resource", "A resource within the result"),
    ("test_multiple_content_types", "Text, a picture and a resource"),
    ("test_tool_with_logging", "Logs three lines on its way"),
    ("test_logging_tool", "Logs one line"),
    ("test_tool_with_progress", "Reports three steps"),
    ("test_error_handling", "Fails, always"),
    ("test_elicitation_sep1034_defaults", "Asks with a form full of defaults"),
    ("test_elicitation_sep1330_enums", "Asks with a form full of choices"),
    ("test_missing_capability", "Cannot do without sampling"),
    ("test_streaming_elicitation", "Asks for a name"),
    ("test_trigger_tool_change", "Adds a tool, or takes it away"),
    ("test_trigger_prompt_change", "Adds a prompt, or takes it away"),
    ("test_trigger_resource_update", "Changes a resource"),
    ("test_input_required_result_elicitation", "Asks for a name"),
    ("test_input_required_result_sampling", "Asks a model"),
    ("test_input_required_result_list_roots", "Asks for roots"),
    ("test_input_required_result_request_state", "Asks, and keeps its state with the client"),
    ("test_input_required_result_tampered_state", "Takes no state but its own"),
    ("test_input_required_result_multiple_inputs", "Asks three things at once"),
    ("test_input_required_result_multi_round", "Asks twice"),
    ("test_input_required_result_capabilities", "Asks what the client can answer"),
];

pub(crate) fn tools(has_dynamic: bool) -> Vec<Value> {
    let tool = |name: &str, about: &str, schema: Value| json!({ "name": name, "description": about, "inputSchema": schema });
    let text = json!({ "type": "string" });
    let mut tools: Vec<Value> =
        PLAIN_TOOLS.iter().map(|(name, about)| tool(name, about, json!({ "type": "object" }))).collect();
    tools.push(tool("test_sampling", "Asks a model", form(json!({ "prompt": text }))));
    tools.push(tool("test_elicitation", "Asks a person", form(json!({ "message": text }))));
    tools.push(tool("json_schema_2020_12_tool", "Has a schema of many keywords", rich_schema()));
    let region = json!({ "type": "string", "x-mcp-header": "Region" });
    let mut mirrored = form(json!({ "region": region, "query": text }));
    mirrored["required"] = json!(["region"]);
    tools.push(tool("x_wait", "Waits a minute", json!({ "type": "object" })));
    tools.push(tool("x_cancelled", "Says how many waits were cancelled", json!({ "type": "object" })));
    tools.push(tool("test_header_params", "Mirrors an argument in a header", mirrored));
    if has_dynamic {
        tools.push(tool("test_dynamic_tool", "Comes and goes", json!({ "type": "object" })));
    }
    tools
}

/// An object with these properties, all of them required.
fn form(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn rich_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}

/// One form with every kind of default (SEP-1034).
fn defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
            "verified": { "type": "boolean", "default": true },
        },
    })
}

/// One form with every kind of choice (SEP-1330).
fn choices() -> Value {
    let options = json!(["option1", "option2", "option3"]);
    let titled = |n: usize, title: &str| json!({ "const": format!("value{n}"), "title": title });
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": options },
            "titledSingle": {
                "type": "string",
                "oneOf": [titled(1, "First Option"), titled(2, "Second Option"), titled(3, "Third Option")],
            },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
            "titledMulti": {
                "type": "array",
                "items": { "anyOf": [titled(1, "First Choice"), titled(2, "Second Choice"), titled(3, "Third Choice")] },
            },
        },
    })
}

fn text(text: impl Into<String>) -> Said {
    Said::Result(json!({ "content": [{ "type": "text", "text": text.into() }] }))
}

fn elicit(message: &str, form: Value) -> Value {
    json!({ "method": "elicitation/create", "params": { "mode": "form", "message": message, "requestedSchema": form } })
}

fn sample(prompt: &str, tokens: u64) -> Value {
    let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
    json!({ "method": "sampling/createMessage", "params": { "messages": [message], "maxTokens": tokens } })
}

fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

fn name_form() -> Value {
    form(json!({ "name": { "type": "string" } }))
}

/// What a model said.
fn sampled(answer: &Value) -> String {
    let content = match &answer["content"] {
        Value::Array(blocks) => blocks.first().cloned().unwrap_or_default(),
        one => one.clone(),
    };
    content["text"].as_str().unwrap_or_default().to_owned()
}

fn elicited(answer: &Value) -> String {
    format!("action={}, content={}", answer["action"].as_str().unwrap_or_default(), answer["content"])
}

/// Asks one thing, and finishes with its answer.
fn once(call: &Call<'_>, key: &str, request: Value, finish: impl FnOnce(&Value) -> String) -> Said {
    match call.answer(key) {
        Some(answer) => text(finish(answer)),
        None => Said::ask([(key, request)], None),
    }
}

/// Says what a tool says next.
pub(crate) async fn call_tool(call: &Call<'_>, name: &str, arguments: &Value) -> Said {
    let argument = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
    let embedded = |uri: &str, media_type: &str, text: &str| json!({ "type": "resource", "resource": { "uri": uri, "mimeType": media_type, "text": text } });
    let picture = json!({ "type": "image", "data": PNG, "mimeType": "image/png" });
    match name {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => Said::Result(json!({ "content": [picture] })),
        "test_audio_content" => {
            Said::Result(json!({ "content": [{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }] }))
        }
        "test_embedded_resource" => {
            let block =
                embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.");
            Said::Result(json!({ "content": [block] }))
        }
        "test_multiple_content_types" => {
            let block = embedded(
                "test://mixed-content-resource",
                "application/json",
                r#"{"test":"data","value":123}"#,
            );
            let line = json!({ "type": "text", "text": "Multiple content types test:" });
            Said::Result(json!({ "content": [line, picture, block] }))
        }
        "test_tool_with_logging" => {
            for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                call.log(line).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            text("Tool with logging executed successfully")
        }
        "test_logging_tool" => {
            call.log("a line").await;
            text("logged")
        }
        "test_tool_with_progress" => {
            for progress in [0, 50, 100] {
                call.progress(progress, 100).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            text("Tool with progress executed successfully")
        }
        "test_error_handling" => Said::Result(json!({
            "content": [{ "type": "text", "text": "This tool intentionally returns an error for testing" }],
            "isError": true,
        })),
        "test_sampling" => once(call, "completion", sample(&argument("prompt"), 100), |answer| {
            format!("LLM response: {}", sampled(answer))
        }),
        "test_elicitation" => {
            let fields = json!({ "username": { "type": "string" }, "email": { "type": "string" } });
            once(call, "form", elicit(&argument("message"), form(fields)), |answer| {
                format!("User response: {}", elicited(answer))
            })
        }
        "test_elicitation_sep1034_defaults" => {
            once(call, "form", elicit("Please review the defaults", defaults()), |answer| {
                format!("Elicitation completed: {}", elicited(answer))
            })
        }
        "test_elicitation_sep1330_enums" => {
            once(call, "form", elicit("Please choose", choices()), |answer| {
                format!("Elicitation completed: {}", elicited(answer))
            })
        }
        "json_schema_2020_12_tool" => text(format!("called with {arguments}")),
        "test_missing_capability" => once(call, "needed", sample("Say something", 20), sampled),
        "test_streaming_elicitation" => {
            once(call, "name", elicit("What is your name?", name_form()), elicited)
        }
        "test_trigger_tool_change" => {
            call.world.toggle_tool();
            text("the list of tools has changed")
        }
        "test_trigger_prompt_change" => {
            call.world.toggle_prompt();
            text("the list of prompts has changed")
        }
        "test_trigger_resource_update" => {
            call.world.touch();
            text("the resource has changed")
        }
        "x_wait" => {
            struct Unfinished<'a>(&'a World, bool);
            impl Drop for Unfinished<'_> {
                fn drop(&mut self) {
                    if self.1 {
                        self.0.count_cancelled();
                    }
                }
            }
            let mut unfinished = Unfinished(call.world, true);
            call.progress(0, 60).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            unfinished.1 = false;
            text("waited")
        }
        "x_cancelled" => text(call.world.n_cancelled().to_string()),
        "test_header_params" => text(format!("region={} query={}", argument("region"), argument("query"))),
        "test_dynamic_tool" if call.world.has_dynamic_tool() => text("here"),
        name => match name.strip_prefix("test_input_required_result_") {
            Some(kind) => ask_for_input(call, kind).unwrap_or_else(|| unknown_tool(name)),
            None => unknown_tool(name),
        },
    }
}

fn unknown_tool(name: &str) -> Said {
    Said::Error(-32602, format!("there is no tool {name}"), Value::Null)
}

/// The tools that ask in several rounds (SEP-2322).
fn ask_for_input(call: &Call<'_>, kind: &str) -> Option<Said> {
    let name = || elicit("What is your name?", name_form());
    Some(match kind {
        "elicitation" => match call.answer("user_name").and_then(|answer| answer["content"]["name"].as_str())
        {
            Some(name) => text(format!("Hello, {name}!")),
            None => Said::ask([("user_name", name())], None),
        },
        "sampling" => once(call, "capital_question", sample("What is the capital of France?", 100), sampled),
        "list_roots" => once(call, "client_roots", roots(), |answer| format!("Roots: {}", answer["roots"])),
        "request_state" | "tampered_state" => {
            let is_back = call.state.as_ref().is_some_and(|state| state["at"] == kind);
            if is_back && call.answer("confirm").is_some() {
                text("state-ok")
            } else {
                let confirm = elicit("Please confirm", form(json!({ "ok": { "type": "boolean" } })));
                Said::ask([("confirm", confirm)], Some(json!({ "at": kind })))
            }
        }
        "multiple_inputs" => {
            let answers = ["user_name", "greeting", "client_roots"].map(|key| call.answer(key));
            match answers {
                [Some(name), Some(greeting), Some(roots)] => {
                    let n_roots = roots["roots"].as_array().map_or(0, Vec::len);
                    text(format!("{} {}, {n_roots} root(s)", sampled(greeting), name["content"]["name"]))
                }
                _ => {
                    let greeting = sample("Generate a greeting", 50);
                    let requests = [("user_name", name()), ("greeting", greeting), ("client_roots", roots())];
                    Said::ask(requests, Some(json!({ "at": kind })))
                }
            }
        }
        "multi_round" => {
            let at = call.state.as_ref().map_or(0, |state| state["at"].as_u64().unwrap_or_default());
            match (at, call.answer("step1"), call.answer("step2")) {
                (2, _, Some(color)) => {
                    let name = call.state.as_ref().map(|state| state["name"].clone()).unwrap_or_default();
                    text(format!("{name} likes {}", color["content"]["color"]))
                }
                (1, Some(named), _) => {
                    let color = form(json!({ "color": { "type": "string" } }));
                    let question = elicit("Step 2: What is your favorite color?", color);
                    let state = json!({ "at": 2, "name": named["content"]["name"] });
                    Said::ask([("step2", question)], Some(state))
                }
                _ => {
                    let question = elicit("Step 1: What is your name?", name_form());
                    Said::ask([("step1", question)], Some(json!({ "at": 1 })))
                }
            }
        }
        "capabilities" => {
            if call.has_answers() {
                return Some(text("answered"));
            }
            let can = |kind: &str| call.capabilities.get(kind).is_some_and(Value::is_object);
            let wanted = [("sampling", sample("Say something", 20)), ("elicitation", name())];
            let requests: Vec<_> = wanted.into_iter().filter(|(kind, _)| can(kind)).collect();
            if requests.is_empty() { text("there is nobody to ask") } else { Said::ask(requests, None) }
        }
        _ => return None,
    })
}

pub(crate) fn resources() -> Vec<Value> {
    vec![
        json!({ "uri": "test://static-text", "name": "static-text", "mimeType": "text/plain" }),
        json!({ "uri": "test://static-binary", "name": "static-binary", "mimeType": "image/png" }),
        json!({ "uri": WATCHED, "name": "watched-resource", "mimeType": "text/plain" }),
    ]
}

pub(crate) fn templates() -> Vec<Value> {
    vec![
        json!({ "uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json" }),
    ]
}

/// The contents of a resource.
pub(crate) fn read(uri: &str, revision: u64) -> Option<Value> {
    let text = |media_type: &str, text: String| json!({ "uri": uri, "mimeType": media_type, "text": text });
    let content = match uri {
        "test://static-text" => {
            text("text/plain", "This is the content of the static text resource.".to_owned())
        }
        "test://static-binary" => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
        WATCHED => text("text/plain", format!("revision {revision}")),
        _ => {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            text("application/json", data.to_string())
        }
    };
    Some(json!({ "contents": [content] }))
}

pub(crate) fn prompts(has_dynamic: bool) -> Vec<Value> {
    let argument = |name: &str| json!({ "name": name, "description": name, "required": true });
    let mut prompts = vec![
        json!({ "name": "test_simple_prompt", "description": "Words" }),
        json!({
            "name": "test_prompt_with_arguments",
            "description": "Words with gaps",
            "arguments": [argument("arg1"), argument("arg2")],
        }),
        json!({
            "name": "test_prompt_with_embedded_resource",
            "description": "A resource within",
            "arguments": [argument("resourceUri")],
        }),
        json!({ "name": "test_prompt_with_image", "description": "A picture within" }),
        json!({ "name": "test_input_required_result_prompt", "description": "Asks for its context" }),
    ];
    if has_dynamic {
        prompts.push(json!({ "name": "test_dynamic_prompt", "description": "Comes and goes" }));
    }
    prompts
}

/// Says what a prompt says next.
pub(crate) fn get_prompt(call: &Call<'_>, name: &str, arguments: &Value) -> Said {
    let argument = |key: &str| arguments[key].as_str().unwrap_or_default();
    let line = |text: String| json!({ "type": "text", "text": text });
    let blocks = match name {
        "test_simple_prompt" => vec![line("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => {
            let (one, two) = (argument("arg1"), argument("arg2"));
            vec![line(format!("Prompt with arguments: arg1='{one}', arg2='{two}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let resource = json!({
                "uri": argument("resourceUri"),
                "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            });
            let block = json!({ "type": "resource", "resource": resource });
            vec![block, line("Please process the embedded resource above.".to_owned())]
        }
        "test_prompt_with_image" => {
            let picture = json!({ "type": "image", "data": PNG, "mimeType": "image/png" });
            vec![picture, line("Please analyze the image above.".to_owned())]
        }
        "test_input_required_result_prompt" => match call.answer("user_context") {
            Some(answer) => vec![line(format!("Use this context: {}", answer["content"]["context"]))],
            None => {
                let question = form(json!({ "context": { "type": "string" } }));
                let question = elicit("What context should the prompt use?", question);
                return Said::ask([("user_context", question)], None);
            }
        },
        "test_dynamic_prompt" if call.world.has_dynamic_prompt() => vec![line("here".to_owned())],
        _ => return Said::Error(-32602, format!("there is no prompt {name}"), Value::Null),
    };
    let message = |content: Value| json!({ "role": "user", "content": content });
    let messages: Vec<_> = blocks.into_iter().map(message).collect();
    Said::Result(json!({ "messages": messages }))
}

/// Words that begin like what was typed.
pub(crate) fn complete(typed: &str) -> Value {
    let words = ["berlin", "bern", "paris", "park", "parrot", "party"];
    let values: Vec<_> = words.into_iter().filter(|word| word.starts_with(typed)).collect();
    json!({ "completion": { "total": values.len(), "values": values, "hasMore": false } })
}
