//! What servers announce, and on which stream.

use std::time::Duration;

use mpe_transport::Wire;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::super::testing::{Peer, answer, event, json_answer, request, stream};
use super::super::super::{Change, Upstream};
use super::{modern, next, now};

#[tokio::test]
async fn changes_are_announced_whichever_stream_they_come_on() {
    let peer = Peer::start(modern(|seen| {
        let notice = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        let body = format!("{}{}", event(&notice), event(&seen.result(&json!({}))));
        now(answer(200, &[("content-type", "text/event-stream")], body))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    upstream.request(request("tools/list", None)).await.unwrap();
    assert_eq!(changes.try_recv().unwrap(), Change::Tools);
}

/// One listen: what it asks for, and the pen of its stream with the acknowledgement, which the test sends.
struct Listen {
    asked: Value,
    acknowledgement: String,
    pen: mpsc::Sender<String>,
}

impl Listen {
    /// Acknowledges it.
    async fn acknowledged(self) -> (Value, mpsc::Sender<String>) {
        self.pen.send(self.acknowledgement).await.unwrap();
        (self.asked, self.pen)
    }
}

/// A modern server whose announcements the test writes.
async fn announcing() -> (Peer, mpsc::Receiver<Listen>) {
    let (listens, receiver) = mpsc::channel(8);
    let peer = Peer::start(move |seen| match seen.method() {
        "server/discover" => {
            let capabilities = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}});
            let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities});
            now(json_answer(200, &seen.result(&result)))
        }
        "subscriptions/listen" => {
            let (pen, reply) = stream("text/event-stream");
            let asked = seen.body["params"]["notifications"].clone();
            let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"notifications": asked, "_meta": {"io.modelcontextprotocol/subscriptionId": seen.id()}}});
            // The head of a stream goes out with its first byte.
            pen.try_send(":\n\n".to_owned()).unwrap();
            listens.try_send(Listen { asked, acknowledgement: event(&acknowledged), pen }).unwrap();
            now(reply)
        }
        _ => now(json_answer(200, &seen.result(&json!({})))),
    })
    .await;
    (peer, receiver)
}

#[tokio::test]
async fn a_modern_server_is_listened_to_as_long_as_somebody_wants_to_hear() {
    let (peer, mut listens) = announcing().await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    let (asked, pen) = next(&mut listens).await.acknowledged().await;
    assert_eq!(asked, json!({"toolsListChanged": true}));
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    pen.send(event(&changed)).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Tools);
    // The stream breaks: it is opened again, and what may have been missed is announced.
    drop(pen);
    let (_, _pen) = next(&mut listens).await.acknowledged().await;
    assert_eq!(next(&mut changes).await, Change::Tools);
    assert_eq!(next(&mut changes).await, Change::Prompts);
    assert_eq!(next(&mut changes).await, Change::Resources);
}

#[tokio::test]
async fn watched_resources_are_part_of_what_is_listened_to() {
    let (peer, mut listens) = announcing().await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    let (_, _first) = next(&mut listens).await.acknowledged().await;
    let armed = upstream.watch_resources(vec!["x://a".to_owned()], Instant::now() + Duration::from_secs(10));
    let second = async { next(&mut listens).await.acknowledged().await };
    let (armed, (asked, pen)) = tokio::join!(armed, second);
    assert_eq!(armed, ["x://a"]);
    assert_eq!(asked["resourceSubscriptions"], json!(["x://a"]));
    let updated =
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x://a"}});
    pen.send(event(&updated)).await.unwrap();
    let found = async {
        loop {
            if next(&mut changes).await == Change::Resource("x://a".to_owned()) {
                return;
            }
        }
    };
    found.await;
}

#[tokio::test]
async fn what_changes_while_something_else_begins_to_be_watched_is_heard_once_and_nothing_else_is_announced()
{
    let (peer, mut listens) = announcing().await;
    let updated = |uri: &str| {
        event(&json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}))
    };
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let (_, mut old) = next(&mut listens).await.acknowledged().await;
    for uris in [vec!["x://a"], vec!["x://a", "x://b"], vec!["x://a"]] {
        let uris: Vec<String> = uris.into_iter().map(str::to_owned).collect();
        let begin = async {
            let new = next(&mut listens).await;
            // Not acknowledged yet: the old one is still good.
            old.send(updated("x://a")).await.unwrap();
            assert_eq!(next(&mut changes).await, Change::Resource("x://a".to_owned()));
            new.acknowledged().await.1
        };
        let (armed, new) = tokio::join!(upstream.watch_resources(uris.clone(), deadline), begin);
        assert_eq!(armed, uris);
        new.send(updated("x://a")).await.unwrap();
        assert_eq!(next(&mut changes).await, Change::Resource("x://a".to_owned()));
        old = new;
    }
    // A gap is announced, of the resources that are watched too.
    drop(old);
    let (_, _pen) = next(&mut listens).await.acknowledged().await;
    for expected in [Change::Tools, Change::Prompts, Change::Resources, Change::Resource("x://a".to_owned())]
    {
        assert_eq!(next(&mut changes).await, expected);
    }
}

