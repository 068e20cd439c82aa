//! The same tool through every kind of event gives what the REST face gives.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use mpe_gateway::Gateway;
use mpe_lambda_adapter::{Answer, Handler, InvocationError, InvocationErrorKind, Options};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::{Tools, gateway};
use tokio::time::Instant;

async fn handler() -> (Handler, Arc<Tools>) {
    let tools = Arc::new(Tools::default());
    (Handler::new(gateway(Arc::clone(&tools)).await, Options::default()), tools)
}

async fn invoke(handler: &Handler, event: &str) -> Result<Value, InvocationError> {
    invoke_until(handler, event, None).await
}

async fn invoke_until(
    handler: &Handler,
    event: &str,
    deadline: Option<Instant>,
) -> Result<Value, InvocationError> {
    let payload: Box<RawValue> = serde_json::from_str(event).unwrap();
    match handler.handle(&payload, deadline).await? {
        Answer::Buffered(reply) => Ok(serde_json::from_str(reply.get()).unwrap()),
        Answer::Streaming { .. } => panic!("streaming was not asked for"),
    }
}

/// The REST face's own answer.
async fn rest(gateway: &Gateway, tool: &str, arguments: &str) -> Value {
    let body = Full::new(Bytes::from(arguments.to_owned())).map_err(|never| match never {}).boxed_unsync();
    let request = http::Request::post(format!("/tools/{tool}"))
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let response = gateway.handle(request).await;
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn every_event_gets_the_answer_of_the_rest_face() {
    let (handler, _) = handler().await;
    let expected = rest(handler.gateway(), "get_user", r#"{"user_id": "123"}"#).await;
    assert_eq!(expected, json!({"tool": "get_user", "got": {"user_id": "123"}}));
    for event in [
        include_str!("data/http-api-v2.json"),
        include_str!("data/load-balancer-multi-value.json"),
        r#"{"tool": "get_user", "arguments": {"user_id": "123"}}"#,
        r#"{"function_name": "get_user", "arguments": {"user_id": "123"}, "endpoint_id": "default"}"#,
        r#"{"path": "tools/get_user", "params": {"user_id": "123"}}"#,
    ] {
        let reply = invoke(&handler, event).await.unwrap();
        let answer = match reply.get("statusCode") {
            None => reply,
            Some(status) => {
                assert_eq!(status, 200);
                serde_json::from_str(reply["body"].as_str().unwrap()).unwrap()
            }
        };
        assert_eq!(answer, expected, "{event}");
    }
}

#[tokio::test]
async fn a_mapped_path_is_reached_by_every_event_that_has_one() {
    let (handler, _) = handler().await;
    for (event, user) in [
        (include_str!("data/function-url.json"), "Jürgen"),
        (include_str!("data/rest-api.json"), "a b"),
        (include_str!("data/load-balancer.json"), "123"),
        (r#"{"endpoint_id": "default", "path": "get_user/123"}"#, "123"),
    ] {
        let reply = invoke(&handler, event).await.unwrap();
        let text =
            reply.get("body").map_or_else(|| reply.to_string(), |body| body.as_str().unwrap().to_owned());
        assert!(text.contains("get_user") && text.contains(user), "{event}: {text}");
    }
}

#[tokio::test]
async fn a_path_of_the_other_method_runs_exactly_once() {
    let (handler, tools) = handler().await;
    // `POST /add` is mapped; without arguments a GET is tried first, with them a POST on the GET route.
    let error = invoke(&handler, r#"{"path": "add"}"#).await.unwrap_err();
    assert_eq!(error.error_type(), "urn:mcp-proxy-engine:problem:invalid-arguments");
    assert_eq!(tools.calls.load(Ordering::Relaxed), 0);
    let reply = invoke(&handler, r#"{"path": "get_user/7", "arguments": {}}"#).await.unwrap();
    assert_eq!(reply, json!({"tool": "get_user", "got": {"user_id": "7"}}));
    assert_eq!(tools.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_has_errors_as_values() {
    let (handler, _) = handler().await;
    let event = r#"[
        {"function_name": "get_user", "arguments": {"user_id": "1"}},
        {"function_name": "nobody", "arguments": {}},
        {"function_name": "add", "arguments": {"a": 12345678901234567890123}}
    ]"#;
    let reply = invoke(&handler, event).await.unwrap();
    assert_eq!(reply[0]["result"]["got"]["user_id"], "1");
    assert_eq!(reply[1]["problem"]["type"], "urn:mcp-proxy-engine:problem:unknown-tool");
    assert_eq!(reply[2]["result"]["tool"], "add");
}

#[tokio::test]
async fn numbers_no_machine_type_holds_come_back_digit_for_digit() {
    let (handler, _) = handler().await;
    for event in [
        r#"{"tool": "add", "arguments": {"a": 12345678901234567890123}}"#,
        r#"[{"tool": "add", "arguments": {"a": 12345678901234567890123}}]"#,
        r#"{"path": "add", "arguments": {"a": 12345678901234567890123}}"#,
    ] {
        let payload: Box<RawValue> = serde_json::from_str(event).unwrap();
        let Answer::Buffered(reply) = handler.handle(&payload, None).await.unwrap() else {
            panic!("streaming was not asked for")
        };
        assert!(reply.get().contains(r#"{"a": 12345678901234567890123}"#), "{event}: {reply}");
    }
}

#[tokio::test]
async fn a_modern_message_is_answered_as_mcp_without_any_header() {
    let (handler, _) = handler().await;
    let event = json!({
        "jsonrpc": "2.0", "id": "a", "method": "tools/call",
        "params": {
            "name": "get_user", "arguments": {"user_id": "5"},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    });
    let reply = invoke(&handler, &event.to_string()).await.unwrap();
    assert_eq!(reply["id"], "a");
    assert_eq!(reply["result"]["content"][0]["text"], r#"{"tool": "get_user", "got": {"user_id":"5"}}"#);
}

#[tokio::test]
async fn a_legacy_message_is_answered_without_a_session() {
    let (handler, _) = handler().await;
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
    });
    let reply = invoke(&handler, &initialize.to_string()).await.unwrap();
    assert_eq!(reply["result"]["protocolVersion"], "2025-11-25");
    let reply = invoke(&handler, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await.unwrap();
    assert_eq!(reply, Value::Null);
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"get_user","arguments":{"user_id":"5"}}}"#;
    let reply = invoke(&handler, call).await.unwrap();
    assert_eq!(reply["result"]["content"][0]["text"], r#"{"tool": "get_user", "got": {"user_id":"5"}}"#);
}

#[tokio::test]
async fn graphql_and_documents_are_reached_too() {
    let (handler, _) = handler().await;
    let reply = invoke(&handler, r#"{"query": "{ get_user(user_id: \"9\") }"}"#).await.unwrap();
    assert_eq!(reply["data"]["get_user"]["got"]["user_id"], "9", "{reply}");
    let document = invoke(&handler, r#"{"path": "openapi.json"}"#).await.unwrap();
    assert!(document["paths"].get("/get_user/{user_id}").is_some(), "{document}");
    let yaml = invoke(&handler, r#"{"path": "openapi.yaml"}"#).await.unwrap();
    assert!(yaml.as_str().unwrap().contains("/get_user/{user_id}"));
}

#[tokio::test]
async fn errors_keep_their_shape() {
    let (handler, _) = handler().await;
    let error = invoke(&handler, r#"{"tool": "nobody"}"#).await.unwrap_err();
    assert_eq!(error.error_type(), "urn:mcp-proxy-engine:problem:unknown-tool");
    let missing = include_str!("data/function-url.json").replace("/get_user/J%C3%BCrgen", "/nowhere");
    let reply = invoke(&handler, &missing).await.unwrap();
    assert_eq!(reply["statusCode"], 404);
    assert_eq!(reply["headers"]["content-type"], "application/problem+json");
}

#[tokio::test]
async fn an_answer_lambda_cannot_carry_is_a_clear_error_in_either_shape() {
    let (handler, _) = handler().await;
    let error = invoke(&handler, r#"{"tool": "big"}"#).await.unwrap_err();
    assert_eq!(error.kind(), InvocationErrorKind::Reply);
    assert!(error.to_string().contains("6291456"), "{error}");
    let event = include_str!("data/load-balancer-multi-value.json").replace("get_user\"", "big\"");
    let reply = invoke(&handler, &event).await.unwrap();
    assert_eq!(reply["statusCode"], 502);
}

#[tokio::test(start_paused = true)]
async fn the_invocations_deadline_is_the_calls() {
    let (handler, _) = handler().await;
    let deadline = Instant::now() + Duration::from_secs(3);
    let error = invoke_until(&handler, r#"{"tool": "never"}"#, Some(deadline)).await.unwrap_err();
    assert_eq!(error.error_type(), "urn:mcp-proxy-engine:problem:deadline-exceeded");
    assert!(Instant::now() < deadline + Duration::from_millis(100));
}

#[tokio::test]
async fn a_function_url_that_streams_gets_head_and_chunks() {
    let tools = Arc::new(Tools::default());
    let handler = Handler::new(gateway(tools).await, Options::default().streaming(true));
    let payload: Box<RawValue> = serde_json::from_str(include_str!("data/function-url.json")).unwrap();
    let Answer::Streaming { status, headers, body, .. } = handler.handle(&payload, None).await.unwrap()
    else {
        panic!("a buffered reply");
    };
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/json");
    let chunks: Vec<Bytes> = futures_util::TryStreamExt::try_collect(body).await.unwrap();
    assert!(String::from_utf8(chunks.concat()).unwrap().contains("Jürgen"));
}
