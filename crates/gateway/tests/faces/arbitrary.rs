//! Whatever is sent, something well-formed comes back.

use std::time::Duration;

use http_body_util::BodyExt;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::fixture::{Fixture, body};

const PATHS: [&str; 17] = [
    "/mcp",
    "/tools",
    "/tools/echo",
    "/tools/call?format=openai",
    "/tools/%zz",
    "/batch",
    "/plan",
    "/graphql",
    "/graphql?query=%7B",
    "/openapi.json?version=3.0",
    "/readyz",
    "/performance",
    "/messages?session=x",
    "/get_user/%F0%9F",
    "/endpoints/other/mcp",
    "/endpoints//x",
    "/",
];

const HEADERS: [(&str, &str); 14] = [
    ("content-type", "application/json"),
    ("content-type", "text/plain"),
    ("accept", "text/event-stream"),
    ("accept", "application/json"),
    ("mcp-protocol-version", "2026-07-28"),
    ("mcp-protocol-version", "2025-03-26"),
    ("mcp-method", "tools/call"),
    ("mcp-name", "=?base64?!?="),
    ("mcp-session-id", "forged"),
    ("last-event-id", "1:forged"),
    ("mpe-forwarded", "forged"),
    ("x-request-timeout", "1"),
    ("idempotency-key", "k"),
    ("origin", "null"),
];

/// Pieces that real messages are made of, so that some requests get far.
const PIECES: [&str; 18] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{}"#,
    r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    r#"{"jsonrpc":"2.0","id":"x","result":{}}"#,
    r#","requestState":"x","inputResponses":{}"#,
    r#"{"query":"{ get_user(user_id: 1) }"}"#,
    r#"[{"tool":"echo"}]"#,
    r#"[{"id":"a","tool":"echo","arguments":{"x":{"$from":"a"}}}]"#,
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"\\u0000\"",
    "1e999",
    "}}",
    "\u{feff}",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => (0..PIECES.len()).prop_map(|n| PIECES[n].to_owned()),
        1 => any::<String>(),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_request_gets_a_well_formed_answer() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let fixture = runtime.block_on(Fixture::with(|config| config.resume_buffer = Some(1 << 16)));
    let methods = ["GET", "POST", "POST", "POST", "HEAD", "DELETE", "OPTIONS", "PATCH"];
    let headers = proptest::collection::vec(0..HEADERS.len(), 0..5);
    let requests = (0..methods.len(), 0..PATHS.len(), headers, text());
    // Deterministic: a failure here is a failure everywhere.
    let mut runner = TestRunner::deterministic();
    runner
        .run(&requests, |(method, path, headers, text)| {
            let mut request = http::Request::builder().method(methods[method]).uri(PATHS[path]);
            for header in headers {
                request = request.header(HEADERS[header].0, HEADERS[header].1);
            }
            let request = request.body(body(&text)).unwrap();
            runtime.block_on(async {
                let response = fixture.gateway.handle(request).await;
                let media_type = response.headers().get("content-type").cloned();
                let is_json = media_type.is_some_and(|media_type| media_type.as_bytes().ends_with(b"json"));
                let whole = tokio::time::timeout(Duration::from_secs(120), response.into_body().collect());
                let whole = whole.await.expect("it ends").unwrap().to_bytes();
                if is_json && !whole.is_empty() {
                    serde_json::from_slice::<Value>(&whole).unwrap();
                }
            });
            Ok(())
        })
        .unwrap();
}
