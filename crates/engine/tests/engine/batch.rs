use std::time::Duration;

use mpe_engine::{CallErrorKind, EndpointId, ToolCall};
use mpe_transport::Sent;
use serde_json::json;
use tokio::time::Instant;

use crate::scripted::{Scripted, Step, call, call_with, endpoint, engine, started, upstream};

#[tokio::test(start_paused = true)]
async fn results_stand_in_input_order_and_errors_are_values() {
    let server = Scripted::named(&["t"]);
    server.script([
        Step::Slow(Duration::from_millis(300)),
        Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe),
        Step::Slow(Duration::from_millis(100)),
    ]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let calls = (0..3).map(|n| call_with("t", &json!({ "n": n }))).collect();
    let results = engine.call_many(calls).await;
    assert!(results[0].as_ref().unwrap().result.get().contains(r#"{\"n\":0}"#));
    assert_eq!(results[1].as_ref().unwrap_err().kind, CallErrorKind::UpstreamLost);
    assert!(results[2].as_ref().unwrap().result.get().contains(r#"{\"n\":2}"#));
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_batch_run_at_once() {
    let server = Scripted::named(&["t"]);
    server.script(vec![Step::Slow(Duration::from_millis(100)); 64]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let start = Instant::now();
    let results = engine.call_many(vec![call("t"); 64]).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(start.elapsed().as_millis(), 100);
    assert_eq!(server.most_in_flight(), 64);
}

#[tokio::test(start_paused = true)]
async fn without_concurrency_calls_run_strictly_one_after_the_other_in_order() {
    let server = Scripted::named(&["t"]);
    server.script(vec![Step::Slow(Duration::from_millis(100)); 5]);
    let mut config = endpoint(vec![upstream("a", &server)]);
    config.limits.concurrent = false;
    let engine = started(config).await;
    let start = Instant::now();
    engine.call_many((0..5).map(|n| call_with("t", &json!(n))).collect()).await;
    assert_eq!(start.elapsed().as_millis(), 500);
    assert_eq!(server.most_in_flight(), 1);
    let order: Vec<_> =
        server.calls().iter().map(|call| call.params.clone().unwrap().get().to_owned()).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_beyond_the_limit_is_refused_whole() {
    let server = Scripted::named(&["t"]);
    let mut config = endpoint(vec![upstream("a", &server)]);
    config.limits.max_batch = 2;
    let engine = started(config).await;
    let results = engine.call_many(vec![call("t"); 3]).await;
    assert_eq!(results.len(), 3);
    for result in results {
        assert_eq!(result.unwrap_err().kind, CallErrorKind::Overloaded);
    }
    assert_eq!(server.n_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_an_unknown_endpoint_does_not_harm_its_neighbours() {
    let server = Scripted::named(&["t"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let stray = ToolCall { endpoint: EndpointId::new("nobody"), ..call("t") };
    let results = engine.call_many(vec![stray, call("t")]).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind, CallErrorKind::UnknownEndpoint);
    assert!(results[1].is_ok());
}
