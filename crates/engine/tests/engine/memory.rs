//! The last known good catalogue across runs, and what the operator wants shown differently.

use std::time::Duration;

use mpe_engine::{CallErrorKind, EndpointId, Engine, Memory, ToolOverride, UpstreamState};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::scripted::{Scripted, Step, call, endpoint, engine, names, tool, upstream};

fn default() -> EndpointId {
    EndpointId::default()
}

#[tokio::test(start_paused = true)]
async fn a_later_run_begins_with_what_an_earlier_one_remembers() {
    let server = Scripted::named(&["one", "two"]);
    server.set_items("prompts", [json!({ "name": "greet" })]);
    let first = engine(vec![upstream("a", &server), upstream("b", &Scripted::named(&["gone"]))]).await;
    let memory = first.memory(&default()).unwrap();
    let revision = first.snapshot(&default()).unwrap().catalogue.revision().to_owned();

    // The server is slow to say anything now, and one upstream is not configured any more.
    server.set_up(false);
    let both = vec![upstream("a", &server), upstream("b", &Scripted::named(&["gone"]))];
    let same =
        Engine::builder().endpoint(endpoint(both)).remember(default(), memory.clone()).start().unwrap();
    assert_eq!(same.snapshot(&default()).unwrap().catalogue.revision(), revision, "byte for byte the same");
    let engine = Engine::builder()
        .endpoint(endpoint(vec![upstream("a", &server)]))
        .remember(default(), memory)
        .start()
        .unwrap();
    assert_eq!(names(&engine), ["one", "two"], "at once");
    assert!(engine.snapshot(&default()).unwrap().catalogue.prompt("greet").is_some());
    let status = engine.snapshot(&default()).unwrap().catalogue.upstreams()[0].clone();
    assert!(matches!(status.state, UpstreamState::Stale { .. }), "{status:?}");

    server.set_up(true);
    server.set_tools([tool("three")]);
    let mut revisions = engine.watch(&default()).unwrap();
    timeout(Duration::from_secs(7), revisions.changed()).await.unwrap().unwrap();
    assert_eq!(names(&engine), ["three"], "discovery has the last word");
}

#[tokio::test(start_paused = true)]
async fn calls_need_not_wait_for_discovery_when_the_tool_is_remembered() {
    let server = Scripted::named(&["one"]);
    let memory = engine(vec![upstream("a", &server), upstream("b", &Scripted::named(&["x"]))])
        .await
        .memory(&default())
        .unwrap();
    let engine = Engine::builder()
        .endpoint(endpoint(vec![upstream("a", &server)]))
        .remember(default(), memory)
        .start()
        .unwrap();
    let start = Instant::now();
    engine.call(call("one")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[test]
fn bytes_that_are_no_memory_are_refused() {
    for bytes in ["", "{}", r#"{"format":2,"upstreams":{}}"#] {
        let error = Memory::parse(bytes.as_bytes()).unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Misconfigured, "{bytes}");
    }
}

fn renamed() -> ToolOverride {
    let mut wish = ToolOverride::default();
    wish.name = Some("find_user".to_owned());
    wish.description = Some("Finds a user.".to_owned());
    wish
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_shown_as_the_operator_wants_and_called_by_its_own_name() {
    let server = Scripted::new([json!({ "name": "usr.q", "inputSchema": { "type": "object" }, "x": 1.0 })]);
    let mut config = upstream("a", &server);
    config.overrides.insert("usr.q".to_owned(), renamed());
    let engine = engine(vec![config]).await;
    let snapshot = engine.snapshot(&default()).unwrap();
    let entry = snapshot.catalogue.tool("find_user").unwrap();
    assert_eq!(entry.tool.description(), Some("Finds a user."));
    assert!(entry.tool.raw().get().contains(r#""x":1.0"#), "{}", entry.tool.raw().get());
    server.script([Step::Answer(json!({ "content": [] }))]);
    engine.call(call("find_user")).await.unwrap();
    assert!(server.calls()[0].params.as_ref().unwrap().get().contains(r#""name":"usr.q""#));
    assert_eq!(engine.call(call("usr.q")).await.unwrap_err().kind, CallErrorKind::UnknownTool);
}

#[tokio::test(start_paused = true)]
async fn an_override_comes_and_goes_with_a_reload_and_survives_in_no_memory() {
    let server = Scripted::named(&["usr.q"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut config = upstream("a", &server);
    config.overrides.insert("usr.q".to_owned(), renamed());
    engine.apply(vec![endpoint(vec![config])]).unwrap();
    engine.refresh(&default()).await.unwrap();
    assert_eq!(names(&engine), ["find_user"]);
    let memory = String::from_utf8(engine.memory(&default()).unwrap().to_bytes()).unwrap();
    assert!(memory.contains("usr.q") && !memory.contains("find_user"), "{memory}");
    engine.apply(vec![endpoint(vec![upstream("a", &server)])]).unwrap();
    engine.refresh(&default()).await.unwrap();
    assert_eq!(names(&engine), ["usr.q"]);
}
