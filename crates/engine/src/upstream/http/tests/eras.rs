//! Servers of both eras, and servers that change theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use mpe_transport::Wire;
use serde_json::json;
use tokio::time::Instant;

use super::super::super::testing::{Peer, Reply, Seen, answer, json_answer, raw, request_in};
use super::super::super::{HttpUpstream, Upstream, UpstreamRequest};
use super::{now, text};
use crate::{CallContext, CallEvents};

/// What a server speaks at a moment.
#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Both,
    Legacy,
    LegacyWithoutSessions,
    Modern,
}

/// A server that speaks what `speaks` says at the moment of each request; tools answer with the era they are called in.
async fn server(speaks: impl Fn() -> Speaks + Send + Sync + 'static) -> Peer {
    Peer::start(move |seen| now(reply(speaks(), &seen))).await
}

fn reply(speaks: Speaks, seen: &Seen) -> Reply {
    let is_modern = seen.body["params"]["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some();
    if seen.http == http::Method::DELETE {
        return answer(200, &[], "");
    }
    if seen.http != http::Method::POST {
        return answer(405, &[], "");
    }
    match (speaks, is_modern, seen.method()) {
        (Speaks::Legacy | Speaks::LegacyWithoutSessions, true, _) => json_answer(
            400,
            &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "Bad Request"}}),
        ),
        (_, true, "server/discover") => json_answer(
            200,
            // A server may serve what it does not list.
            &seen.result(&json!({"supportedVersions": ["2026-07-28"], "capabilities": {}})),
        ),
        (_, true, _) => json_answer(200, &seen.result(&json!({"era": "modern"}))),
        (Speaks::Modern, false, "initialize") => json_answer(404, &seen.error(-32601, "no such method")),
        (Speaks::Modern, false, _) => json_answer(400, &seen.error(-32602, "no _meta")),
        (_, false, "initialize") => {
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"logging": {}}});
            let session = if speaks == Speaks::LegacyWithoutSessions { "" } else { "s1" };
            let headers = [("content-type", "application/json"), ("mcp-session-id", session)];
            answer(200, &headers[..2 - usize::from(session.is_empty())], seen.result(&result).to_string())
        }
        (_, false, method) if method.starts_with("notifications/") => answer(202, &[], ""),
        (_, false, _) => json_answer(200, &seen.result(&json!({"era": "legacy"}))),
    }
}

