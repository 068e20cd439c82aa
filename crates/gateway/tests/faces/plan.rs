//! `POST /plan`.

use serde_json::json;

use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn a_step_uses_what_another_found() {
    let fixture = Fixture::new().await;
    let plan = json!([
        {"id": "a", "tool": "echo", "arguments": {"ids": [1, 2]}},
        {"id": "b", "tool": "get_user", "map": {"$from": "a#/ids"}, "arguments": {"user_id": {"$item": ""}}},
        {"id": "c", "tool": "fail", "on_error": "skip"},
    ]);
    let answer = fixture.post("/plan", &plan.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let steps = answer.json();
    assert_eq!(steps[0], json!({"id": "a", "end": "done", "calls": [{"result": {"ids": [1, 2]}}]}));
    assert_eq!(steps[1]["calls"], json!([{"result": {"user_id": 1}}, {"result": {"user_id": 2}}]));
    assert_eq!(
        (&steps[2]["end"], &steps[2]["calls"][0]["problem"]["status"]),
        (&json!("skipped"), &json!(422))
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_work_runs_nothing() {
    let fixture = Fixture::new().await;
    let plan = json!([{"id": "a", "tool": "echo", "arguments": {"x": {"$from": "nobody"}}}]);
    let answer = fixture.post("/plan", &plan.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.json()["violations"][0]["pointer"].as_str().unwrap().starts_with("/0/arguments"),
        "{}",
        answer.body
    );
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_a_tool_that_nobody_lists_runs_nothing() {
    let fixture = Fixture::new().await;
    let plan = json!([{"id": "a", "tool": "echo"}, {"id": "b", "tool": "not_listed"}]);
    let answer = fixture.post("/plan", &plan.to_string()).await;
    assert_eq!((answer.status, answer.json()["violations"][0]["pointer"].as_str()), (404, Some("/1/tool")));
    assert!(fixture.upstream.calls().is_empty());
}
