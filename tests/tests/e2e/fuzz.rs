//! Bytes that nobody should send: whatever arrives on the socket, the gateway answers or hangs up, and stays well.
//!
//! Each request of `tests/corpus` is replayed as it is, then many times over with a few mutations. `MPE_FUZZ_CASES`
//! says how many batches; `cargo xtask fuzz` sets it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mpe_tests::{Fate, PATIENCE, RunningGateway, Server, gateway, server, tool};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Requests of one batch, sent at once.
const BATCH: usize = 16;

/// Batches of a plain `cargo test`.
const CASES: u32 = 24;

/// Milliseconds for making a finding smaller. Each try of a connection that hangs takes [`PATIENCE`], and there are
/// thousands: unbounded, a finding would look like a test that hangs.
const SHRINKING: u32 = 60_000;

/// KiB that a gateway may have kept of all that, after it was warm, and that it may have needed at a time. Allocators keep
/// some of what they were once asked for.
const GROWTH: u64 = 16 << 10;
const PEAK: u64 = 64 << 10;

/// How long we wait for an answer before we hang up on our side.
const LISTEN: Duration = Duration::from_millis(250);

/// Pieces of the field's vocabulary, to get past the first check.
const WORDS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: evil\r\n",
    "\0",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "null",
    "-1e999",
    "\\ud800",
    "\u{202e}",
    "{\"jsonrpc\":\"2.0\"",
    "\"id\":null",
    "\"id\":1.5",
    "\"method\":\"tools/call\"",
    "\"name\":\"broken\"",
    "\"_meta\":{}",
    "=?base64?AAA?=",
    "%00",
    "%2f",
    "..",
    "/endpoints/",
    "/tools/",
    "tools/list",
    "initialize",
    "Mcp-Session-Id: a\r\n",
    "Mcp-Name: echo\r\n",
    "HTTP/1.0",
    "HTTP/2.0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// One change of a request.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Cut(Index),
    Insert(Index, &'static str),
    Remove(Index, u8),
    Repeat(Index, u8),
    Set(Index, u8),
}

pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        1 => any::<Index>().prop_map(Mutation::Cut),
        4 => (any::<Index>(), select(WORDS)).prop_map(|(at, word)| Mutation::Insert(at, word)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, length)| Mutation::Remove(at, length % 32)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
    ]
}

pub(crate) fn mutated(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        match mutation {
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Mutation::Insert(at, word) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, word.bytes());
            }
            Mutation::Remove(at, length) => {
                let at = at.index(bytes.len());
                bytes.drain(at..bytes.len().min(at + usize::from(*length)));
            }
            Mutation::Repeat(at, length) => {
                let at = at.index(bytes.len());
                let piece = bytes[at..bytes.len().min(at + usize::from(*length))].to_vec();
                bytes.splice(at..at, piece);
            }
            Mutation::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
        }
    }
    bytes
}

/// Every request of the corpus with its name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut requests: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    requests.sort();
    requests
}

async fn fuzzed() -> (Server, RunningGateway) {
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    let server =
        server().tool(tool("echo").input(schema)).tool(tool("broken").fails("on purpose")).start().await;
    let gateway = gateway()
        .configure(|config| config.max_body_bytes = 10_000)
        .mapping("/get_echo/{text}")
        .server("s", &server)
        .start()
        .await;
    (server, gateway)
}

/// Sends the bytes and gives what came back until the connection ended, which it must.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| format!("nobody listens: {error}"))?;
    let mut answer = Vec::new();
    // The gateway may hang up on nonsense while we still write; that is an answer too.
    let _ = stream.write_all(bytes).await;
    if tokio::time::timeout(LISTEN, stream.read_to_end(&mut answer)).await.is_err() {
        let _ = stream.shutdown().await;
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        ended.map_err(|_| format!("the connection does not end; so far: {}", answer.escape_ascii()))?.ok();
    }
    Ok(answer)
}

