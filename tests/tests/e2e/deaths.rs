//! Servers that are killed under load and come back, a hundred times each: every call comes to exactly one end, what runs
//! once never runs twice, and the next call works without anybody's help.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpe_engine::{
    CallContext, CallError, EndpointConfig, EndpointId, Engine, Executed, Target, ToolCall, ToolOutcome,
    UpstreamConfig,
};
use mpe_tests::{PATIENCE, ServerBuilder, server, tool};
use secrecy::SecretString;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Calls under way when a server is killed.
const CALLS: u64 = 200;
/// How many of them have run by then.
const RAN: usize = 50;

/// What calls came to.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    not_executed: usize,
    unknown: usize,
}

/// Whoever knows what really ran.
trait Journal {
    /// How often each call ran, by its number.
    fn runs(&self) -> HashMap<u64, usize>;
}

async fn engine(mut upstream: UpstreamConfig) -> Engine {
    // How long a server that keeps failing is left alone is another test's; here each next call has to work at once.
    upstream.breaker.failures = 0;
    let endpoint = EndpointConfig::new(EndpointId::default(), vec![upstream]);
    let engine = Engine::builder().endpoint(endpoint).start().unwrap();
    assert!(engine.settled(Instant::now() + PATIENCE).await, "discovery does not end");
    engine
}

async fn call(engine: &Engine, n: u64) -> Result<ToolOutcome, CallError> {
    let call = ToolCall {
        endpoint: EndpointId::default(),
        tool: "write".to_owned(),
        arguments: RawValue::from_string(format!(r#"{{"n":{n}}}"#)).unwrap(),
        deadline: None,
        check_arguments: false,
        context: Arc::new(CallContext::default()),
    };
    engine.call(call).await
}

/// Begins [`CALLS`] calls, and returns when enough of them have run.
async fn wave(engine: &Engine, round: u64, journal: &impl Journal) -> JoinSet<(u64, Outcome)> {
    let mut calls = JoinSet::new();
    for n in round * 1000..round * 1000 + CALLS {
        let engine = engine.clone();
        calls.spawn(async move { (n, call(&engine, n).await) });
    }
    let deadline = Instant::now() + PATIENCE;
    while journal.runs().keys().filter(|n| **n / 1000 == round).count() < RAN {
        assert!(Instant::now() < deadline, "the calls of round {round} do not run");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    calls
}

type Outcome = Result<ToolOutcome, CallError>;

/// Checks every outcome of a round against what really ran, then makes the next call.
async fn judge(
    engine: &Engine,
    round: u64,
    calls: JoinSet<(u64, Outcome)>,
    journal: &impl Journal,
    tally: &mut Tally,
) {
    let outcomes = tokio::time::timeout(PATIENCE, calls.join_all()).await.expect("every call ends");
    assert_eq!(outcomes.len() as u64, CALLS);
    // One call may be what finds out that a connection is dead; the one after it finds a living server.
    let finder = round * 1000 + CALLS;
    let next = finder + 1;
    let after = [(finder, call(engine, finder).await), (next, call(engine, next).await)];
    let runs = journal.runs();
    for (n, outcome) in outcomes.into_iter().chain(after) {
        let ran = runs.get(&n).copied().unwrap_or(0);
        assert!(ran <= 1, "round {round}: call {n} ran {ran} times: {outcome:?}");
        match outcome {
            Ok(outcome) => {
                let result: Value = serde_json::from_str(outcome.result.get()).unwrap();
                assert_eq!(result["structuredContent"]["n"], n, "call {n} got another one's answer");
                assert_eq!(ran, 1, "call {n} was answered but never ran");
                tally.answered += 1;
            }
            Err(error) => {
                assert_ne!(n, next, "round {round}: the next call fails: {error:?}");
                match error.executed {
                    Executed::No => {
                        assert_eq!(ran, 0, "call {n} ran, and its error denies it: {error:?}");
                        tally.not_executed += 1;
                    }
                    Executed::Unknown => tally.unknown += 1,
                }
            }
        }
    }
}

#[allow(clippy::print_stdout, reason = "figures for whoever asks for them with --nocapture")]
fn report(what: &str, deaths: u64, begun: Instant, tally: &Tally) {
    println!(
        "{what}: {deaths} deaths under {CALLS} calls in {:.1} s: {tally:?}",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(
        (tally.answered + tally.not_executed + tally.unknown) as u64,
        deaths * (CALLS + 2),
        "each call has one outcome"
    );
    assert!(tally.answered as u64 >= deaths * (RAN as u64 / 2), "{tally:?}");
}

// === Over HTTP ===

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<HashMap<u64, usize>>>);

impl Journal for Memory {
    fn runs(&self) -> HashMap<u64, usize> {
        self.0.lock().unwrap().clone()
    }
}

async fn die_over_http(what: &str, builder: ServerBuilder, deaths: u64) {
    let memory = Memory::default();
    let noted = memory.clone();
    let script = tool("write").takes(Duration::from_millis(3)).answers(move |arguments| {
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        *noted.0.lock().unwrap().entry(arguments["n"].as_u64().unwrap()).or_default() += 1;
        json!({ "content": [], "structuredContent": arguments }).to_string()
    });
    let mut server = builder.tool(script).start().await;
    let url = server.url().parse().unwrap();
    let target = Target::Http { url, headers: Vec::new(), wire: server.wire() };
    let engine = engine(UpstreamConfig::new("s", target)).await;
    let (begun, mut tally) = (Instant::now(), Tally::default());
    for round in 1..=deaths {
        memory.0.lock().unwrap().clear();
        let calls = wave(&engine, round, &memory).await;
        server.start_again().await;
        judge(&engine, round, calls, &memory, &mut tally).await;
    }
    report(what, deaths, begun, &tally);
    engine.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_deaths_of_a_server_over_http_lose_no_call_and_double_none() {
    die_over_http("modern, HTTP/2", server().h2c().modern_only(), 34).await;
    die_over_http("sessions, HTTP/2", server().h2c().legacy_only(), 33).await;
    die_over_http("sessions, HTTP/1.1", server().http1().legacy_only(), 33).await;
}

// === Over pipes ===

/// Where the child writes down what it runs; it has nothing to do without.
const JOURNAL: &str = "MPE_TESTS_JOURNAL";
/// Which era the child speaks.
const ERA: &str = "MPE_TESTS_ERA";

/// Not a test of its own: the server that the test below kills.
#[test]
fn child() {
    if let Ok(journal) = std::env::var(JOURNAL) {
        serve(Path::new(&journal), std::env::var(ERA).is_ok_and(|era| era == "modern"));
    }
}

#[allow(clippy::disallowed_methods, reason = "the child has no runtime")]
fn rest_a_while() {
    std::thread::sleep(Duration::from_micros(500));
}

/// Writes each call down before it answers it, so that a call that ran is in the journal, answered or not.
fn serve(journal: &Path, is_modern: bool) {
    // The test harness has begun a line of its own.
    std::io::stdout().write_all(b"\n").unwrap();
    let mut journal = std::fs::OpenOptions::new().append(true).create(true).open(journal).unwrap();
    // Each line in one piece: a kill between two of its pieces would join it to the next process's first.
    let mut note = |line: String| journal.write_all(line.as_bytes()).unwrap();
    note(format!("pid {}\n", std::process::id()));
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match message["method"].as_str().unwrap_or_default() {
            "server/discover" if is_modern => {
                json!({ "result": { "supportedVersions": ["2026-07-28"], "capabilities": {} } })
            }
            "initialize" if !is_modern => {
                json!({ "result": { "protocolVersion": "2025-11-25", "capabilities": {} } })
            }
            "tools/list" => {
                json!({ "result": { "tools": [{ "name": "write", "inputSchema": { "type": "object" } }] } })
            }
            "tools/call" => {
                let arguments = &message["params"]["arguments"];
                note(format!("ran {}\n", arguments["n"]));
                rest_a_while();
                json!({ "result": { "content": [], "structuredContent": arguments } })
            }
            _ => json!({ "error": { "code": -32601, "message": "no" } }),
        };
        let Some(id) = message.get("id") else { continue };
        let mut answer = answer;
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = id.clone();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).unwrap();
    }
}

struct File<'a>(&'a Path);

impl File<'_> {
    fn lines(&self, word: &str) -> Vec<u64> {
        let text = std::fs::read_to_string(self.0).unwrap_or_default();
        // The last line may not be complete yet.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok()).collect()
    }
}

