use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use mpe_transport::Sent;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::testing::{Ears, raw, request, request_in};
use super::super::{Change, Upstream, UpstreamError, UpstreamReply};
use super::{StdioTarget, StdioUpstream};
use crate::{CallContext, CallErrorKind, ProcessConfig, Start};

/// Which server this very test binary shall play when it is started as one.
const ROLE: &str = "MPE_STDIO_ROLE";
/// The file that says so instead, where there is one.
const INSTALLED: &str = "MPE_STDIO_INSTALLED";

/// Not a test of its own: the child process of the others. Without a role it has nothing to do.
#[test]
fn child() {
    if let Ok(role) = std::env::var(ROLE) {
        serve(&role);
    }
}

fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{message}").and_then(|()| out.flush()).unwrap();
}

fn serve(role: &str) {
    // The test harness has begun a line of its own; a server that chatters on its output is one to survive anyway.
    println!("\nhello, this is no message");
    if role == "stillborn" {
        eprintln!("cannot find my configuration");
        std::process::exit(3);
    }
    if role == "sluggish" {
        std::thread::park_timeout(Duration::from_millis(400));
    }
    // Which era it speaks may stand in a file, so that the next process can be another version of the program.
    let installed = std::env::var(INSTALLED).ok().map(|path| std::fs::read_to_string(path).unwrap());
    let role = installed.as_deref().unwrap_or(role);
    let mut journal = Vec::new();
    let (mut waiting, mut belated) = (None, None);
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let method = message["method"].as_str().unwrap_or("response").to_owned();
        journal.push(method.clone());
        let result = |result: Value| say(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
        let error = |code: i64| {
            say(&json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": "no"}}));
        };
        match (role, method.as_str()) {
            ("modern", "server/discover") => {
                let capabilities = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}});
                result(json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities}));
            }
            ("modern", "subscriptions/listen") => {
                let asked = &message["params"]["notifications"];
                say(&json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                    "params": {"notifications": asked,
                        "_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]}}}));
            }
            ("late", "server/discover") => waiting = Some(message["id"].clone()),
            ("late", "initialize") => {
                // The discovery is answered first, after all; then this era is refused.
                say(&json!({"jsonrpc": "2.0", "id": waiting.take(),
                    "result": {"supportedVersions": ["2026-07-28"], "capabilities": {}}}));
                error(-32601);
            }
            ("silent", "server/discover") => {}
            (_, "server/discover") => error(-32601),
            ("modern", "initialize") => error(-32601),
            (_, "initialize") => result(json!({"protocolVersion": "2025-11-25",
                "capabilities": {"logging": {}}, "serverInfo": {"name": "child"},
                "declared": message["params"]["capabilities"]})),
            ("crashing", "tools/call") => {
                eprintln!("cannot reach my database");
                std::process::exit(1);
            }
            (_, "tools/call") => {
                let params = &message["params"];
                match params["name"].as_str().unwrap() {
                    "echo" => result(params["arguments"].clone()),
                    "pid" => result(json!(std::process::id())),
                    "journal" => result(json!(journal)),
                    "change" => {
                        say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
                        say(&json!({"jsonrpc": "2.0", "method": "notifications/resources/updated",
                            "params": {"uri": "x://a"}}));
                        result(json!({}));
                    }
                    "never" => belated = Some(message["id"].clone()),
                    "babble" => {
                        // Longer than any line may be.
                        let mut out = std::io::stdout().lock();
                        for _ in 0..17 {
                            out.write_all(&[b'x'; 1 << 20]).unwrap();
                        }
                        writeln!(out).unwrap();
                    }
                    "twice" => {
                        result(json!("first"));
                        result(json!("second"));
                        say(&json!({"jsonrpc": "2.0", "id": 123_456, "result": "for nobody"}));
                        println!("\u{fffd}{{\"jsonrpc\": 1}}");
                    }
                    "die" => {
                        eprintln!("out of cheese");
                        std::process::exit(1);
                    }
                    "progress" => {
                        let token = &params["_meta"]["progressToken"];
                        for n in 1..=3 {
                            say(&json!({"jsonrpc": "2.0", "method": "notifications/progress",
                                "params": {"progressToken": token, "progress": n}}));
                        }
                        result(json!({}));
                    }
                    "ask" => {
                        waiting = Some(message["id"].clone());
                        say(
                            &json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}}),
                        );
                    }
                    other => panic!("{other}"),
                }
            }
            (_, "response") => {
                let answer = message.get("result").or(message.get("error")).cloned();
                say(&json!({"jsonrpc": "2.0", "id": waiting.take(), "result": {"answer": answer}}));
            }
            (_, "notifications/cancelled") => {
                // It has been too late to cancel it.
                say(&json!({"jsonrpc": "2.0", "id": belated.take(), "result": "too late"}));
            }
            (_, method) if method.starts_with("notifications/") => {}
            (_, _) => result(json!({})),
        }
    }
}

