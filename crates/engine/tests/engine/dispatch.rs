use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mpe_engine::{
    ArgumentChecker, Blame, CallContext, CallErrorKind, CheckerFactory, EndpointId, Engine, Executed,
    OutcomeKind, Relay, ToolLimits, UpstreamKey, Violation,
};
use mpe_mcp_protocol::jsonrpc::code;
use mpe_mcp_protocol::tool::Tool;
use mpe_transport::Sent;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Step, call, call_with, endpoint, engine, started, upstream, within};

#[tokio::test(start_paused = true)]
async fn arguments_and_result_pass_byte_for_byte() {
    let server = Scripted::named(&["echo"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let arguments = r#"{ "b":1.0, "a" : 1e2, "b2":"\u00e9" }"#;
    let mut made = call("echo");
    made.arguments = RawValue::from_string(arguments.to_owned()).unwrap();
    let outcome = engine.call(made).await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Complete);
    assert_eq!(outcome.attempts.len(), 1);
    let sent = server.calls()[0].params.clone().unwrap();
    assert_eq!(sent.get(), format!(r#"{{"name":"echo","arguments":{arguments}}}"#));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_failed_is_an_outcome() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Answer(json!({ "content": [], "isError": true }))]);
    let engine = engine(vec![upstream("a", &server)]).await;
    assert_eq!(engine.call(call("echo")).await.unwrap().kind, OutcomeKind::Failed);
}

#[tokio::test(start_paused = true)]
async fn one_server_alone_gets_unlisted_names_as_they_are_and_several_do_not() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    let alone = engine(vec![upstream("a", &a)]).await;
    alone.call(call("unlisted")).await.unwrap();
    assert_eq!(a.n_calls(), 1);
    let both = engine(vec![upstream("a", &a), upstream("b", &b)]).await;
    let error = both.call(call("unlisted")).await.unwrap_err();
    assert_eq!((error.kind, error.blame), (CallErrorKind::UnknownTool, Blame::Caller));
    assert_eq!((a.n_calls(), b.n_calls()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_right_after_the_start_waits_for_the_discovery() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    let engine =
        Engine::builder().endpoint(endpoint(vec![upstream("a", &a), upstream("b", &b)])).start().unwrap();
    engine.call(call("y")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_names_the_servers_that_could_not_be_asked() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    b.set_up(false);
    let engine = engine(vec![upstream("a", &a), upstream("far", &b)]).await;
    let error = engine.call(call("y")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::UnknownTool);
    assert!(error.message.contains("'far'"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_keeps_the_servers_own_error() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Reject(code::INVALID_PARAMS), Step::Reject(-32000)]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let error = engine.call(call("echo")).await.unwrap_err();
    assert_eq!((error.kind, error.blame), (CallErrorKind::Rejected, Blame::Caller));
    assert_eq!(error.executed, Executed::No);
    assert_eq!(error.rejection.unwrap().code, code::INVALID_PARAMS);
    let error = engine.call(call("echo")).await.unwrap_err();
    assert_eq!((error.blame, error.executed), (Blame::Upstream, Executed::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_left_at_the_deadline_and_nobody_knows_whether_it_ran() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Hang]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let start = Instant::now();
    let error = engine.call(within(call("echo"), Duration::from_secs(3))).await.unwrap_err();
    assert_eq!((error.kind, error.executed), (CallErrorKind::DeadlineExceeded, Executed::Unknown));
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(server.in_flight(), 0, "the exchange was cancelled");
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_the_upstreams_timeout_counts() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Hang]);
    let mut config = upstream("a", &server);
    config.timeout = Duration::from_secs(7);
    let engine = engine(vec![config]).await;
    let start = Instant::now();
    engine.call(call("echo")).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_got_its_turn_provably_did_not_run() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Hang]);
    let mut config = upstream("a", &server);
    config.limits.max_in_flight = 1;
    let engine = engine(vec![config]).await;
    let (_, second) = tokio::join!(
        engine.call(within(call("echo"), Duration::from_secs(9))),
        engine.call(within(call("echo"), Duration::from_secs(2))),
    );
    let error = second.unwrap_err();
    assert_eq!((error.kind, error.executed), (CallErrorKind::DeadlineExceeded, Executed::No));
    assert_eq!(error.blame, Blame::Engine);
    assert_eq!(server.n_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_may_wait_are_turned_away_at_once() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Hang]);
    let mut config = endpoint(vec![upstream("a", &server)]);
    config.limits.max_in_flight = 1;
    config.limits.max_waiting = 0;
    let engine = started(config).await;
    let mut first = Box::pin(engine.call(call("echo")));
    assert!(first.as_mut().now_or_never().is_none());
    let error = engine.call(call("echo")).await.unwrap_err();
    assert_eq!((error.kind, error.blame), (CallErrorKind::Overloaded, Blame::Engine));
    drop(first);
    engine.call(call("echo")).await.expect("the dropped call gave its place back");
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_hanging_upstream_take_no_place_from_the_others() {
    let (hanging, healthy) = (Scripted::named(&["h"]), Scripted::named(&["x"]));
    hanging.script(vec![Step::Hang; 10]);
    let mut slow = upstream("hanging", &hanging);
    slow.limits.max_in_flight = 2;
    let mut config = endpoint(vec![slow, upstream("healthy", &healthy)]);
    config.limits.max_in_flight = 3;
    let engine = started(config).await;
    let mut stuck: Vec<_> = (0..10).map(|_| Box::pin(engine.call(call("h")))).collect();
    for call in &mut stuck {
        assert!(call.as_mut().now_or_never().is_none());
    }
    engine.call(call("x")).await.expect("a third place is free");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_failing_is_left_alone_and_probed_again() {
    let server = Scripted::named(&["echo"]);
    server.script(vec![Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe); 5]);
    let engine = engine(vec![upstream("a", &server)]).await;
    for _ in 0..5 {
        let error = engine.call(call("echo")).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::UpstreamLost);
    }
    let error = engine.call(call("echo")).await.unwrap_err();
    assert_eq!((error.kind, error.executed), (CallErrorKind::CircuitOpen, Executed::No));
    assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
    assert_eq!(server.n_calls(), 5, "the sixth never left");
    sleep(Duration::from_secs(1)).await;
    engine.call(call("echo")).await.expect("the probe passes and closes the breaker");
    engine.call(call("echo")).await.unwrap();
}

/// Wants a string `text`.
struct WantsText;

impl ArgumentChecker for WantsText {
    fn check(&self, arguments: &RawValue) -> Vec<Violation> {
        let value: serde_json::Value = serde_json::from_str(arguments.get()).unwrap();
        if value["text"].is_string() {
            return Vec::new();
        }
        vec![Violation { pointer: "/text".to_owned(), message: "expected a string".to_owned() }]
    }
}

struct Factory;

impl CheckerFactory for Factory {
    fn compile(&self, _: &Tool) -> Result<Arc<dyn ArgumentChecker>, String> {
        Ok(Arc::new(WantsText))
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_are_checked_when_the_face_asks_and_only_then() {
    let server = Scripted::named(&["echo"]);
    let engine = Engine::builder()
        .endpoint(endpoint(vec![upstream("a", &server)]))
        .checkers(Arc::new(Factory))
        .start()
        .unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(5)).await);
    let mut checked = call_with("echo", &json!({ "text": 7 }));
    engine.call(checked.clone()).await.expect("unchecked");
    checked.check_arguments = true;
    let error = engine.call(checked.clone()).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::InvalidArguments);
    assert_eq!(error.violations[0].pointer, "/text");
    assert_eq!(server.n_calls(), 1, "the bad call never left");
    checked.arguments = RawValue::from_string("[1]".to_owned()).unwrap();
    let error = engine.call(checked).await.unwrap_err();
    assert_eq!(error.violations[0].message, "arguments must be a JSON object");
}

#[tokio::test(start_paused = true)]
async fn other_requests_are_relayed_to_the_upstream_that_is_named() {
    let server = Scripted::named(&["echo"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let relay = |key: &str, method: &str| Relay {
        endpoint: EndpointId::default(),
        upstream: UpstreamKey::new(key),
        method: method.to_owned(),
        params: None,
        deadline: None,
        context: Arc::new(CallContext::default()),
    };
    let reply = engine.relay(relay("a", "tools/list")).await.unwrap();
    assert!(reply.result.get().contains("echo"));
    let error = engine.relay(relay("a", "no/such")).await.unwrap_err();
    assert_eq!(error.rejection.unwrap().code, code::METHOD_NOT_FOUND);
    let error = engine.relay(relay("b", "tools/list")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::UnknownUpstream);
}

#[tokio::test(start_paused = true)]
async fn performance_counts_every_exchange_of_an_upstream() {
    let server = Scripted::named(&["echo"]);
    server.script([
        Step::Slow(Duration::from_millis(100)),
        Step::Fail(CallErrorKind::UpstreamLost, Sent::Maybe),
    ]);
    let engine = engine(vec![upstream("a", &server)]).await;
    engine.call(call("echo")).await.unwrap();
    engine.call(call("echo")).await.unwrap_err();
    let record = &engine.performance()["custom:a"];
    assert_eq!((record.total_requests, record.successful_requests, record.failed_requests), (3, 2, 1));
    assert_eq!(record.avg_latency_ms, 50.0, "a list at once and a call of 100 ms");
}

#[tokio::test(start_paused = true)]
async fn closing_lets_calls_finish_refuses_new_ones_and_ends_the_upstream() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Slow(Duration::from_secs(2))]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let late = async {
        sleep(Duration::from_secs(1)).await;
        engine.call(call("echo")).await
    };
    let close = async {
        sleep(Duration::from_millis(500)).await;
        engine.close(Duration::from_secs(10)).await;
        Instant::now()
    };
    let start = Instant::now();
    let (under_way, late, closed) = tokio::join!(engine.call(call("echo")), late, close);
    under_way.expect("finished during the drain");
    assert_eq!(late.unwrap_err().kind, CallErrorKind::ShuttingDown);
    assert_eq!((closed - start).as_secs(), 2, "closed as soon as the last call had ended");
    assert!(server.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlasts_the_drain_ends_with_it() {
    let server = Scripted::named(&["echo"]);
    server.script([Step::Hang]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let close = async {
        sleep(Duration::from_secs(1)).await;
        engine.close(Duration::from_secs(2)).await;
    };
    let (cut, ()) = tokio::join!(engine.call(within(call("echo"), Duration::from_secs(60))), close);
    let error = cut.unwrap_err();
    assert_eq!((error.kind, error.executed), (CallErrorKind::ShuttingDown, Executed::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_tool_with_limits_of_its_own_lets_its_callers_queue_and_nobody_elses() {
    let server = Scripted::named(&["heavy", "light"]);
    server.script(vec![Step::Slow(Duration::from_secs(1)); 4]);
    let mut config = upstream("a", &server);
    let mut limits = ToolLimits::new(1);
    limits.max_waiting = 2;
    config.tool_limits.insert("heavy".to_owned(), limits);
    let engine = engine(vec![config]).await;
    let start = Instant::now();
    let heavy: Vec<_> = (0..3)
        .map(|n| {
            let call = engine.call(call_with("heavy", &json!({ "n": n })));
            async move { (call.await, start.elapsed().as_secs()) }
        })
        .collect();
    let mut heavy = Box::pin(futures_util::future::join_all(heavy));
    assert!(heavy.as_mut().now_or_never().is_none());
    assert_eq!(server.in_flight(), 1);
    engine.call(call("light")).await.expect("another tool is not held up");
    let error = engine.call(call("heavy")).await.unwrap_err();
    assert_eq!((error.kind, error.executed), (CallErrorKind::Overloaded, Executed::No));
    assert!(error.message.contains("tool"), "{}", error.message);
    let ended: Vec<_> = heavy.await.into_iter().map(|(outcome, at)| (outcome.is_ok(), at)).collect();
    assert_eq!(ended, [(true, 1), (true, 2), (true, 3)], "first come, first served");
    assert_eq!(server.most_in_flight(), 2, "one heavy and the light one");
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_tool_with_limits_take_no_place_of_the_upstream_while_they_wait() {
    let server = Scripted::named(&["heavy", "light"]);
    server.script([Step::Hang]);
    let mut config = upstream("a", &server);
    config.limits.max_in_flight = 2;
    config.tool_limits.insert("heavy".to_owned(), ToolLimits::new(1));
    let engine = engine(vec![config]).await;
    let mut stuck: Vec<_> = (0..5).map(|_| Box::pin(engine.call(call("heavy")))).collect();
    for call in &mut stuck {
        assert!(call.as_mut().now_or_never().is_none());
    }
    engine.call(call("light")).await.expect("the second place is free");
    let error = engine.call(within(call("heavy"), Duration::from_secs(2))).await.unwrap_err();
    assert_eq!((error.kind, error.executed), (CallErrorKind::DeadlineExceeded, Executed::No));
}
