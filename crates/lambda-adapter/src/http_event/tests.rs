use bytes::Bytes;
use http::{Method, Request};
use serde_json::json;

use super::{load_balancer, payload_v1, payload_v2, uri};
use crate::InvocationErrorKind;

fn values<'a>(request: &'a Request<Bytes>, name: &str) -> Vec<&'a str> {
    request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn a_function_url_event_becomes_the_request_it_describes() {
    let request = payload_v2(include_str!("../../tests/data/function-url.json")).unwrap();
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.uri(), "/get_user/J%C3%BCrgen?fields=name&fields=mail&note=a%20b");
    assert_eq!(values(&request, "cookie"), ["theme=dark; lang=de"]);
    assert_eq!(values(&request, "host"), ["abcdefgh.lambda-url.eu-central-1.on.aws"]);
    assert!(values(&request, "content-length").is_empty(), "the body has its own length now");
    assert!(request.body().is_empty());
}

#[test]
fn the_stage_of_an_http_api_is_no_part_of_the_path_and_its_body_is_decoded() {
    let request = payload_v2(include_str!("../../tests/data/http-api-v2.json")).unwrap();
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "/tools/get_user");
    assert_eq!(request.body(), r#"{"user_id": "123"}"#);
}

#[test]
fn a_stage_is_taken_off_only_as_a_whole_segment() {
    let event = |path: &str| {
        let event = json!({
            "version": "2.0", "rawPath": path, "requestContext": {"stage": "prod", "http": {"method": "GET"}},
        });
        payload_v2(&event.to_string()).unwrap().uri().to_string()
    };
    assert_eq!(event("/prod"), "/");
    assert_eq!(event("/prod/"), "/");
    assert_eq!(event("/products/1"), "/products/1");
}

#[test]
fn a_rest_api_event_gets_its_decoded_path_and_query_encoded_again() {
    let request = payload_v1(include_str!("../../tests/data/rest-api.json")).unwrap();
    assert_eq!(request.uri(), "/get_user/a%20b?fields=name&fields=mail&note=a%26b%3Dc");
    assert_eq!(values(&request, "accept"), ["application/json", "text/plain"]);
    assert_eq!(values(&request, "host").len(), 1, "the single-value copy of the headers is not added again");
}

#[test]
fn an_http_api_with_payload_1_0_has_its_stage_in_the_path() {
    let request = payload_v1(include_str!("../../tests/data/http-api-v1.json")).unwrap();
    assert_eq!(request.uri(), "/livez");
}

#[test]
fn a_load_balancer_event_keeps_its_query_as_it_was_sent() {
    let (request, multi_value) = load_balancer(include_str!("../../tests/data/load-balancer.json")).unwrap();
    assert!(!multi_value);
    assert_eq!(request.uri(), "/get_user/123?city=K%C3%B6ln&note=a%20b");
}

#[test]
fn a_multi_value_load_balancer_event_keeps_repeated_headers_apart() {
    let event = include_str!("../../tests/data/load-balancer-multi-value.json");
    let (request, multi_value) = load_balancer(event).unwrap();
    assert!(multi_value);
    assert_eq!(values(&request, "cookie"), ["theme=dark", "lang=de"]);
    assert_eq!(request.body(), r#"{"user_id": "123"}"#);
}

#[test]
fn whatever_a_uri_cannot_hold_is_encoded_and_never_becomes_a_query() {
    assert_eq!(uri("/a b/ü?x#y%2Fz%", "q=\"<\"").unwrap(), "/a%20b/%C3%BC%3Fx%23y%2Fz%25?q=%22%3C%22");
    assert_eq!(uri("no/slash", "").unwrap(), "/no/slash");
}

#[test]
fn values_that_make_no_request_are_named() {
    let v2 = |change: fn(&mut serde_json::Value)| {
        let mut event = json!({
            "version": "2.0", "rawPath": "/", "requestContext": {"http": {"method": "GET"}},
        });
        change(&mut event);
        let error = payload_v2(&event.to_string()).unwrap_err();
        assert_eq!(error.kind(), InvocationErrorKind::InvalidEvent);
        error.to_string()
    };
    assert!(
        v2(|event| event["requestContext"]["http"]["method"] = "GE T".into())
            .contains("/requestContext/http/method")
    );
    assert!(v2(|event| event["headers"] = json!({"x-a": "b\r\nevil: 1"})).contains("/headers/x-a"));
    assert!(v2(|event| event["headers"] = json!({"x a": "b"})).contains("\"x a\""));
    assert!(v2(|event| event["cookies"] = json!(["a\nb"])).contains("/cookies"));
    let broken = v2(|event| {
        event["isBase64Encoded"] = true.into();
        event["body"] = "***".into();
    });
    assert!(broken.contains("/body") && broken.contains("isBase64Encoded"), "{broken}");
}
