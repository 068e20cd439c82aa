use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Pool, PoolConfig, Protocol, Sent, TlsConfig, Wire};
use serde_json::json;
use tokio::time::Instant;

use super::super::testing::{
    Ears, Peer, Reply, Seen, answer, event, json_answer, raw, request, request_in, stream,
};
use super::super::{HttpTarget, HttpUpstream, Upstream, UpstreamError, UpstreamReply};
use crate::{CallContext, CallErrorKind};

fn now(reply: Reply) -> BoxFuture<'static, Reply> {
    async move { reply }.boxed()
}

/// Answers `server/discover`; leaves everything else to `script`.
fn modern(
    script: impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
) -> impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static {
    move |seen| match seen.method() {
        "server/discover" => {
            let result =
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}});
            now(json_answer(200, &seen.result(&result)))
        }
        _ => script(seen),
    }
}

/// Refuses `server/discover`, hands out session ids; leaves everything else to `script`.
fn legacy(
    script: impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
) -> impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static {
    let sessions = AtomicUsize::new(0);
    move |seen| match seen.method() {
        "server/discover" => now(json_answer(
            400,
            &json!({"jsonrpc": "2.0", "id": null,
            "error": {"code": -32000, "message": "Bad Request: Server not initialized"}}),
        )),
        "initialize" => {
            let number = sessions.fetch_add(1, Ordering::SeqCst) + 1;
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"logging": {}},
                "serverInfo": {"name": "old", "version": "1"}});
            let headers = [("content-type", "application/json"), ("mcp-session-id", &*format!("s{number}"))];
            now(answer(200, &headers, seen.result(&result).to_string()))
        }
        "notifications/initialized" | "notifications/cancelled" => now(answer(202, &[], "")),
        _ => script(seen),
    }
}

fn text(reply: &UpstreamReply) -> String {
    reply.outcome.as_ref().unwrap().get().to_owned()
}

