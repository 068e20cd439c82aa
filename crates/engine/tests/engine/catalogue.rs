use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mpe_engine::upstream::Change;
use mpe_engine::{
    CallErrorKind, Catalogue, Derive, Derived, EndpointId, Engine, Naming, UpstreamState, UpstreamStatus,
};
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::scripted::{Scripted, call, endpoint, engine, names, started, tool, upstream};

fn status(engine: &Engine, n: usize) -> UpstreamStatus {
    engine.snapshot(&EndpointId::default()).unwrap().catalogue.upstreams()[n].clone()
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_fifty_tools_in_pages_of_fifty_all_arrive_in_order() {
    let expected: Vec<_> = (0..250).map(|n| format!("tool_{n:03}")).collect();
    let server = Scripted::paged(expected.iter().map(|name| tool(name)), 50);
    let engine = engine(vec![upstream("a", &server)]).await;
    assert_eq!(names(&engine), expected);
    assert_eq!(server.n_lists(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_at_start_stops_nobody_and_is_picked_up_when_it_appears() {
    let (up, late) = (Scripted::named(&["here"]), Scripted::named(&["late"]));
    late.set_up(false);
    let engine = engine(vec![upstream("up", &up), upstream("late", &late)]).await;
    assert_eq!(names(&engine), ["here"]);
    assert!(matches!(status(&engine, 1).state, UpstreamState::Down { .. }));
    sleep(Duration::from_secs(60)).await;
    late.set_up(true);
    let mut revision = engine.watch(&EndpointId::default()).unwrap();
    let seen = timeout(Duration::from_secs(7), revision.changed()).await;
    assert!(seen.is_ok(), "picked up within the longest pause");
    assert_eq!(names(&engine), ["here", "late"]);
    assert_eq!(status(&engine, 1).state, UpstreamState::Up);
}

#[tokio::test(start_paused = true)]
async fn the_first_attempts_to_find_a_server_follow_quickly() {
    let late = Scripted::named(&["late"]);
    late.set_up(false);
    let engine = engine(vec![upstream("late", &late)]).await;
    sleep(Duration::from_millis(320)).await;
    assert_eq!(late.n_introductions(), 2, "the second after about 250 ms");
    drop(engine);
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_the_last_good_tools_and_says_so() {
    let server = Scripted::named(&["echo"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let revision = engine.snapshot(&EndpointId::default()).unwrap().catalogue.revision().to_owned();
    server.set_up(false);
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert!(matches!(status(&engine, 0).state, UpstreamState::Stale { .. }));
    assert_eq!(names(&engine), ["echo"]);
    assert_eq!(engine.snapshot(&EndpointId::default()).unwrap().catalogue.revision(), revision);
    server.set_up(true);
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert_eq!(status(&engine, 0).state, UpstreamState::Up);
    assert_eq!(server.n_introductions(), 2, "introduced again after the outage, and only then");
}

#[tokio::test(start_paused = true)]
async fn announced_changes_are_listed_once_within_a_moment() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut revision = engine.watch(&EndpointId::default()).unwrap();
    server.set_tools([tool("one"), tool("two")]);
    let announced = Instant::now();
    for _ in 0..10 {
        server.announce(Change::Tools);
    }
    revision.changed().await.unwrap();
    assert!(announced.elapsed() <= Duration::from_millis(60), "{:?}", announced.elapsed());
    assert_eq!(names(&engine), ["one", "two"]);
    assert_eq!(server.n_lists(), 2, "ten announcements, one list");
}

#[tokio::test(start_paused = true)]
async fn tools_are_listed_anew_at_the_configured_interval() {
    let server = Scripted::named(&["one"]);
    let mut config = upstream("a", &server);
    config.refresh = Duration::from_secs(10);
    let engine = engine(vec![config]).await;
    server.set_tools([tool("other")]);
    sleep(Duration::from_secs(13)).await;
    assert_eq!(names(&engine), ["other"]);
}

#[tokio::test(start_paused = true)]
async fn shared_names_are_prefixed_and_both_tools_are_reachable() {
    let (a, b) = (Scripted::named(&["echo", "add"]), Scripted::named(&["echo"]));
    let engine = engine(vec![upstream("a", &a), upstream("b", &b)]).await;
    assert_eq!(names(&engine), ["a_echo", "add", "b_echo"]);
    engine.call(call("b_echo")).await.unwrap();
    assert_eq!((a.n_calls(), b.n_calls()), (0, 1));
    assert!(b.calls()[0].params.as_ref().unwrap().get().contains(r#""name":"echo""#), "its own name");
    let snapshot = engine.snapshot(&EndpointId::default()).unwrap();
    assert_eq!(snapshot.catalogue.collisions()[0].name, "echo");
    assert!(snapshot.catalogue.tool("b_echo").unwrap().tool.raw().get().contains("b_echo"));
}

#[tokio::test(start_paused = true)]
async fn allow_and_deny_lists_hold_for_listing_and_for_forwarding() {
    let server = Scripted::named(&["shown", "hidden", "other"]);
    let mut config = upstream("a", &server);
    config.allow = vec!["shown".to_owned(), "hidden".to_owned()];
    config.deny = vec!["hidden".to_owned()];
    let engine = engine(vec![config]).await;
    assert_eq!(names(&engine), ["shown"]);
    for name in ["hidden", "other"] {
        let error = engine.call(call(name)).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::UnknownTool, "{name}");
    }
    assert_eq!(server.n_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn equal_content_gives_the_same_revision_and_a_change_gives_another() {
    let revision = async |tools: &[&str]| {
        let engine = engine(vec![upstream("a", &Scripted::named(tools))]).await;
        engine.snapshot(&EndpointId::default()).unwrap().catalogue.revision().to_owned()
    };
    let one = revision(&["x", "y"]).await;
    assert_eq!(one, revision(&["x", "y"]).await);
    assert_ne!(one, revision(&["y", "x"]).await);
    assert!(one.len() == 16 && one.chars().all(|c| c.is_ascii_hexdigit()), "{one}");
}

#[tokio::test(start_paused = true)]
async fn broken_tools_are_left_out_with_a_reason_and_the_others_stay() {
    let server = Scripted::new([tool("good"), serde_json::json!({ "name": 7 }), tool(""), tool("good")]);
    let engine = engine(vec![upstream("a", &server)]).await;
    assert_eq!(names(&engine), ["good"]);
    assert_eq!(status(&engine, 0).rejected.len(), 3);
}

/// Counts how often it derives, and keeps the revision it saw.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Derive for Counting {
    fn derive(&self, catalogue: &Arc<Catalogue>) -> Derived {
        self.0.fetch_add(1, Ordering::SeqCst);
        Arc::new(catalogue.revision().to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_derived_always_belongs_to_the_catalogue_beside_it() {
    let server = Scripted::named(&["one"]);
    let counting = Arc::new(Counting::default());
    let engine = Engine::builder()
        .endpoint(endpoint(vec![upstream("a", &server)]))
        .derive(Arc::clone(&counting) as Arc<dyn Derive>)
        .start()
        .unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(5)).await);
    for n in 0..5 {
        server.set_tools([tool(&format!("tool_{}", n / 2))]);
        engine.refresh(&EndpointId::default()).await.unwrap();
        let snapshot = engine.snapshot(&EndpointId::default()).unwrap();
        let derived = snapshot.derived.downcast_ref::<String>().unwrap();
        assert_eq!(derived, snapshot.catalogue.revision());
    }
    assert_eq!(counting.0.load(Ordering::SeqCst), 1 + 1 + 3, "once per content");
}

#[tokio::test(start_paused = true)]
async fn plain_naming_hides_the_later_server_and_reports_it() {
    let (a, b) = (Scripted::named(&["echo"]), Scripted::named(&["echo"]));
    let mut config = endpoint(vec![upstream("a", &a), upstream("b", &b)]);
    config.naming = Naming::Plain;
    let engine = started(config).await;
    assert_eq!(names(&engine), ["echo"]);
    assert_eq!(status(&engine, 1).rejected.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_upstreams_of_one_key_are_refused_by_name() {
    let server = Scripted::named(&["x"]);
    let error = Engine::builder()
        .endpoint(endpoint(vec![upstream("twin", &server), upstream("twin", &server)]))
        .start()
        .unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Misconfigured);
    assert!(error.message.contains("'twin'"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_engine_ends_discovery() {
    let server = Scripted::named(&["x"]);
    let mut config = upstream("a", &server);
    config.refresh = Duration::from_secs(1);
    drop(engine(vec![config]).await);
    let listed = server.n_lists();
    advance(Duration::from_secs(30)).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(server.n_lists(), listed);
    assert_eq!(Arc::strong_count(&server), 1, "nobody holds the upstream any more");
}

#[tokio::test(start_paused = true)]
async fn where_no_headers_go_a_broken_annotation_is_left_out_and_the_tool_stays() {
    let schema = |annotation: &str| json!({ "type": "object", "properties": { "n": serde_json::from_str::<Value>(annotation).unwrap() } });
    let sound = schema(r#"{"type":"integer","x-mcp-header":"N"}"#);
    let broken = schema(r#"{"type":"number","x-mcp-header":"N","maximum":5}"#);
    let server = Scripted::new([
        json!({ "name": "sound", "inputSchema": sound }),
        json!({ "name": "broken", "inputSchema": broken, "title": "T" }),
    ]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let snapshot = engine.snapshot(&EndpointId::default()).unwrap();
    let raw = |name: &str| snapshot.catalogue.tool(name).unwrap().tool.raw().get().to_owned();
    assert_eq!(raw("sound"), json!({ "name": "sound", "inputSchema": sound }).to_string());
    let stripped = schema(r#"{"type":"number","maximum":5}"#);
    assert_eq!(raw("broken"), json!({ "name": "broken", "inputSchema": stripped, "title": "T" }).to_string());
    assert!(status(&engine, 0).rejected.is_empty());
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_fresh_for_less_than_the_interval_are_asked_for_again_when_they_are_stale() {
    // Milliseconds, and how often the list is asked for within 140 s, the first time included.
    let cases = [
        (None, 2..=3),
        (Some(0), 2..=3),
        (Some(20_000), 7..=8),
        (Some(1), 120..=141),
        (Some(3_600_000), 2..=3),
    ];
    for (ttl, expected) in cases {
        let server = Scripted::named(&["x"]);
        if let Some(millis) = ttl {
            server.set_ttl(millis);
        }
        let _engine = engine(vec![upstream("a", &server)]).await;
        sleep(Duration::from_secs(140)).await;
        assert!(expected.contains(&server.n_lists()), "{ttl:?}: {} times", server.n_lists());
    }
}
