//! A well-behaved client over the upstream client, for the client leg of the official conformance suite.
//!
//! The suite plays the server and starts this program once per scenario: the server's URL is the last argument, the
//! scenario's name, the revision and some context stand in the environment. `--auto` finds the revision out instead.

mod authorization;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mpe_engine::upstream::{Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest, connect};
use mpe_engine::{CallContext, CallEvents, Era, Target, UpstreamConfig};
use mpe_mcp_protocol::header::MirroredParams;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification, code};
use mpe_mcp_protocol::object::{Object, raw_of};
use mpe_mcp_protocol::pager::{List, Pager, PagerLimits};
use mpe_mcp_protocol::result::{InputRequired, ResultType, type_of};
use mpe_mcp_protocol::tool::Tool;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Pool, PoolConfig, TlsConfig, Wire};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// What is asked of one scenario.
struct Driver {
    upstream: Arc<dyn Upstream>,
    scenario: String,
    context: Value,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = arguments.last().ok_or("the URL of the server is missing")?;
    let revision = std::env::var("MCP_CONFORMANCE_PROTOCOL_VERSION").unwrap_or_default();
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_else(|_| "{}".to_owned());
    let target = Target::Http { url: url.parse()?, headers: Vec::new(), wire: Wire::Auto };
    let mut config = UpstreamConfig::new("server", target);
    if !arguments.iter().any(|argument| argument == "--auto") {
        config.era = Era::Pinned(ProtocolVersion::parse(&revision).ok_or("no revision that we speak")?);
    }
    let context: Value = serde_json::from_str(&context)?;
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let pool = Pool::new(PoolConfig::default(), TlsConfig::default())?;
    config.authorization = authorization::of(&scenario, &context, &pool)?;
    let driver = Driver { upstream: connect(&config, &pool)?, scenario, context };
    let outcome = driver.exercise().await;
    driver.upstream.close(soon()).await;
    pool.close(Duration::from_secs(1)).await;
    outcome
}

impl Driver {
    async fn exercise(&self) -> Result<(), Failure> {
        let introduction = self.upstream.introduce(soon()).await?;
        note(&format!("{} speaks {}", self.scenario, introduction.version));
        let tools = self.tools().await?;
        match self.scenario.as_str() {
            "initialize" | "json-schema-ref-no-deref" => Ok(()),
            "json-schema-2020-12-preservation" => self.preserve(&tools).await,
            _ if self.context.get("toolCalls").is_some() => self.named_calls(&tools).await,
            _ => self.everything(&tools, &introduction).await,
        }
    }

    /// Every tool whose annotations keep the rules; the others are named and left alone.
    async fn tools(&self) -> Result<Vec<(Tool, MirroredParams)>, Failure> {
        let mut tools = Vec::new();
        for raw in self.list(List::Tools).await? {
            let tool = Tool::parse(&raw)?;
            match MirroredParams::of(tool.input_schema()) {
                Ok(mirrored) => tools.push((tool, mirrored)),
                Err(error) => note(&format!("tool {} is left out: {error}", tool.name())),
            }
        }
        Ok(tools)
    }

    async fn list(&self, list: List) -> Result<Vec<Box<RawValue>>, Failure> {
        let mut pager = Pager::new(list, PagerLimits::default());
        while let Some(params) = pager.next_params() {
            let reply = self.ask(list.method(), params, Vec::new()).await?;
            match reply.outcome {
                Ok(result) => pager.accept(&result)?,
                Err(error) => return Err(format!("{}: {}", list.method(), error.message).into()),
            }
        }
        Ok(pager.into_items())
    }

