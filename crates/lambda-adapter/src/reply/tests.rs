use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{MAX_PAYLOAD_BYTES, http, json as json_reply, message};
use crate::InvocationErrorKind;
use crate::event::HttpShape;

fn response(content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn cookies(mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
    for value in ["a=1; Path=/", "b=2; Path=/"] {
        response.headers_mut().append(SET_COOKIE, HeaderValue::from_static(value));
    }
    for value in ["one", "two"] {
        response.headers_mut().append("x-list", HeaderValue::from_static(value));
    }
    response
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap()
}

#[test]
fn payload_2_0_joins_headers_and_lists_cookies() {
    let reply = value(&http(HttpShape::PayloadV2, &cookies(response("application/json", "{}"))));
    assert_eq!(
        reply,
        json!({
            "statusCode": 200,
            "headers": {"content-type": "application/json", "x-list": "one, two"},
            "cookies": ["a=1; Path=/", "b=2; Path=/"],
            "body": "{}",
            "isBase64Encoded": false,
        })
    );
}

#[test]
fn payload_1_0_lists_every_header() {
    let reply = value(&http(HttpShape::PayloadV1, &cookies(response("application/json", "{}"))));
    assert_eq!(reply["multiValueHeaders"]["set-cookie"], json!(["a=1; Path=/", "b=2; Path=/"]));
    assert_eq!(reply["multiValueHeaders"]["x-list"], json!(["one", "two"]));
    assert_eq!(reply["multiValueHeaders"].get("content-length"), None);
    assert_eq!(reply.get("headers"), None);
}

#[test]
fn a_load_balancer_gets_the_header_shape_its_target_group_is_set_to() {
    let shape = |multi_value| HttpShape::LoadBalancer { multi_value };
    let mut answer = cookies(response("text/plain", "no"));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    let single = value(&http(shape(false), &answer));
    assert_eq!(single["statusDescription"], "404 Not Found");
    assert_eq!(single["headers"]["set-cookie"], "a=1; Path=/");
    assert_eq!(single.get("multiValueHeaders"), None);
    let multi = value(&http(shape(true), &answer));
    assert_eq!(multi["multiValueHeaders"]["set-cookie"], json!(["a=1; Path=/", "b=2; Path=/"]));
    assert_eq!(multi.get("headers"), None);
}

#[test]
fn text_stays_text_and_everything_else_is_base64() {
    let encoded =
        |response: &Response<Bytes>| value(&http(HttpShape::PayloadV2, response))["isBase64Encoded"].clone();
    assert_eq!(encoded(&response("application/problem+json", "{}")), false);
    assert_eq!(encoded(&response("application/yaml; charset=utf-8", "a: 1")), false);
    assert_eq!(encoded(&response("text/event-stream", "data: 1\n\n")), false);
    assert_eq!(encoded(&response("image/png", "PNG")), true);
    assert_eq!(encoded(&response("application/json", vec![0xff, 0xfe])), true, "not UTF-8 after all");
    let mut zipped = response("application/json", "{}");
    zipped.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    assert_eq!(encoded(&zipped), true);
    assert_eq!(value(&http(HttpShape::PayloadV2, &response("image/png", "PNG")))["body"], "UE5H");
}

#[test]
fn a_reply_over_the_limit_says_so_instead_of_vanishing() {
    // Fits as a body, and no longer once every byte is escaped.
    let answer = response("text/plain", "\"".repeat(MAX_PAYLOAD_BYTES / 2));
    let reply = value(&http(HttpShape::PayloadV2, &answer));
    assert_eq!(reply["statusCode"], 502);
    let problem: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
    assert_eq!(problem["type"], "urn:mcp-proxy-engine:problem:lambda-reply-too-large");
    assert!(problem["detail"].as_str().unwrap().contains("at most 6291456"));
}

#[test]
fn a_direct_reply_is_the_body_byte_for_byte() {
    let body = r#"{"n": 12345678901234567890123,  "z":1.0}"#;
    assert_eq!(json_reply(&response("application/json", body)).unwrap().get(), body);
    assert_eq!(json_reply(&response("application/yaml", "a: 1")).unwrap().get(), r#""a: 1""#);
    assert_eq!(json_reply(&response("text/plain", "")).unwrap().get(), "null");
}

#[test]
fn a_problem_becomes_a_function_error_with_its_type() {
    let problem = json!({
        "type": "urn:mcp-proxy-engine:problem:invalid-arguments",
        "title": "The arguments do not fit the tool",
        "status": 400,
        "detail": "user_id is missing",
        "violations": [{"pointer": "/user_id", "message": "required"}],
    });
    let mut answer = response("application/problem+json", problem.to_string());
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    let error = json_reply(&answer).unwrap_err();
    assert_eq!(error.kind(), InvocationErrorKind::Answered);
    assert_eq!(error.error_type(), "urn:mcp-proxy-engine:problem:invalid-arguments");
    let expected = r#"The arguments do not fit the tool: user_id is missing: [{"pointer":"/user_id","message":"required"}]"#;
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_error_without_a_problem_still_says_its_status() {
    let mut answer = response("text/plain", "nope");
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    let error = json_reply(&answer).unwrap_err();
    assert_eq!(error.error_type(), "McpProxyEngine.Status502");
    assert_eq!(error.to_string(), "502 Bad Gateway: nope");
}

#[test]
fn a_message_reply_comes_out_of_an_event_stream_too() {
    let stream = ": keep-alive\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n\
        data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n: end\n\n";
    let reply = message(&response("text/event-stream", stream)).unwrap();
    assert_eq!(reply.get(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let error = message(&response("text/event-stream", ": nothing\n\n")).unwrap_err();
    assert_eq!(error.kind(), InvocationErrorKind::Reply);
}

#[test]
fn a_json_rpc_error_is_a_reply_whatever_its_status_and_a_notification_has_none() {
    let body = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
    let mut answer = response("application/json", body);
    *answer.status_mut() = StatusCode::NOT_FOUND;
    assert_eq!(message(&answer).unwrap().get(), body);
    let mut accepted = Response::new(Bytes::new());
    *accepted.status_mut() = StatusCode::ACCEPTED;
    assert_eq!(message(&accepted).unwrap().get(), "null");
}
