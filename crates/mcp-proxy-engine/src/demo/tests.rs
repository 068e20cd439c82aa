//! The demo server, spoken to over one HTTP/2 connection.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Demo;

/// A client of one HTTP/2 connection without TLS.
struct Client {
    sender: http2::SendRequest<Full<Bytes>>,
    url: String,
}

impl Client {
    async fn connect(demo: &Demo) -> Self {
        let stream = TcpStream::connect(demo.address).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, url: demo.url() }
    }

    async fn post(&self, headers: &[(&str, &str)], body: &Value) -> (StatusCode, String) {
        let mut request = Request::post(&self.url).header("accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let response = self.sender.clone().send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn legacy(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (status, body) = self.post(&[("mcp-protocol-version", "2025-11-25")], &body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn modern(&self, method: &str, name: Option<&str>, mut params: Value) -> (StatusCode, Value) {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let body = json!({ "jsonrpc": "2.0", "id": "x", "method": method, "params": params });
        let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        headers.extend(name.map(|name| ("mcp-name", name)));
        let (status, body) = self.post(&headers, &body).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn a_legacy_client_initializes_lists_and_calls() {
    let demo = Demo::start().await.unwrap();
    let client = Client::connect(&demo).await;
    let answer = client.legacy("initialize", json!({ "protocolVersion": "2025-06-18" })).await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-06-18");
    let answer = client.legacy("tools/list", json!({})).await;
    assert_eq!(answer["result"]["tools"][0]["name"], "get_user");
    assert!(answer["result"].get("resultType").is_none(), "a legacy answer has no modern members");
    let answer =
        client.legacy("tools/call", json!({ "name": "get_user", "arguments": { "user_id": "124" } })).await;
    assert_eq!(answer["result"]["structuredContent"]["name"], "Grace Hopper");
    demo.stop().await;
}

#[tokio::test]
async fn a_modern_client_discovers_lists_and_calls() {
    let demo = Demo::start().await.unwrap();
    let client = Client::connect(&demo).await;
    let (status, answer) = client.modern("server/discover", None, json!({})).await;
    assert_eq!((status, &answer["id"]), (StatusCode::OK, &json!("x")));
    assert_eq!(answer["result"]["supportedVersions"][0], "2026-07-28");
    assert_eq!(answer["result"]["resultType"], "complete");
    let (_, answer) = client.modern("tools/list", None, json!({})).await;
    assert!(answer["result"]["ttlMs"].is_u64());
    let call = json!({ "name": "add", "arguments": { "a": 1.5, "b": 2 } });
    let (_, answer) = client.modern("tools/call", Some("add"), call).await;
    assert_eq!(answer["result"]["structuredContent"], json!({ "sum": 3.5 }));
}

#[tokio::test]
async fn a_modern_request_whose_headers_disagree_is_refused() {
    let demo = Demo::start().await.unwrap();
    let client = Client::connect(&demo).await;
    let call = json!({ "name": "echo", "arguments": { "message": "hi" } });
    let (status, answer) = client.modern("tools/call", Some("add"), call).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(-32020)));
    let (status, answer) = client.modern("initialize", None, json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!(-32601)));
}

#[tokio::test]
async fn a_failing_tool_is_a_result_and_an_unknown_one_an_error() {
    let demo = Demo::start().await.unwrap();
    let client = Client::connect(&demo).await;
    let answer =
        client.legacy("tools/call", json!({ "name": "fail", "arguments": { "message": "no luck" } })).await;
    assert_eq!(answer["result"]["isError"], true);
    assert_eq!(answer["result"]["content"][0]["text"], "no luck");
    let answer = client.legacy("tools/call", json!({ "name": "nope" })).await;
    assert_eq!(answer["error"]["code"], -32602);
}

#[tokio::test]
async fn a_slow_call_reports_progress_to_whoever_wants_it() {
    let demo = Demo::start().await.unwrap();
    let client = Client::connect(&demo).await;
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "slow", "arguments": { "ms": 50 }, "_meta": { "progressToken": "t" } } });
    let (status, body) = client.post(&[("mcp-protocol-version", "2025-11-25")], &body).await;
    assert_eq!(status, StatusCode::OK);
    let messages: Vec<Value> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(messages.len(), 10);
    assert_eq!(messages[0]["params"], json!({ "progressToken": "t", "progress": 1, "total": 10 }));
    assert_eq!(messages[9]["result"]["content"][0]["text"], "took 50 ms");
}

#[tokio::test]
async fn many_calls_share_one_connection_and_are_counted() {
    let demo = Demo::start().await.unwrap();
    let client = Client::connect(&demo).await;
    let calls =
        (0..16).map(|_| client.legacy("tools/call", json!({ "name": "slow", "arguments": { "ms": 200 } })));
    futures_util::future::join_all(calls).await;
    let counts = demo.counts();
    assert_eq!((counts.connections_opened, counts.requests, counts.http2_requests), (1, 16, 16));
    assert_eq!((counts.calls_running, counts.max_calls_running), (0, 16));
}

#[tokio::test]
async fn a_web_page_and_another_path_get_no_answer() {
    let demo = Demo::start().await.unwrap();
    let mut client = Client::connect(&demo).await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let (status, _) = client.post(&[("origin", "https://evil.example")], &body).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    client.url = client.url.replace("/mcp", "/other");
    let (status, _) = client.post(&[], &body).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_stop_lets_a_call_under_way_finish() {
    let demo = Demo::start().await.unwrap();
    let client = Client::connect(&demo).await;
    let call = client.legacy("tools/call", json!({ "name": "slow", "arguments": { "ms": 300 } }));
    let stop = async {
        while demo.counts().calls_running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        demo.stop().await;
    };
    let (answer, ()) = tokio::join!(call, stop);
    assert_eq!(answer["result"]["content"][0]["text"], "took 300 ms");
}
