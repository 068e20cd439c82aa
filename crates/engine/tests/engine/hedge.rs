//! Calls of read-only tools that are made a second time because the first takes long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mpe_engine::{CallContext, CallErrorKind, HedgeConfig, ToolCall, UpstreamConfig};
use mpe_transport::Sent;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Step, call, engine, hinted, raw, tool, upstream};

fn reader() -> Arc<Scripted> {
    Scripted::new([hinted("read", "readOnlyHint"), hinted("put", "idempotentHint"), tool("write")])
}

/// Hedged after 100 ms.
fn hedged(server: &Arc<Scripted>) -> UpstreamConfig {
    let mut config = upstream("a", server);
    let mut hedge = HedgeConfig::default();
    hedge.after = Duration::from_millis(100);
    config.hedge = Some(hedge);
    config
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_made_again_the_first_answer_counts_and_the_loser_is_cancelled() {
    let server = reader();
    server.script([Step::Slow(Duration::from_secs(9)), Step::Slow(Duration::from_millis(50))]);
    let engine = engine(vec![hedged(&server)]).await;
    let start = Instant::now();
    let outcome = engine.call(call("read")).await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 150);
    assert_eq!((server.n_calls(), server.in_flight()), (2, 0), "the loser was cancelled");
    let attempts: Vec<_> =
        outcome.attempts.iter().map(|attempt| (attempt.failure, attempt.elapsed.as_millis())).collect();
    assert_eq!(attempts, [(Some(CallErrorKind::Cancelled), 150), (None, 50)]);
}

#[tokio::test(start_paused = true)]
async fn a_quick_call_is_made_once_and_the_first_may_still_win() {
    let server = reader();
    server.script([
        Step::Slow(Duration::from_millis(90)),
        Step::Slow(Duration::from_millis(120)),
        Step::Slow(Duration::from_secs(5)),
    ]);
    let engine = engine(vec![hedged(&server)]).await;
    engine.call(call("read")).await.unwrap();
    assert_eq!(server.n_calls(), 1);
    let start = Instant::now();
    engine.call(call("read")).await.unwrap();
    assert_eq!((start.elapsed().as_millis(), server.n_calls(), server.in_flight()), (120, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn tools_that_are_not_read_only_are_never_hedged() {
    let server = reader();
    server.script(vec![Step::Slow(Duration::from_secs(5)); 3]);
    let mut config = hedged(&server);
    config.repeatable = vec!["write".to_owned()];
    let engine = engine(vec![config]).await;
    let calls = ["write", "put", "unlisted"].map(|name| engine.call(call(name)));
    join_all(calls).await.into_iter().for_each(|outcome| {
        outcome.unwrap();
    });
    assert_eq!(server.n_calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn hints_of_a_server_that_is_not_trusted_hedge_nothing_and_neither_does_a_caller_who_listens() {
    let server = reader();
    server.script(vec![Step::Slow(Duration::from_secs(2)); 4]);
    let mut distrusted = hedged(&server);
    distrusted.trust_annotations = false;
    engine(vec![distrusted]).await.call(call("read")).await.unwrap();
    assert_eq!(server.n_calls(), 1);
    let engine = engine(vec![hedged(&server)]).await;
    let listening = [
        CallContext { wants_progress: true, ..CallContext::default() },
        CallContext { capabilities: Some(raw(&json!({ "elicitation": {} }))), ..CallContext::default() },
        CallContext { request_state: Some("s".to_owned()), ..CallContext::default() },
    ];
    for context in listening {
        engine.call(ToolCall { context: Arc::new(context), ..call("read") }).await.unwrap();
    }
    assert_eq!(server.n_calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_the_other_request() {
    let server = reader();
    server.script([
        Step::Slow(Duration::from_millis(300)),
        Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe),
    ]);
    let engine = engine(vec![hedged(&server)]).await;
    let outcome = engine.call(call("read")).await.unwrap();
    let failures: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.failure).collect();
    assert_eq!(failures, [Some(CallErrorKind::UpstreamLost), None]);
    assert_eq!(server.n_calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn hedging_stays_within_the_retry_budget() {
    let server = reader();
    server.script(vec![Step::Slow(Duration::from_millis(500)); 200]);
    let mut config = hedged(&server);
    config.retry.budget = 3;
    config.retry.calls_per_retry = 1000;
    let engine = engine(vec![config]).await;
    join_all((0..50).map(|_| engine.call(call("read")))).await;
    assert_eq!(server.n_calls(), 53);
}

#[tokio::test(start_paused = true)]
async fn hedging_takes_no_place_from_callers_who_wait() {
    let server = reader();
    server.script(vec![Step::Slow(Duration::from_millis(500)); 20]);
    let mut config = hedged(&server);
    config.limits.max_in_flight = 4;
    let engine = engine(vec![config]).await;
    join_all((0..8).map(|_| engine.call(call("read")))).await;
    assert_eq!((server.n_calls(), server.most_in_flight()), (8, 4));
}

#[tokio::test(start_paused = true)]
async fn a_percentile_waits_until_it_knows_the_tool() {
    let server = reader();
    server.script(vec![Step::Slow(Duration::from_millis(200)); 25]);
    let mut config = hedged(&server);
    let mut hedge = HedgeConfig::default();
    hedge.after = Duration::from_millis(10);
    hedge.percentile = Some(95);
    config.hedge = Some(hedge);
    let engine = engine(vec![config]).await;
    for _ in 0..25 {
        engine.call(call("read")).await.unwrap();
    }
    assert_eq!(server.n_calls(), 25, "none of them was unusual");
    server.script([Step::Slow(Duration::from_secs(9)), Step::Slow(Duration::from_millis(1))]);
    let start = Instant::now();
    engine.call(call("read")).await.unwrap();
    let waited = start.elapsed().as_millis();
    assert!((200..=260).contains(&waited), "{waited} ms");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(server.in_flight(), 0);
}