/// Nothing, or a whole HTTP response that is not our own failure.
fn judge(answer: &[u8]) -> Result<u16, String> {
    if answer.is_empty() {
        return Ok(0);
    }
    let shown = || answer.escape_ascii().to_string();
    let status = answer
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| answer.strip_prefix(b"HTTP/1.0 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    match status {
        // An HTTP/2 preface was let through: frames come back.
        None if answer.len() >= 9 && answer[3] == 4 => Ok(0),
        None => Err(format!("no HTTP response: {}", shown())),
        Some(500) => Err(format!("our own failure: {}", shown())),
        Some(status) => Ok(status),
    }
}

/// The gateway still serves, and nothing of the nonsense is still under way.
async fn is_well(gateway: &RunningGateway, server: &Server) {
    let answer = gateway.http().post("/tools/echo", r#"{"text":"still here"}"#).await;
    assert_eq!(answer.text(), r#"{"text":"still here"}"#);
    server.until("the end of every call", |seen| seen.iter().all(|call| call.fate != Fate::Open)).await;
}

#[tokio::test]
async fn every_request_of_the_corpus_is_answered() {
    let (server, gateway) = fuzzed().await;
    for (name, bytes) in corpus() {
        let answer =
            exchange(gateway.address(), &bytes).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let status = judge(&answer).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(status >= 100, "{name} got no answer");
    }
    is_well(&gateway, &server).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_behind_bytes_that_nobody_reads() {
    let (server, gateway) = fuzzed().await;
    for (name, mut bytes) in corpus() {
        bytes.push(b'x');
        exchange(gateway.address(), &bytes).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    is_well(&gateway, &server).await;
}

#[test]
fn mutated_requests_are_answered_or_hung_up_on_in_bounded_memory() {
    if std::env::var_os(ALONE).is_some() {
        return send_nonsense();
    }
    // In a process of its own: what other tests need is none of the gateway's.
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let name = "fuzz::mutated_requests_are_answered_or_hung_up_on_in_bounded_memory";
    alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1");
    let ran = alone.output().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(printed.contains("1 passed"), "{printed}");
    let _ = write!(std::io::stdout(), "{printed}");
}

/// Tells the test that it has its process to itself.
const ALONE: &str = "MPE_FUZZ_ALONE";

fn send_nonsense() {
    let cases = std::env::var("MPE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (server, gateway) = runtime.block_on(fuzzed());
    let corpus = Arc::new(corpus());
    // Buffers, pools and what is made on its first use are there from then on.
    runtime.block_on(answered(&gateway, corpus.iter().map(|(_, bytes)| bytes.clone()).collect())).unwrap();
    let before = memory();
    let request = (any::<Index>(), vec(mutation(), 1..6));
    let config = Config { cases, failure_persistence: None, max_shrink_time: SHRINKING, ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(request, BATCH), |batch| {
        let requests = batch.iter().map(|(seed, mutations)| mutated(seed.get(&corpus).1.clone(), mutations));
        runtime.block_on(answered(&gateway, requests.collect())).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(is_well(&gateway, &server));
    if let (Some(before), Some(after)) = (before, memory()) {
        let _ = writeln!(
            std::io::stdout(),
            "resident: {} KiB before, {} KiB after {cases} batches, {} KiB at most",
            before.now,
            after.now,
            after.peak
        );
        assert!(after.now < before.now + GROWTH, "{} KiB were kept", after.now - before.now);
        assert!(after.peak < before.now + PEAK, "{} KiB were in use", after.peak);
    }
}

/// Sends these requests at once, and judges what comes back.
async fn answered(gateway: &RunningGateway, requests: Vec<Vec<u8>>) -> Result<(), String> {
    let mut exchanges = JoinSet::new();
    for bytes in requests {
        let address = gateway.address();
        exchanges.spawn(async move {
            let answer = exchange(address, &bytes).await?;
            judge(&answer).map_err(|error| format!("{error}\nsent: {}", bytes.escape_ascii()))
        });
    }
    while let Some(outcome) = exchanges.join_next().await {
        outcome.expect("no panic")?;
    }
    Ok(())
}

/// KiB of memory that this process has.
struct Memory {
    now: u64,
    peak: u64,
}

/// What the kernel says, where it says it this way.
fn memory() -> Option<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    Some(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}
