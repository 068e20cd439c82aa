use mpe_gateway::Carrier;
use serde_json::value::RawValue;

use super::{Event, HttpShape};
use crate::InvocationErrorKind;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn shape(text: &str) -> HttpShape {
    match Event::parse(&raw(text.trim())).unwrap() {
        Event::Http { request, shape } => {
            assert_eq!(request.extensions().get::<Carrier>(), Some(&Carrier::Http));
            shape
        }
        Event::Direct(direct) => panic!("taken for a direct payload: {direct:?}"),
    }
}

#[test]
fn every_recorded_event_is_recognised() {
    assert_eq!(shape(include_str!("../../tests/data/function-url.json")), HttpShape::PayloadV2);
    assert_eq!(shape(include_str!("../../tests/data/http-api-v2.json")), HttpShape::PayloadV2);
    assert_eq!(shape(include_str!("../../tests/data/rest-api.json")), HttpShape::PayloadV1);
    assert_eq!(shape(include_str!("../../tests/data/http-api-v1.json")), HttpShape::PayloadV1);
    let single = shape(include_str!("../../tests/data/load-balancer.json"));
    assert_eq!(single, HttpShape::LoadBalancer { multi_value: false });
    let multi = shape(include_str!("../../tests/data/load-balancer-multi-value.json"));
    assert_eq!(multi, HttpShape::LoadBalancer { multi_value: true });
}

#[test]
fn direct_payloads_lead_to_their_faces() {
    let target = |text: &str| match Event::parse(&raw(text)).unwrap() {
        Event::Direct(direct) => {
            assert_eq!(direct.request.extensions().get::<Carrier>(), Some(&Carrier::Message));
            format!("{} {}", direct.request.method(), direct.request.uri())
        }
        Event::Http { .. } => panic!("taken for an HTTP event: {text}"),
    };
    assert_eq!(
        target(r#"{"path": "get_user/123", "endpoint_id": "acme"}"#),
        "GET /endpoints/acme/get_user/123"
    );
    assert_eq!(target(r#"{"function_name": "get user", "arguments": {}}"#), "POST /tools/get%20user");
    assert_eq!(target(r#"[{"tool": "a"}, {"tool": "b"}]"#), "POST /batch");
    assert_eq!(target(r#"{"query": "{ get_user }"}"#), "POST /graphql");
    assert_eq!(target(r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#), "POST /mcp");
    assert_eq!(target(r#"{"httpMethod": "POST", "path": "get_user"}"#), "POST /get_user");
}

#[test]
fn an_unknown_event_is_told_what_was_expected_and_what_came() {
    let error = |text: &str| {
        let error = Event::parse(&raw(text)).unwrap_err();
        assert_eq!(error.kind(), InvocationErrorKind::UnknownEvent);
        assert!(error.to_string().contains("Function URL"), "{error}");
        error.to_string()
    };
    assert!(error(r#"{"Records": [], "other": 1}"#).ends_with("an object with the members Records, other"));
    assert!(error("{}").ends_with("an object without members"));
    assert!(error("\"hi\"").ends_with("a string"));
    assert!(error("null").ends_with("null"));
    assert!(error("17").ends_with("a number"));
}

#[test]
fn an_event_of_a_known_shape_names_the_member_it_lacks() {
    let error = Event::parse(&raw(r#"{"version": "2.0", "requestContext": {"http": {"method": "GET"}}}"#))
        .unwrap_err();
    assert_eq!(error.kind(), InvocationErrorKind::InvalidEvent);
    assert!(error.to_string().contains("missing field `rawPath`"), "{error}");
}
