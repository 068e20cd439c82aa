//! How servers of the legacy era refuse `server/discover` in the wild. All of it means: begin with `initialize`.

use std::time::Duration;

use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::Wire;
use serde_json::json;
use tokio::time::Instant;

use super::super::super::Upstream;
use super::super::super::testing::{Peer, Reply, Seen, answer, json_answer, request};
use super::{now, text};

/// A server of 2025-11-25 that refuses what it does not know in this way. Is found, introduces itself and serves a call.
async fn means_legacy(refusal: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
    let peer = Peer::start(move |seen| match seen.method() {
        "server/discover" => now(refusal(&seen)),
        "initialize" => {
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            now(json_answer(200, &seen.result(&result)))
        }
        "notifications/initialized" => now(answer(202, &[], "")),
        _ => now(json_answer(200, &seen.result(&json!({"ok": 1})))),
    })
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let introduction = upstream.introduce(Instant::now() + Duration::from_secs(10)).await.unwrap();
    assert_eq!(introduction.version, ProtocolVersion::V2025_11_25);
    let reply = upstream.request(request("tools/call", Some(r#"{"name":"a"}"#))).await.unwrap();
    assert_eq!(text(&reply), r#"{"ok":1}"#);
    assert_eq!(peer.methods(), ["server/discover", "initialize", "notifications/initialized", "tools/call"]);
}

#[tokio::test]
async fn a_discover_answered_with_method_not_found_means_legacy() {
    means_legacy(|seen| json_answer(200, &seen.error(-32601, "Method not found"))).await;
    means_legacy(|seen| json_answer(404, &seen.error(-32601, "Method not found"))).await;
}

#[tokio::test]
async fn a_discover_answered_with_invalid_params_means_legacy() {
    means_legacy(|seen| json_answer(200, &seen.error(-32602, "Invalid request parameters"))).await;
    means_legacy(|seen| json_answer(400, &seen.error(-32602, "Invalid request parameters"))).await;
}

#[tokio::test]
async fn a_discover_answered_with_400_and_minus_32000_and_no_id_means_legacy() {
    means_legacy(|_| {
        let message = "Bad Request: Server not initialized";
        json_answer(
            400,
            &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": message}}),
        )
    })
    .await;
}

#[tokio::test]
async fn a_discover_answered_with_400_and_invalid_request_means_legacy() {
    means_legacy(|seen| json_answer(400, &seen.error(-32600, "Bad Request: Missing session ID"))).await;
    means_legacy(|_| {
        json_answer(
            400,
            &json!({"jsonrpc": "2.0", "id": "server-error",
            "error": {"code": -32600, "message": "Bad Request: Missing session ID"}}),
        )
    })
    .await;
}

#[tokio::test]
async fn a_discover_answered_with_a_400_that_is_no_json_rpc_means_legacy() {
    means_legacy(|_| answer(400, &[("content-type", "text/plain")], "Invalid session ID")).await;
    means_legacy(|_| answer(400, &[("content-type", "application/json")], r#"{"detail":"no"}"#)).await;
    means_legacy(|_| answer(400, &[("content-type", "text/html")], "<h1>Bad Request</h1>")).await;
    means_legacy(|_| answer(400, &[], "")).await;
}

#[tokio::test]
async fn a_discover_answered_with_something_else_means_legacy() {
    means_legacy(|seen| json_answer(200, &seen.result(&json!({})))).await;
    means_legacy(|_| answer(202, &[], "")).await;
    means_legacy(|_| answer(415, &[], "")).await;
}
