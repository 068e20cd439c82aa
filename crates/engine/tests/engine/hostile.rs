//! Servers that are broken or mean to be: each costs bounded bytes and time, and one clear error.
//!
//! They are written with bytes, because no HTTP library would send what they send.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mpe_engine::upstream::{Upstream, UpstreamError, UpstreamReply, UpstreamRequest, connect};
use mpe_engine::{
    CallContext, CallErrorKind, CallEvents, EndpointId, Engine, Era, Target, UpstreamConfig, UpstreamState,
};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{Pool, PoolConfig, Sent, TlsConfig, Wire};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::endpoint;

/// What a message may have, in bytes.
const LIMIT: u64 = 64 << 20;
/// What may lie in sockets when we hang up.
const IN_FLIGHT: u64 = 16 << 20;

/// A request as it came: its head, and its message.
struct Asked {
    head: String,
    message: Value,
}

/// The server's end of one connection.
struct Wires {
    stream: TcpStream,
    written: Arc<AtomicU64>,
}

/// A server that does as it likes with every request but the first questions.
struct Rogue {
    url: String,
    /// Bytes that went out before the other side hung up, or the script ended.
    written: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<String>>>,
    running: JoinHandle<()>,
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Wires {
    /// False once nobody reads any more.
    async fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let is_read = self.stream.write_all(bytes).await.is_ok();
        if is_read {
            self.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        is_read
    }

    /// The same bytes until nobody reads any more, or a gigabyte is through.
    async fn say_forever(&mut self, bytes: &[u8]) {
        while self.written.load(Ordering::SeqCst) < 1 << 30 && self.say(bytes).await {}
    }

    /// The head of a document of this many bytes.
    async fn head(&mut self, length: usize) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        self.say(format!("{head}content-length: {length}\r\n\r\n")).await;
    }

    async fn document(&mut self, bytes: impl AsRef<[u8]>) {
        self.head(bytes.as_ref().len()).await;
        self.say(bytes).await;
    }

    async fn json(&mut self, message: &Value) {
        self.document(message.to_string()).await;
    }

    async fn event_stream(&mut self) {
        self.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await;
    }
}

impl Asked {
    fn method(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    fn result(&self, result: &Value) -> Value {
        let mut result = result.clone();
        result["resultType"] = json!("complete");
        json!({"jsonrpc": "2.0", "id": self.message["id"], "result": result})
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length.unwrap_or(0) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { head, message: serde_json::from_slice(&body).unwrap_or_default() })
}

/// A server that introduces itself well, and then does as `script` says, once per connection.
async fn rogue<F>(script: impl Fn(Asked, Wires) -> F + Send + Sync + 'static) -> Rogue
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (written, asked) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<String>>>::default());
    let (script, counter, journal) = (Arc::new(script), Arc::clone(&written), Arc::clone(&asked));
    let running = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (script, written, journal) =
                (Arc::clone(&script), Arc::clone(&counter), Arc::clone(&journal));
            connections.spawn(async move {
                while let Some(asked) = read(&mut stream).await {
                    journal.lock().unwrap().push(asked.method().to_owned());
                    if asked.method() != "server/discover" {
                        return script(asked, Wires { stream, written }).await;
                    }
                    let mut wires = Wires { stream, written: Arc::default() };
                    let capabilities = json!({"tools": {}});
                    let found = json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities});
                    wires.json(&asked.result(&found)).await;
                    stream = wires.stream;
                }
            });
        }
    });
    Rogue { url, written, asked, running }
}

impl Rogue {
    fn config(&self) -> UpstreamConfig {
        let target = Target::Http { url: self.url.parse().unwrap(), headers: Vec::new(), wire: Wire::Auto };
        let mut config = UpstreamConfig::new("rogue", target);
        config.era = Era::Pinned(ProtocolVersion::LATEST);
        config
    }

    fn upstream(&self) -> Arc<dyn Upstream> {
        let pool = Pool::new(PoolConfig::default(), TlsConfig::default()).unwrap();
        connect(&self.config(), &pool).unwrap()
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    fn n_asked(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == method).count()
    }

    /// One call, with this long to answer.
    async fn call_within(&self, limit: Duration) -> Result<UpstreamReply, UpstreamError> {
        request(&*self.upstream(), "echo", limit, CallContext::default()).await
    }

