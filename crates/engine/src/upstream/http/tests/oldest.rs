//! HTTP+SSE of 2024-11-05.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Sent, Wire};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::super::testing::{Peer, answer, event, request, stream};
use super::super::super::{Change, Upstream};
use super::{next, now, refusal, text};
use crate::CallErrorKind;

/// A server of 2024-11-05: messages go to an address that the stream names, replies come on the stream.
async fn oldest(endpoint: &'static str) -> (Peer, Arc<Mutex<Vec<mpsc::Sender<String>>>>) {
    let pens = Arc::new(Mutex::new(Vec::<mpsc::Sender<String>>::new()));
    let streams = Arc::clone(&pens);
    let peer = Peer::start(move |seen| {
        if seen.http == http::Method::GET {
            let (pen, reply) = stream("text/event-stream");
            pen.try_send(format!("event: endpoint\ndata: {endpoint}\n\n")).unwrap();
            streams.lock().unwrap().push(pen);
            return now(reply);
        }
        if seen.path == "/mcp" {
            return now(answer(405, &[], ""));
        }
        let reply = match seen.method() {
            "initialize" => seen.result(&json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}}})),
            "tools/call" if seen.body["params"]["name"] == "never" => return now(answer(202, &[], "")),
            "tools/call" => seen.result(&seen.body["params"]["arguments"]),
            "resources/subscribe" => seen.result(&json!({})),
            _ => return now(answer(202, &[], "Accepted")),
        };
        let pen = streams.lock().unwrap().last().unwrap().clone();
        pen.try_send(event(&reply)).unwrap();
        now(answer(202, &[], "Accepted"))
    })
    .await;
    (peer, pens)
}

#[tokio::test]
async fn the_oldest_transport_is_found_and_its_stream_opened_again() {
    let (peer, pens) = oldest("/messages?session=1").await;
    let upstream = peer.upstream(Wire::H2c, None);
    let introduction = upstream.introduce(Instant::now() + Duration::from_secs(10)).await.unwrap();
    assert_eq!(introduction.version, ProtocolVersion::V2024_11_05);
    let calls = (0..20).map(|n| {
        upstream.request(request("tools/call", Some(&format!(r#"{{"name":"a","arguments":{{"n":{n}}}}}"#))))
    });
    for (n, reply) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(text(&reply.unwrap()), format!(r#"{{"n":{n}}}"#));
    }
    assert_eq!(peer.seen().last().unwrap().path, "/messages?session=1");
    // The stream ends under a call: that one is lost, the next one opens another.
    let lost = upstream.request(request("tools/call", Some(r#"{"name":"never"}"#)));
    let (lost, ()) = futures_util::join!(lost, async {
        peer.until(|seen| seen.body["params"]["name"] == "never").await;
        pens.lock().unwrap().clear();
    });
    let error = refusal(lost);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamLost, Sent::Maybe));
    let again = upstream.request(request("tools/call", Some(r#"{"name":"a","arguments":{"n":1}}"#))).await;
    assert_eq!(text(&again.unwrap()), r#"{"n":1}"#);
}

#[tokio::test]
async fn a_stream_cannot_send_us_and_our_credentials_to_another_server() {
    let (peer, _pens) = oldest("http://169.254.169.254/latest").await;
    let upstream = peer.upstream(Wire::H2c, None);
    let error = refusal(upstream.request(request("tools/list", None)).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamProtocol, Sent::No));
    assert!(error.message.contains("another server"), "{}", error.message);
}

#[tokio::test]
async fn what_the_oldest_transport_announces_comes_over_its_one_stream() {
    let (peer, pens) = oldest("/messages").await;
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.introduce(Instant::now() + Duration::from_secs(10)).await.unwrap();
    let mut changes = upstream.changes().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    assert_eq!(upstream.watch_resources(vec!["x://a".to_owned()], deadline).await, ["x://a"]);
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    let pen = pens.lock().unwrap().last().unwrap().clone();
    pen.send(event(&changed)).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Tools);
    // The server restarts: the stream is opened again, and the resource asked for again, though nobody calls.
    drop(pen);
    pens.lock().unwrap().clear();
    let again = async {
        loop {
            let subscribed = peer.seen().iter().filter(|seen| seen.method() == "resources/subscribe").count();
            if subscribed == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("it is subscribed to again");
    assert_eq!(peer.methods().iter().filter(|method| *method == "server/discover").count(), 1);
}
