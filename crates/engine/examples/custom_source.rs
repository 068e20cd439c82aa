//! Servers of your own making, from a list of your own: anything that can list tools and answer calls stands beside the real
//! ones, and anything that knows such servers can name them while the engine runs.
//!
//! `cargo run -p mpe-engine --example custom_source`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_engine::source::{SourceConfig, SourceError, SourceKind, Sourced, UpstreamSource};
use mpe_engine::upstream::{Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{CallContext, EndpointConfig, EndpointId, Engine, Target, ToolCall, UpstreamConfig};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, code};
use mpe_mcp_protocol::object::{Object, raw_of, string_of};
use mpe_mcp_protocol::version::ProtocolVersion;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Greets in one language.
struct Greeter {
    word: &'static str,
}

impl Greeter {
    fn answer(&self, request: &UpstreamRequest) -> Result<Box<RawValue>, ErrorObject> {
        match request.method.as_ref() {
            "tools/list" => Ok(raw_of(&json!({ "tools": [{
                "name": "greet",
                "description": format!("Says {}.", self.word),
                "inputSchema": {
                    "type": "object",
                    "properties": { "name": { "type": "string" } },
                    "required": ["name"],
                },
                "annotations": { "readOnlyHint": true },
            }] }))),
            "tools/call" => {
                let name = request.params.as_deref().and_then(name_in).unwrap_or_else(|| "you".to_owned());
                let text = format!("{}, {name}!", self.word);
                Ok(raw_of(&json!({ "content": [{ "type": "text", "text": text }] })))
            }
            other => {
                let message = format!("there is no method {other} here");
                Err(ErrorObject { code: code::METHOD_NOT_FOUND, message, data: None })
            }
        }
    }
}

/// `arguments.name` of a call.
fn name_in(params: &RawValue) -> Option<String> {
    let params = Object::parse(params).ok()?;
    let arguments = Object::parse(params.get("arguments")?).ok()?;
    arguments.get("name").and_then(string_of).map(|name| name.into_owned())
}

impl Upstream for Greeter {
    fn introduce(&self, _: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async {
            Ok(Introduction {
                version: ProtocolVersion::LATEST,
                capabilities: Arc::from(raw_of(&json!({ "tools": {} }))),
                server_info: None,
                instructions: None,
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            Ok(UpstreamReply { outcome: self.answer(&request), protocol: None, address: None })
        })
    }
}

/// A list of greeters: a database, a service registry, a file of yours. It is told when somebody is added.
struct Greeters {
    known: Mutex<Vec<(String, Arc<dyn Upstream>)>>,
    changed: Notify,
}

impl Greeters {
    fn add(&self, language: &str, word: &'static str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push((language.to_owned(), Arc::new(Greeter { word })));
        self.changed.notify_one();
    }
}

impl UpstreamSource for Greeters {
    fn name(&self) -> &str {
        "greeters"
    }

    fn upstreams<'a>(&'a self, _: &'a EndpointId, _: Instant) -> BoxFuture<'a, Result<Sourced, SourceError>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // The same greeter each time: what has not changed is not touched.
        let upstreams = known.iter().map(|(language, greeter)| {
            UpstreamConfig::new(language.as_str(), Target::Custom(Arc::clone(greeter)))
        });
        let sourced = Sourced { upstreams: upstreams.collect(), left_out: Vec::new() };
        Box::pin(std::future::ready(Ok(sourced)))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let greeters = Arc::new(Greeters { known: Mutex::default(), changed: Notify::new() });
    greeters.add("english", "Hello");
    let mut endpoint = EndpointConfig::new(EndpointId::default(), Vec::new());
    let source = Arc::clone(&greeters) as Arc<dyn UpstreamSource>;
    endpoint.sources.push(SourceConfig::new(SourceKind::Custom(source)));
    let engine = Engine::builder().endpoint(endpoint).start()?;
    engine.settled(Instant::now() + Duration::from_secs(1)).await;
    let mut revision =
        engine.watch(&EndpointId::default()).ok_or("the default endpoint was configured above")?;
    revision.mark_unchanged();
    greeters.add("french", "Bonjour");
    // Taken up at once, while calls go on; whoever watches sees the catalogue change.
    while engine.snapshot(&EndpointId::default()).is_some_and(|seen| seen.catalogue.tools().len() < 2) {
        revision.changed().await?;
    }
    let snapshot =
        engine.snapshot(&EndpointId::default()).ok_or("the default endpoint was configured above")?;
    for collision in snapshot.catalogue.collisions() {
        println!("both have '{}'; shown as {:?}", collision.name, collision.resolved);
    }
    for entry in snapshot.catalogue.tools() {
        let call = ToolCall {
            endpoint: EndpointId::default(),
            tool: entry.tool.name().to_owned(),
            arguments: raw_of(&json!({ "name": "Ada" })),
            deadline: None,
            check_arguments: false,
            context: Arc::new(CallContext::default()),
        };
        println!("{}: {}", entry.tool.name(), engine.call(call).await?.result.get());
    }
    engine.close(Duration::from_secs(1)).await;
    Ok(())
}