impl Journal for File<'_> {
    fn runs(&self) -> HashMap<u64, usize> {
        let mut runs = HashMap::new();
        for n in self.lines("ran ") {
            *runs.entry(n).or_default() += 1;
        }
        runs
    }
}

/// Waits until a process that was killed has let go of its pipes: what is written before reaches nobody, and nobody knows.
async fn until_dead(process: u64) {
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_dir(format!("/proc/{process}/fd")).is_ok_and(|mut open| open.next().is_some()) {
        assert!(Instant::now() < deadline, "process {process} does not die");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn die_over_pipes(era: &str, deaths: u64) {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let variable = |name: &str, value: &str| (name.to_owned(), SecretString::from(value.to_owned()));
    let target = Target::Stdio {
        command: std::env::current_exe().unwrap().to_str().unwrap().to_owned(),
        args: ["--exact", "deaths::child", "--nocapture", "--test-threads=1"].map(str::to_owned).to_vec(),
        env: vec![variable(JOURNAL, journal.to_str().unwrap()), variable(ERA, era)],
        cwd: None,
    };
    let engine = engine(UpstreamConfig::new("s", target)).await;
    let (begun, mut tally) = (Instant::now(), Tally::default());
    let file = File(&journal);
    for round in 1..=deaths {
        let calls = wave(&engine, round, &file).await;
        let alive = *file.lines("pid ").last().unwrap();
        let killed = std::process::Command::new("kill").args(["-9", &alive.to_string()]).status().unwrap();
        assert!(killed.success(), "the server of round {round} was there to be killed");
        until_dead(alive).await;
        judge(&engine, round, calls, &file, &mut tally).await;
        assert!(file.lines("pid ").len() as u64 > round, "it was started again");
    }
    report(&format!("{era}, pipes"), deaths, begun, &tally);
    engine.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_deaths_of_a_server_over_pipes_lose_no_call_and_double_none() {
    die_over_pipes("modern", 50).await;
    die_over_pipes("legacy", 50).await;
}
