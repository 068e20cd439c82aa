//! MCP over a pipe, and over the two endpoints of HTTP+SSE.

use mpe_engine::EndpointId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, body, next_event};

/// A client at the other end of a pipe.
struct Pipe {
    reader: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Pipe {
    fn open(fixture: &Fixture) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (reader, writer) = tokio::io::split(theirs);
        let gateway = fixture.gateway.clone();
        let stop = CancellationToken::new();
        let serving =
            tokio::spawn(mpe_gateway::stdio::serve(gateway, EndpointId::default(), reader, writer, stop));
        let (reader, writer) = tokio::io::split(ours);
        Self { reader: BufReader::new(reader).lines(), writer, serving }
    }

    async fn say(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.reader.next_line().await.unwrap().expect("a line")).unwrap()
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.say(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()).await;
        self.hear().await
    }
}

fn modern(params: Value) -> Value {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 5,
    });
    params
}

#[tokio::test(start_paused = true)]
async fn a_pipe_serves_both_eras() {
    let fixture = Fixture::new().await;
    let mut pipe = Pipe::open(&fixture);
    let discovered = pipe.ask("server/discover", modern(json!({}))).await;
    assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28");
    let handshake =
        json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {}});
    assert_eq!(pipe.ask("initialize", handshake).await["result"]["protocolVersion"], "2025-11-25");
    pipe.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    let question = pipe.ask("tools/call", json!({"name": "ask", "arguments": {}})).await;
    assert_eq!(question["method"], "elicitation/create");
    pipe.say(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}).to_string())
        .await;
    assert_eq!(pipe.hear().await["result"]["content"][0]["text"], r#"answered {"action":"decline"}"#);
    fixture.upstream.add_a_tool();
    assert_eq!(pipe.hear().await["method"], "notifications/tools/list_changed");
    drop(pipe.writer);
    drop(pipe.reader);
    pipe.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn progress_and_answer_are_lines_of_their_own() {
    let mut pipe = Pipe::open(&Fixture::new().await);
    let first = pipe.ask("tools/call", modern(json!({"name": "progress", "arguments": {}}))).await;
    assert_eq!(
        (&first["method"], &first["params"]["progressToken"]),
        (&json!("notifications/progress"), &json!(5))
    );
    pipe.hear().await;
    pipe.hear().await;
    assert_eq!(pipe.hear().await["result"]["content"][0]["text"], "done");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_is_not_answered_and_others_go_on() {
    let fixture = Fixture::new().await;
    let mut pipe = Pipe::open(&fixture);
    let hang = modern(json!({"name": "hang", "arguments": {}}));
    pipe.say(&json!({"jsonrpc": "2.0", "id": "h", "method": "tools/call", "params": hang}).to_string()).await;
    while fixture.upstream.calls().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    pipe.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"h"}}"#).await;
    let answer = pipe.ask("tools/call", modern(json!({"name": "plain", "arguments": {}}))).await;
    assert_eq!(answer["id"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_modern_request_is_cancelled_after_a_legacy_handshake_too() {
    let fixture = Fixture::new().await;
    let mut pipe = Pipe::open(&fixture);
    pipe.ask("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}))
        .await;
    let hang = modern(json!({"name": "hang", "arguments": {}}));
    pipe.say(&json!({"jsonrpc": "2.0", "id": "h", "method": "tools/call", "params": hang}).to_string()).await;
    while fixture.upstream.calls().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    pipe.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"h"}}"#).await;
    assert_eq!(pipe.ask("tools/call", json!({"name": "plain", "arguments": {}})).await["id"], 1);
    // Longer than the call could have taken.
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(pipe.ask("ping", json!({})).await["result"], json!({}), "nothing more was said of it");
}

#[tokio::test(start_paused = true)]
async fn an_array_keeps_nothing_else_waiting() {
    let mut pipe = Pipe::open(&Fixture::new().await);
    pipe.ask("initialize", json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {}}))
        .await;
    pipe.say(r#"[{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"slow","arguments":{}}}]"#)
        .await;
    let begun = tokio::time::Instant::now();
    assert_eq!(pipe.ask("ping", json!({})).await["result"], json!({}));
    assert!(begun.elapsed().as_secs() < 1);
    assert_eq!(pipe.hear().await[0]["id"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_full_of_requests_still_reads_cancels() {
    let fixture = Fixture::new().await;
    let mut pipe = Pipe::open(&fixture);
    let hang = modern(json!({"name": "hang", "arguments": {}}));
    for n in 0..256 {
        pipe.say(&json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": hang}).to_string())
            .await;
    }
    let refused = pipe.ask("tools/list", modern(json!({}))).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1), &json!(-32603)), "{refused}");
    pipe.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#).await;
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert!(pipe.ask("tools/list", modern(json!({}))).await["result"].is_object());
}

#[tokio::test(start_paused = true)]
async fn lines_that_are_no_messages_get_an_error_and_end_nothing() {
    let fixture = Fixture::with(|config| config.max_body_bytes = 1000).await;
    let mut pipe = Pipe::open(&fixture);
    pipe.say("{not json").await;
    assert_eq!(pipe.hear().await["error"]["code"], -32700);
    pipe.say(&format!("\"{}\"", "x".repeat(5000))).await;
    assert_eq!(pipe.hear().await["error"]["code"], -32600);
    pipe.say("").await;
    assert!(pipe.ask("tools/list", modern(json!({}))).await["result"]["tools"].is_array());
}

#[tokio::test(start_paused = true)]
async fn http_sse_answers_on_the_stream_it_opened() {
    let fixture = Fixture::new().await;
    let open = http::Request::get("/sse").header("accept", "text/event-stream").body(body("")).unwrap();
    let mut stream = fixture.gateway.handle(open).await.into_body();
    let endpoint = next_event(&mut stream).await;
    let path = format!("/{}", endpoint.as_str().unwrap());
    let handshake = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"},
    }});
    assert_eq!(fixture.post(&path, &handshake.to_string()).await.status, 202);
    assert_eq!(next_event(&mut stream).await["result"]["protocolVersion"], "2024-11-05");
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"plain","arguments":{}}}"#;
    fixture.post(&path, call).await;
    let answer = next_event(&mut stream).await;
    assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(2), &json!("plain words")));
    drop(stream);
    assert_eq!(fixture.post(&path, call).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_under_way_on_a_stream_of_http_sse() {
    let fixture = Fixture::new().await;
    let open = http::Request::get("/sse").header("accept", "text/event-stream").body(body("")).unwrap();
    let mut stream = fixture.gateway.handle(open).await.into_body();
    let path = format!("/{}", next_event(&mut stream).await.as_str().unwrap());
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"slow","arguments":{}}}"#;
    fixture.post(&path, call).await;
    while fixture.upstream.calls().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    fixture.gateway.begin_drain();
    assert_eq!(next_event(&mut stream).await["result"]["content"][0]["text"], "at last");
    let end = http_body_util::BodyExt::frame(&mut stream).await;
    assert!(end.is_none(), "and then it ends");
}