fn call(era: Option<Era>) -> UpstreamRequest {
    request_in("tools/call", Some(r#"{"name":"a"}"#), CallContext { era, ..CallContext::default() })
}

async fn era_of_call(upstream: &HttpUpstream, era: Option<Era>) -> String {
    text(&upstream.request(call(era)).await.unwrap())
}

const LEGACY: &str = r#"{"era":"legacy"}"#;
const MODERN: &str = r#"{"era":"modern"}"#;

fn count(peer: &Peer, method: &str) -> usize {
    peer.methods().iter().filter(|seen| *seen == method).count()
}

#[tokio::test]
async fn a_server_of_both_eras_is_spoken_to_in_that_of_each_caller() {
    let peer = server(|| Speaks::Both).await;
    let upstream = peer.upstream(Wire::H2c, None);
    assert_eq!(era_of_call(&upstream, None).await, MODERN);
    let calls = (0..20).map(|_| era_of_call(&upstream, Some(Era::Legacy)));
    assert!(join_all(calls).await.iter().all(|era| era == LEGACY));
    assert_eq!(era_of_call(&upstream, Some(Era::Modern)).await, MODERN);
    assert_eq!((count(&peer, "server/discover"), count(&peer, "initialize")), (1, 1));
    let last_legacy = peer.seen().into_iter().rfind(|seen| seen.header("mcp-session-id").is_some()).unwrap();
    assert_eq!(last_legacy.header("mcp-protocol-version"), Some("2025-11-25"));
    upstream.close(Instant::now() + Duration::from_secs(5)).await;
    peer.until(|seen| seen.http == http::Method::DELETE).await;
}

#[tokio::test]
async fn an_era_that_nobody_asks_for_costs_nothing() {
    let peer = server(|| Speaks::Both).await;
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.introduce(Instant::now() + Duration::from_secs(10)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(era_of_call(&upstream, Some(Era::Modern)).await, MODERN);
        assert_eq!(era_of_call(&upstream, None).await, MODERN);
    }
    assert_eq!(count(&peer, "initialize"), 0);
}

#[tokio::test]
async fn a_server_of_the_modern_era_alone_is_asked_once_and_serves_legacy_callers_all_the_same() {
    let peer = server(|| Speaks::Modern).await;
    let upstream = peer.upstream(Wire::H2c, None);
    let calls = (0..20).map(|_| era_of_call(&upstream, Some(Era::Legacy)));
    assert!(join_all(calls).await.iter().all(|era| era == MODERN));
    assert_eq!(era_of_call(&upstream, Some(Era::Legacy)).await, MODERN);
    assert_eq!(count(&peer, "initialize"), 1);
}

#[tokio::test]
async fn a_server_of_the_legacy_era_serves_modern_callers_too() {
    let peer = server(|| Speaks::Legacy).await;
    let upstream = peer.upstream(Wire::H2c, None);
    assert_eq!(era_of_call(&upstream, Some(Era::Modern)).await, LEGACY);
    assert_eq!(era_of_call(&upstream, Some(Era::Legacy)).await, LEGACY);
    assert_eq!((count(&peer, "server/discover"), count(&peer, "initialize")), (1, 1));
}

#[tokio::test]
async fn a_pin_holds_for_callers_of_any_era() {
    for (pinned, expected) in [
        (ProtocolVersion::V2026_07_28, MODERN),
        (ProtocolVersion::V2025_11_25, LEGACY),
        (ProtocolVersion::V2025_06_18, LEGACY),
    ] {
        let peer = Peer::start(move |seen| {
            if seen.method() == "initialize" {
                // An exact pin is what is asked for.
                assert_eq!(seen.body["params"]["protocolVersion"], pinned.as_str());
                let result = json!({"protocolVersion": pinned.as_str(), "capabilities": {}});
                return now(json_answer(200, &seen.result(&result)));
            }
            now(reply(Speaks::Both, &seen))
        })
        .await;
        let upstream = peer.upstream(Wire::H2c, Some(pinned));
        for era in [None, Some(Era::Legacy), Some(Era::Modern)] {
            assert_eq!(era_of_call(&upstream, era).await, expected, "{pinned} {era:?}");
        }
        assert_eq!(count(&peer, "initialize"), usize::from(expected == LEGACY));
    }
}

#[tokio::test]
async fn the_other_era_introduces_itself_where_it_is_spoken() {
    for (speaks, versions) in [
        (Speaks::Both, [Some(ProtocolVersion::V2026_07_28), Some(ProtocolVersion::V2025_11_25)]),
        (Speaks::Modern, [Some(ProtocolVersion::V2026_07_28), None]),
        (Speaks::Legacy, [None, Some(ProtocolVersion::V2025_11_25)]),
    ] {
        let peer = server(move || speaks).await;
        let upstream = peer.upstream(Wire::H2c, None);
        let deadline = Instant::now() + Duration::from_secs(10);
        for (era, expected) in [Era::Modern, Era::Legacy].into_iter().zip(versions) {
            let found = upstream.introduce_in(era, deadline).await.unwrap();
            assert_eq!(found.map(|introduction| introduction.version), expected);
        }
    }
}

/// A server that speaks one thing at first and another later.
async fn changing(before: Speaks, after: Speaks) -> (Peer, HttpUpstream, impl Fn()) {
    let stage = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&stage);
    let peer = server(move || if at.load(Ordering::SeqCst) == 0 { before } else { after }).await;
    let upstream = peer.upstream(Wire::H2c, None);
    (peer, upstream, move || stage.store(1, Ordering::SeqCst))
}

#[tokio::test]
async fn a_server_that_was_replaced_by_an_older_one_is_found_out_by_the_call_that_notices() {
    let (peer, upstream, replace) = changing(Speaks::Both, Speaks::Legacy).await;
    assert_eq!(era_of_call(&upstream, None).await, MODERN);
    replace();
    let calls = (0..20).map(|_| era_of_call(&upstream, Some(Era::Modern)));
    assert!(join_all(calls).await.iter().all(|era| era == LEGACY));
    assert_eq!(count(&peer, "server/discover"), 2);
}

#[tokio::test]
async fn a_server_that_was_replaced_by_a_newer_one_is_found_out_by_the_call_that_notices() {
    // Without sessions nothing is lost at the server's end: the refusal of the request is all that tells.
    for before in [Speaks::LegacyWithoutSessions, Speaks::Legacy] {
        let (peer, upstream, replace) = changing(before, Speaks::Modern).await;
        assert_eq!(era_of_call(&upstream, None).await, LEGACY);
        replace();
        let calls = (0..20).map(|_| era_of_call(&upstream, Some(Era::Legacy)));
        assert!(join_all(calls).await.iter().all(|era| era == MODERN));
        assert_eq!(count(&peer, "server/discover"), 2);
    }
}

#[tokio::test]
async fn a_lost_session_is_a_reason_to_ask_what_the_server_speaks_now() {
    let stage = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&stage);
    let peer = Peer::start(move |seen| {
        let is_new = at.load(Ordering::SeqCst) == 1;
        if is_new && seen.header("mcp-session-id").is_some() {
            return now(answer(404, &[], ""));
        }
        now(reply(if is_new { Speaks::Both } else { Speaks::Legacy }, &seen))
    })
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    assert_eq!(era_of_call(&upstream, None).await, LEGACY);
    stage.store(1, Ordering::SeqCst);
    assert_eq!(era_of_call(&upstream, None).await, MODERN);
}

