//! A gateway over one server of our own making, without any network.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_engine::upstream::{Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{EndpointConfig, EndpointId, Engine, Naming, Target, UpstreamConfig};
use mpe_gateway::{DocumentInfo, EndpointView, Gateway, GatewayConfig, PathTemplate, ResponseMapping};
use mpe_mcp_protocol::jsonrpc::ErrorObject;
use mpe_mcp_protocol::version::ProtocolVersion;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

/// A server with a few tools: `get_user` (read-only), `add` (not), `big`, `never` (answers after a day).
#[derive(Default)]
pub(crate) struct Tools {
    /// Calls of tools so far.
    pub(crate) calls: AtomicUsize,
}

#[derive(Deserialize)]
struct Call<'a> {
    name: String,
    #[serde(borrow)]
    arguments: &'a RawValue,
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn tool(name: &str, read_only: bool, properties: &Value, required: &[&str]) -> Value {
    json!({
        "name": name,
        "inputSchema": {"type": "object", "properties": properties, "required": required},
        "annotations": {"readOnlyHint": read_only},
    })
}

impl Tools {
    fn list() -> Box<RawValue> {
        let text = json!({"type": "string"});
        let fields = json!({"type": "array", "items": text});
        let user = json!({"user_id": text, "fields": fields, "note": text, "city": text});
        raw(&json!({"resultType": "complete", "tools": [
            tool("get_user", true, &user, &["user_id"]),
            tool("add", false, &json!({"a": {"type": "number"}}), &["a"]),
            tool("big", true, &json!({}), &[]),
            tool("never", true, &json!({}), &[]),
        ]}))
    }

    async fn call(&self, params: &RawValue) -> Box<RawValue> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let call: Call<'_> = serde_json::from_str(params.get()).unwrap();
        let text = match call.name.as_str() {
            "big" => "x".repeat(7 << 20),
            "never" => {
                tokio::time::sleep(Duration::from_secs(86_400)).await;
                String::new()
            }
            name => format!(r#"{{"tool": "{name}", "got": {}}}"#, call.arguments.get()),
        };
        raw(&json!({"resultType": "complete", "content": [{"type": "text", "text": text}]}))
    }
}

impl Upstream for Tools {
    fn introduce(&self, _: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async {
            Ok(Introduction {
                version: ProtocolVersion::LATEST,
                capabilities: Arc::from(raw(&json!({"tools": {}}))),
                server_info: None,
                instructions: None,
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            let outcome = match (request.method.as_ref(), request.params.as_deref()) {
                ("tools/list", _) => Ok(Self::list()),
                ("tools/call", Some(params)) => Ok(self.call(params).await),
                (method, _) => Err(ErrorObject::new(-32601, format!("no {method} here"))),
            };
            Ok(UpstreamReply { outcome, protocol: None, address: None })
        })
    }
}

/// A gateway over `tools`, discovered, with `GET /get_user/{user_id}` and `POST /add` mapped.
pub(crate) async fn gateway(tools: Arc<Tools>) -> Gateway {
    let endpoint = EndpointId::default();
    let upstream = UpstreamConfig::new("tools", Target::Custom(tools));
    let mut tenant = EndpointConfig::new(endpoint.clone(), vec![upstream]);
    // Only what is listed: a lone server's unlisted names are forwarded otherwise.
    tenant.naming = Naming::Plain;
    let engine = Engine::builder().endpoint(tenant);
    let mapping = |path: &str| ResponseMapping {
        path: PathTemplate::parse(path).unwrap(),
        response: json!({"type": "object"}),
    };
    let view = EndpointView {
        info: DocumentInfo::new("Tools", "1"),
        mappings: vec![mapping("/get_user/{user_id}"), mapping("/add")],
    };
    let mut config = GatewayConfig::default();
    config.endpoints = HashMap::from([(endpoint, view)]);
    let gateway = Gateway::start(engine, config).unwrap();
    assert!(gateway.engine().settled(Instant::now() + Duration::from_secs(10)).await);
    gateway
}