fn refusal(outcome: Result<UpstreamReply, UpstreamError>) -> UpstreamError {
    outcome.expect_err("an error")
}

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
            let notice = |method: &str, params: serde_json::Value| {
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
async fn several_values_in_a_json_body_are_a_stream_of_messages() {
    let peer = Peer::start(modern(|seen| {
        let notice = json!({"jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "error", "data": 1}});
        let body = format!("{notice}\n{}\n", seen.result(&json!({"ok": 1})));
        now(answer(200, &[("content-type", "application/json; charset=utf-8")], body))
    }))
    .await;
    let ears = Arc::new(Ears::default());
    let context = CallContext {
        log_level: Some("debug".to_owned()),
        events: Some(ears.clone()),
        ..CallContext::default()
    };
    let upstream = peer.upstream(Wire::Http1, None);
    let reply = upstream.request(request_in("tools/call", Some(r#"{"name":"a"}"#), context)).await.unwrap();
    assert_eq!(text(&reply), r#"{"ok":1}"#);
    assert_eq!(ears.heard.lock().unwrap().len(), 1);
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
async fn errors_about_the_hop_are_never_the_callers() {
    for code in [-32020, -32022] {
        let peer = Peer::start(modern(move |seen| now(json_answer(400, &seen.error(code, "hm"))))).await;
        let upstream = peer.upstream(Wire::H2c, None);
        let error = refusal(upstream.request(request("tools/list", None)).await);
        assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamProtocol, Sent::No), "{code}");
    }
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
async fn a_server_may_ask_the_caller_during_a_call() {
    let (told, mut hears) = tokio::sync::mpsc::channel::<serde_json::Value>(8);
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

#[tokio::test]
async fn a_broken_stream_is_taken_up_where_it_broke() {
    let peer = Peer::start(legacy(|seen| {
        if seen.http == http::Method::GET {
            let body =
                format!("id: e3\n{}", event(&json!({"jsonrpc": "2.0", "id": 3, "result": {"late": 1}})));
            return now(answer(200, &[("content-type", "text/event-stream")], body));
        }
        now(answer(200, &[("content-type", "text/event-stream")], "id: e2\nretry: 50\ndata:\n\n"))
    }))
    .await;
    let upstream = peer.upstream(Wire::H2c, None);
    let started = Instant::now();
    let mut call = request("tools/call", Some(r#"{"name":"a"}"#));
    call.deadline = started + Duration::from_secs(10);
    let reply = upstream.request(call).await.unwrap();
    assert_eq!(text(&reply), r#"{"late":1}"#);
    assert!(started.elapsed() >= Duration::from_millis(50));
    let get = peer.until(|seen| seen.http == http::Method::GET).await;
    assert_eq!(get.header("last-event-id"), Some("e2"));
    assert_eq!(get.header("mcp-session-id"), Some("s1"));
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
    let pool =
        mpe_transport::Pool::new(mpe_transport::PoolConfig::default(), mpe_transport::TlsConfig::default());
    let url = format!("http://{address}/mcp").parse().unwrap();
    let target =
        super::HttpTarget { url: &url, headers: &[], wire: Wire::Auto, pinned: None, credentials: None };
    let upstream = super::HttpUpstream::new(&pool.unwrap(), &target).unwrap();
    let error = refusal(upstream.request(request("tools/list", None)).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamUnreachable, Sent::No));
}

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
    assert_eq!(changes.try_recv().unwrap(), super::Change::Tools);
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
async fn a_pool_without_a_place_is_our_overload_and_not_the_servers_outage() {
    let mut config = PoolConfig::default();
    config.max_waiting = 0;
    let pool = Pool::new(config, TlsConfig::default()).unwrap();
    let url = "http://127.0.0.1:9/mcp".parse().unwrap();
    let pinned = Some(ProtocolVersion::LATEST);
    let target = HttpTarget { url: &url, headers: &[], wire: Wire::Http1, pinned, credentials: None };
    let upstream = HttpUpstream::new(&pool, &target).unwrap();
    let error = refusal(upstream.request(request("tools/call", None)).await);
    assert_eq!((error.kind, error.sent), (CallErrorKind::Overloaded, Sent::No));
}

/// A modern server whose announcements the test writes: each listen hands over a pen.
async fn announcing()
-> (Peer, tokio::sync::mpsc::Receiver<(serde_json::Value, tokio::sync::mpsc::Sender<String>)>) {
    let (pens, receiver) = tokio::sync::mpsc::channel(8);
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
            pen.try_send(event(&acknowledged)).unwrap();
            pens.try_send((asked, pen)).unwrap();
            now(reply)
        }
        _ => now(json_answer(200, &seen.result(&json!({})))),
    })
    .await;
    (peer, receiver)
}

async fn next<T>(receiver: &mut tokio::sync::mpsc::Receiver<T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await.expect("in time").expect("something")
}

#[tokio::test]
async fn a_modern_server_is_listened_to_as_long_as_somebody_wants_to_hear() {
    let (peer, mut pens) = announcing().await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    let (asked, pen) = next(&mut pens).await;
    assert_eq!(asked, json!({"toolsListChanged": true}));
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    pen.send(event(&changed)).await.unwrap();
    assert_eq!(next(&mut changes).await, super::Change::Tools);
    // The stream breaks: it is opened again, and what may have been missed is announced.
    drop(pen);
    let (_, _pen) = next(&mut pens).await;
    assert_eq!(next(&mut changes).await, super::Change::Tools);
    assert_eq!(next(&mut changes).await, super::Change::Prompts);
    assert_eq!(next(&mut changes).await, super::Change::Resources);
}

#[tokio::test]
async fn watched_resources_are_part_of_what_is_listened_to() {
    let (peer, mut pens) = announcing().await;
    let upstream = peer.upstream(Wire::H2c, None);
    let mut changes = upstream.changes().unwrap();
    let (_, _first) = next(&mut pens).await;
    let armed = upstream.watch_resources(vec!["x://a".to_owned()], Instant::now() + Duration::from_secs(10));
    assert_eq!(armed.await, ["x://a"]);
    let (asked, pen) = next(&mut pens).await;
    assert_eq!(asked["resourceSubscriptions"], json!(["x://a"]));
    let updated =
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x://a"}});
    pen.send(event(&updated)).await.unwrap();
    let found = async {
        loop {
            if next(&mut changes).await == super::Change::Resource("x://a".to_owned()) {
                return;
            }
        }
    };
    found.await;
}

#[tokio::test]
async fn a_legacy_session_has_a_stream_for_what_belongs_to_no_call() {
    let (pens, mut receiver) = tokio::sync::mpsc::channel(8);
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
    assert_eq!(next(&mut changes).await, super::Change::Tools);
    let armed =
        upstream.watch_resources(vec!["x://a".to_owned()], Instant::now() + Duration::from_secs(10)).await;
    assert_eq!(armed, ["x://a"]);
    let subscribed = peer.until(|seen| seen.method() == "resources/subscribe").await;
    assert_eq!(subscribed.body["params"]["uri"], "x://a");
}

#[tokio::test]
async fn a_question_on_the_sessions_own_stream_goes_to_the_only_call() {
    let (told, mut hears) = tokio::sync::mpsc::channel::<serde_json::Value>(8);
    let pens = Arc::new(std::sync::Mutex::new(None));
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

/// A server of 2024-11-05: messages go to an address that the stream names, replies come on the stream.
async fn oldest(
    endpoint: &'static str,
) -> (Peer, Arc<std::sync::Mutex<Vec<tokio::sync::mpsc::Sender<String>>>>) {
    let pens = Arc::new(std::sync::Mutex::new(Vec::<tokio::sync::mpsc::Sender<String>>::new()));
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
            "initialize" => seen.result(&json!({"protocolVersion": "2024-11-05", "capabilities": {}})),
            "tools/call" if seen.body["params"]["name"] == "never" => return now(answer(202, &[], "")),
            "tools/call" => seen.result(&seen.body["params"]["arguments"]),
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
async fn sessions_lost_under_two_hundred_calls_make_no_call_run_twice() {
    let ran = Arc::new(std::sync::Mutex::new(Vec::new()));
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
    let (pens, mut receiver) = tokio::sync::mpsc::channel(8);
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
