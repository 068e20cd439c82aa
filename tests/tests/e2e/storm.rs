//! Servers that die under load: whatever happens, no call runs twice, and no answer is a lie.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpe_tests::{Answer, Exchange, Fate, Fault, PATIENCE, Script, gateway, server, tool};
use serde_json::Value;
use tokio::task::JoinSet;

/// How often each call ran, by its number.
type Runs = Arc<Mutex<HashMap<u64, usize>>>;

const CALLS: u64 = 200;

/// A tool that changes things: it notes the number it is called with, and gives it back.
fn noting(name: &str) -> (Script, Runs) {
    let runs = Runs::default();
    let noted = Arc::clone(&runs);
    let script = tool(name).takes(Duration::from_millis(20)).answers(move |arguments| {
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        *noted.lock().unwrap().entry(arguments["n"].as_u64().unwrap()).or_default() += 1;
        format!(r#"{{"content":[],"structuredContent":{{"n":{}}}}}"#, arguments["n"])
    });
    (script, runs)
}

/// Checks every answer against what really ran; gives how many calls were answered with success.
fn judge(answers: &HashMap<u64, Answer>, runs: &HashMap<u64, usize>) -> usize {
    let mut answered = 0;
    for (n, answer) in answers {
        let ran = runs.get(n).copied().unwrap_or(0);
        assert!(ran <= 1, "call {n} ran {ran} times: {answer:?}");
        let body = answer.json();
        if answer.status == 200 {
            assert_eq!(body["n"], *n, "call {n} got another one's answer");
            assert_eq!(ran, 1, "call {n} was answered but never ran");
            answered += 1;
        } else if body["executed"] != "unknown" {
            assert_eq!(ran, 0, "call {n} ran, but its error says that it did not: {body}");
        }
    }
    answered
}

#[tokio::test]
async fn no_call_runs_twice_while_the_server_dies_and_comes_back() {
    for legacy in [false, true] {
        let (script, runs) = noting("write");
        let mut builder = server().tool(script);
        if legacy {
            builder = builder.legacy_only();
        }
        let mut server = builder.start().await;
        let gateway = gateway().server("s", &server).start().await;
        let mut calls = JoinSet::new();
        for n in 0..CALLS {
            let http = gateway.http();
            calls.spawn(async move {
                // Spread over the life and death of the server.
                tokio::time::sleep(Duration::from_millis(n * 2)).await;
                (n, http.post("/tools/write", format!(r#"{{"n":{n}}}"#)).await)
            });
        }
        let some_answered = |seen: &[Exchange]| {
            seen.iter().filter(|call| call.tool.is_some() && call.fate == Fate::Answered).count() >= 20
        };
        server.until("twenty answered calls", some_answered).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(90)).await;
            server.start_again().await;
        }
        let answers: HashMap<_, _> = calls.join_all().await.into_iter().collect();
        assert_eq!(answers.len() as u64, CALLS, "no call is lost");
        let answered = judge(&answers, &runs.lock().unwrap());
        assert!(answered >= 15, "those answered before the first death: {answered}, legacy {legacy}");

        // When it is over, everything is as before, as soon as the breaker has looked again.
        let well = async {
            while gateway.http().post("/tools/write", r#"{"n":1000}"#).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, well)
            .await
            .unwrap_or_else(|_| panic!("never well again, legacy {legacy}"));
    }
}

#[tokio::test]
async fn no_call_runs_twice_while_connections_are_cut_at_the_worst_moment() {
    let (script, runs) = noting("write");
    let server = server().tool(script).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let mut answers = HashMap::new();
    for round in 0..10 {
        server.fail_next([Fault::DropAfter, Fault::DropBefore]);
        let mut calls = JoinSet::new();
        for n in round * 10..round * 10 + 10 {
            let http = gateway.http();
            calls.spawn(async move { (n, http.post("/tools/write", format!(r#"{{"n":{n}}}"#)).await) });
        }
        answers.extend(calls.join_all().await);
    }
    assert_eq!(answers.len(), 100);
    judge(&answers, &runs.lock().unwrap());
}

#[tokio::test]
async fn one_tenants_broken_server_costs_another_tenant_nothing() {
    let mut broken = server().tool(tool("a").takes(Duration::from_secs(3600))).start().await;
    let sound = server().tool(tool("a")).start().await;
    let gateway = gateway()
        .server_with("s", &broken, |upstream| upstream.timeout = Duration::from_secs(5))
        .endpoint("sound")
        .server("s", &sound)
        .start()
        .await;
    let mut stuck = JoinSet::new();
    for _ in 0..150 {
        let http = gateway.http();
        stuck.spawn(async move { http.post("/tools/a", "{}").await });
    }
    broken
        .until("calls that hang", |seen| seen.iter().filter(|call| call.tool.is_some()).count() >= 50)
        .await;
    for n in 0..50 {
        let answer = gateway.http().post("/endpoints/sound/tools/a", format!(r#"{{"n":{n}}}"#)).await;
        assert_eq!(answer.json()["n"], n);
    }
    broken.kill().await;
    assert!(stuck.join_all().await.iter().all(|answer| answer.status.is_server_error()));
    assert_eq!(sound.calls("a").len(), 50);
}

#[tokio::test]
async fn an_unlucky_batch_keeps_its_order_and_its_other_answers() {
    let (script, runs) = noting("write");
    let server = server().tool(script).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let calls: Vec<_> = (0..20).map(|n| serde_json::json!({ "tool": if n == 7 { "nowhere" } else { "write" }, "arguments": { "n": n } })).collect();
    let answer = gateway.http().post("/batch", Value::from(calls).to_string()).await;
    let items = answer.json();
    for (n, item) in items.as_array().unwrap().iter().enumerate() {
        if n == 7 {
            assert_eq!(item["problem"]["status"], 404, "{item}");
        } else {
            assert_eq!(item["result"]["n"], n, "{item}");
        }
    }
    assert_eq!(runs.lock().unwrap().len(), 19);
}
