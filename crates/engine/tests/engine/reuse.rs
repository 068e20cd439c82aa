//! Answers that are used more than once, where the operator asks for it.

use std::sync::Arc;
use std::time::Duration;

use mpe_engine::{CallErrorKind, Engine};
use mpe_transport::Sent;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Step, call, call_with, engine, hinted, tool, upstream, within};

const SLOW: Step = Step::Slow(Duration::from_millis(100));

async fn with(coalesce: bool, cache: Option<Duration>, cache_bytes: usize) -> (Engine, Arc<Scripted>) {
    let server = Scripted::new([hinted("read", "readOnlyHint"), tool("write")]);
    let mut config = upstream("a", &server);
    config.reuse.coalesce = coalesce;
    config.reuse.cache = cache;
    config.reuse.cache_bytes = cache_bytes;
    (engine(vec![config]).await, server)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_used_twice_unasked() {
    let (engine, server) = with(false, None, 0).await;
    engine.call_many(vec![call("read"); 3]).await;
    assert_eq!(server.n_calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn identical_reads_at_once_become_one_call_and_everybody_has_the_answer() {
    let (engine, server) = with(true, None, 0).await;
    server.script(vec![SLOW; 9]);
    let mut calls = vec![call("read"); 5];
    calls.push(call_with("read", &json!({ "other": 1 })));
    calls.extend(vec![call("write"); 2]);
    let results = engine.call_many(calls).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(server.n_calls(), 1 + 1 + 2);
    assert_eq!(results[0].as_ref().unwrap().result.get(), results[4].as_ref().unwrap().result.get());
    assert!(results[4].as_ref().unwrap().attempts.is_empty(), "it made none");
    engine.call(call("read")).await.unwrap();
    assert_eq!(server.n_calls(), 5, "later ones are made again");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_go_on_when_the_leader_is_dropped_or_fails() {
    let (engine, server) = with(true, None, 0).await;
    server.script([Step::Hang, SLOW, SLOW]);
    let dropped = async {
        let leader = engine.call(call("read"));
        assert!(tokio::time::timeout(Duration::from_millis(50), leader).await.is_err());
    };
    let (second, third, ()) = tokio::join!(biased; async { sleep(Duration::from_millis(10)).await; engine.call(call("read")).await },
        async { sleep(Duration::from_millis(10)).await; engine.call(call("read")).await }, dropped);
    second.unwrap();
    third.unwrap();
    server.script([Step::Reject(-32000), SLOW]);
    let results = engine.call_many(vec![call("read"); 2]).await;
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect();
    assert_eq!(
        kinds.iter().flatten().collect::<Vec<_>>(),
        [&CallErrorKind::Rejected],
        "the other one succeeded"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_another_call_keeps_to_his_own_deadline() {
    let (engine, server) = with(true, None, 0).await;
    server.script([Step::Slow(Duration::from_secs(10))]);
    let start = Instant::now();
    let hurried = async {
        let error = engine.call(within(call("read"), Duration::from_secs(1))).await.unwrap_err();
        (error.kind, start.elapsed().as_secs())
    };
    let (leader, hurried) = tokio::join!(biased; engine.call(call("read")), hurried);
    leader.unwrap();
    assert_eq!(hurried, (CallErrorKind::DeadlineExceeded, 1));
}

#[tokio::test(start_paused = true)]
async fn a_complete_read_answers_identical_ones_for_a_while_and_failures_do_not() {
    let (engine, server) = with(false, Some(Duration::from_secs(10)), 1 << 20).await;
    server.script([
        Step::Fail(CallErrorKind::UpstreamAuth, Sent::No),
        Step::Answer(json!({ "content": [], "isError": true })),
    ]);
    engine.call(call("read")).await.unwrap_err();
    engine.call(call("read")).await.unwrap();
    for _ in 0..5 {
        engine.call(call("read")).await.unwrap();
        engine.call(call("write")).await.unwrap();
    }
    assert_eq!(server.n_calls(), 2 + 1 + 5);
    sleep(Duration::from_secs(10)).await;
    engine.call(call("read")).await.unwrap();
    assert_eq!(server.n_calls(), 9, "its time was over");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_answers_go_when_there_are_too_many_bytes() {
    let (engine, server) = with(false, Some(Duration::from_secs(1000)), 200).await;
    for n in 0..50 {
        engine.call(call_with("read", &json!({ "n": n }))).await.unwrap();
    }
    engine.call(call_with("read", &json!({ "n": 49 }))).await.unwrap();
    assert_eq!(server.n_calls(), 50, "the newest is kept");
    engine.call(call_with("read", &json!({ "n": 0 }))).await.unwrap();
    assert_eq!(server.n_calls(), 51, "the oldest is not");
}