    /// The error of one call, which may have run.
    async fn error(&self) -> UpstreamError {
        let error = self.call_within(Duration::from_secs(60)).await.expect_err("a broken answer");
        assert_eq!(error.sent, Sent::Maybe, "{error:?}");
        error
    }

    /// The error of one call, which is this server's fault.
    async fn broken(&self) -> UpstreamError {
        let error = self.error().await;
        assert_eq!(error.kind, CallErrorKind::UpstreamProtocol, "{error:?}");
        error
    }

    /// Nobody has read more than that, but for what lay in sockets.
    fn was_cut_off_at(&self, bytes: u64) {
        assert!(self.written() <= bytes + IN_FLIGHT, "{} bytes were read", self.written());
    }
}

/// The `structuredContent` of one call's answer.
async fn content(upstream: &dyn Upstream, tool: &str) -> Value {
    let reply = request(upstream, tool, Duration::from_secs(20), CallContext::default()).await.unwrap();
    let mut result: Value = serde_json::from_str(reply.outcome.unwrap().get()).unwrap();
    result["structuredContent"].take()
}

async fn request(
    upstream: &dyn Upstream,
    tool: &str,
    limit: Duration,
    context: CallContext,
) -> Result<UpstreamReply, UpstreamError> {
    let params = RawValue::from_string(json!({"name": tool, "arguments": {}}).to_string()).unwrap();
    let request = UpstreamRequest {
        method: Cow::Borrowed("tools/call"),
        params: Some(params),
        name: None,
        mirrored: Vec::new(),
        context: Arc::new(context),
        deadline: Instant::now() + limit,
    };
    timeout(limit + Duration::from_secs(5), upstream.request(request)).await.expect("an end in time")
}

#[tokio::test]
async fn an_endless_line_of_an_event_stream_is_cut_off() {
    let rogue = rogue(|_, mut wires| async move {
        wires.event_stream().await;
        wires.say("data: ").await;
        wires.say_forever(&vec![b'x'; 1 << 20]).await;
    })
    .await;
    rogue.broken().await;
    rogue.was_cut_off_at(LIMIT);
}

#[tokio::test]
async fn an_event_of_endless_lines_is_cut_off() {
    let rogue = rogue(|_, mut wires| async move {
        wires.event_stream().await;
        let line = format!("data: {}\n", "x".repeat(1 << 10));
        wires.say_forever(line.repeat(1 << 10).as_bytes()).await;
    })
    .await;
    rogue.broken().await;
    rogue.was_cut_off_at(LIMIT);
}

#[tokio::test]
async fn a_gigabyte_of_body_is_refused_before_it_is_read() {
    let rogue = rogue(|_, mut wires| async move {
        wires.head(1 << 30).await;
        wires.say_forever(&vec![b' '; 1 << 20]).await;
    })
    .await;
    let error = rogue.error().await;
    assert!(error.message.contains("limit"), "{error:?}");
    rogue.was_cut_off_at(0);
}

#[tokio::test]
async fn an_endless_body_of_unknown_length_is_cut_off() {
    let rogue = rogue(|_, mut wires| async move {
        wires
            .say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        let mut chunk = b"100000\r\n".to_vec();
        chunk.resize(chunk.len() + (1 << 20), b' ');
        chunk.extend(b"\r\n");
        wires.say_forever(&chunk).await;
    })
    .await;
    rogue.error().await;
    rogue.was_cut_off_at(LIMIT);
}

#[tokio::test]
async fn an_endless_head_is_cut_off() {
    let rogue = rogue(|_, mut wires| async move {
        wires.say("HTTP/1.1 200 OK\r\n").await;
        wires.say_forever(&b"x-filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000)).await;
    })
    .await;
    rogue.error().await;
    rogue.was_cut_off_at(0);
}

#[tokio::test]
async fn json_nested_ten_thousand_deep_is_refused() {
    let rogue = rogue(|asked, mut wires| async move {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","content":{deep}}}}}"#,
            asked.message["id"]
        );
        wires.document(text).await;
    })
    .await;
    let error = rogue.broken().await;
    assert!(error.message.contains("nested deeper than"), "{error:?}");
}