#[tokio::test]
async fn a_legacy_session_has_a_stream_for_what_belongs_to_no_call() {
    let (pens, mut receiver) = mpsc::channel(8);
    let peer = Peer::start(move |seen| match (seen.http.as_str(), seen.method()) {
        ("GET", _) => {
            let (pen, reply) = stream("text/event-stream");
            // The head of a stream goes out with its first byte.
            pen.try_send(":\n\n".to_owned()).unwrap();
            pens.try_send(pen).unwrap();
            now(reply)
        }
        (_, "server/discover") => now(answer(404, &[], "")),
        (_, "initialize") => {
            let capabilities = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}});
            let result = json!({"protocolVersion": "2025-06-18", "capabilities": capabilities});
            now(json_answer(200, &seen.result(&result)))
        }
        (_, method) if method.starts_with("notifications/") || method.is_empty() => now(answer(202, &[], "")),
        (_, _) => now(json_answer(200, &seen.result(&json!({})))),
    })
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    let pen = next(&mut receiver).await;
    pen.send(event(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Tools);
    let armed =
        upstream.watch_resources(vec!["x://a".to_owned()], Instant::now() + Duration::from_secs(10)).await;
    assert_eq!(armed, ["x://a"]);
    let subscribed = peer.until(|seen| seen.method() == "resources/subscribe").await;
    assert_eq!(subscribed.body["params"]["uri"], "x://a");
}

#[tokio::test]
async fn a_session_lost_while_nobody_calls_is_opened_again_with_its_subscriptions() {
    let (pens, mut receiver) = mpsc::channel(8);
    let (lives, life) = tokio::sync::watch::channel(1);
    let peer = Peer::start(move |seen| {
        let current = format!("s{}", *life.borrow());
        let knows = seen.header("mcp-session-id") == Some(&current);
        match (seen.http.as_str(), seen.method()) {
            (_, "server/discover") => now(answer(404, &[], "")),
            (_, "initialize") => {
                let capabilities = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}});
                let result = json!({"protocolVersion": "2025-06-18", "capabilities": capabilities});
                let headers = [("content-type", "application/json"), ("mcp-session-id", &*current)];
                now(answer(200, &headers, seen.result(&result).to_string()))
            }
            (_, _) if !knows => now(answer(404, &[], "")),
            ("GET", _) => {
                let (pen, reply) = stream("text/event-stream");
                pen.try_send(":\n\n".to_owned()).unwrap();
                pens.try_send(pen).unwrap();
                now(reply)
            }
            (_, method) if method.starts_with("notifications/") => now(answer(202, &[], "")),
            (_, _) => now(json_answer(200, &seen.result(&json!({})))),
        }
    })
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    let first = next(&mut receiver).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    // The set of what is watched changes; the stream is the session's, and goes on.
    for uris in [vec!["x://a"], vec!["x://a"], vec!["x://a", "x://b"], vec!["x://a"], vec!["x://a"]] {
        let uris: Vec<String> = uris.into_iter().map(str::to_owned).collect();
        assert_eq!(upstream.watch_resources(uris.clone(), deadline).await, uris);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(receiver.try_recv().is_err() && changes.try_recv().is_err());
    // The server restarts: streams end, sessions are forgotten.
    lives.send_replace(2);
    drop(first);
    let pen = next(&mut receiver).await;
    peer.until(|seen| seen.method() == "resources/subscribe" && seen.header("mcp-session-id") == Some("s2"))
        .await;
    let updated =
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x://a"}});
    pen.send(event(&updated)).await.unwrap();
    while next(&mut changes).await != Change::Resource("x://a".to_owned()) {}
}

#[tokio::test]
async fn the_stream_of_a_session_is_taken_up_where_it_broke_after_the_time_the_server_names() {
    let (pens, mut receiver) = mpsc::channel(8);
    let peer = Peer::start(move |seen| match (seen.http.as_str(), seen.method()) {
        ("GET", _) => {
            let (pen, reply) = stream("text/event-stream");
            pen.try_send("id: e7\nretry: 900\ndata:\n\n".to_owned()).unwrap();
            let from = seen.header("last-event-id").map(str::to_owned);
            pens.try_send((Instant::now(), from, pen)).unwrap();
            now(reply)
        }
        (_, "server/discover") => now(answer(404, &[], "")),
        (_, "initialize") => {
            let result =
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": true}}});
            now(json_answer(200, &seen.result(&result)))
        }
        (_, _) => now(answer(202, &[], "")),
    })
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let _changes = upstream.changes().unwrap();
    let (_, from, pen) = next(&mut receiver).await;
    assert_eq!(from, None);
    let broke = Instant::now();
    drop(pen);
    let (opened, from, _pen) = next(&mut receiver).await;
    assert_eq!(from.as_deref(), Some("e7"));
    // Without the server's word it would have been half a second.
    let waited = opened - broke;
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
}
