use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use mpe_engine::{BatchResult, CallErrorKind, EndpointId, Executed, ToolCall};
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

fn indexes(results: &[BatchResult]) -> Vec<usize> {
    results.iter().map(|result| result.index).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_results_as_they_finish() {
    let server = Scripted::named(&["t"]);
    server.script([300, 100, 200].map(|millis| Step::Slow(Duration::from_millis(millis))));
    let engine = engine(vec![upstream("a", &server)]).await;
    let start = Instant::now();
    let mut results = engine.call_many_stream((0..3).map(|n| call_with("t", &json!({ "n": n }))).collect());
    let mut seen = Vec::new();
    while let Some(BatchResult { index, outcome }) = results.next().await {
        let own = format!(r#"{{\"n\":{index}}}"#);
        assert!(outcome.unwrap().result.get().contains(&own), "the index belongs to the result");
        seen.push((index, start.elapsed().as_millis()));
    }
    assert_eq!(seen, [(1, 100), (2, 200), (0, 300)]);
    assert_eq!(results.unanswered(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_concurrency_gives_each_result_before_the_next_call_begins() {
    let server = Scripted::named(&["t"]);
    server.script(vec![Step::Slow(Duration::from_millis(100)); 3]);
    let mut config = endpoint(vec![upstream("a", &server)]);
    config.limits.concurrent = false;
    let engine = started(config).await;
    let mut results = engine.call_many_stream(vec![call("t"); 3]);
    for n in 0..3 {
        assert_eq!(results.next().await.unwrap().index, n);
        assert_eq!(server.n_calls(), n + 1);
    }
    assert!(results.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn one_call_of_a_stream_can_be_cancelled_and_the_others_go_on() {
    let server = Scripted::named(&["t"]);
    server.script([Step::Slow(Duration::from_secs(5)), Step::Hang, Step::Slow(Duration::from_secs(2))]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut results = engine.call_many_stream(vec![call("t"); 3]);
    let canceller = results.canceller();
    assert!(results.next().now_or_never().is_none(), "all three are under way");
    assert_eq!(server.in_flight(), 3);
    canceller.one(1);
    let cancelled = results.next().await.unwrap();
    let error = cancelled.outcome.unwrap_err();
    assert_eq!((cancelled.index, error.kind), (1, CallErrorKind::Cancelled));
    assert_eq!(error.executed, Executed::Unknown, "it was under way");
    assert_eq!(server.in_flight(), 2, "the upstream was told");
    let rest: Vec<_> = results.collect().await;
    assert_eq!(indexes(&rest), [2, 0]);
    assert!(rest.iter().all(|result| result.outcome.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_stream_ends_every_call_and_those_not_begun_did_not_run() {
    let server = Scripted::named(&["t"]);
    server.script([Step::Answer(json!({ "content": [] })), Step::Hang]);
    let mut config = endpoint(vec![upstream("a", &server)]);
    config.limits.concurrent = false;
    let engine = started(config).await;
    let mut results = engine.call_many_stream(vec![call("t"); 4]);
    assert!(results.next().await.unwrap().outcome.is_ok());
    assert!(results.next().now_or_never().is_none(), "the second hangs");
    results.canceller().all();
    let rest: Vec<_> = results.collect().await;
    assert_eq!(indexes(&rest), [1, 2, 3]);
    let executed: Vec<_> = rest.iter().map(|result| result.outcome.as_ref().unwrap_err().executed).collect();
    assert_eq!(executed, [Executed::Unknown, Executed::No, Executed::No]);
    assert_eq!(server.n_calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_stream_cancels_its_calls() {
    let server = Scripted::named(&["t"]);
    server.script(vec![Step::Hang; 8]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut results = engine.call_many_stream(vec![call("t"); 8]);
    assert!(results.next().now_or_never().is_none());
    assert_eq!(server.in_flight(), 8);
    drop(results);
    assert_eq!(server.in_flight(), 0);
}
