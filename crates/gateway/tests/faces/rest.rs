//! `POST /tools/{tool}`, mapped paths, and what is wrong with a request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;

use crate::fixture::{Answer, Fixture};

#[tokio::test(start_paused = true)]
async fn arguments_and_structured_content_pass_byte_for_byte() {
    let fixture = Fixture::new().await;
    let arguments = r#"{"z" : 12345678901234567890123.50,"a":"\u00e9", "n":1e2}"#;
    let answer = fixture.post("/tools/echo", arguments).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.body, arguments);
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_no_arguments() {
    assert_eq!(Fixture::new().await.post("/tools/echo", "").await.body, "{}");
}

#[tokio::test(start_paused = true)]
async fn content_comes_in_its_own_shape() {
    let fixture = Fixture::new().await;
    let plain = fixture.post("/tools/plain", "{}").await;
    assert_eq!(
        (plain.header("content-type"), plain.body.as_str()),
        ("text/plain; charset=utf-8", "plain words")
    );
    let image = fixture.post("/tools/image", "{}").await;
    assert_eq!((image.header("content-type"), &image.bytes[..]), ("image/png", &[1, 2, 3][..]));
    let several = fixture.post("/tools/several", "{}").await;
    assert_eq!(several.body, r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#);
}

#[tokio::test(start_paused = true)]
async fn a_mapped_path_takes_its_arguments_from_path_and_query() {
    let fixture = Fixture::new().await;
    let answer = fixture.get("/get_user/42?verbose=true").await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"user_id": 42, "verbose": true})),
        "{}",
        answer.body
    );
    let wrong = fixture.get("/get_user/forty").await;
    assert_eq!((wrong.status, &wrong.json()["violations"][0]["pointer"]), (400, &json!("/user_id")));
    let method = fixture.post("/get_user/42", "{}").await;
    assert_eq!((method.status, method.header("allow")), (405, "GET"));
}

