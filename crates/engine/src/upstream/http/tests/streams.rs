//! Streams of legacy calls: questions on them, cancelling them, taking them up again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use mpe_transport::{Sent, Wire};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::super::Upstream;
use super::super::super::testing::{
    Ears, Peer, answer, event, json_answer, raw, request, request_in, stream,
};
use super::{legacy, modern, next, now, refusal, text};
use crate::{CallContext, CallErrorKind};

#[tokio::test]
async fn a_server_may_ask_the_caller_during_a_call() {
    let (told, mut hears) = mpsc::channel::<serde_json::Value>(8);
    let peer = Peer::start(legacy(move |seen| {
        if seen.http == http::Method::GET {
            return now(answer(405, &[], ""));
        }
        if seen.method().is_empty() {
            told.try_send(seen.body.clone()).unwrap();
            return now(answer(202, &[], ""));
        }
        let (sender, reply) = stream("text/event-stream");
        tokio::spawn(async move {
            for (id, method) in
                [("q1", "elicitation/create"), ("q2", "sampling/createMessage"), ("q3", "ping")]
            {
                let _ = sender
                    .send(event(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}})))
                    .await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = sender.send(event(&seen.result(&json!({"ok": true})))).await;
        });
        now(reply)
    }))
    .await;
    let ears = Arc::new(Ears::default());
    let context = CallContext {
        capabilities: Some(raw(&json!({"elicitation": {}}))),
        events: Some(ears.clone()),
        ..CallContext::default()
    };
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await.unwrap();
    assert_eq!(*ears.asked.lock().unwrap(), ["elicitation/create"]);
    let mut answers = std::collections::HashMap::new();
    while let Ok(answer) = hears.try_recv() {
        answers.insert(answer["id"].as_str().unwrap().to_owned(), answer);
    }
    assert_eq!(answers["q1"]["result"]["action"], "accept");
    assert_eq!(answers["q2"]["error"]["code"], -32601);
    assert_eq!(answers["q3"]["result"], json!({}));
    // The session of a caller with capabilities is its own, and declares them.
    let declared: Vec<_> = peer
        .seen()
        .iter()
        .filter(|seen| seen.method() == "initialize")
        .map(|seen| seen.body["params"]["capabilities"].clone())
        .collect();
    assert_eq!(declared, [json!({}), json!({"elicitation": {}})]);
}