/// What the catalogue says of a server whose list cannot be read.
async fn discovery_error(rogue: &Rogue) -> String {
    let engine = Engine::builder().endpoint(endpoint(vec![rogue.config()])).start().unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(60)).await);
    let status = engine.snapshot(&EndpointId::default()).unwrap().catalogue.upstreams()[0].clone();
    match status.state {
        UpstreamState::Down { error } => error,
        other => panic!("a list without an end was read: {other:?}"),
    }
}

#[tokio::test]
async fn a_cursor_that_comes_again_ends_the_listing() {
    let rogue = rogue(|asked, mut wires| async move {
        let page =
            json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}], "nextCursor": "again"});
        wires.json(&asked.result(&page)).await;
    })
    .await;
    let error = discovery_error(&rogue).await;
    assert!(error.contains("came before"), "{error}");
    assert!(rogue.n_asked("tools/list") <= 4, "{} pages were asked for", rogue.n_asked("tools/list"));
}

#[tokio::test]
async fn a_list_of_endless_pages_is_given_up() {
    let pages = Arc::new(AtomicUsize::new(0));
    let rogue = rogue(move |asked, mut wires| {
        let page = pages.fetch_add(1, Ordering::SeqCst);
        async move { wires.json(&asked.result(&json!({"tools": [], "nextCursor": page.to_string()}))).await }
    })
    .await;
    let error = discovery_error(&rogue).await;
    assert!(error.contains("more than 1000 pages"), "{error}");
}

#[tokio::test]
async fn replies_to_what_nobody_asked_are_no_reply() {
    let rogue = rogue(|_, mut wires| async move {
        wires.event_stream().await;
        for id in [json!(-1), json!("1"), json!(1 << 40), json!("x")] {
            let wrong =
                json!({"jsonrpc": "2.0", "id": id, "result": {"content": [], "resultType": "complete"}});
            wires.say(format!("data: {wrong}\n\n")).await;
        }
    })
    .await;
    let error = rogue.error().await;
    assert_eq!(error.kind, CallErrorKind::UpstreamLost, "{error:?}");
}

#[tokio::test]
async fn of_several_replies_the_first_counts_and_the_others_reach_nobody() {
    let rogue = rogue(|asked, mut wires| async move {
        wires.event_stream().await;
        let name = &asked.message["params"]["name"];
        for n in 0..3 {
            let reply = asked.result(&json!({"content": [], "structuredContent": {"of": name, "n": n}}));
            wires.say(format!("data: {reply}\n\n")).await;
        }
    })
    .await;
    let upstream = rogue.upstream();
    for tool in ["one", "two", "three"] {
        assert_eq!(content(&*upstream, tool).await, json!({"of": tool, "n": 0}));
    }
}

#[tokio::test]
async fn bytes_that_are_no_utf_8_are_refused_where_they_stand() {
    let rogue = rogue(|asked, mut wires| async move {
        let mut text =
            asked.result(&json!({"content": [{"type": "text", "text": "@"}]})).to_string().into_bytes();
        let at = text.iter().position(|byte| *byte == b'@').unwrap();
        text[at] = 0xff;
        wires.document(text).await;
    })
    .await;
    let error = rogue.broken().await;
    assert!(error.message.contains("not UTF-8 at byte"), "{error:?}");
}

#[tokio::test]
async fn the_name_of_a_tool_adds_no_header() {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let journal = Arc::clone(&heads);
    let rogue = rogue(move |asked, mut wires| {
        journal.lock().unwrap().push(asked.head.clone());
        async move { wires.json(&asked.result(&json!({"content": []}))).await }
    })
    .await;
    let upstream = rogue.upstream();
    for name in ["x\r\nevil: yes", "x\nevil: yes", "x\0y", "\u{85}evil: yes", " =?base64?ZXZpbA==?= "] {
        request(&*upstream, name, Duration::from_secs(20), CallContext::default()).await.unwrap();
    }
    for head in heads.lock().unwrap().iter() {
        assert!(!head.to_ascii_lowercase().lines().any(|line| line.starts_with("evil")), "{head}");
        assert!(head.contains("mcp-name: =?base64?"), "{head}");
    }
}