fn upstream(role: &str, pinned: Option<ProtocolVersion>) -> StdioUpstream {
    upstream_of(role, &[], pinned, &ProcessConfig::default())
}

/// An upstream that is started and stopped as `process` says.
fn upstream_that(role: &str, pinned: Option<ProtocolVersion>, process: &ProcessConfig) -> StdioUpstream {
    upstream_of(role, &[], pinned, process)
}

fn upstream_of(
    role: &str,
    env: &[(&str, &str)],
    pinned: Option<ProtocolVersion>,
    process: &ProcessConfig,
) -> StdioUpstream {
    let mut variables = vec![(ROLE.to_owned(), SecretString::from(role.to_owned()))];
    variables.extend(
        env.iter().map(|(name, value)| ((*name).to_owned(), SecretString::from((*value).to_owned()))),
    );
    let program = std::env::current_exe().unwrap();
    let args =
        ["--exact", "upstream::stdio::tests::child", "--nocapture", "--test-threads=1"].map(str::to_owned);
    StdioUpstream::new(&StdioTarget {
        command: program.to_str().unwrap(),
        args: &args,
        env: &variables,
        cwd: None,
        pinned,
        process,
    })
}

async fn call(upstream: &StdioUpstream, name: &str) -> Result<UpstreamReply, UpstreamError> {
    upstream
        .request(request("tools/call", Some(&format!(r#"{{"name":"{name}","arguments":{{"n":1.50}}}}"#))))
        .await
}

async fn text(upstream: &StdioUpstream, name: &str) -> String {
    call(upstream, name).await.unwrap().outcome.unwrap().get().to_owned()
}

fn is_running(pid: &str) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/cmdline")).exists()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn both_eras_are_spoken_over_pipes() {
    for (role, version) in
        [("modern", ProtocolVersion::V2026_07_28), ("legacy", ProtocolVersion::V2025_11_25)]
    {
        let upstream = upstream(role, None);
        assert_eq!(upstream.introduce(soon()).await.unwrap().version, version);
        assert_eq!(text(&upstream, "echo").await, r#"{"n":1.5}"#);
        upstream.close(soon()).await;
    }
}

#[tokio::test]
async fn silence_means_legacy_and_a_late_answer_means_modern() {
    let (silent, late) = (upstream("silent", None), upstream("late", None));
    let (silent, late) = futures_util::join!(silent.introduce(soon()), late.introduce(soon()));
    assert_eq!(silent.unwrap().version, ProtocolVersion::V2025_11_25);
    assert_eq!(late.unwrap().version, ProtocolVersion::V2026_07_28);
}

#[tokio::test]
async fn many_calls_share_one_process_and_each_gets_its_own_reply() {
    let upstream = upstream("modern", None);
    let calls = (0..200).map(|n| {
        upstream
            .request(request("tools/call", Some(&format!(r#"{{"name":"echo","arguments":{{"n":{n}}}}}"#))))
    });
    for (n, reply) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap().outcome.unwrap().get(), format!(r#"{{"n":{n}}}"#));
    }
    let (one, other) = (text(&upstream, "pid").await, text(&upstream, "pid").await);
    assert_eq!(one, other);
}

#[tokio::test]
async fn a_process_that_dies_takes_its_calls_with_it_and_is_started_again() {
    let upstream = upstream("legacy", None);
    let before = text(&upstream, "pid").await;
    let open = (0..20).map(|_| call(&upstream, "never"));
    let (lost, _) = futures_util::join!(join_all(open), call(&upstream, "die"));
    for outcome in lost {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamLost, Sent::Maybe));
        assert!(error.source.unwrap().to_string().contains("out of cheese"));
    }
    let after = text(&upstream, "pid").await;
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_process_that_never_gets_going_says_why_and_is_not_started_over_and_over() {
    let upstream = upstream("stillborn", None);
    let error = call(&upstream, "echo").await.unwrap_err();
    assert_eq!(error.sent, Sent::No);
    assert!(error.message.contains("cannot find my configuration"), "{}", error.message);
    let _ = call(&upstream, "echo").await;
    let error = call(&upstream, "echo").await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamUnreachable, Sent::No));
    assert!(error.message.contains("2 times in a row"), "{}", error.message);
    assert!(error.message.contains("cannot find my configuration"), "{}", error.message);
    assert!(error.retry_after.is_some());
}

#[tokio::test]
async fn a_process_that_dies_at_every_call_is_slowed_down() {
    let upstream = upstream("crashing", None);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        // That it says what it offers does not make it a server that works.
        if let Ok(listed) = upstream.request(request("tools/list", None)).await {
            listed.outcome.unwrap();
        }
        kinds.push(call(&upstream, "echo").await.unwrap_err().kind);
    }
    assert_eq!(kinds[..2], [CallErrorKind::UpstreamLost, CallErrorKind::UpstreamLost]);
    assert_eq!(kinds[2], CallErrorKind::UpstreamUnreachable);
    let error = call(&upstream, "echo").await.unwrap_err();
    assert!(error.message.contains("cannot reach my database"), "{}", error.message);
}

#[tokio::test]
async fn callers_with_little_patience_get_a_slow_process_in_the_end() {
    let upstream = upstream("sluggish", Some(ProtocolVersion::V2025_11_25));
    let until = soon();
    loop {
        assert!(Instant::now() < until, "every start was given up with its call");
        let mut impatient = request("tools/call", Some(r#"{"name":"pid","arguments":{}}"#));
        impatient.deadline = Instant::now() + Duration::from_millis(100);
        match upstream.request(impatient).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind, CallErrorKind::DeadlineExceeded),
        }
    }
}

#[tokio::test]
async fn an_idle_process_ends_and_the_next_call_starts_another() {
    let process = ProcessConfig { idle_stop: Some(Duration::from_millis(200)), ..ProcessConfig::default() };
    let upstream = upstream_that("legacy", None, &process);
    let before = text(&upstream, "pid").await;
    let until = soon();
    while !upstream.is_asleep() || is_running(&before) {
        assert!(Instant::now() < until, "the process still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(text(&upstream, "pid").await, before);
    assert!(!upstream.is_asleep());
}

#[tokio::test]
async fn a_process_whose_resources_are_watched_is_not_idle() {
    let process = ProcessConfig { idle_stop: Some(Duration::from_millis(100)), ..ProcessConfig::default() };
    let upstream = upstream_that("modern", None, &process);
    upstream.introduce(soon()).await.unwrap();
    let mut changes = upstream.changes().unwrap();
    assert_eq!(upstream.watch_resources(vec!["x://a".to_owned()], soon()).await, ["x://a"]);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!upstream.is_asleep());
    call(&upstream, "change").await.unwrap();
    assert_eq!(changes.recv().await, Some(Change::Tools));
    upstream.watch_resources(Vec::new(), soon()).await;
    let until = soon();
    while !upstream.is_asleep() {
        assert!(Instant::now() < until, "nobody watches any more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Whoever watches a sleeping server wakes it.
    assert_eq!(upstream.watch_resources(vec!["x://a".to_owned()], soon()).await, ["x://a"]);
    assert!(!upstream.is_asleep());
}

#[tokio::test]
async fn a_process_on_demand_sleeps_until_it_is_asked_for_something() {
    let process = ProcessConfig { start: Start::OnDemand, ..ProcessConfig::default() };
    let upstream = upstream_that("modern", None, &process);
    assert!(upstream.is_asleep());
    text(&upstream, "pid").await;
    assert!(!upstream.is_asleep());
    let _ = call(&upstream, "die").await;
    assert!(upstream.is_asleep(), "nothing but a call starts it again");
}

#[tokio::test]
async fn a_program_that_was_replaced_between_two_processes_is_found_out_anew() {
    for (before, after, version) in [
        ("legacy", "modern", ProtocolVersion::V2026_07_28),
        ("modern", "legacy", ProtocolVersion::V2025_11_25),
    ] {
        let installed = std::env::temp_dir().join(format!("mpe-stdio-{before}-{}", std::process::id()));
        std::fs::write(&installed, before).unwrap();
        let upstream =
            upstream_of("none", &[(INSTALLED, installed.to_str().unwrap())], None, &ProcessConfig::default());
        assert_eq!(text(&upstream, "echo").await, r#"{"n":1.5}"#);
        std::fs::write(&installed, after).unwrap();
        call(&upstream, "die").await.unwrap_err();
        assert_eq!(text(&upstream, "echo").await, r#"{"n":1.5}"#, "{before} to {after}");
        let introduction = upstream.introduce(soon()).await.unwrap();
        assert_eq!(introduction.version, version);
        std::fs::remove_file(installed).unwrap();
    }
}

#[tokio::test]
async fn every_caller_of_a_process_is_served_in_the_one_era_it_speaks() {
    for (role, version) in
        [("modern", ProtocolVersion::V2026_07_28), ("legacy", ProtocolVersion::V2025_11_25)]
    {
        let upstream = upstream(role, None);
        upstream.introduce(soon()).await.unwrap();
        let mut pids = std::collections::HashSet::new();
        for era in [None, Some(Era::Legacy), Some(Era::Modern)] {
            let context = CallContext { era, ..CallContext::default() };
            let asked = request_in("tools/call", Some(r#"{"name":"pid"}"#), context);
            let reply = upstream.request(asked).await.unwrap();
            pids.insert(reply.outcome.unwrap().get().to_owned());
        }
        assert_eq!(pids.len(), 1, "one process of {version} for all");
    }
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let upstream = StdioUpstream::new(&StdioTarget {
        command: "/nowhere/at-all",
        args: &[],
        env: &[],
        cwd: None,
        pinned: None,
        process: &ProcessConfig::default(),
    });
    let error = upstream.introduce(soon()).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamUnreachable, Sent::No));
    assert!(error.message.contains("/nowhere/at-all"), "{}", error.message);
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_at_the_server() {
    let upstream = Arc::new(upstream("modern", None));
    upstream.introduce(soon()).await.unwrap();
    let mut dropped = request("tools/call", Some(r#"{"name":"never","arguments":{}}"#));
    dropped.deadline = Instant::now() + Duration::from_millis(100);
    let error = upstream.request(dropped).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::DeadlineExceeded, Sent::Maybe));
    let deadline = soon();
    while !text(&upstream, "journal").await.contains("notifications/cancelled") {
        assert!(Instant::now() < deadline, "the server was never told");
    }
}

#[tokio::test]
async fn a_reply_to_a_cancelled_call_reaches_nobody() {
    let upstream = upstream("legacy", None);
    upstream.introduce(soon()).await.unwrap();
    for _ in 0..3 {
        let mut dropped = request("tools/call", Some(r#"{"name":"never","arguments":{}}"#));
        dropped.deadline = Instant::now() + Duration::from_millis(50);
        upstream.request(dropped).await.unwrap_err();
        assert_eq!(text(&upstream, "echo").await, r#"{"n":1.5}"#);
    }
}

#[tokio::test]
async fn a_second_reply_and_a_reply_to_nothing_reach_nobody() {
    let upstream = upstream("legacy", None);
    assert_eq!(text(&upstream, "twice").await, r#""first""#);
    assert_eq!(text(&upstream, "echo").await, r#"{"n":1.5}"#);
}

#[tokio::test]
async fn a_line_without_an_end_costs_its_call_and_no_other() {
    let upstream = upstream("legacy", None);
    let before = text(&upstream, "pid").await;
    let error = call(&upstream, "babble").await.unwrap_err();
    assert_eq!(error.sent, Sent::Maybe);
    assert!(error.message.contains("over the limit"), "{}", error.message);
    assert_eq!(text(&upstream, "pid").await, before, "the process is still the same");
}

#[tokio::test]
async fn progress_reaches_the_caller_before_the_reply() {
    for role in ["modern", "legacy"] {
        let ears = Arc::new(Ears::default());
        let context =
            CallContext { wants_progress: true, events: Some(ears.clone()), ..CallContext::default() };
        let upstream = upstream(role, None);
        let asked = request_in("tools/call", Some(r#"{"name":"progress"}"#), context);
        upstream.request(asked).await.unwrap();
        let heard = ears.heard.lock().unwrap().clone();
        let params: Vec<_> = heard.iter().map(|(_, params)| params.as_str()).collect();
        assert_eq!(params, [r#"{"progress":1}"#, r#"{"progress":2}"#, r#"{"progress":3}"#]);
    }
}

#[tokio::test]
async fn a_legacy_server_asks_only_callers_that_can_be_asked_each_in_its_own_process() {
    let upstream = upstream("legacy", None);
    let shared = text(&upstream, "pid").await;
    let ears = Arc::new(Ears::default());
    let asking = || CallContext {
        capabilities: Some(raw(&json!({"elicitation": {}}))),
        events: Some(ears.clone()),
        ..CallContext::default()
    };
    let ask = upstream.request(request_in("tools/call", Some(r#"{"name":"ask"}"#), asking())).await.unwrap();
    let answer: Value = serde_json::from_str(ask.outcome.unwrap().get()).unwrap();
    assert_eq!(answer["answer"]["action"], "accept");
    assert_eq!(*ears.asked.lock().unwrap(), ["elicitation/create"]);
    let own = upstream.request(request_in("tools/call", Some(r#"{"name":"pid"}"#), asking())).await.unwrap();
    assert_ne!(own.outcome.unwrap().get(), shared);
    // Whoever declared nothing is not asked.
    let refused = text(&upstream, "ask").await;
    assert!(refused.contains("-32601"), "{refused}");
}

#[tokio::test]
async fn closing_ends_the_process_and_lets_nobody_in() {
    let upstream = upstream("modern", None);
    let pid = text(&upstream, "pid").await;
    upstream.close(soon()).await;
    assert!(!is_running(&pid));
    assert_eq!(call(&upstream, "echo").await.unwrap_err().kind, CallErrorKind::ShuttingDown);
}

#[tokio::test]
async fn changes_are_announced_and_again_after_a_restart() {
    let upstream = upstream("modern", None);
    upstream.introduce(soon()).await.unwrap();
    let mut changes = upstream.changes().unwrap();
    let armed = upstream.watch_resources(vec!["x://a".to_owned()], soon()).await;
    assert_eq!(armed, ["x://a"]);
    call(&upstream, "change").await.unwrap();
    assert_eq!(changes.recv().await, Some(Change::Tools));
    assert_eq!(changes.recv().await, Some(Change::Resource("x://a".to_owned())));
    let _ = call(&upstream, "die").await;
    let journal = text(&upstream, "journal").await;
    assert!(journal.contains("subscriptions/listen"), "{journal}");
    assert_eq!(changes.recv().await, Some(Change::Tools));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_asks_leaves_its_process_to_others_after_a_while_and_not_before() {
    let (slot, asking) = (super::Slot::new("{}"), crate::Asking::default());
    let minutes = std::time::Duration::from_secs(600);
    let question = asking.begin();
    let alone = tokio::time::timeout(minutes, slot.gives_way(&asking)).await;
    assert!(alone.is_err(), "nobody waits for it");
    slot.n_waiting.store(1, std::sync::atomic::Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    slot.gives_way(&asking).await;
    assert!(began.elapsed() >= super::GIVES_WAY);
    drop(question);
    let at_work = tokio::time::timeout(minutes, slot.gives_way(&asking)).await;
    assert!(at_work.is_err(), "a call that works is not one that asks");
}
