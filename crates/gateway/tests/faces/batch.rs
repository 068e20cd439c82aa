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