#[tokio::test]
async fn a_tool_whose_annotation_would_add_a_header_is_left_out() {
    let rogue = rogue(|asked, mut wires| async move {
            let schema = |header: &str| {
                json!({"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": header}}})
            };
            let tools = json!({"tools": [
                {"name": "bad", "inputSchema": schema("A\r\nEvil: yes")},
                {"name": "good", "inputSchema": schema("Region")}]});
            wires.json(&asked.result(&tools)).await;
})
    .await;
    let engine = Engine::builder().endpoint(endpoint(vec![rogue.config()])).start().unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(20)).await);
    assert_eq!(crate::scripted::names(&engine), ["good"]);
}

#[tokio::test]
async fn an_answer_that_trickles_ends_at_the_deadline() {
    for is_head_slow in [true, false] {
        let rogue = rogue(move |_, mut wires| async move {
            if !is_head_slow {
                wires.head(900).await;
            }
            let trickle = if is_head_slow { "HTTP/1.1 200 OK\r\nx-filler: yyyyyyyyyyyyy" } else { "{     " };
            for byte in trickle.bytes().cycle().take(1000) {
                if !wires.say([byte]).await {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let begun = Instant::now();
        let error = rogue.call_within(Duration::from_millis(500)).await.expect_err("no answer in time");
        assert_eq!((error.kind, error.sent), (CallErrorKind::DeadlineExceeded, Sent::Maybe), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_a_lost_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"jsonrpc\":",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"jso\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 500\r\n\r\ndata: {\"jso",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let rogue = rogue(move |_, mut wires| async move {
            wires.say(head).await;
        })
        .await;
        let error = rogue.error().await;
        assert_eq!(error.kind, CallErrorKind::UpstreamLost, "{head}: {error:?}");
    }
}

#[tokio::test]
async fn bytes_behind_the_stated_length_are_no_answer_to_the_next_call() {
    let rogue = rogue(|asked, mut wires| async move {
        let name = asked.message["params"]["name"].clone();
        let text = asked.result(&json!({"content": [], "structuredContent": {"of": name}})).to_string();
        let forged = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        wires.document(text).await;
        wires.say(forged).await;
        // Kept open: whoever uses the connection again reads what was forged.
        sleep(Duration::from_secs(20)).await;
    })
    .await;
    let upstream = rogue.upstream();
    for tool in ["one", "two", "three"] {
        assert_eq!(content(&*upstream, tool).await, json!({"of": tool}));
    }
}

/// Counts, and keeps nothing.
#[derive(Default)]
struct Counter(AtomicU64);

impl CallEvents for Counter {
    fn notify(&self, _: Notification) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn ask<'a>(
        &'a self,
        _: &'a str,
        _: Option<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<Box<RawValue>, ErrorObject>> {
        async { Err(ErrorObject::new(-32601, "nobody is there")) }.boxed()
    }
}

#[tokio::test]
async fn a_flood_of_notifications_ends_with_the_call() {
    let rogue = rogue(|asked, mut wires| async move {
            wires.event_stream().await;
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": asked.message["params"]["_meta"]["progressToken"], "progress": 1}});
            let flood = format!("data: {progress}\n\n").repeat(100);
            wires.say_forever(flood.as_bytes()).await;
})
    .await;
    let counter = Arc::new(Counter::default());
    let context = CallContext {
        wants_progress: true,
        events: Some(Arc::clone(&counter) as Arc<dyn CallEvents>),
        ..CallContext::default()
    };
    let upstream = rogue.upstream();
    let begun = Instant::now();
    let error = request(&*upstream, "echo", Duration::from_secs(1), context).await.expect_err("no reply");
    assert_eq!(error.sent, Sent::Maybe, "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(counter.0.load(Ordering::SeqCst) > 0);
    let heard = counter.0.load(Ordering::SeqCst);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(counter.0.load(Ordering::SeqCst), heard, "nothing is heard once the call is over");
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_protocol_error_or_a_lost_connection() {
    for nonsense in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 abc\r\n\r\n", "\r\n\r\n\r\n", "\0\0\0\0\0\0\0\0\0\0\0\0"]
    {
        let rogue = rogue(move |_, mut wires| async move {
            wires.say(nonsense).await;
        })
        .await;
        let error = rogue.error().await;
        assert!(
            matches!(error.kind, CallErrorKind::UpstreamProtocol | CallErrorKind::UpstreamLost),
            "{nonsense:?}: {error:?}"
        );
    }
}
