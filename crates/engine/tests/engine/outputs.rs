//! Results that break their tool's output schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mpe_engine::{ArgumentChecker, CheckerFactory, Engine, UpstreamConfig, Violation};
use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Step, call, endpoint, tool, upstream};

/// Wants `n` to be a number, and counts how often it was asked.
#[derive(Default)]
struct Factory {
    looks: Arc<AtomicUsize>,
}

struct WantsNumber(Arc<AtomicUsize>);

impl ArgumentChecker for WantsNumber {
    fn check(&self, structured: &RawValue) -> Vec<Violation> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let value: Value = serde_json::from_str(structured.get()).unwrap();
        if value["n"].is_number() {
            return Vec::new();
        }
        vec![Violation { pointer: "/n".to_owned(), message: "expected a number".to_owned() }]
    }
}

impl CheckerFactory for Factory {
    fn compile(&self, _: &Tool) -> Result<Arc<dyn ArgumentChecker>, String> {
        Err("arguments are not checked here".to_owned())
    }

    fn compile_output(&self, _: &Tool) -> Result<Option<Arc<dyn ArgumentChecker>>, String> {
        Ok(Some(Arc::new(WantsNumber(Arc::clone(&self.looks)))))
    }
}

fn server() -> Arc<Scripted> {
    let counted = json!({ "name": "count", "inputSchema": { "type": "object" },
        "outputSchema": { "type": "object", "properties": { "n": { "type": "number" } } } });
    Scripted::new([counted, tool("plain")])
}

async fn started(config: UpstreamConfig) -> (Engine, Arc<AtomicUsize>) {
    let factory = Factory::default();
    let looks = Arc::clone(&factory.looks);
    let engine =
        Engine::builder().endpoint(endpoint(vec![config])).checkers(Arc::new(factory)).start().unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(5)).await);
    (engine, looks)
}

fn bad() -> Step {
    Step::Answer(json!({ "content": [], "structuredContent": { "n": "seven" } }))
}

#[tokio::test(start_paused = true)]
async fn where_every_result_is_checked_the_outcome_says_what_is_wrong_and_the_bytes_stay() {
    let server = server();
    let good = json!({ "content": [], "structuredContent": { "n": 7 } });
    server.script([bad(), Step::Answer(good), Step::Answer(json!({ "content": [] }))]);
    let mut config = upstream("a", &server);
    config.check_outputs = true;
    let (engine, _) = started(config).await;
    let broken = engine.call(call("count")).await.unwrap();
    assert_eq!(broken.result.get(), r#"{"content":[],"structuredContent":{"n":"seven"}}"#);
    assert_eq!(broken.violations[0].pointer, "/n");
    assert!(engine.call(call("count")).await.unwrap().violations.is_empty());
    let bare = engine.call(call("count")).await.unwrap();
    assert!(bare.violations[0].message.contains("no structured content"), "{:?}", bare.violations);
}

#[tokio::test(start_paused = true)]
async fn failures_and_tools_without_a_schema_are_not_held_against_one() {
    let server = server();
    server.script([Step::Answer(json!({ "content": [], "isError": true }))]);
    let mut config = upstream("a", &server);
    config.check_outputs = true;
    let (engine, looks) = started(config).await;
    assert!(engine.call(call("count")).await.unwrap().violations.is_empty());
    assert!(engine.call(call("plain")).await.unwrap().violations.is_empty());
    assert_eq!(looks.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn otherwise_a_few_are_looked_at_in_the_background_and_the_call_does_not_wait() {
    let server = server();
    server.script(vec![bad(); 200]);
    let (engine, looks) = started(upstream("a", &server)).await;
    for _ in 0..200 {
        assert!(engine.call(call("count")).await.unwrap().violations.is_empty());
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while looks.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "nobody looked");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(looks.load(Ordering::SeqCst) < 100, "{looks:?} of 200");
    engine.close(Duration::from_secs(1)).await;
}