    async fn preserve(&self, tools: &[(Tool, MirroredParams)]) -> Result<(), Failure> {
        let focal = tools.iter().find(|(tool, _)| tool.name() == "json_schema_2020_12_tool");
        let (focal, _) = focal.ok_or("no json_schema_2020_12_tool")?;
        // The bytes of the schema, not our reading of them.
        let schema = Object::parse(focal.raw())?.get("inputSchema").ok_or("no schema")?.get().to_owned();
        let params = format!(r#"{{"name":"json_schema_echo","arguments":{{"schema":{schema}}}}}"#);
        self.ask("tools/call", Some(RawValue::from_string(params)?), Vec::new()).await?;
        Ok(())
    }

    /// The calls that the scenario names.
    async fn named_calls(&self, tools: &[(Tool, MirroredParams)]) -> Result<(), Failure> {
        for call in self.context["toolCalls"].as_array().into_iter().flatten() {
            let name = call["name"].as_str().unwrap_or_default();
            match tools.iter().find(|(tool, _)| tool.name() == name) {
                Some((_, mirrored)) => self.call(name, mirrored, &call["arguments"]).await,
                None => note(&format!("tool {name} is not there to be called")),
            }
        }
        Ok(())
    }

    /// Every tool, resource and prompt once.
    async fn everything(
        &self,
        tools: &[(Tool, MirroredParams)],
        introduction: &Introduction,
    ) -> Result<(), Failure> {
        let calls = tools.iter().map(|(tool, mirrored)| async move {
            self.call(tool.name(), mirrored, &sample(tool.input_schema())).await;
        });
        join_all(calls).await;
        let offers = Object::parse(&introduction.capabilities)?;
        if offers.get("resources").is_some() {
            for resource in self.list(List::Resources).await? {
                let uri =
                    Object::parse(&resource)?.string("uri")?.ok_or("a resource without uri")?.into_owned();
                self.attempt("resources/read", &json!({ "uri": uri })).await;
            }
        }
        if offers.get("prompts").is_some() {
            for prompt in self.list(List::Prompts).await? {
                let name =
                    Object::parse(&prompt)?.string("name")?.ok_or("a prompt without name")?.into_owned();
                self.attempt("prompts/get", &json!({ "name": name })).await;
            }
        }
        Ok(())
    }

    async fn attempt(&self, method: &'static str, params: &Value) {
        match self.ask(method, Some(raw_of(params)), Vec::new()).await {
            Ok(UpstreamReply { outcome: Err(error), .. }) => note(&format!("{method}: {}", error.message)),
            Ok(_) => {}
            Err(error) => note(&format!("{method}: {error}")),
        }
    }

    /// One call, with as many rounds of input as the server wants.
    async fn call(&self, name: &str, mirrored: &MirroredParams, arguments: &Value) {
        let params = raw_of(&json!({ "name": name, "arguments": arguments }));
        let mut context = able();
        for _round in 0..10 {
            let headers = mirrored.mirror(&raw_of(arguments)).unwrap_or_default();
            let asked = self.send("tools/call", Some(params.clone()), headers, context).await;
            let result = match asked {
                Ok(UpstreamReply { outcome: Ok(result), .. }) => result,
                Ok(UpstreamReply { outcome: Err(error), .. }) => {
                    return note(&format!("{name}: {}", error.message));
                }
                Err(error) => return note(&format!("{name}: {error}")),
            };
            if !matches!(type_of(&result), Ok(ResultType::InputRequired)) {
                return;
            }
            let Ok(input) = InputRequired::parse(&result) else { return note(&format!("{name}: bad round")) };
            let mut responses = Map::new();
            for request in &input.requests {
                responses.insert(request.key.clone(), answer(&request.method, request.params));
            }
            context = CallContext {
                input_responses: (!responses.is_empty()).then(|| raw_of(&responses)),
                request_state: input.request_state,
                ..able()
            };
        }
    }

    async fn ask(
        &self,
        method: &'static str,
        params: Option<Box<RawValue>>,
        mirrored: Vec<(String, String)>,
    ) -> Result<UpstreamReply, UpstreamError> {
        self.send(method, params, mirrored, able()).await
    }

    async fn send(
        &self,
        method: &'static str,
        params: Option<Box<RawValue>>,
        mirrored: Vec<(String, String)>,
        context: CallContext,
    ) -> Result<UpstreamReply, UpstreamError> {
        let request = UpstreamRequest {
            method: method.into(),
            params,
            name: None,
            mirrored,
            context: Arc::new(context),
            deadline: soon(),
        };
        self.upstream.request(request).await
    }
}

/// Fills forms with their defaults, samples and lists without thinking.
struct Person;

impl CallEvents for Person {
    fn notify(&self, _: Notification) {}

    fn ask<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<Box<RawValue>, ErrorObject>> {
        Box::pin(async move {
            match answer(method, params.as_deref()) {
                Value::Null => Err(ErrorObject::new(code::METHOD_NOT_FOUND, "no such method")),
                answer => Ok(raw_of(&answer)),
            }
        })
    }
}

fn able() -> CallContext {
    CallContext {
        capabilities: Some(raw_of(&json!({
            "elicitation": { "form": { "applyDefaults": true } }, "sampling": {}, "roots": {},
        }))),
        client_info: Some(raw_of(&json!({ "name": "conformance-client", "version": "1.0.0" }))),
        events: Some(Arc::new(Person)),
        ..CallContext::default()
    }
}

fn answer(method: &str, params: Option<&RawValue>) -> Value {
    match method {
        "elicitation/create" => {
            let params: Value =
                params.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
            json!({ "action": "accept", "content": filled(&params["requestedSchema"]) })
        }
        "roots/list" => json!({ "roots": [{ "uri": "file:///tmp", "name": "tmp" }] }),
        "sampling/createMessage" => {
            json!({ "role": "assistant", "model": "none", "content": { "type": "text", "text": "ok" } })
        }
        _ => Value::Null,
    }
}

/// A form's defaults, and something for a required field that has none.
fn filled(schema: &Value) -> Value {
    let mut content = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_required =
            schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
        match &field["default"] {
            Value::Null if is_required => drop(content.insert(name.clone(), sample_of(field, 1))),
            Value::Null => {}
            default => drop(content.insert(name.clone(), default.clone())),
        }
    }
    Value::Object(content)
}

/// Arguments that satisfy a schema well enough.
fn sample(schema: &Value) -> Value {
    let mut arguments = Map::new();
    for (at, name) in schema["required"].as_array().into_iter().flatten().enumerate() {
        let name = name.as_str().unwrap_or_default();
        arguments.insert(name.to_owned(), sample_of(&schema["properties"][name], at + 2));
    }
    Value::Object(arguments)
}

fn sample_of(field: &Value, number: usize) -> Value {
    if let Some(choices) = field["enum"].as_array() {
        return choices.first().cloned().unwrap_or_default();
    }
    match field["type"].as_str() {
        Some("number" | "integer") => json!(number),
        Some("boolean") => json!(true),
        Some("object") => json!({}),
        Some("array") => json!([]),
        _ => json!("text"),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[expect(clippy::print_stderr, reason = "the suite shows what its client writes to standard error")]
fn note(text: &str) {
    eprintln!("[client] {text}");
}
