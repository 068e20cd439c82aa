//! Deadlines, event streams, idempotency keys.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture};

async fn call(fixture: &Fixture, tool: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = http::Request::post(format!("/tools/{tool}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fixture.send(request.body(body).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_stop_waiting_earlier() {
    let fixture = Fixture::new().await;
    let began = tokio::time::Instant::now();
    let answer = call(&fixture, "hang", &[("x-request-timeout", "1.5")], "{}").await;
    assert_eq!((answer.status, began.elapsed().as_millis()), (504, 1500));
    assert_eq!(call(&fixture, "hang", &[("x-request-timeout", "soon")], "{}").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_preferred_wait_is_kept_and_one_that_cannot_be_read_is_ignored() {
    let fixture = Fixture::new().await;
    for (prefer, waits) in [("wait=2", 2), ("respond-async, wait=\"3\"; x", 3), ("wait=5, wait=9", 5)] {
        let began = tokio::time::Instant::now();
        let answer = call(&fixture, "hang", &[("prefer", prefer)], "{}").await;
        assert_eq!((answer.status, began.elapsed().as_secs()), (504, waits), "{prefer}");
        assert_eq!(answer.json()["type"], json!("urn:mcp-proxy-engine:problem:deadline-exceeded"));
    }
    let answer = call(&fixture, "echo", &[("prefer", "wait=soon")], r#"{"message":"m"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn progress_comes_as_events_when_asked_for() {
    let fixture = Fixture::new().await;
    let answer = call(&fixture, "progress", &[("accept", "text/event-stream")], "{}").await;
    let names: Vec<_> = answer.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["progress", "log", "progress", "log", "progress", "log", "result"], "{}", answer.body);
    assert!(answer.body.ends_with("data: \"done\"\n\n"), "{}", answer.body);
    let failed = call(&fixture, "fail", &[("accept", "text/event-stream")], "{}").await;
    assert!(failed.body.starts_with("event: problem\n"), "{}", failed.body);
    let plain = call(&fixture, "progress", &[("accept", "*/*")], "{}").await;
    assert_eq!(plain.body, "done");
}

#[tokio::test(start_paused = true)]
async fn a_key_runs_its_request_once() {
    let fixture = Fixture::new().await;
    let key = [("idempotency-key", "k-1")];
    let (first, second) =
        tokio::join!(call(&fixture, "slow", &key, "{}"), call(&fixture, "slow", &key, "{}"));
    let third = call(&fixture, "slow", &key, "{}").await;
    assert_eq!([first.status, second.status, third.status], [200; 3]);
    assert_eq!([&second.body, &third.body], [&first.body; 2]);
    assert_eq!(third.header("idempotent-replayed"), "true");
    assert_eq!(fixture.upstream.calls().len(), 1);
    assert_eq!(call(&fixture, "slow", &key, r#"{"other":1}"#).await.status, 409);
    assert_eq!(call(&fixture, "slow", &[("idempotency-key", "k-2")], "{}").await.status, 200);
    assert_eq!(fixture.upstream.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_outlives_the_connection_that_brought_it() {
    let fixture = Fixture::new().await;
    let key = [("idempotency-key", "k")];
    let first = tokio::time::timeout(Duration::from_millis(1), call(&fixture, "slow", &key, "{}")).await;
    assert!(first.is_err(), "the client is gone before the answer");
    let second = call(&fixture, "slow", &key, "{}").await;
    assert_eq!((second.status, second.header("idempotent-replayed")), (200, "true"));
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_proves_that_nothing_ran_is_not_kept() {
    let fixture = Fixture::new().await;
    let key = [("idempotency-key", "k")];
    let first = call(&fixture, "unreachable", &key, "{}").await;
    assert_eq!(first.json().get("executed"), None);
    let n_tried = fixture.upstream.calls().len();
    let second = call(&fixture, "unreachable", &key, "{}").await;
    assert_eq!((second.status, second.header("idempotent-replayed")), (first.status, ""));
    assert!(fixture.upstream.calls().len() > n_tried);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_unknown_fate_is_kept() {
    let fixture = Fixture::new().await;
    let key = [("idempotency-key", "k"), ("x-request-timeout", "1")];
    let first = call(&fixture, "hang", &key, "{}").await;
    assert_eq!((first.status, &first.json()["executed"]), (504, &json!("unknown")));
    let second = call(&fixture, "hang", &key, "{}").await;
    assert_eq!((second.status, second.header("idempotent-replayed")), (504, "true"));
    assert_eq!(fixture.upstream.calls().len(), 1, "it may have run, so it is not run again");
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_large_to_keep_is_given_once_and_not_run_again() {
    let fixture = Fixture::new().await;
    let key = [("idempotency-key", "k")];
    let body = json!({"x": "y".repeat(300 << 10)}).to_string();
    assert_eq!(call(&fixture, "echo", &key, &body).await.body, body);
    assert_eq!(call(&fixture, "echo", &key, &body).await.status, 409);
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pages_of_allowed_origins_may_read_and_others_may_not() {
    let fixture =
        Fixture::with(|config| config.allowed_origins = vec!["https://app.example.com".to_owned()]).await;
    let preflight = http::Request::options("/tools/echo")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type, mcp-param-region");
    let answer = fixture.send(preflight.body("").unwrap()).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (204, "https://app.example.com")
    );
    assert!(answer.header("access-control-allow-headers").ends_with("mcp-param-region"));
    let answer = call(&fixture, "echo", &[("origin", "https://app.example.com")], "{}").await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.com");
    let refused = http::Request::options("/tools/echo").header("origin", "https://evil.example.com");
    let refused = fixture.send(refused.body("").unwrap()).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""));
    let none: Value = call(&fixture, "echo", &[], "{}").await.json();
    assert_eq!(none, json!({}));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_first_run_of_a_key_waits_no_longer_than_he_wants_to() {
    let fixture = Fixture::new().await;
    let key = [("idempotency-key", "k")];
    let hurried = [("idempotency-key", "k"), ("x-request-timeout", "1")];
    let (first, second) = tokio::join!(call(&fixture, "slow", &key, "{}"), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begun = tokio::time::Instant::now();
        let answer = call(&fixture, "slow", &hurried, "{}").await;
        assert_eq!(begun.elapsed().as_secs(), 1);
        answer
    });
    assert_eq!((first.status, second.status), (200, 504));
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_request_was_refused_before_it_ran_is_free_for_the_next() {
    let fixture = Fixture::new().await;
    let key = [("idempotency-key", "k")];
    assert_eq!(call(&fixture, "search", &key, r#"{"id":"x"}"#).await.status, 400);
    assert_eq!(call(&fixture, "search", &key, r#"{"id":[1]}"#).await.status, 200);
    let key = [("idempotency-key", "f")];
    assert_eq!(call(&fixture, "fail", &key, "{}").await.status, 422);
    assert_eq!(call(&fixture, "fail", &key, "{}").await.status, 422);
    assert_eq!(fixture.upstream.calls().len(), 2, "what ran and failed has run");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_would_read_is_refused() {
    let fixture = Fixture::new().await;
    let answer = fixture.post("/tools/echo?dry_run=true", "{}").await;
    assert_eq!((answer.status, answer.json()["violations"][0]["pointer"].as_str()), (400, Some("/dry_run")));
    let answer = fixture.post("/batch", r#"[{"tool":"echo","argument":{"a":1}}]"#).await;
    assert!(answer.status == 400 && answer.body.contains("`argument`"), "{}", answer.body);
    assert!(fixture.upstream.calls().is_empty());
}
