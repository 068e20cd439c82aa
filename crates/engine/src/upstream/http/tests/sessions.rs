//! Sessions of legacy servers: made, kept, lost and ended.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Sent, Wire};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::super::Upstream;
use super::super::super::testing::{
    Ears, Peer, answer, event, json_answer, raw, request, request_in, stream,
};
use super::{legacy, next, now, refusal, text};
use crate::{CallContext, CallErrorKind};

#[tokio::test]
async fn a_legacy_server_is_initialized_once_and_its_session_reused() {
    let peer = Peer::start(legacy(|seen| now(json_answer(200, &seen.result(&json!({"tools": []})))))).await;
    let upstream = peer.upstream(Wire::H2c, None);
    let calls = (0..20).map(|_| upstream.request(request("tools/list", None)));
    for reply in join_all(calls).await {
        assert_eq!(text(&reply.unwrap()), r#"{"tools":[]}"#);
    }
    let methods = peer.methods();
    assert_eq!(methods[..3], ["server/discover", "initialize", "notifications/initialized"]);
    assert_eq!(methods.len(), 23);
    assert_eq!(peer.seen()[2].header("mcp-session-id"), Some("s1"));
    for seen in &peer.seen()[3..] {
        assert_eq!(seen.header("mcp-session-id"), Some("s1"));
        assert_eq!(seen.header("mcp-protocol-version"), Some("2025-11-25"));
        assert_eq!(seen.header("mcp-method"), None);
        assert!(seen.body.get("params").is_none());
    }
}

#[tokio::test]
async fn the_introduction_repeats_what_the_server_said() {
    let peer = Peer::start(legacy(|seen| now(json_answer(200, &seen.result(&json!({})))))).await;
    let upstream = peer.upstream(Wire::Http1, None);
    let introduction = upstream.introduce(Instant::now() + Duration::from_secs(10)).await.unwrap();
    assert_eq!(introduction.version, ProtocolVersion::V2025_11_25);
    assert_eq!(introduction.capabilities.get(), r#"{"logging":{}}"#);
    assert_eq!(introduction.server_info.unwrap().get(), r#"{"name":"old","version":"1"}"#);
}

#[tokio::test]
async fn a_lost_session_is_opened_again_once_for_all_and_the_calls_repeated() {
    let over: [(u16, serde_json::Value); 3] = [
        (404, json!("")),
        (
            404,
            json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32001, "message": "Session not found"}}),
        ),
        (
            400,
            json!({"jsonrpc": "2.0", "id": null,
            "error": {"code": -32000, "message": "Bad Request: No valid session ID provided"}}),
        ),
    ];
    for (status, body) in over {
        let peer = Peer::start(legacy(move |seen| match seen.header("mcp-session-id") {
            Some("s1") => now(json_answer(status, &body)),
            _ => now(json_answer(200, &seen.result(&json!({"ok": true})))),
        }))
        .await;
        let upstream = peer.upstream(Wire::H2c, None);
        let calls = (0..20).map(|_| upstream.request(request("tools/call", Some(r#"{"name":"a"}"#))));
        for reply in join_all(calls).await {
            assert_eq!(text(&reply.unwrap()), r#"{"ok":true}"#);
        }
        let handshakes = peer.methods().iter().filter(|method| *method == "initialize").count();
        assert_eq!(handshakes, 2, "{status}");
    }
}

#[tokio::test]
async fn a_session_that_is_lost_again_and_again_is_an_error() {
    let peer = Peer::start(legacy(|_| now(answer(404, &[], "")))).await;
    let error = refusal(peer.upstream(Wire::H2c, None).request(request("tools/list", None)).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamStatus, Sent::No));
}

#[tokio::test]
async fn a_log_level_is_set_once_per_session_and_filtered_per_call() {
    let peer = Peer::start(legacy(|seen| {
        if seen.method() == "logging/setLevel" {
            return now(json_answer(200, &seen.result(&json!({}))));
        }
        let message = json!({"jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "info", "data": "x"}});
        let body = format!("{}{}", event(&message), event(&seen.result(&json!({}))));
        now(answer(200, &[("content-type", "text/event-stream")], body))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut heard = Vec::new();
    for level in [Some("info"), None, Some("error"), Some("info")] {
        let ears = Arc::new(Ears::default());
        let context = CallContext {
            log_level: level.map(str::to_owned),
            events: Some(ears.clone()),
            ..CallContext::default()
        };
        upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await.unwrap();
        heard.push(ears.heard.lock().unwrap().len());
    }
    assert_eq!(heard, [1, 0, 0, 1]);
    let set: Vec<_> = peer.seen().into_iter().filter(|seen| seen.method() == "logging/setLevel").collect();
    assert_eq!(set.len(), 1);
    assert_eq!(set[0].body["params"]["level"], "info");
}

#[tokio::test]
async fn closing_ends_the_sessions_at_the_server() {
    let peer = Peer::start(legacy(|seen| match seen.http {
        http::Method::DELETE => now(answer(405, &[], "")),
        _ => now(json_answer(200, &seen.result(&json!({})))),
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.request(request("tools/list", None)).await.unwrap();
    upstream.close(Instant::now() + Duration::from_secs(5)).await;
    let delete = peer.until(|seen| seen.http == http::Method::DELETE).await;
    assert_eq!(delete.header("mcp-session-id"), Some("s1"));
    assert_eq!(delete.path, "/mcp");
}

#[tokio::test]
async fn sessions_lost_under_two_hundred_calls_make_no_call_run_twice() {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let journal = Arc::clone(&ran);
    let peer = Peer::start(legacy(move |seen| {
        let mut ran = journal.lock().unwrap();
        // The server restarts twice: what it gave out before means nothing to it.
        let current = match ran.len() {
            0..60 => "s1",
            60..120 => "s2",
            _ => "s3",
        };
        if seen.header("mcp-session-id") != Some(current) {
            return now(answer(404, &[], ""));
        }
        ran.push(seen.body["params"]["arguments"]["n"].as_u64().unwrap());
        now(json_answer(200, &seen.result(&seen.body["params"]["arguments"])))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let calls = (0..200).map(|n| {
        upstream.request(request("tools/call", Some(&format!(r#"{{"name":"a","arguments":{{"n":{n}}}}}"#))))
    });
    let outcomes = join_all(calls).await;
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for error in outcomes.into_iter().filter_map(Result::err) {
        // Lost twice over: given back as provably not run.
        assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamStatus, Sent::No), "{}", error.message);
    }
    let mut ran = ran.lock().unwrap().clone();
    assert_eq!(ran.len(), answered);
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran.len(), answered);
    assert!(answered >= 120, "{answered}");
}

#[tokio::test]
async fn a_replaced_session_is_ended_only_after_its_last_call() {
    let (pens, mut receiver) = mpsc::channel(8);
    let peer = Peer::start(legacy(move |seen| {
        if seen.http == http::Method::DELETE {
            return now(answer(200, &[], ""));
        }
        let (pen, reply) = stream("text/event-stream");
        pens.try_send((pen, seen)).unwrap();
        now(reply)
    }))
    .await;
    let upstream = Arc::new(peer.upstream(Wire::H2c, None));
    let caller = Arc::clone(&upstream);
    let call =
        tokio::spawn(async move { caller.request(request("tools/call", Some(r#"{"name":"a"}"#))).await });
    let (pen, seen) = next(&mut receiver).await;
    // Discovery anew replaces the session.
    upstream.introduce(Instant::now() + Duration::from_secs(10)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!peer.methods().contains(&"DELETE".to_owned()));
    pen.send(event(&seen.result(&json!({"ok": 1})))).await.unwrap();
    assert_eq!(text(&call.await.unwrap().unwrap()), r#"{"ok":1}"#);
    drop(pen);
    let delete = peer.until(|seen| seen.http == http::Method::DELETE).await;
    assert_eq!(delete.header("mcp-session-id"), Some("s1"));
}

#[tokio::test]
async fn a_session_that_is_said_to_be_unknown_in_plain_text_is_opened_again() {
    // What some servers, among them older releases of the Python SDK, say after a restart.
    for (content_type, body) in [
        ("text/plain", "Bad Request: No valid session ID provided".to_owned()),
        ("text/plain; charset=utf-8", "Invalid or missing session ID".to_owned()),
        (
            "application/json",
            json!({"jsonrpc": "2.0", "id": "server-error",
                "error": {"code": -32600, "message": "Bad Request: No valid session ID provided"}})
            .to_string(),
        ),
    ] {
        let peer = Peer::start(legacy(move |seen| match seen.header("mcp-session-id") {
            Some("s1") => now(answer(400, &[("content-type", content_type)], body.clone())),
            _ => now(json_answer(200, &seen.result(&json!({"ok": true})))),
        }))
        .await;
        let upstream = peer.upstream(Wire::H2c, None);
        let reply = upstream.request(request("tools/call", Some(r#"{"name":"a"}"#))).await.unwrap();
        assert_eq!(text(&reply), r#"{"ok":true}"#, "{content_type}");
    }
}

#[tokio::test]
async fn a_bad_request_that_does_not_speak_of_the_session_is_no_lost_session() {
    let peer = Peer::start(legacy(|_| now(answer(400, &[("content-type", "text/plain")], "no")))).await;
    let upstream = peer.upstream(Wire::H2c, None);
    let error = refusal(upstream.request(request("tools/call", Some(r#"{"name":"a"}"#))).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamStatus, Sent::Maybe));
    assert_eq!(peer.methods().iter().filter(|method| *method == "tools/call").count(), 1);
}

#[tokio::test]
async fn only_the_session_that_was_lost_is_opened_again() {
    let peer = Peer::start(legacy(|seen| match (seen.header("mcp-session-id"), seen.http.as_str()) {
        (_, "GET") => now(answer(405, &[], "")),
        (Some("s2"), _) => now(answer(404, &[], "")),
        (session, _) => {
            let session = session.unwrap().to_owned();
            now(json_answer(200, &seen.result(&json!({ "session": session }))))
        }
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let call = |capabilities: Option<serde_json::Value>| {
        let context = CallContext {
            capabilities: capabilities.map(|declared| raw(&declared)),
            events: Some(Arc::new(Ears::default())),
            ..CallContext::default()
        };
        upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context))
    };
    assert_eq!(text(&call(None).await.unwrap()), r#"{"session":"s1"}"#);
    let roots = json!({"roots": {}});
    assert_eq!(text(&call(Some(roots.clone())).await.unwrap()), r#"{"session":"s3"}"#);
    assert_eq!(text(&call(None).await.unwrap()), r#"{"session":"s1"}"#);
    assert_eq!(text(&call(Some(roots)).await.unwrap()), r#"{"session":"s3"}"#);
}

#[tokio::test]
async fn a_new_session_is_told_the_log_level_again() {
    let peer = Peer::start(legacy(|seen| match (seen.header("mcp-session-id"), seen.method()) {
        (Some("s1"), "tools/call") if seen.body["params"]["name"] == "b" => now(answer(404, &[], "")),
        (_, _) => now(json_answer(200, &seen.result(&json!({})))),
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    for name in ["a", "b"] {
        let context = CallContext {
            log_level: Some("info".to_owned()),
            events: Some(Arc::new(Ears::default())),
            ..CallContext::default()
        };
        let params = format!(r#"{{"name":"{name}"}}"#);
        upstream.request(request_in("tools/call", Some(&params), context)).await.unwrap();
    }
    let told: Vec<_> = peer
        .seen()
        .into_iter()
        .filter(|seen| seen.method() == "logging/setLevel")
        .map(|seen| seen.header("mcp-session-id").unwrap().to_owned())
        .collect();
    assert_eq!(told, ["s1", "s2"]);
}

#[tokio::test]
async fn sessions_are_bounded_and_the_oldest_is_ended_for_a_new_one() {
    let peer = Peer::start(legacy(|seen| match seen.http.as_str() {
        "GET" => now(answer(405, &[], "")),
        "DELETE" => now(answer(200, &[], "")),
        _ => now(json_answer(200, &seen.result(&json!({})))),
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    for n in 0..80 {
        let context = CallContext {
            capabilities: Some(raw(&json!({ "experimental": { "n": n } }))),
            events: Some(Arc::new(Ears::default())),
            ..CallContext::default()
        };
        upstream.request(request_in("tools/list", None, context)).await.unwrap();
    }
    // One from finding out, and one for each caller; no more than 64 at once.
    let opened = peer.methods().iter().filter(|method| *method == "initialize").count();
    assert_eq!(opened, 81);
    let deadline = Instant::now() + Duration::from_secs(10);
    while peer.methods().iter().filter(|method| *method == "DELETE").count() < 81 - 64 {
        assert!(Instant::now() < deadline, "{:?}", peer.methods());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_ended_and_the_next_call_opens_another() {
    let peer = Peer::start(legacy(|seen| match seen.http.as_str() {
        "DELETE" => now(answer(200, &[], "")),
        _ => now(json_answer(200, &seen.result(&json!({})))),
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.request(request("tools/list", None)).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(200)).await;
    // Half of the time is not enough.
    assert!(!peer.methods().contains(&"DELETE".to_owned()));
    tokio::time::advance(Duration::from_secs(200)).await;
    tokio::time::resume();
    let ended = peer.until(|seen| seen.http == http::Method::DELETE).await;
    assert_eq!(ended.header("mcp-session-id"), Some("s1"));
    upstream.request(request("tools/list", None)).await.unwrap();
    assert_eq!(peer.seen().last().unwrap().header("mcp-session-id"), Some("s2"));
}
