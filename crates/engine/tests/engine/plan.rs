//! Plans through the front door.

use std::sync::Arc;
use std::time::Duration;

use mpe_engine::plan::{Plan, PlanCall, StepEnd, StepReport};
use mpe_engine::{CallContext, CallErrorKind, EndpointId, Engine};
use mpe_transport::Sent;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::scripted::{Scripted, Step, endpoint, engine, started, upstream};

async fn run(engine: &Engine, plan: &Value) -> Vec<StepReport> {
    engine
        .call_plan(PlanCall {
            endpoint: EndpointId::default(),
            plan: Plan::parse(&plan.to_string()).unwrap(),
            deadline: None,
            check_arguments: false,
            context: Arc::new(CallContext::default()),
        })
        .await
}

fn structured(value: &Value) -> Step {
    Step::Answer(json!({ "content": [], "structuredContent": value }))
}

/// The arguments of every call, in order.
fn arguments(server: &Scripted) -> Vec<Value> {
    let arguments = |params: &str| serde_json::from_str::<Value>(params).unwrap()["arguments"].clone();
    server.calls().iter().map(|call| arguments(call.params.as_ref().unwrap().get())).collect()
}

#[tokio::test(start_paused = true)]
async fn results_flow_into_the_arguments_of_later_steps() {
    let server = Scripted::named(&["get_user", "get_orders", "get_order"]);
    server.script([
        structured(&json!({ "id": "u7", "score": 1.50 })),
        structured(&json!({ "orders": [{ "id": 1 }, { "id": 2 }] })),
    ]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let reports = run(
        &engine,
        &json!([
            { "id": "lines", "tool": "get_order", "map": { "$from": "orders#/orders" },
              "arguments": { "order": { "$item": "/id" }, "user": { "$from": "user#/id" } } },
            { "id": "orders", "tool": "get_orders", "arguments": { "user_id": { "$from": "user#/id" } } },
            { "id": "user", "tool": "get_user", "arguments": { "user_id": { "$literal": { "$from": "x" } } } },
        ]),
    )
    .await;
    assert!(reports.iter().all(|report| report.end == StepEnd::Done), "{reports:?}");
    assert_eq!(reports[0].id, "lines", "reports stand in the order of the plan");
    assert_eq!(
        arguments(&server),
        [
            json!({ "user_id": { "$from": "x" } }),
            json!({ "user_id": "u7" }),
            json!({ "order": 1, "user": "u7" }),
            json!({ "order": 2, "user": "u7" }),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_of_plan_and_results_stay_as_they_were_written() {
    let server = Scripted::named(&["t"]);
    server.script([Step::Answer(json!({ "content": [{ "type": "text", "text": "{\"n\":1e2, \"b\":0}" }] }))]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let plan = r#"[{"id":"one","tool":"t","arguments":{ "b":1.0, "a" : 1E5 }},
        {"id":"two","tool":"t","arguments":{"all":{"$from":"one"},"n":{"$from":"one#/n"},"own":2.50}}]"#;
    let reports = engine
        .call_plan(PlanCall {
            endpoint: EndpointId::default(),
            plan: Plan::parse(plan).unwrap(),
            deadline: None,
            check_arguments: false,
            context: Arc::new(CallContext::default()),
        })
        .await;
    assert_eq!(reports[1].end, StepEnd::Done);
    let sent: Vec<_> =
        server.calls().iter().map(|call| call.params.clone().unwrap().get().to_owned()).collect();
    assert!(sent[0].ends_with(r#""arguments":{ "b":1.0, "a" : 1E5 }}"#), "{}", sent[0]);
    assert!(sent[1].ends_with(r#""arguments":{"all":{"n":1e2, "b":0},"n":1e2,"own":2.50}}"#), "{}", sent[1]);
}

#[tokio::test(start_paused = true)]
async fn independent_steps_run_at_once() {
    let server = Scripted::named(&["t"]);
    server.script(vec![Step::Slow(Duration::from_millis(100)); 4]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let start = Instant::now();
    run(
        &engine,
        &json!([
            { "id": "a", "tool": "t" }, { "id": "b", "tool": "t" }, { "id": "c", "tool": "t" },
            { "id": "d", "tool": "t", "arguments": { "x": { "$from": "a" }, "y": { "$from": "c" } } },
        ]),
    )
    .await;
    assert_eq!(start.elapsed().as_millis(), 200);
    assert_eq!(server.most_in_flight(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_ends_the_plan_and_cancels_what_is_under_way() {
    let server = Scripted::named(&["t"]);
    server.script([Step::Hang, Step::Answer(json!({ "content": [], "isError": true }))]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let reports = run(
        &engine,
        &json!([
            { "id": "hangs", "tool": "t" },
            { "id": "fails", "tool": "t" },
            { "id": "waits", "tool": "t", "arguments": { "x": { "$from": "fails" } } },
        ]),
    )
    .await;
    assert_eq!(reports[0].end, StepEnd::Cancelled, "it may have run");
    assert!(matches!(reports[1].end, StepEnd::Failed { .. }));
    assert_eq!(reports[2].end, StepEnd::NotRun);
    assert_eq!((server.n_calls(), server.in_flight()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_skipped_step_takes_along_only_those_that_need_it() {
    let server = Scripted::named(&["t"]);
    server.script([Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe)]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let reports = run(
        &engine,
        &json!([
            { "id": "fails", "tool": "t", "on_error": "skip" },
            { "id": "last", "tool": "t", "arguments": { "x": { "$from": "needs" } } },
            { "id": "needs", "tool": "t", "arguments": { "x": { "$from": "fails" } } },
            { "id": "free", "tool": "t" },
        ]),
    )
    .await;
    let skipped = |report: &StepReport| matches!(report.end, StepEnd::Skipped { .. });
    assert!(skipped(&reports[0]) && skipped(&reports[1]) && skipped(&reports[2]), "{reports:?}");
    assert_eq!(reports[3].end, StepEnd::Done);
    assert_eq!(server.n_calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_default_stands_in_for_a_failed_call_and_for_failed_elements() {
    let server = Scripted::named(&["t"]);
    let lost = Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe);
    server.script([lost.clone(), structured(&json!("first")), lost]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let reports = run(
        &engine,
        &json!([
            { "id": "list", "tool": "t", "on_error": { "default": [1, 2] } },
            { "id": "each", "tool": "t", "map": { "$from": "list" }, "arguments": { "x": { "$item": "" } },
              "on_error": { "default": null } },
            { "id": "end", "tool": "t", "arguments": { "all": { "$from": "each" } } },
        ]),
    )
    .await;
    assert_eq!((&reports[0].end, &reports[1].end), (&StepEnd::Defaulted, &StepEnd::Defaulted));
    assert_eq!(arguments(&server).last(), Some(&json!({ "all": ["first", null] })));
}

#[tokio::test(start_paused = true)]
async fn elements_that_fail_are_left_out_when_they_may_be_skipped() {
    let server = Scripted::named(&["t"]);
    let lost = Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe);
    server.script([structured(&json!(10)), lost, structured(&json!(30))]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let reports = run(
        &engine,
        &json!([
            { "id": "each", "tool": "t", "map": [1, 2, 3], "arguments": { "x": { "$item": "" } }, "on_error": "skip" },
            { "id": "end", "tool": "t", "arguments": { "all": { "$from": "each" } } },
        ]),
    )
    .await;
    assert_eq!(reports[0].end, StepEnd::Done);
    assert!(reports[0].calls[1].is_err(), "the report still tells");
    assert_eq!(arguments(&server).last(), Some(&json!({ "all": [10, 30] })));
}

#[tokio::test(start_paused = true)]
async fn a_reference_to_nothing_fails_the_step_before_it_calls() {
    let server = Scripted::named(&["t"]);
    server.script([structured(&json!({ "a": 1 }))]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let reports = run(
        &engine,
        &json!([
            { "id": "one", "tool": "t" },
            { "id": "two", "tool": "t", "arguments": { "x": { "$from": "one#/b" } } },
        ]),
    )
    .await;
    assert_eq!(reports[1].end, StepEnd::Failed { reason: "there is nothing at '/b'".to_owned() });
    assert_eq!(server.n_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_concurrency_steps_run_one_after_the_other() {
    let server = Scripted::named(&["t"]);
    server.script(vec![Step::Slow(Duration::from_millis(100)); 3]);
    let mut config = endpoint(vec![upstream("a", &server)]);
    config.limits.concurrent = false;
    let engine = started(config).await;
    run(
        &engine,
        &json!([{ "id": "a", "tool": "t" }, { "id": "b", "tool": "t" }, { "id": "c", "tool": "t" }]),
    )
    .await;
    assert_eq!(server.most_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_plan_asks_for_has_an_end() {
    let server = Scripted::named(&["t"]);
    let mut limited = endpoint(vec![upstream("a", &server)]);
    limited.limits.max_batch = 2;
    let engine = started(limited).await;
    let many = json!([{ "id": "each", "tool": "t", "map": [1, 2, 3], "arguments": {} }]);
    let [report] = &run(&engine, &many).await[..] else { panic!("one report") };
    let StepEnd::Failed { reason } = &report.end else { panic!("{:?}", report.end) };
    assert!(reason.contains("3 elements; at most 2"), "{reason}");

    let megabyte = "x".repeat(1 << 20);
    server.script([structured(&json!(megabyte))]);
    let copies = vec![json!({ "$from": "big" }); 20];
    let grows =
        json!([{ "id": "big", "tool": "t" }, { "id": "b", "tool": "t", "arguments": { "x": copies } }]);
    let reports = run(&engine, &grows).await;
    let StepEnd::Failed { reason } = &reports[1].end else { panic!("{:?}", reports[1].end) };
    assert!(reason.contains("grow beyond 16777216 bytes"), "{reason}");
    assert_eq!(server.n_calls(), 1, "nothing of it was sent");
}
