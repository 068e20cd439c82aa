//! `POST /tools/call?format=…`, with what each vendor's model emits.

use serde_json::{Value, json};

use crate::fixture::Fixture;

async fn call(fixture: &Fixture, format: &str, emitted: Value) -> Value {
    let answer = fixture.post(&format!("/tools/call?format={format}"), &emitted.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

#[tokio::test(start_paused = true)]
async fn every_vendors_call_runs_and_is_answered_in_its_words() {
    let fixture = Fixture::new().await;
    for (format, emitted, expected) in [
        (
            "openai",
            json!({"id": "c1", "type": "function", "function": {"name": "get_user", "arguments": "{\"user_id\":7}"}}),
            json!({"role": "tool", "tool_call_id": "c1", "content": "{\"user_id\":7}"}),
        ),
        (
            "anthropic",
            json!({"type": "tool_use", "id": "t1", "name": "plain", "input": {}}),
            json!({"type": "tool_result", "tool_use_id": "t1", "content": "plain words", "is_error": false}),
        ),
        (
            "gemini",
            json!({"functionCall": {"name": "plain", "args": {}}}),
            json!({"functionResponse": {"name": "plain", "response": {"result": "plain words"}}}),
        ),
        (
            "bedrock",
            json!({"toolUse": {"toolUseId": "b1", "name": "fail", "input": {}}}),
            json!({"toolResult": {
                "toolUseId": "b1", "content": [{"text": "error: no such user"}], "status": "error",
            }}),
        ),
        (
            "ollama",
            json!({"function": {"name": "plain", "arguments": {}}}),
            json!({"role": "tool", "tool_name": "plain", "content": "plain words"}),
        ),
    ] {
        assert_eq!(call(&fixture, format, emitted).await, expected, "{format}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_message_is_answered_call_by_call() {
    let fixture = Fixture::new().await;
    let message = json!({"role": "assistant", "content": [
        {"type": "text", "text": "let me see"},
        {"type": "tool_use", "id": "1", "name": "plain", "input": {}},
        {"type": "tool_use", "id": "2", "name": "nobody", "input": {}},
    ]});
    let answers = call(&fixture, "anthropic", message).await;
    assert_eq!(
        (&answers[0]["tool_use_id"], &answers[0]["is_error"]),
        (&json!("1"), &json!(false)),
        "{answers}"
    );
    assert_eq!((&answers[1]["tool_use_id"], &answers[1]["is_error"]), (&json!("2"), &json!(true)));
    assert_eq!(answers.as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn thoughts_and_whatever_else_stands_beside_the_calls_are_passed_over() {
    let fixture = Fixture::new().await;
    for (format, message) in [
        (
            "anthropic",
            json!({"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "1", "name": "plain", "input": {}},
            ]}),
        ),
        (
            "anthropic",
            json!([
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "1", "name": "plain", "input": {}},
            ]),
        ),
        (
            "bedrock",
            json!({"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                {"toolUse": {"toolUseId": "1", "name": "plain", "input": {}}},
            ]}),
        ),
        (
            "gemini",
            json!({"role": "model", "parts": [
                {"text": "hm", "thought": true}, {"functionCall": {"id": "1", "name": "plain", "args": {}}},
            ]}),
        ),
        (
            "openai",
            json!([
                {"type": "reasoning", "summary": []},
                {"type": "function_call", "call_id": "1", "name": "plain", "arguments": "{}"},
            ]),
        ),
    ] {
        let answers = call(&fixture, format, message).await;
        assert_eq!(answers.as_array().unwrap().len(), 1, "{format}: {answers}");
        assert!(answers[0].to_string().contains("plain words"), "{format}: {answers}");
        assert!(
            answers[0].to_string().contains(r#":"1""#),
            "{format} tells which call it answers: {answers}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_that_are_no_json_or_name_one_twice_are_told_to_the_model_and_run_nothing() {
    let fixture = Fixture::new().await;
    let made = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "get_user", "arguments": arguments}});
    let calls = [
        made("1", r#"{"user_id":7}"#),
        made("2", r#"{"user_id":"#),
        made("3", r#"{"user_id":"x","user_id":7}"#),
    ];
    let answers = call(&fixture, "openai", json!({"role": "assistant", "tool_calls": calls})).await;
    let text = |at: usize| answers[at]["content"].as_str().unwrap();
    assert_eq!(text(0), r#"{"user_id":7}"#);
    assert!(text(1).starts_with("error: the arguments are no JSON"), "{}", text(1));
    assert!(text(2).starts_with("error: /user_id stands there twice"), "{}", text(2));
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_call_is_refused_and_runs_nothing() {
    let fixture = Fixture::new().await;
    let answer = fixture.post("/tools/call?format=openai", r#"[{"name":"plain"},{"nothing":1}]"#).await;
    assert_eq!((answer.status, answer.json()["detail"].as_str().unwrap().starts_with("/1:")), (400, true));
    assert_eq!(fixture.post("/tools/call?format=other", "{}").await.status, 400);
    assert_eq!(fixture.post("/tools/call", "{}").await.status, 404);
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_format_cannot_say_is_reported() {
    let report = Fixture::new().await.get("/tools?format=openai-strict&report=true").await;
    assert!(report.json().is_array(), "{}", report.body);
}
