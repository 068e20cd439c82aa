//! `POST /batch`.

use serde_json::json;

use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn results_come_in_order_and_errors_as_values() {
    let fixture = Fixture::new().await;
    let calls = json!([
        {"tool": "echo", "arguments": {"n": 1}},
        {"tool": "nobody"},
        {"function_name": "plain", "arguments": {}},
        {"tool": "fail"},
        {"tool": "get_user", "arguments": {}},
    ]);
    let answer = fixture.post("/batch", &calls.to_string()).await;
    let items = answer.json();
    assert_eq!((answer.status, items.as_array().unwrap().len()), (200, 5), "{}", answer.body);
    assert_eq!(items[0], json!({"tool": "echo", "result": {"n": 1}}));
    assert_eq!(items[1]["problem"]["status"], 404);
    assert_eq!(items[2], json!({"tool": "plain", "result": "plain words"}));
    assert_eq!(items[3]["problem"]["content"][0]["text"], "no such user");
    assert!(items[4]["problem"]["violations"][0]["pointer"].is_string(), "{items}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_read_stops_the_batch_before_it_runs() {
    let fixture = Fixture::with(|config| config.max_batch = 2).await;
    for (body, detail) in [
        (r#"[{"tool":"echo"},{"arguments":{}}]"#, "/1: no string `tool`"),
        (r#"[{"tool":"echo","arguments":[]}]"#, "/0: `arguments` is no object"),
        (
            r#"[{"tool":"echo"},{"tool":"echo"},{"tool":"echo"}]"#,
            "3 calls are more than the 2 a batch may have",
        ),
        ("{}", "the body is no array of calls"),
    ] {
        let answer = fixture.post("/batch", body).await;
        assert_eq!((answer.status, answer.json()["detail"].as_str()), (400, Some(detail)), "{body}");
    }
    assert!(fixture.upstream.calls().is_empty());
}

/// The events of a stream, each with its name.
fn events(body: &str) -> Vec<(String, serde_json::Value)> {
    let blocks = body.split("\n\n").filter(|block| block.starts_with("event: "));
    blocks
        .map(|block| {
            let (name, data) = block.split_once('\n').unwrap();
            let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            (name.strip_prefix("event: ").unwrap().to_owned(), data)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn results_are_streamed_as_they_come_with_their_place() {
    let fixture = Fixture::new().await;
    let calls = json!([{"tool": "slow"}, {"tool": "echo", "arguments": {"n": 1}}, {"tool": "nobody"}, {"tool": "fail"}]);
    let request = http::Request::post("/batch").header("accept", "text/event-stream");
    let answer = fixture.send(request.body(calls.to_string().as_str()).unwrap()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"), "{}", answer.body);
    let events = events(&answer.body);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["item", "item", "item", "item", "end"], "{}", answer.body);
    let mut early: Vec<_> = events[..3].iter().map(|(_, data)| data["index"].as_u64().unwrap()).collect();
    early.sort_unstable();
    assert_eq!(early, [1, 2, 3], "the slow one comes last: {}", answer.body);
    assert_eq!(events[3].1, json!({"index": 0, "tool": "slow", "result": "at last"}));
    assert_eq!(events[4].1, json!({"items": 4}));
    let item = |index: u64| &events.iter().find(|(_, data)| data["index"] == index).unwrap().1;
    assert_eq!(item(1), &json!({"index": 1, "tool": "echo", "result": {"n": 1}}));
    assert_eq!(item(2)["problem"]["status"], 404);
    assert_eq!(item(3)["problem"]["status"], 422);
    assert!(answer.body.contains(": keep-alive\n\n"), "twenty seconds of silence: {}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_a_stream_leaves_no_call_behind() {
    let fixture = Fixture::with(|config| config.max_requests = 1).await;
    let request = http::Request::post("/batch").header("accept", "text/event-stream");
    let calls = r#"[{"tool":"hang"},{"tool":"plain"}]"#;
    let mut response = fixture.gateway.handle(request.body(crate::fixture::body(calls)).unwrap()).await;
    let first = crate::fixture::next_event(response.body_mut()).await;
    assert_eq!(first["tool"], "plain");
    drop(response);
    assert_eq!(fixture.get("/livez").await.status, 200, "its place is free again");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_no_calls_ends_at_once() {
    let fixture = Fixture::new().await;
    let request = http::Request::post("/batch").header("accept", "text/event-stream");
    let answer = fixture.send(request.body("[]").unwrap()).await;
    assert_eq!(events(&answer.body), [("end".to_owned(), json!({"items": 0}))]);
}
