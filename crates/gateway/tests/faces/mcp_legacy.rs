//! `POST /mcp` as clients of 2025-11-25 and earlier use it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, legacy_request};

const LATEST: &str = "2025-11-25";

#[tokio::test(start_paused = true)]
async fn the_handshake_agrees_on_a_revision() {
    let fixture = Fixture::new().await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", LATEST] {
        fixture.initialize(version, json!({})).await;
    }
    let params = json!({"protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": {}});
    let answer = fixture.legacy(None, "initialize", params).await;
    let result = &answer.json()["result"];
    assert_eq!(result["protocolVersion"], LATEST);
    assert_eq!(result["instructions"], "be kind");
    assert!(result["capabilities"]["tools"].is_object());
}

#[tokio::test(start_paused = true)]
async fn a_session_needs_no_memory() {
    let secret = || Some(std::sync::Arc::from(&b"a secret of sixteen bytes"[..]));
    let one = Fixture::with(|config| config.secret = secret()).await;
    let other = Fixture::with(|config| config.secret = secret()).await;
    let session = one.initialize(LATEST, json!({})).await;
    let answer = other.legacy(Some(&session), "tools/list", json!({})).await;
    assert_eq!(answer.json()["result"]["tools"].as_array().unwrap().len(), 15);
    let stranger = Fixture::new().await;
    let answer = stranger.legacy(Some(&session), "tools/list", json!({})).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test(start_paused = true)]
async fn empty_results_are_empty() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    for (method, params) in [("ping", json!({})), ("logging/setLevel", json!({"level": "debug"}))] {
        let answer = fixture.legacy(Some(&session), method, params).await;
        assert_eq!(answer.body, r#"{"jsonrpc":"2.0","id":"a","result":{}}"#, "{method}");
    }
    let answer = fixture.legacy(Some(&session), "logging/setLevel", json!({"level": "loud"})).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (200, &json!(-32602)));
}

#[tokio::test(start_paused = true)]
async fn notifications_are_accepted_without_a_body() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let answer = fixture.legacy_post(Some(&session), body).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
}

#[tokio::test(start_paused = true)]
async fn a_result_stands_as_the_upstream_wrote_it() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let call = json!({"name": "echo", "arguments": {"n": 1}});
    let answer = fixture.legacy(Some(&session), "tools/call", call).await;
    let expected =
        r#"{"jsonrpc":"2.0","id":"a","result":{"content":[],"structuredContent":{"n":1},"x":1.50}}"#;
    assert_eq!(answer.body, expected);
}

