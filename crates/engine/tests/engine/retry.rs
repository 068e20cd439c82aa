//! Every row of the retry table, through the front door.

use std::sync::Arc;
use std::time::Duration;

use mpe_engine::retry::{Decision, Repeatability, table};
use mpe_engine::{CallErrorKind, Engine, Executed, ToolCall};
use mpe_transport::Sent;
use tokio::time::Instant;

use crate::scripted::{Scripted, Step, call, engine, hinted, tool, upstream, within};

/// How a failure of an attempt is brought about.
fn step(failure: CallErrorKind, sent: Sent) -> Step {
    match failure {
        CallErrorKind::Rejected => Step::Reject(-32603),
        other => Step::Fail(other, sent),
    }
}

#[tokio::test(start_paused = true)]
async fn every_row_of_the_table_holds() {
    for row in table() {
        let described = match row.repeatability {
            Repeatability::Idempotent => hinted("t", "idempotentHint"),
            Repeatability::Once | Repeatability::Operator => tool("t"),
            Repeatability::ReadOnly => hinted("t", "readOnlyHint"),
        };
        let server = Scripted::new([described]);
        server.script([step(row.failure, row.sent)]);
        let mut config = upstream("a", &server);
        if row.repeatability == Repeatability::Operator {
            config.repeatable = vec!["t".to_owned()];
        }
        let engine = engine(vec![config]).await;
        let outcome = engine.call(call("t")).await;
        let expected = if row.decision == Decision::Retry { 2 } else { 1 };
        assert_eq!(server.n_calls(), expected, "{row:?}");
        assert_eq!(outcome.is_ok(), row.decision == Decision::Retry, "{row:?}");
        match outcome {
            Ok(outcome) => {
                assert_eq!(outcome.attempts.len(), 2, "{row:?}");
                assert_eq!(outcome.attempts[0].failure, Some(row.failure));
                assert_eq!(outcome.attempts[1].failure, None);
            }
            Err(error) => assert_eq!(error.kind, row.failure),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hints_of_a_server_that_is_not_trusted_do_not_count() {
    let server = Scripted::new([hinted("t", "readOnlyHint")]);
    server.script([Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe)]);
    let mut config = upstream("a", &server);
    config.trust_annotations = false;
    let engine = engine(vec![config]).await;
    let error = engine.call(call("t")).await.unwrap_err();
    assert_eq!(error.executed, Executed::Unknown);
    assert_eq!(server.n_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_at_the_configured_number() {
    let server = Scripted::new([tool("t")]);
    server.script(vec![Step::Fail(CallErrorKind::UpstreamUnreachable, Sent::No); 9]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let error = engine.call(call("t")).await.unwrap_err();
    assert_eq!(error.attempts.len(), 3);
    assert_eq!((error.kind, error.executed), (CallErrorKind::UpstreamUnreachable, Executed::No));
}

#[tokio::test(start_paused = true)]
async fn the_server_may_ask_for_a_longer_pause() {
    let server = Scripted::new([tool("t")]);
    let wait = Duration::from_secs(4);
    server.script([Step::FailFor(CallErrorKind::UpstreamStatus, Sent::No, wait)]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let start = Instant::now();
    engine.call(call("t")).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 4);
}

/// An engine whose pauses are drawn from an hour, so that one that is none can be told from it.
async fn unhurried(server: &Arc<Scripted>) -> Engine {
    let mut config = upstream("a", server);
    config.retry.first_pause = Duration::from_secs(60 * 60);
    config.retry.max_pause = Duration::from_secs(60 * 60);
    engine(vec![config]).await
}

/// A call that outlasts such pauses.
fn patient() -> ToolCall {
    within(call("t"), Duration::from_secs(24 * 60 * 60))
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_left_unread_goes_again_at_once_but_not_twice() {
    let server = Scripted::new([tool("t")]);
    let engine = unhurried(&server).await;
    let left_unread = || Step::Fail(CallErrorKind::UpstreamLost, Sent::No);

    server.script([left_unread()]);
    let start = Instant::now();
    engine.call(patient()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);

    server.script([left_unread(), left_unread()]);
    let start = Instant::now();
    let outcome = engine.call(patient()).await.unwrap();
    assert_eq!(outcome.attempts.len(), 3);
    assert!(start.elapsed() > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_given_a_pause() {
    let server = Scripted::new([tool("t")]);
    let engine = unhurried(&server).await;
    server.script([Step::Fail(CallErrorKind::UpstreamUnreachable, Sent::No)]);
    let start = Instant::now();
    engine.call(patient()).await.unwrap();
    assert!(start.elapsed() > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_deadline_is_not_begun() {
    let server = Scripted::new([tool("t")]);
    let wait = Duration::from_secs(4);
    server.script([Step::FailFor(CallErrorKind::UpstreamStatus, Sent::No, wait)]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let start = Instant::now();
    let error = engine.call(within(call("t"), Duration::from_secs(3))).await.unwrap_err();
    assert_eq!(error.retry_after, Some(wait), "the caller is told");
    assert_eq!(start.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_retries_of_all_callers_together() {
    let server = Scripted::new([tool("t")]);
    let mut config = upstream("a", &server);
    config.retry.budget = 4;
    config.breaker.failures = 0;
    let engine = engine(vec![config]).await;
    server.script(vec![Step::Fail(CallErrorKind::UpstreamUnreachable, Sent::No); 1000]);
    let calls = (0..20).map(|_| engine.call(within(call("t"), Duration::from_secs(5))));
    futures_util::future::join_all(calls).await;
    let retries = server.n_calls() - 20;
    assert!((4..=6).contains(&retries), "{retries} retries");
}
