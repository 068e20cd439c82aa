use serde_json::value::RawValue;

use super::{DirectEvent, batch, graphql, message, route, tool};
use crate::InvocationErrorKind;

fn target(event: &DirectEvent) -> String {
    format!("{} {}", event.request.method(), event.request.uri())
}

fn body(event: &DirectEvent) -> &str {
    std::str::from_utf8(event.request.body()).unwrap()
}

#[test]
fn a_path_without_arguments_is_a_get_and_otherwise_a_post() {
    let event = route(r#"{"path": "/get_user/123?fields=name"}"#).unwrap();
    assert_eq!(target(&event), "GET /get_user/123?fields=name");
    let otherwise = event.otherwise.unwrap();
    assert_eq!(otherwise.method(), "POST");
    assert_eq!(otherwise.body(), "{}");
}

#[test]
fn a_path_with_arguments_is_a_post_and_otherwise_a_get_with_a_query() {
    let event =
        route(r#"{"path": "get_user", "params": {"user_id": "a b", "limit": 2, "all": true, "x": null}}"#)
            .unwrap();
    assert_eq!(target(&event), "POST /get_user");
    assert_eq!(body(&event), r#"{"user_id": "a b", "limit": 2, "all": true, "x": null}"#);
    let otherwise = event.otherwise.unwrap();
    assert_eq!(otherwise.uri(), "/get_user?user_id=a%20b&limit=2&all=true");
    assert!(otherwise.body().is_empty());
}

#[test]
fn a_method_that_was_named_is_the_only_one_tried() {
    let event = route(r#"{"path": "get_user", "method": "get", "arguments": {"user_id": "1"}}"#).unwrap();
    assert_eq!(target(&event), "GET /get_user?user_id=1");
    assert!(event.otherwise.is_none());
    let error = route(r#"{"path": "get_user", "method": "DELETE"}"#).unwrap_err();
    assert!(error.to_string().starts_with("/method: \"DELETE\""), "{error}");
}

#[test]
fn arguments_keep_their_bytes() {
    let arguments = r#"{"big": 12345678901234567890123, "b":1,  "a":1.0}"#;
    let event = tool(&format!(r#"{{"tool": "sum", "arguments": {arguments}}}"#)).unwrap();
    assert_eq!(body(&event), arguments);
    let event =
        batch(&format!(r#"[{{"function_name": "sum", "arguments": {arguments}}}, {{"tool": "now"}}]"#))
            .unwrap();
    assert_eq!(
        body(&event),
        format!(r#"[{{"tool":"sum","arguments":{arguments}}},{{"tool":"now","arguments":{{}}}}]"#)
    );
}

#[test]
fn an_endpoint_is_one_path_segment_whatever_it_is_called() {
    let event = tool(r#"{"tool": "t", "endpoint_id": "a/../b"}"#).unwrap();
    assert_eq!(target(&event), "POST /endpoints/a%2F..%2Fb/tools/t");
    let event = graphql(r#"{"query": "{ a }", "endpoint_id": "default"}"#).unwrap();
    assert_eq!(target(&event), "POST /endpoints/default/graphql");
}

#[test]
fn a_message_is_passed_on_as_it_is_and_its_headers_say_what_it_says() {
    let text = r#"{"jsonrpc":"2.0","id":"x","method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let event = message(&RawValue::from_string(text.to_owned()).unwrap()).unwrap();
    assert_eq!(body(&event), text);
    assert_eq!(event.request.headers()["mcp-method"], "tools/list");
    assert_eq!(event.request.headers()["mcp-protocol-version"], "2026-07-28");
}

#[test]
fn payloads_that_cannot_be_used_are_named_by_pointer() {
    let invalid = |result: Result<DirectEvent, crate::InvocationError>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), InvocationErrorKind::InvalidEvent);
        error.to_string()
    };
    assert!(invalid(route(r#"{"path": "/"}"#)).starts_with("/path: empty"));
    assert!(
        invalid(route(r#"{"path": "a", "arguments": [1]}"#)).starts_with("/arguments: expected an object")
    );
    assert!(invalid(tool(r#"{"tool": ""}"#)).starts_with("/tool: empty"));
    assert!(invalid(tool(r#"{"tool": "a", "arguments": {}, "params": {}}"#)).contains("duplicate field"));
    assert!(invalid(tool(r#"{"tool": "a", "endpoint_id": ""}"#)).starts_with("/endpoint_id: empty"));
    assert!(
        invalid(batch(r#"[{"tool": "a", "arguments": {}}, {"tool": "b", "arguments": 3}]"#))
            .starts_with("/1/arguments")
    );
    assert!(
        invalid(batch(r#"[{"tool": "a"}, {"tool": "b", "endpoint_id": "x"}]"#)).starts_with("/1/endpoint_id")
    );
    assert!(invalid(batch("[17]")).contains("list of tool payloads"));
}
