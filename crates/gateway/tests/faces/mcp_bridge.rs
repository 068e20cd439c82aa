//! One era in front, the other behind.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::fixture::{Fixture, legacy_request};

fn ask(extra: Value) -> Value {
    let mut params = json!({
        "name": "ask", "arguments": {"a": 1},
        "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}},
    });
    params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    params
}

#[tokio::test(start_paused = true)]
async fn a_held_call_goes_on_with_the_retry_and_is_not_run_again() {
    let fixture = Fixture::new().await;
    let first = fixture.modern("tools/call", ask(json!({}))).await.json()["result"].clone();
    assert_eq!(first["resultType"], "input_required", "{first}");
    let (key, request) = first["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(request["method"], "elicitation/create");
    assert_eq!(request["params"]["message"], "who?");
    let retry = ask(json!({
        "requestState": first["requestState"], "inputResponses": {key: {"action": "accept", "content": {"n": 1}}},
    }));
    let second = fixture.modern("tools/call", retry.clone()).await.json()["result"].clone();
    assert_eq!(second["resultType"], "complete", "{second}");
    let text = r#"answered {"action":"accept","content":{"n":1}}"#;
    assert_eq!(second["content"][0]["text"], text);
    assert_eq!(fixture.upstream.calls().len(), 1);
    let again = fixture.modern("tools/call", retry).await.json();
    assert_eq!(again["error"]["code"], -32603, "{again}");
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_another_key_is_asked_for_again() {
    let fixture = Fixture::new().await;
    let first = fixture.modern("tools/call", ask(json!({}))).await.json()["result"].clone();
    let retry = ask(json!({"requestState": first["requestState"], "inputResponses": {"other": {}}}));
    let second = fixture.modern("tools/call", retry).await.json()["result"].clone();
    assert_eq!(second["inputRequests"], first["inputRequests"]);
    assert_ne!(second["requestState"], first["requestState"]);
}

#[tokio::test(start_paused = true)]
async fn a_held_call_expires() {
    let fixture = Fixture::with(|config| config.input_lifetime = Duration::from_secs(5)).await;
    let first = fixture.modern("tools/call", ask(json!({}))).await.json()["result"].clone();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let key = first["inputRequests"].as_object().unwrap().keys().next().unwrap();
    let retry =
        ask(json!({"requestState": first["requestState"], "inputResponses": {key: {"action": "decline"}}}));
    assert_eq!(fixture.modern("tools/call", retry).await.json()["error"]["code"], -32603);
}

#[tokio::test(start_paused = true)]
async fn a_person_may_take_longer_than_the_upstreams_timeout() {
    let fixture = Fixture::new().await;
    let first = fixture.modern("tools/call", ask(json!({}))).await.json()["result"].clone();
    tokio::time::sleep(Duration::from_secs(5 * 60)).await;
    let key = first["inputRequests"].as_object().unwrap().keys().next().unwrap();
    let retry =
        ask(json!({"requestState": first["requestState"], "inputResponses": {key: {"action": "accept"}}}));
    let second = fixture.modern("tools/call", retry).await.json();
    assert_eq!(second["result"]["content"][0]["text"], r#"answered {"action":"accept"}"#, "{second}");

    // The clock goes on once nobody is asked any more.
    let hang = json!({
        "name": "hang", "arguments": {},
        "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}},
    });
    let began = tokio::time::Instant::now();
    let answer = fixture.modern("tools/call", hang).await;
    assert!(answer.body.contains("did not answer in time"), "{}", answer.body);
    assert!(began.elapsed() < Duration::from_secs(120));
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_people() {
    let fixture = Fixture::new().await;
    let held = fixture.modern("tools/call", ask(json!({}))).await.json();
    assert_eq!(held["result"]["resultType"], "input_required", "{held}");
    let began = tokio::time::Instant::now();
    fixture.gateway.begin_drain();
    let refused = fixture.modern("tools/call", ask(json!({}))).await.json();
    assert_eq!(refused["error"]["code"], -32603, "{refused}");
    fixture.gateway.engine().close(Duration::from_secs(30)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_person_take_no_place_from_others() {
    let fixture = Fixture::limited(2).await;
    for _ in 0..8 {
        let held = fixture.modern("tools/call", ask(json!({}))).await.json();
        assert_eq!(held["result"]["resultType"], "input_required", "{held}");
    }
    let plain = fixture.modern("tools/call", json!({"name": "plain", "arguments": {}})).await.json();
    assert_eq!(plain["result"]["content"][0]["text"], "plain words", "{plain}");
}

#[tokio::test(start_paused = true)]
async fn a_state_is_ours_between_us_and_the_client_and_theirs_behind() {
    let fixture = Fixture::new().await;
    let call = |extra: Value| {
        let declared = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
        let mut params = json!({"name": "input", "arguments": {"a": 1}, "_meta": declared});
        params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        params
    };
    let first = fixture.modern("tools/call", call(json!({}))).await.json()["result"].clone();
    assert_eq!(first["inputRequests"]["user_name"]["method"], "elicitation/create");
    let state = first["requestState"].as_str().unwrap();
    assert!(!state.contains("theirs"));
    let responses = json!({"user_name": {"action": "accept"}});
    let good = call(json!({"requestState": state, "inputResponses": responses}));
    let second = fixture.modern("tools/call", good).await.json()["result"].clone();
    assert_eq!(second["content"][0]["text"], r#"{"user_name":{"action":"accept"}} with theirs"#, "{second}");
    for bad in [
        call(json!({"requestState": format!("{state}-tampered"), "inputResponses": responses})),
        call(json!({"requestState": state, "inputResponses": responses, "arguments": {"a": 2}})),
        call(json!({"requestState": state, "inputResponses": 7})),
        call(json!({"requestState": null, "inputResponses": responses})),
    ] {
        let answer = fixture.modern("tools/call", bad.clone()).await.json();
        assert_eq!(answer["error"]["code"], -32602, "{bad}");
    }
    assert_eq!(fixture.upstream.calls().len(), 2);
}

/// A call that the upstream answers with these questions.
fn asking(requests: &Value) -> Value {
    let says = json!({"resultType": "input_required", "requestState": "theirs", "inputRequests": requests});
    json!({"name": "input", "arguments": {"says": says}})
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_what_he_did_not_declare() {
    let fixture = Fixture::new().await;
    let by_url = json!({"mode": "url", "url": "https://a.test", "message": "m"});
    for (declared, method, params, complaint) in [
        (json!({}), "roots/list", json!({}), "roots"),
        (json!({"roots": {}}), "elicitation/create", json!({"message": "m"}), "elicitation.form"),
        (json!({"elicitation": {}}), "elicitation/create", by_url, "elicitation.url"),
        (json!({"sampling": {}}), "sampling/createMessage", json!({"tools": []}), "sampling.tools"),
        (json!({"roots": {}, "sampling": {}, "elicitation": {}}), "tools/call", json!({}), "tools/call"),
        (
            json!({"roots": {}, "sampling": {}, "elicitation": {}}),
            "notifications/cancelled",
            json!({}),
            "notifications",
        ),
    ] {
        let requests = json!({"k": {"method": method, "params": params}});
        let mut call = asking(&requests);
        call["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": declared});
        let modern = fixture.modern("tools/call", call).await.json();
        assert_eq!(modern["error"]["code"], -32603, "{modern}");
        assert!(modern["error"]["message"].as_str().unwrap().contains(complaint), "{modern}");
        let session = fixture.initialize("2025-11-25", declared.clone()).await;
        let legacy = fixture.legacy(Some(&session), "tools/call", asking(&requests)).await;
        assert!(!legacy.body.contains(&format!(r#""method":"{method}""#)), "{}", legacy.body);
        assert!(legacy.body.contains("-32603") && legacy.body.contains(complaint), "{}", legacy.body);
    }
}

#[tokio::test(start_paused = true)]
async fn only_calls_prompts_and_reads_may_ask() {
    let fixture = Fixture::new().await;
    let says = json!({"resultType": "input_required", "inputRequests": {"k": {"method": "roots/list"}}});
    let declared = json!({"io.modelcontextprotocol/clientCapabilities": {"roots": {}}});
    let completion = json!({
        "ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "y"},
        "says": says, "_meta": declared,
    });
    let answer = fixture.modern("completion/complete", completion).await.json();
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    let prompt = json!({"name": "greet", "says": says, "_meta": declared});
    let answer = fixture.modern("prompts/get", prompt).await.json();
    assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_held_call_asks_and_tells_what_the_retry_wants() {
    let fixture = Fixture::new().await;
    let first = fixture.modern("tools/call", ask(json!({}))).await.json()["result"].clone();
    // It declares nothing any more, so what is open cannot be asked again: the upstream is told.
    let mut retry = ask(json!({"requestState": first["requestState"], "inputResponses": {"other": {}}}));
    retry["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": {}});
    let second = fixture.modern("tools/call", retry).await.json();
    assert_eq!(second["result"]["content"][0]["text"], "refused -32601", "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_result_of_a_type_that_nobody_declared_is_no_answer() {
    let fixture = Fixture::new().await;
    for kind in ["task", "weird"] {
        let says = json!({"resultType": kind, "taskId": "t", "status": "working"});
        let call = json!({"name": "input", "arguments": {"says": says}});
        let modern = fixture.modern("tools/call", call.clone()).await.json();
        assert_eq!(modern["error"]["code"], -32603, "{modern}");
        let session = fixture.initialize("2025-11-25", json!({})).await;
        let legacy = fixture.legacy(Some(&session), "tools/call", call).await.json();
        assert_eq!(legacy["error"]["code"], -32603, "{legacy}");
        assert!(legacy["error"]["message"].as_str().unwrap().contains(kind), "{legacy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_client_is_asked_on_its_stream_what_a_modern_upstream_wants() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize("2025-11-25", json!({"elicitation": {}})).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "input", "arguments": {}}});
    let request = legacy_request(Some(&session))
        .body(Full::new(Bytes::from(call.to_string())).map_err(|never| match never {}).boxed_unsync())
        .unwrap();
    let mut body = fixture.gateway.handle(request).await.into_body();
    let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let event = String::from_utf8(event.to_vec()).unwrap();
    let question: Value = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&json!("elicitation/create"), &json!("who?"))
    );
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}).to_string();
    fixture.legacy_post(Some(&session), &answer).await;
    let rest = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(rest.contains(r#"{\"user_name\":{\"action\":\"accept\"}} with theirs"#), "{rest}");
    assert_eq!(fixture.upstream.calls().len(), 2);
}

/// What a modern client that can send somebody to a URL asks.
fn visiting(tool: &str, extra: Value) -> Value {
    let mut params = json!({
        "name": tool, "arguments": {},
        "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}}},
    });
    params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    params
}

#[tokio::test(start_paused = true)]
async fn a_modern_client_is_sent_to_a_url_without_the_upstreams_id() {
    let fixture = Fixture::new().await;
    for (tool, end, n_calls) in [("ask_url", r#"answered {"action":"accept"}"#, 1), ("needs_url", "paid", 2)]
    {
        let before = fixture.upstream.calls().len();
        let first = fixture.modern("tools/call", visiting(tool, json!({}))).await.json()["result"].clone();
        assert_eq!(first["resultType"], "input_required", "{tool}: {first}");
        let (key, request) = first["inputRequests"].as_object().unwrap().iter().next().unwrap();
        let expected = json!({"mode": "url", "message": "pay", "url": "https://example.com/pay"});
        assert_eq!((&request["method"], &request["params"]), (&json!("elicitation/create"), &expected));
        let responses = json!({key: {"action": "accept"}});
        let retry =
            visiting(tool, json!({"requestState": first["requestState"], "inputResponses": responses}));
        let second = fixture.modern("tools/call", retry).await.json();
        assert_eq!(second["result"]["content"][0]["text"], end, "{tool}: {second}");
        assert_eq!(fixture.upstream.calls().len() - before, n_calls, "{tool}");
    }
    // Who can be sent nowhere gets the error, in words of its era.
    let refused = fixture.modern("tools/call", json!({"name": "needs_url", "arguments": {}})).await.json();
    assert_eq!(refused["error"]["code"], -32603, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_legacy_clients_visit_has_an_id_and_an_end() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize("2025-11-25", json!({"elicitation": {"url": {}}})).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "input_url", "arguments": {}}});
    let request = legacy_request(Some(&session)).body(crate::fixture::body(&call.to_string())).unwrap();
    let mut body = fixture.gateway.handle(request).await.into_body();
    let question = crate::fixture::next_event(&mut body).await;
    assert_eq!(question["params"]["url"], "https://example.com/pay");
    let id = question["params"]["elicitationId"].as_str().expect("an id").to_owned();
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}).to_string();
    fixture.legacy_post(Some(&session), &answer).await;
    let complete = crate::fixture::next_event(&mut body).await;
    assert_eq!(complete["method"], "notifications/elicitation/complete");
    assert_eq!(complete["params"], json!({"elicitationId": id}));
    let end = crate::fixture::next_event(&mut body).await;
    assert_eq!(end["result"]["content"][0]["text"], r#"{"visit":{"action":"accept"}}"#, "{end}");
}