#[tokio::test(start_paused = true)]
async fn every_endpoint_has_the_same_faces() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.post("/endpoints/other/tools/echo", "{}").await.status, 200);
    assert!(fixture.upstream.calls().is_empty(), "another tenant's call reached us");
    let unknown = fixture.post("/endpoints/nobody/tools/echo", "{}").await;
    assert_eq!(unknown.json()["type"], "urn:mcp-proxy-engine:problem:unknown-endpoint");
    assert_eq!(unknown.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_failed_tool_is_a_problem_with_its_content() {
    let answer = Fixture::new().await.post("/tools/fail", "{}").await;
    assert_eq!((answer.status, answer.header("content-type")), (422, "application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:mcp-proxy-engine:problem:tool-failed");
    assert_eq!(problem["detail"], "no such user");
    assert_eq!(problem["content"][0]["text"], "no such user");
}

#[tokio::test(start_paused = true)]
async fn an_upstreams_own_error_is_shown_as_it_was() {
    let answer = Fixture::new().await.post("/tools/reject", "{}").await;
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains(r#""error":{"code":-32050,"message":"refused","data":{"why":[1.0]}}"#));
}

#[tokio::test(start_paused = true)]
async fn bad_requests_get_a_problem_and_reach_no_upstream() {
    let fixture = Fixture::with(|config| config.max_body_bytes = 64).await;
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
    for (path, body, status, slug) in [
        ("/tools/echo", "{not json", 400, "bad-request"),
        ("/tools/echo", "[1]", 400, "bad-request"),
        ("/tools/echo", r#"{"a":1,"a":2}"#, 400, "bad-request"),
        ("/tools/nobody", "{}", 404, "unknown-tool"),
        ("/tools/get_user", "{}", 400, "invalid-arguments"),
        ("/tools/get_user", r#"{"user_id":"x"}"#, 400, "invalid-arguments"),
        ("/tools/echo", &long, 413, "body-too-large"),
        ("/nowhere", "{}", 404, "not-found"),
        ("/openapi.json", "{}", 405, "method-not-allowed"),
    ] {
        let answer = fixture.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["type"], format!("urn:mcp-proxy-engine:problem:{slug}"));
        assert_eq!(answer.json()["status"], status);
    }
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_json_by_its_own_word_is_refused() {
    let fixture = Fixture::new().await;
    let request = http::Request::post("/tools/echo").header("content-type", "text/plain");
    assert_eq!(fixture.send(request.body("{}").unwrap()).await.status, 415);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_upstream_is_502_and_may_be_tried_again() {
    let answer = Fixture::new().await.post("/tools/unreachable", "{}").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["type"], "urn:mcp-proxy-engine:problem:upstream-unreachable");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_504() {
    let answer = Fixture::new().await.post("/tools/hang", "{}").await;
    assert_eq!((answer.status, &answer.json()["executed"]), (504, &json!("unknown")), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_wants_input_is_422_and_says_what() {
    let answer = Fixture::new().await.post("/tools/input", "{}").await;
    assert_eq!(answer.status, 422);
    assert!(answer.json()["detail"].as_str().unwrap().contains("elicitation/create"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_408() {
    let fixture = Fixture::new().await;
    let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, mpe_gateway::BoxError>>();
    let request = http::Request::post("/tools/echo").body(StreamBody::new(never).boxed_unsync()).unwrap();
    assert_eq!(Answer::of(fixture.gateway.handle(request).await).await.status, 408);
}

#[tokio::test(start_paused = true)]
async fn requests_over_the_limit_are_503_and_a_place_comes_back() {
    let fixture = Fixture::with(|config| config.max_requests = 1).await;
    let gateway = fixture.gateway.clone();
    let empty = || http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    let slow = tokio::spawn(async move {
        gateway.handle(http::Request::post("/tools/slow").body(empty()).unwrap()).await.status()
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = fixture.get("/livez").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(slow.await.unwrap(), 200);
    assert_eq!(fixture.get("/livez").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_the_id_its_caller_gave_it() {
    let fixture = Fixture::new().await;
    let request = http::Request::get("/livez").header("x-request-id", "abc-1");
    assert_eq!(fixture.send(request.body("").unwrap()).await.header("x-request-id"), "abc-1");
    assert!(!fixture.get("/livez").await.header("x-request-id").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_origin_is_refused() {
    let fixture = Fixture::new().await;
    let request = http::Request::post("/tools/echo").header("origin", "https://evil.example.com");
    assert_eq!(fixture.send(request.body("{}").unwrap()).await.status, 403);
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn options_names_the_methods_of_its_very_path() {
    let fixture = Fixture::new().await;
    for (path, allow) in [
        ("/tools/echo", "POST, OPTIONS"),
        ("/get_user/7", "GET, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/mcp", "GET, POST, DELETE, OPTIONS"),
        ("/endpoints/other/batch", "POST, OPTIONS"),
    ] {
        let answer = fixture.send(http::Request::options(path).body("").unwrap()).await;
        assert_eq!((answer.status, answer.header("allow")), (204, allow), "{path}");
    }
    let nothing = fixture.send(http::Request::options("/nothing").body("").unwrap()).await;
    assert_eq!(nothing.status, 404);
}

#[tokio::test(start_paused = true)]
async fn an_annotated_argument_may_come_in_its_header() {
    let fixture = Fixture::new().await;
    let send = async |header: &str, body: &str| {
        let request = http::Request::post("/tools/mirrored").header("mcp-param-region", header);
        fixture.send(request.body(body).unwrap()).await
    };
    assert_eq!(send("eu", "{}").await.json(), json!({"region": "eu"}));
    assert_eq!(send("=?base64?w7xi?=", r#"{"a":1.50}"#).await.body, r#"{"a":1.50,"region":"üb"}"#);
    assert_eq!(send("eu", r#"{"region":"eu"}"#).await.body, r#"{"region":"eu"}"#);
    let differs = send("eu", r#"{"region":"us"}"#).await;
    assert_eq!((differs.status, &differs.json()["violations"][0]["pointer"]), (400, &json!("/region")));
    let document = fixture.get("/openapi.json").await.json();
    let parameter = &document["paths"]["/tools/mirrored"]["post"]["parameters"][0];
    assert_eq!((&parameter["in"], &parameter["name"]), (&json!("header"), &json!("Mcp-Param-Region")));
}

#[tokio::test(start_paused = true)]
async fn a_query_may_hold_lists_and_objects() {
    let view = |config: &mut mpe_gateway::GatewayConfig| {
        let root = config.endpoints.get_mut(&mpe_engine::EndpointId::default()).unwrap();
        root.mappings.push(mpe_gateway::ResponseMapping {
            path: mpe_gateway::PathTemplate::parse("/find/search/{id}").unwrap(),
            response: json!({}),
        });
    };
    let fixture = Fixture::with(view).await;
    let answer =
        fixture.get("/find/search/1,2?tag=a&tag=b&filter[name]=x%20y&filter[age]=7&deep[a][b]=true").await;
    assert_eq!(
        answer.json(),
        json!({"id": [1, 2], "tag": ["a", "b"], "filter": {"name": "x y", "age": 7}, "deep": {"a": {"b": true}}}),
        "{}",
        answer.body
    );
    let wrong = fixture.get("/find/search/1,x?filter[age]=old&nothing=1").await;
    let pointers: Vec<_> =
        wrong.json()["violations"].as_array().unwrap().iter().map(|v| v["pointer"].clone()).collect();
    assert_eq!(
        (wrong.status, pointers),
        (400, vec![json!("/id/1"), json!("/filter/age"), json!("/nothing")]),
        "{}",
        wrong.body
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_stands_twice_is_refused_at_any_depth_and_on_every_face_that_checks() {
    let fixture = Fixture::new().await;
    let arguments = r#"{"id":[1],"filter":{"name":"a","name":"b"}}"#;
    let rest = fixture.post("/tools/search", arguments).await;
    assert_eq!((rest.status, rest.json()["violations"][0]["pointer"].as_str()), (400, Some("/filter/name")));
    let batch = fixture.post("/batch", &format!(r#"[{{"tool":"search","arguments":{arguments}}}]"#)).await;
    assert_eq!(batch.json()[0]["problem"]["violations"][0]["pointer"], "/filter/name", "{}", batch.body);
    let plan = format!(r#"[{{"id":"a","tool":"search","arguments":{arguments}}}]"#);
    let plan = fixture.post("/plan", &plan).await;
    assert!(plan.body.contains("twice"), "{}", plan.body);
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_wrong_with_a_request_is_said_at_once() {
    let fixture = Fixture::with(|config| {
        let view = config.endpoints.values_mut().next().unwrap();
        let path = mpe_gateway::PathTemplate::parse("/search/find/{id}").unwrap();
        view.mappings.push(mpe_gateway::ResponseMapping { path, response: serde_json::json!({}) });
    })
    .await;
    let answer = fixture.get("/search/find/x?filter[age]=old&tag=a&deep[a][b]=true&nothing=1").await;
    let violations = answer.json()["violations"].clone();
    let pointers: Vec<_> =
        violations.as_array().unwrap().iter().map(|v| v["pointer"].as_str().unwrap().to_owned()).collect();
    assert_eq!(pointers, ["/id/0", "/filter/age", "/nothing"], "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_comma_that_is_encoded_belongs_to_its_item() {
    let fixture = Fixture::with(|config| {
        let view = config.endpoints.values_mut().next().unwrap();
        let path = mpe_gateway::PathTemplate::parse("/search/by/{tag}").unwrap();
        view.mappings.push(mpe_gateway::ResponseMapping { path, response: serde_json::json!({}) });
    })
    .await;
    assert_eq!(fixture.get("/search/by/a%2Cb,c%20d?id=1").await.status, 200);
    let sent = fixture.upstream.calls()[0].params.as_ref().unwrap().get().to_owned();
    assert!(sent.contains(r#""tag":["a,b","c d"]"#), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_header_that_contradicts_the_path_is_refused() {
    let fixture = Fixture::with(|config| {
        let view = config.endpoints.values_mut().next().unwrap();
        let path = mpe_gateway::PathTemplate::parse("/mirrored/in/{region}").unwrap();
        view.mappings.push(mpe_gateway::ResponseMapping { path, response: serde_json::json!({}) });
    })
    .await;
    let with = async |region: &str| {
        let request = http::Request::get("/mirrored/in/eu").header("mcp-param-region", region);
        fixture.send(request.body("").unwrap()).await
    };
    assert_eq!(with("eu").await.status, 200);
    let refused = with("us").await;
    assert_eq!((refused.status, refused.json()["violations"][0]["pointer"].as_str()), (400, Some("/region")));
}

#[tokio::test(start_paused = true)]
async fn events_are_for_those_who_would_rather_have_them() {
    let fixture = Fixture::new().await;
    for (accept, is_stream) in [
        ("text/event-stream", true),
        ("application/json, text/event-stream", true),
        ("application/json, text/event-stream;q=0.1", false),
        ("text/event-stream;q=0", false),
        ("application/json;q=0.1, text/event-stream;q=0.5", true),
    ] {
        let request = http::Request::post("/tools/plain").header("accept", accept);
        let answer = fixture.send(request.body("").unwrap()).await;
        assert_eq!(answer.header("content-type") == "text/event-stream", is_stream, "{accept}");
    }
}