#[tokio::test(start_paused = true)]
async fn log_messages_follow_the_sessions_level() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let call = || json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": 9}});
    let quiet = fixture.legacy(Some(&session), "tools/call", call()).await.events();
    assert_eq!(quiet.len(), 4);
    assert_eq!(quiet[0]["params"]["progressToken"], 9);
    fixture.legacy(Some(&session), "logging/setLevel", json!({"level": "debug"})).await;
    let loud = fixture.legacy(Some(&session), "tools/call", call()).await.events();
    assert_eq!(loud.iter().filter(|event| event["method"] == "notifications/message").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_question_goes_out_on_the_calls_stream_and_its_answer_is_posted() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({"elicitation": {}})).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {}}});
    let request = legacy_request(Some(&session))
        .body(Full::new(Bytes::from(call.to_string())).map_err(|never| match never {}).boxed_unsync())
        .unwrap();
    let mut body = fixture.gateway.handle(request).await.into_body();
    let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let event = String::from_utf8(event.to_vec()).unwrap();
    let question: Value = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "who?");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}).to_string();
    assert_eq!(fixture.legacy_post(Some(&session), &answer).await.status, 202);
    let rest = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(rest.contains(r#"answered {\"action\":\"accept\"}"#), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_stream_declares_nothing() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({"elicitation": {}})).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {}}});
    let request =
        http::Request::post("/mcp").header("accept", "application/json").header("mcp-session-id", session);
    let answer = fixture.send(request.body(body.to_string().as_str()).unwrap()).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "refused -32601", "{}", answer.body);
    assert!(fixture.upstream.calls()[0].context.capabilities.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_session_sees_the_list_that_its_capabilities_open() {
    let scripted = crate::fixture::Scripted { is_shy: true.into(), ..Default::default() };
    let fixture = Fixture::over(scripted, |_| {}).await;
    for (capabilities, expected) in [(json!({"sampling": {}}), 15), (json!({"roots": {}}), 0), (json!({}), 0)]
    {
        let session = fixture.initialize(LATEST, capabilities.clone()).await;
        let list = fixture.legacy(Some(&session), "tools/list", json!({})).await.json();
        assert_eq!(list["result"]["tools"].as_array().unwrap().len(), expected, "{capabilities}: {list}");
    }
    // Who reads no stream cannot be asked, and so sees what nobody need be asked for.
    let session = fixture.initialize(LATEST, json!({"sampling": {}})).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let request =
        http::Request::post("/mcp").header("accept", "application/json").header("mcp-session-id", session);
    let list = fixture.send(request.body(body.as_str()).unwrap()).await.json();
    assert_eq!(list["result"]["tools"], json!([]), "{list}");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_its_call() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#;
    let (answer, ()) = tokio::join!(
        fixture.legacy(Some(&session), "tools/call", json!({"name": "hang", "arguments": {}})),
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(fixture.legacy_post(Some(&session), cancel).await.status, 202);
        }
    );
    assert!(answer.body.contains("cancelled"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn an_array_is_answered_as_an_array_in_the_one_revision_that_knows_it() {
    let fixture = Fixture::new().await;
    let array = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"},{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"plain","arguments":{}}}]"#;
    let session = fixture.initialize("2025-03-26", json!({})).await;
    let answer = fixture.legacy_post(Some(&session), array).await;
    let ids: Vec<Value> = answer.json().as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
    assert_eq!(ids, [json!(1), json!("b")]);
    let session = fixture.initialize(LATEST, json!({})).await;
    assert_eq!(fixture.legacy_post(Some(&session), array).await.status, 400);
    assert_eq!(fixture.legacy_post(None, array).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_an_array_holds_for_its_session() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize("2025-03-26", json!({})).await;
    let array = r#"[{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}},{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"test://a"}}]"#;
    let answer = fixture.legacy_post(Some(&session), array).await;
    assert_eq!(answer.json()[0]["result"], json!({}), "{}", answer.body);
    fixture.legacy(Some(&session), "tools/call", json!({"name": "plain", "arguments": {}})).await;
    assert_eq!(fixture.upstream.calls()[0].context.log_level.as_deref(), Some("info"));

    let get = http::Request::get("/mcp").header("mcp-session-id", &session);
    let get = get.header("accept", "text/event-stream").body(crate::fixture::body("")).unwrap();
    let _stream = fixture.gateway.handle(get).await;
    assert_eq!(fixture.upstream.watched(), ["test://a"]);

    let array =
        r#"[{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"hang","arguments":{}}}]"#;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c"}}"#;
    let (answer, ()) = tokio::join!(fixture.legacy_post(Some(&session), array), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(fixture.legacy_post(Some(&session), cancel).await.status, 202);
    });
    assert!(answer.body.contains("cancelled"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_nobody_knows_is_refused_whatever_is_asked() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    for (method, body) in [("GET", ""), ("DELETE", ""), ("POST", initialized)] {
        let request = http::Request::builder().method(method).uri("/mcp").header("mcp-session-id", &session);
        let request =
            request.header("mcp-protocol-version", "1900-01-01").header("accept", "text/event-stream");
        let answer = fixture.send(request.body(body).unwrap()).await;
        assert_eq!(answer.status, 400, "{method}: {}", answer.body);
    }
    assert_eq!(fixture.legacy(Some(&session), "ping", json!({})).await.status, 200, "it has not ended");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_session_is_served_by_itself() {
    let fixture = Fixture::new().await;
    let answer = fixture.legacy(None, "tools/call", json!({"name": "plain", "arguments": {}})).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "plain words");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_method_is_an_error_with_status_200() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let answer: Answer = fixture.legacy(Some(&session), "no/such", json!({})).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (200, &json!(-32601)));
}

/// One POST of a call whose answer is read by hand.
async fn streamed(fixture: &Fixture, session: &str, tool: &str) -> mpe_gateway::Body {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool, "arguments": {}, "_meta": {"progressToken": "p"},
    }});
    let request = legacy_request(Some(session)).body(crate::fixture::body(&call.to_string())).unwrap();
    fixture.gateway.handle(request).await.into_body()
}

fn last_event_id(text: &str) -> String {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id").to_owned()
}

fn take_up(session: &str, event_id: &str) -> http::Request<&'static str> {
    let request = http::Request::get("/mcp").header("mcp-session-id", session);
    request.header("accept", "text/event-stream").header("last-event-id", event_id).body("").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_broke_is_taken_up_where_it_broke() {
    let fixture = Fixture::with(|config| config.resume_buffer = Some(1 << 20)).await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let mut body = streamed(&fixture, &session, "progress").await;
    let mut seen = String::new();
    while !seen.contains(r#""progress":1"#) {
        let frame = body.frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    assert!(seen.starts_with("id: 0:") && seen.contains("retry: "), "primed first: {seen}");
    drop(body);
    let rest = fixture.send(take_up(&session, &last_event_id(&seen))).await;
    assert_eq!(rest.body.matches(r#""progress":"#).count(), 2, "{}", rest.body);
    assert!(rest.body.contains("done"), "{}", rest.body);
    assert_eq!(fixture.upstream.calls().len(), 1, "taken up, not run again");
    // Another session's events are nobody else's.
    let other = fixture.initialize(LATEST, json!({})).await;
    assert_eq!(fixture.send(take_up(&other, &last_event_id(&seen))).await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn a_long_call_is_polled_for_where_the_operator_wants_that() {
    let fixture = Fixture::with(|config| {
        config.resume_buffer = Some(1 << 20);
        config.poll_after = Some(Duration::from_secs(5));
        config.hold_head = Duration::from_secs(1);
    })
    .await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let body = streamed(&fixture, &session, "slow").await;
    let mut heard = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let mut n_polls = 0;
    while !heard.contains("at last") {
        assert!(!heard.contains("result"), "closed without an answer: {heard}");
        heard = fixture.send(take_up(&session, &last_event_id(&heard))).await.body;
        n_polls += 1;
    }
    assert!((2..8).contains(&n_polls), "{n_polls}");
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_to_poll_does_not_wait_longer_for_its_stream_to_open() {
    let fixture = Fixture::with(|config| {
        config.resume_buffer = Some(1 << 20);
        config.poll_after = Some(Duration::from_secs(1));
        config.hold_head = Duration::from_secs(60);
    })
    .await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let begun = tokio::time::Instant::now();
    let body = streamed(&fixture, &session, "slow").await;
    assert_eq!(begun.elapsed().as_secs(), 1, "it is opened");
    let heard = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(begun.elapsed().as_secs(), 2, "it is closed");
    assert!(heard.starts_with("id: 0:") && !heard.contains("result"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_unless_the_operator_asks() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize(LATEST, json!({})).await;
    let body = streamed(&fixture, &session, "progress").await;
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(text.contains("done") && !text.contains("id: 0:"), "{text}");
    assert_eq!(fixture.send(take_up(&session, "0:nothing")).await.status, 405);
}
