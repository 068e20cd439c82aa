//! Requests of the modern era, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Pool, PoolConfig, Protocol, Sent, TlsConfig, Wire};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::super::testing::{
    Ears, Peer, answer, event, json_answer, raw, request, request_in, stream,
};
use super::super::super::{HttpTarget, HttpUpstream, Upstream};
use super::{modern, now, refusal, text};
use crate::{CallContext, CallErrorKind};

#[tokio::test]
async fn a_modern_call_says_the_same_in_headers_and_body() {
    for wire in [Wire::H2c, Wire::Http1] {
        let peer = Peer::start(modern(|seen| {
            let body = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"z\":1.50,\"a\":[ ],\"resultType\":\"complete\"}}}}",
                seen.id()
            );
            now(answer(200, &[("content-type", "application/json")], body))
        }))
        .await;
        let upstream = peer.upstream(wire, None);
        let mut call = request("tools/call", Some(r#"{"name":"größe","arguments":{"n":1.0}}"#));
        call.mirrored = vec![("Region".to_owned(), " eu".to_owned())];
        let reply = upstream.request(call).await.unwrap();
        assert_eq!(text(&reply), r#"{"z":1.50,"a":[ ],"resultType":"complete"}"#);
        let expected = if wire == Wire::H2c { Protocol::Http2 } else { Protocol::Http1 };
        assert_eq!(reply.protocol, Some(expected));
        assert_eq!(peer.methods(), ["server/discover", "tools/call"]);
        let seen = &peer.seen()[1];
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(seen.header("mcp-method"), Some("tools/call"));
        assert_eq!(seen.header("mcp-name"), Some("=?base64?Z3LDtsOfZQ==?="));
        assert_eq!(seen.header("mcp-param-region"), Some("=?base64?IGV1?="));
        assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
        let meta = &seen.body["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "mcp-proxy-engine");
        assert!(meta.get("progressToken").is_none());
        assert_eq!(seen.body["params"]["arguments"].to_string(), r#"{"n":1.0}"#);
    }
}

#[tokio::test]
async fn input_responses_and_state_go_up_as_they_came() {
    let peer = Peer::start(modern(|seen| now(json_answer(200, &seen.result(&json!({})))))).await;
    let context = CallContext {
        capabilities: Some(raw(&json!({"elicitation": {}}))),
        client_info: Some(raw(&json!({"name": "c", "version": "2"}))),
        input_responses: Some(raw(&json!({"k": {"action": "accept"}}))),
        request_state: Some("st\u{e4}te\n".to_owned()),
        meta: Some(raw(&json!({"traceparent": "00-x"}))),
        ..CallContext::default()
    };
    let upstream = peer.upstream(Wire::H2c, Some(ProtocolVersion::V2026_07_28));
    upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await.unwrap();
    let params = &peer.seen()[1].body["params"];
    assert_eq!(params["inputResponses"], json!({"k": {"action": "accept"}}));
    assert_eq!(params["requestState"], "st\u{e4}te\n");
    let meta = &params["_meta"];
    assert_eq!(meta["traceparent"], "00-x");
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({"elicitation": {}}));
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "c");
}

#[tokio::test]
async fn progress_and_logs_reach_the_caller_in_order_and_nothing_else_does() {
    let peer = Peer::start(modern(|seen| {
        let (sender, reply) = stream("text/event-stream");
        let token = seen.body["params"]["_meta"]["progressToken"].clone();
        let result = seen.result(&json!({"done": true}));
        tokio::spawn(async move {
            let notice = |method: &str, params: Value| {
                event(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
            };
            for chunk in [
                ":\n\n".to_owned(),
                notice("notifications/progress", json!({"progressToken": token, "progress": 1, "total": 2})),
                notice("notifications/progress", json!({"progressToken": "token-abc"})),
                notice("notifications/progress", json!({"progressToken": token, "progress": 1})),
                notice("notifications/message", json!({"level": "debug", "data": "no"})),
                notice("notifications/message", json!({"level": "error", "data": "yes"})),
                event(&json!({"jsonrpc": "2.0", "id": 999, "result": {"not": "mine"}})),
                event(&json!({"jsonrpc": "2.0", "id": "x", "method": "ping"})),
                event(&result),
                event(&result),
            ] {
                let _ = sender.send(chunk).await;
            }
        });
        now(reply)
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
    let reply = upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await.unwrap();
    assert_eq!(text(&reply), r#"{"done":true}"#);
    let heard = ears.heard.lock().unwrap().clone();
    let pair = |method: &str, params: &str| (method.to_owned(), params.to_owned());
    assert_eq!(
        heard,
        [
            pair("notifications/progress", r#"{"progress":1,"total":2}"#),
            pair("notifications/message", r#"{"level":"error","data":"yes"}"#),
        ]
    );
}

#[tokio::test]
async fn a_servers_own_error_arrives_with_code_and_data() {
    let peer = Peer::start(modern(|seen| {
        let mut error = seen.error(-32602, "no such tool");
        error["error"]["data"] = json!({"n": 1});
        now(json_answer(400, &error))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let reply = upstream.request(request("tools/call", Some(r#"{"name":"a"}"#))).await.unwrap();
    let error = reply.outcome.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (-32602, "no such tool"));
    assert_eq!(error.data.unwrap().get(), r#"{"n":1}"#);
}

#[tokio::test]
async fn a_refused_revision_is_never_the_callers_error() {
    let peer = Peer::start(modern(move |seen| now(json_answer(400, &seen.error(-32022, "hm"))))).await;
    let upstream = peer.upstream(Wire::H2c, None);
    let error = refusal(upstream.request(request("tools/list", None)).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamProtocol, Sent::No));
    // It is found out anew; the same revision again is no reason to send the request again.
    assert_eq!(peer.methods(), ["server/discover", "tools/list", "server/discover"]);
}

#[tokio::test]
async fn a_refused_revision_is_negotiated_anew_and_the_call_sent_once_more() {
    let peer = Peer::start(|seen| {
        let is_modern = seen.header("mcp-protocol-version") == Some("2026-07-28");
        now(match seen.method() {
            "server/discover" if is_modern => {
                let mut error = seen.error(-32022, "no more");
                error["error"]["data"] = json!({"supported": ["2025-06-18"], "requested": "2026-07-28"});
                json_answer(400, &error)
            }
            "initialize" => {
                assert_eq!(seen.body["params"]["protocolVersion"], "2025-06-18");
                let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
                json_answer(200, &seen.result(&result))
            }
            _ => json_answer(200, &seen.result(&json!({"ok": 1}))),
        })
    })
    .await;
    let reply = peer.upstream(Wire::H2c, None).request(request("tools/call", Some(r#"{"name":"a"}"#))).await;
    assert_eq!(text(&reply.unwrap()), r#"{"ok":1}"#);
}

#[tokio::test]
async fn headers_that_disagree_with_the_body_are_told_to_whoever_can_build_them_anew() {
    let peer = Peer::start(modern(move |seen| now(json_answer(400, &seen.error(-32020, "hm"))))).await;
    let reply = peer.upstream(Wire::H2c, None).request(request("tools/list", None)).await.unwrap();
    assert_eq!(reply.outcome.unwrap_err().code, -32020);
}

#[tokio::test]
async fn a_task_is_handed_on_and_asked_about_by_its_id() {
    let task =
        r#"{"resultType":"task","taskId":"t/\u00fc 1","status":"working","ttlMs":null,"pollIntervalMs":5}"#;
    let peer = Peer::start(modern(move |seen| {
        let body = match seen.method() {
            "tools/call" => format!(r#"{{"jsonrpc":"2.0","id":{},"result":{task}}}"#, seen.id()),
            _ => seen.result(&json!({"resultType": "complete"})).to_string(),
        };
        now(answer(200, &[("content-type", "application/json")], body))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let reply = upstream.request(request("tools/call", Some(r#"{"name":"slow_compute"}"#))).await.unwrap();
    assert_eq!(text(&reply), task);
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = r#"{"taskId":"t/\u00fc 1","inputResponses":{"k":{"action":"accept"}}}"#;
        upstream.request(request(method, Some(params))).await.unwrap();
        let seen = peer.seen().pop().unwrap();
        assert_eq!(seen.header("mcp-method"), Some(method));
        assert_eq!(seen.header("mcp-name"), Some("=?base64?dC/DvCAx?="));
        assert_eq!(seen.body["params"]["taskId"], "t/\u{fc} 1");
        assert_eq!(seen.body["params"]["inputResponses"], json!({"k": {"action": "accept"}}));
    }
}

#[tokio::test]
async fn what_the_server_says_of_keeping_a_result_arrives_as_it_stands() {
    let result = r#"{"resultType":"complete","contents":[],"ttlMs":60000,"cacheScope":"public"}"#;
    let peer = Peer::start(modern(move |seen| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, seen.id());
        now(answer(200, &[("content-type", "application/json")], body))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let reply = upstream.request(request("resources/read", Some(r#"{"uri":"x://a"}"#))).await.unwrap();
    assert_eq!(text(&reply), result);
    assert_eq!(peer.seen()[1].header("mcp-name"), Some("x://a"));
}

#[tokio::test]
async fn a_status_without_a_message_says_whose_turn_it_is() {
    for (status, kind, sent) in [
        (401, CallErrorKind::UpstreamAuth, Sent::No),
        (429, CallErrorKind::UpstreamStatus, Sent::No),
        (503, CallErrorKind::UpstreamStatus, Sent::Maybe),
    ] {
        let peer = Peer::start(modern(move |_| now(answer(status, &[("retry-after", "7")], "<html>")))).await;
        let upstream = peer.upstream(Wire::H2c, None);
        let error = refusal(upstream.request(request("tools/list", None)).await);
        assert_eq!((error.kind, error.sent), (kind, sent));
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn a_deadline_ends_a_silent_call() {
    let peer = Peer::start(modern(|_| std::future::pending().boxed())).await;
    let upstream = peer.upstream(Wire::H2c, None);
    upstream.introduce(Instant::now() + Duration::from_secs(10)).await.unwrap();
    let mut call = request("tools/list", None);
    call.deadline = Instant::now() + Duration::from_millis(100);
    let error = refusal(upstream.request(call).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::DeadlineExceeded, Sent::Maybe));
}

#[tokio::test]
async fn an_unreachable_server_has_seen_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let pool = Pool::new(PoolConfig::default(), TlsConfig::default());
    let url = format!("http://{address}/mcp").parse().unwrap();
    let target = HttpTarget { url: &url, headers: &[], wire: Wire::Auto, pinned: None, authorization: None };
    let upstream = HttpUpstream::new(&pool.unwrap(), &target).unwrap();
    let error = refusal(upstream.request(request("tools/list", None)).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamUnreachable, Sent::No));
}

#[tokio::test]
async fn a_pool_without_a_place_is_our_overload_and_not_the_servers_outage() {
    let mut config = PoolConfig::default();
    config.max_waiting = 0;
    let pool = Pool::new(config, TlsConfig::default()).unwrap();
    let url = "http://127.0.0.1:9/mcp".parse().unwrap();
    let pinned = Some(ProtocolVersion::LATEST);
    let target = HttpTarget { url: &url, headers: &[], wire: Wire::Http1, pinned, authorization: None };
    let upstream = HttpUpstream::new(&pool, &target).unwrap();
    let error = refusal(upstream.request(request("tools/call", None)).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::Overloaded, Sent::No));
}
