//! Peers that do not do as they should.

use std::sync::Arc;
use std::time::Duration;

use mpe_transport::{Sent, Wire};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::super::testing::{Ears, Peer, answer, event, json_answer, request, request_in, stream};
use super::super::super::{Change, Upstream};
use super::{modern, next, now, refusal, text};
use crate::{CallContext, CallErrorKind};

fn listening(ears: &Arc<Ears>) -> CallContext {
    CallContext {
        wants_progress: true,
        log_level: Some("debug".to_owned()),
        events: Some(ears.clone()),
        ..CallContext::default()
    }
}

fn message(n: i64) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": n}})
}

#[tokio::test]
async fn lines_of_json_labelled_as_json_are_messages_each_heard_when_it_comes() {
    for wire in [Wire::H2c, Wire::Http1] {
        let ears = Arc::new(Ears::default());
        let hears = Arc::clone(&ears);
        let peer = Peer::start(modern(move |seen| {
            let (pen, reply) = stream("application/json; charset=utf-8");
            let hears = Arc::clone(&hears);
            tokio::spawn(async move {
                pen.send(format!("{}\n", message(1))).await.unwrap();
                // The reply is written only once the first line has been heard.
                while hears.heard.lock().unwrap().is_empty() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                pen.send(format!("{}\n{}\n", message(2), seen.result(&json!({"ok": 1})))).await.unwrap();
            });
            now(reply)
        }))
        .await;
        let upstream = peer.upstream(wire, None);
        let call = request_in("tools/call", Some(r#"{"name":"test_logging_tool"}"#), listening(&ears));
        assert_eq!(text(&upstream.request(call).await.unwrap()), r#"{"ok":1}"#);
        assert_eq!(ears.heard.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_listen_answered_in_lines_of_json_is_heard_and_only_what_is_acknowledged_counts_as_armed() {
    let (pens, mut receiver) = tokio::sync::mpsc::channel(4);
    let peer = Peer::start(move |seen| match seen.method() {
        "server/discover" => {
            let capabilities = json!({"tools": {"listChanged": true}, "prompts": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true}});
            let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities});
            now(json_answer(200, &seen.result(&result)))
        }
        _ => {
            let (pen, reply) = stream("application/json");
            // Tools and prompts only, and the number of the listen as a string.
            let granted = json!({"toolsListChanged": true, "promptsListChanged": true});
            let meta = json!({"io.modelcontextprotocol/subscriptionId": seen.id().to_string()});
            let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"notifications": granted, "_meta": meta}});
            pen.try_send(format!("{acknowledged}\n")).unwrap();
            pens.try_send((seen.body["params"]["notifications"].clone(), pen)).unwrap();
            now(reply)
        }
    })
    .await;
    let upstream = peer.upstream(Wire::Http1, None);
    let mut changes = upstream.changes().unwrap();
    let (_, _first) = next(&mut receiver).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    assert!(upstream.watch_resources(vec!["x://a".to_owned()], deadline).await.is_empty());
    let (asked, pen) = next(&mut receiver).await;
    assert_eq!(asked["resourceSubscriptions"], json!(["x://a"]));
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"});
    pen.send(format!("{changed}\n")).await.unwrap();
    while next(&mut changes).await != Change::Prompts {}
}

#[tokio::test]
async fn progress_that_nobody_asked_for_is_dropped() {
    let peer = Peer::start(modern(|seen| {
        let progress = |params: Value| {
            event(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
        };
        let body = [
            progress(json!({"progressToken": "token-abc"})),
            progress(json!({"progressToken": "token-abc", "progress": 1})),
            progress(json!({})),
            event(&seen.result(&json!({"ok": 1}))),
        ];
        now(answer(200, &[("content-type", "text/event-stream")], body.concat()))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let ears = Arc::new(Ears::default());
    let call = request_in("tools/call", Some(r#"{"name":"test_streaming_elicitation"}"#), listening(&ears));
    assert_eq!(text(&upstream.request(call).await.unwrap()), r#"{"ok":1}"#);
    assert!(ears.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn results_that_lack_what_they_should_have_are_handed_on_as_they_stand() {
    for result in [
        // No `resultType`; nothing about keeping it; no contents; a schema without its keywords.
        r#"{"content":[{"type":"text","text":"x"}]}"#,
        r#"{"contents":[{"uri":"x://a","text":"t"}]}"#,
        r#"{"resultType":"complete","contents":[]}"#,
        r#"{"tools":[{"name":"json_schema_2020_12_tool","inputSchema":{"type":"object"}}]}"#,
    ] {
        let peer = Peer::start(modern(move |seen| {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, seen.id());
            now(answer(200, &[("content-type", "application/json")], body))
        }))
        .await;
        let reply = peer.upstream(Wire::H2c, None).request(request("tools/list", None)).await;
        assert_eq!(text(&reply.unwrap()), result);
    }
}

#[tokio::test]
async fn an_error_without_an_id_is_about_the_only_request_there_is() {
    let peer = Peer::start(modern(|_| {
        let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": "broken"}});
        now(json_answer(200, &error))
    }))
    .await;
    let reply = peer.upstream(Wire::H2c, None).request(request("tools/list", None)).await.unwrap();
    assert_eq!(reply.outcome.unwrap_err().message, "broken");
}

#[tokio::test]
async fn what_is_no_message_is_one_clear_error() {
    let bodies: [(&str, &[u8]); 5] = [
        ("application/json", b"{\"jsonrpc\":\"2.0\",\"id\":"),
        ("application/json", b"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"\xff\"}"),
        ("text/event-stream", b"data: nonsense\n\n"),
        ("text/html", b"<html>hello</html>"),
        ("application/json", b""),
    ];
    for (content_type, body) in bodies {
        let peer =
            Peer::start(modern(move |_| now(answer(200, &[("content-type", content_type)], body)))).await;
        let upstream = peer.upstream(Wire::H2c, None);
        let error = refusal(upstream.request(request("tools/list", None)).await);
        let expected =
            if body.is_empty() { CallErrorKind::UpstreamLost } else { CallErrorKind::UpstreamProtocol };
        assert_eq!((error.kind, error.sent), (expected, Sent::Maybe), "{content_type} {}", error.message);
    }
}

#[tokio::test]
async fn nesting_beyond_the_limit_is_refused() {
    let peer = Peer::start(modern(|seen| {
        let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"a\":{open}{close}}}}}", seen.id());
        now(answer(200, &[("content-type", "application/json")], body))
    }))
    .await;
    let error = refusal(peer.upstream(Wire::H2c, None).request(request("tools/list", None)).await);
    assert!(error.message.contains("nested deeper"), "{}", error.message);
}