#[tokio::test]
async fn a_legacy_call_that_is_dropped_is_cancelled_at_the_server() {
    let peer = Peer::start(legacy(|_| std::future::pending().boxed())).await;
    let upstream = peer.upstream(Wire::H2c, None);
    let call = tokio::spawn(async move {
        let _ = upstream.request(request("tools/call", Some(r#"{"name":"slow"}"#))).await;
    });
    let asked = peer.until(|seen| seen.method() == "tools/call").await;
    call.abort();
    let cancelled = peer.until(|seen| seen.method() == "notifications/cancelled").await;
    assert_eq!(cancelled.body["params"]["requestId"], asked.id());
    assert_eq!(cancelled.header("mcp-session-id"), Some("s1"));
}

/// A legacy server whose one call breaks off again and again: each stream ends as `scenes` says, the last one with the
/// reply. Gives what the server saw of each attempt: when, and from which event on.
async fn breaking_off(scenes: &'static [&'static str]) -> (Peer, Arc<Mutex<Vec<(Instant, Option<String>)>>>) {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen_by = Arc::clone(&attempts);
    let asked = Arc::new(Mutex::new(serde_json::Value::Null));
    let peer = Peer::start(legacy(move |seen| {
        let from = seen.header("last-event-id").map(str::to_owned);
        let mut attempts = seen_by.lock().unwrap();
        if attempts.is_empty() {
            *asked.lock().unwrap() = seen.id();
        } else {
            assert_eq!(seen.http, http::Method::GET);
            assert_eq!(seen.header("mcp-session-id"), Some("s1"));
        }
        attempts.push((Instant::now(), from));
        let id = asked.lock().unwrap().clone();
        let body = match scenes.get(attempts.len() - 1) {
            Some(scene) => (*scene).to_owned(),
            None => event(&json!({"jsonrpc": "2.0", "id": id, "result": {"late": 1}})),
        };
        now(answer(200, &[("content-type", "text/event-stream")], body))
    }))
    .await;
    (peer, attempts)
}

fn pauses(attempts: &[(Instant, Option<String>)]) -> Vec<u128> {
    attempts.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_millis()).collect()
}

/// Equal, but for what loopback takes.
fn assert_about(found: &[u128], expected: &[u128]) {
    let is_near = |(found, expected): (&u128, &u128)| (*expected..expected + 20).contains(found);
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(is_near),
        "{found:?} instead of {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_taken_up_where_it_broke_exactly_when_the_server_says() {
    let (peer, attempts) = breaking_off(&[
        "id: e1\nretry: 500\ndata:\n\n",
        // No `retry:` of its own: the last one still holds. An event that was cut off does not count.
        "id: e2\ndata:\n\nid: e3\ndata: {\"jsonrpc\"",
        "retry: 2345\nid: e4\ndata:\n\n",
    ])
    .await;
    let reply = peer.upstream(Wire::H2c, None).request(request("tools/call", Some(r#"{"name":"a"}"#))).await;
    assert_eq!(text(&reply.unwrap()), r#"{"late":1}"#);
    let attempts = attempts.lock().unwrap();
    let from: Vec<_> = attempts.iter().map(|(_, from)| from.as_deref()).collect();
    assert_eq!(from, [None, Some("e1"), Some("e2"), Some("e4")]);
    assert_about(&pauses(&attempts), &[500, 500, 2345]);
}

#[tokio::test(start_paused = true)]
async fn without_a_word_of_the_server_a_stream_is_taken_up_after_a_second() {
    let (peer, attempts) = breaking_off(&["id: e1\ndata:\n\n"]).await;
    let reply = peer.upstream(Wire::H2c, None).request(request("tools/call", Some(r#"{"name":"a"}"#))).await;
    assert_eq!(text(&reply.unwrap()), r#"{"late":1}"#);
    assert_about(&pauses(&attempts.lock().unwrap()), &[1000]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_brings_nothing_new_is_given_up_after_five_attempts() {
    const SCENE: &str = "id: e1\nretry: 10\ndata:\n\n";
    let (peer, attempts) = breaking_off(&[SCENE; 9]).await;
    let outcome =
        peer.upstream(Wire::H2c, None).request(request("tools/call", Some(r#"{"name":"a"}"#))).await;
    let error = refusal(outcome);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamLost, Sent::Maybe));
    assert_eq!(attempts.lock().unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_can_take_up_in_time_ends_at_the_deadline() {
    let (peer, attempts) = breaking_off(&["id: e1\nretry: 50000\ndata:\n\n"]).await;
    let mut call = request("tools/call", Some(r#"{"name":"a"}"#));
    call.deadline = Instant::now() + Duration::from_secs(3);
    let error = refusal(peer.upstream(Wire::H2c, None).request(call).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::DeadlineExceeded, Sent::Maybe));
    assert_eq!(attempts.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_legacy_stream_without_event_ids_is_lost_when_it_breaks() {
    let (peer, attempts) = breaking_off(&["retry: 10\ndata:\n\n"]).await;
    let outcome =
        peer.upstream(Wire::H2c, None).request(request("tools/call", Some(r#"{"name":"a"}"#))).await;
    assert_eq!(refusal(outcome).kind, CallErrorKind::UpstreamLost);
    assert_eq!(attempts.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_modern_stream_is_never_taken_up_whatever_ids_its_events_have() {
    let body = "id: e1\nretry: 10\ndata:\n\n";
    let peer =
        Peer::start(modern(move |_| now(answer(200, &[("content-type", "text/event-stream")], body)))).await;
    let outcome =
        peer.upstream(Wire::H2c, None).request(request("tools/call", Some(r#"{"name":"a"}"#))).await;
    let error = refusal(outcome);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamLost, Sent::Maybe));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(peer.methods(), ["server/discover", "tools/call"]);
}

#[tokio::test]
async fn a_modern_call_that_is_dropped_is_cancelled_by_closing_its_stream() {
    for wire in [Wire::H2c, Wire::Http1] {
        let (pens, mut receiver) = mpsc::channel(1);
        let peer = Peer::start(modern(move |_| {
            let (pen, reply) = stream("text/event-stream");
            pen.try_send(":\n\n".to_owned()).unwrap();
            pens.try_send(pen).unwrap();
            now(reply)
        }))
        .await;
        let upstream = Arc::new(peer.upstream(wire, None));
        let caller = Arc::clone(&upstream);
        let call = tokio::spawn(async move {
            let _ = caller.request(request("tools/call", Some(r#"{"name":"slow"}"#))).await;
        });
        let pen = next(&mut receiver).await;
        call.abort();
        tokio::time::timeout(Duration::from_secs(10), pen.closed()).await.expect("the stream is closed");
        assert_eq!(peer.methods(), ["server/discover", "tools/call"], "and nothing is said about it");
    }
}

#[tokio::test]
async fn progress_and_logs_of_a_legacy_call_arrive_in_the_order_they_were_sent() {
    let peer = Peer::start(legacy(|seen| {
        let token = seen.body["params"]["_meta"]["progressToken"].clone();
        let notice = |method: &str, params: serde_json::Value| {
            event(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
        };
        if seen.method() == "logging/setLevel" {
            return now(json_answer(200, &seen.result(&json!({}))));
        }
        let body = [
            notice("notifications/progress", json!({"progressToken": token, "progress": 1})),
            notice("notifications/message", json!({"level": "info", "data": 1})),
            notice("notifications/progress", json!({"progressToken": token, "progress": 2})),
            notice("notifications/message", json!({"level": "info", "data": 2})),
            event(&seen.result(&json!({}))),
        ];
        now(answer(200, &[("content-type", "text/event-stream")], body.concat()))
    }))
    .await;
    let ears = Arc::new(Ears::default());
    let context = CallContext {
        wants_progress: true,
        log_level: Some("info".to_owned()),
        events: Some(ears.clone()),
        ..CallContext::default()
    };
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await.unwrap();
    let heard: Vec<_> = ears.heard.lock().unwrap().iter().map(|(_, params)| params.clone()).collect();
    let expected = [
        r#"{"progress":1}"#,
        r#"{"data":1,"level":"info"}"#,
        r#"{"progress":2}"#,
        r#"{"data":2,"level":"info"}"#,
    ];
    let read = |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let expected: Vec<_> = expected.iter().map(|text| read(&(*text).to_owned())).collect();
    assert_eq!(heard.iter().map(read).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_question_on_the_sessions_own_stream_goes_to_the_only_call() {
    let (told, mut hears) = mpsc::channel::<serde_json::Value>(8);
    let pens = Arc::new(Mutex::new(None));
    let peer = Peer::start(legacy(move |seen| {
        if seen.http == http::Method::GET {
            let (pen, reply) = stream("text/event-stream");
            pen.try_send(":\n\n".to_owned()).unwrap();
            *pens.lock().unwrap() = Some(pen);
            return now(reply);
        }
        if seen.method().is_empty() {
            told.try_send(seen.body.clone()).unwrap();
            return now(answer(202, &[], ""));
        }
        let pen = pens.lock().unwrap().clone().expect("the stream stands before the first call");
        async move {
            let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}});
            pen.send(event(&question)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            json_answer(200, &seen.result(&json!({"ok": 1})))
        }
        .boxed()
    }))
    .await;
    let ears = Arc::new(Ears::default());
    let context = CallContext {
        capabilities: Some(raw(&json!({"elicitation": {}}))),
        events: Some(ears.clone()),
        ..CallContext::default()
    };
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await.unwrap();
    assert_eq!(next(&mut hears).await["result"]["action"], "accept");
}

#[tokio::test]
async fn questions_of_calls_that_share_a_session_reach_each_its_own_caller() {
    let (answers, mut answered) = mpsc::channel::<serde_json::Value>(8);
    let pens = Arc::new(Mutex::new(Vec::new()));
    let writers = Arc::clone(&pens);
    let peer = Peer::start(legacy(move |seen| {
        if seen.http == http::Method::GET {
            return now(answer(405, &[], ""));
        }
        if seen.method().is_empty() {
            answers.try_send(seen.body).unwrap();
            return now(answer(202, &[], ""));
        }
        let (pen, reply) = stream("text/event-stream");
        pen.try_send(":\n\n".to_owned()).unwrap();
        writers.lock().unwrap().push((seen, pen));
        now(reply)
    }))
    .await;
    let upstream = Arc::new(peer.upstream(Wire::H2c, None));
    let mut calls = Vec::new();
    for name in ["a", "b"] {
        let ears = Arc::new(Ears::default());
        let context = CallContext {
            capabilities: Some(raw(&json!({"elicitation": {}}))),
            events: Some(ears.clone()),
            ..CallContext::default()
        };
        let upstream = Arc::clone(&upstream);
        let params = format!(r#"{{"name":"{name}"}}"#);
        let call = tokio::spawn(async move {
            upstream.request(request_in("tools/call", Some(&params), context)).await.unwrap()
        });
        peer.until(|seen| seen.body["params"]["name"] == name).await;
        calls.push((ears, call));
    }
    // Both are open. The second one asks; then each is answered, in the other order.
    let mut pens: Vec<_> = std::mem::take(&mut *pens.lock().unwrap());
    assert_eq!(pens[0].0.header("mcp-session-id"), pens[1].0.header("mcp-session-id"));
    pens.sort_by_key(|(seen, _)| seen.body["params"]["name"].to_string());
    let question = json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}});
    pens[1].1.send(event(&question)).await.unwrap();
    assert_eq!(next(&mut answered).await["result"]["action"], "accept");
    for (seen, pen) in pens.iter().rev() {
        pen.send(event(&seen.result(&json!({"of": seen.body["params"]["name"]})))).await.unwrap();
    }
    for ((ears, call), (name, asked)) in calls.into_iter().zip([("a", 0), ("b", 1)]) {
        assert_eq!(text(&call.await.unwrap()), format!(r#"{{"of":"{name}"}}"#));
        assert_eq!(ears.asked.lock().unwrap().len(), asked, "{name}");
    }
}