#[tokio::test]
async fn a_legacy_era_that_a_server_gives_up_is_left_without_losing_a_call() {
    let stage = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&stage);
    let peer = Peer::start(move |seen| {
        let is_over = at.load(Ordering::SeqCst) == 1;
        if is_over && seen.header("mcp-session-id").is_some() {
            return now(answer(404, &[], ""));
        }
        now(reply(if is_over { Speaks::Modern } else { Speaks::Both }, &seen))
    })
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    assert_eq!(era_of_call(&upstream, Some(Era::Legacy)).await, LEGACY);
    stage.store(1, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(era_of_call(&upstream, Some(Era::Legacy)).await, MODERN);
    }
    assert_eq!(count(&peer, "initialize"), 2);
}

#[tokio::test]
async fn a_doubtful_refusal_of_a_server_that_is_what_it_was_is_the_answer_and_is_not_looked_into_every_time()
{
    let peer = Peer::start(move |seen| match seen.method() {
        "tools/call" => now(answer(404, &[], "not here")),
        _ => now(reply(Speaks::Both, &seen)),
    })
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    for _ in 0..5 {
        upstream.request(call(None)).await.unwrap_err();
    }
    assert_eq!((count(&peer, "tools/call"), count(&peer, "server/discover")), (5, 2));
}

#[tokio::test]
async fn a_legacy_caller_with_capabilities_has_a_session_that_declares_them() {
    #[derive(Default)]
    struct Nobody;
    impl CallEvents for Nobody {
        fn notify(&self, _: mpe_mcp_protocol::jsonrpc::Notification) {}
        fn ask<'a>(
            &'a self,
            _: &'a str,
            _: Option<Box<serde_json::value::RawValue>>,
        ) -> futures_util::future::BoxFuture<
            'a,
            Result<Box<serde_json::value::RawValue>, mpe_mcp_protocol::jsonrpc::ErrorObject>,
        > {
            Box::pin(std::future::pending())
        }
    }
    let peer = server(|| Speaks::Both).await;
    let upstream = peer.upstream(Wire::H2c, None);
    for capabilities in
        [r#"{"sampling":{},"elicitation":{"form":{}}}"#, r#"{ "elicitation": {"form": {}}, "sampling": {} }"#]
    {
        let context = CallContext {
            era: Some(Era::Legacy),
            capabilities: Some(raw(&serde_json::from_str(capabilities).unwrap())),
            events: Some(Arc::new(Nobody)),
            ..CallContext::default()
        };
        let reply = upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await;
        assert_eq!(text(&reply.unwrap()), LEGACY);
    }
    let seen = peer.seen();
    let declared: Vec<_> = seen.iter().filter(|seen| seen.method() == "initialize").collect();
    // One to find out, one for both callers: the order of members makes no difference.
    assert_eq!(declared.len(), 2);
    let expected = json!({"elicitation": {"form": {}}, "sampling": {}});
    assert_eq!(declared[1].body["params"]["capabilities"], expected);
}
