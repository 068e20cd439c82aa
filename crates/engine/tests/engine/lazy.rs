//! Endpoints on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpe_engine::{CallErrorKind, EndpointConfig, EndpointId, EndpointSource, Engine, LazyLimits, ToolCall};
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Step, call, upstream};

/// Gives every endpoint whose name begins with `t` a server of its own.
#[derive(Default)]
struct Source(Mutex<HashMap<EndpointId, Arc<Scripted>>>);

impl Source {
    fn server(&self, id: &str) -> Arc<Scripted> {
        Arc::clone(&self.0.lock().unwrap()[&EndpointId::new(id)])
    }
}

impl EndpointSource for Source {
    fn endpoint(&self, id: &EndpointId) -> Option<EndpointConfig> {
        let known = id.as_str().starts_with('t');
        let mut servers = self.0.lock().unwrap();
        let server = known.then(|| servers.entry(id.clone()).or_insert_with(|| Scripted::named(&["x"])))?;
        Some(EndpointConfig::new(id.clone(), vec![upstream("a", server)]))
    }
}

fn engine(max_endpoints: usize) -> (Engine, Arc<Source>) {
    let source = Arc::new(Source::default());
    let mut limits = LazyLimits::default();
    limits.max_endpoints = max_endpoints;
    limits.idle = Duration::from_secs(60);
    let on_demand = Arc::clone(&source) as Arc<dyn EndpointSource>;
    (Engine::builder().endpoints_on_demand(on_demand, limits).start().unwrap(), source)
}

fn at(id: &str) -> ToolCall {
    ToolCall { endpoint: EndpointId::new(id), ..call("x") }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_made_for_its_first_call_and_retired_when_idle() {
    let (engine, source) = engine(10);
    assert!(engine.endpoints().is_empty());
    engine.call(at("t1")).await.unwrap();
    assert_eq!(engine.endpoints(), [EndpointId::new("t1")]);
    for _ in 0..5 {
        sleep(Duration::from_secs(40)).await;
        engine.call(at("t1")).await.expect("in use, so it stays");
    }
    assert_eq!(source.server("t1").n_introductions(), 1);
    sleep(Duration::from_secs(90)).await;
    assert!(engine.endpoints().is_empty());
    assert!(source.server("t1").is_closed());
    engine.call(at("t1")).await.expect("made anew");
}

#[tokio::test(start_paused = true)]
async fn names_that_the_source_does_not_know_leave_nothing_behind() {
    let (engine, _) = engine(10);
    let error = engine.call(at("stranger")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::UnknownEndpoint);
    assert!(engine.snapshot(&EndpointId::new("stranger")).is_none());
    assert!(engine.endpoints().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_too_many_takes_the_place_of_the_longest_idle_and_never_of_one_in_use() {
    let (engine, source) = engine(2);
    engine.call(at("t1")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    engine.call(at("t2")).await.unwrap();
    source.server("t1").script([Step::Slow(Duration::from_secs(30))]);
    let displace = async {
        sleep(Duration::from_secs(1)).await;
        engine.call(at("t3")).await.unwrap();
        assert_eq!(engine.endpoints(), [EndpointId::new("t1"), EndpointId::new("t3")]);
    };
    let (under_way, ()) = tokio::join!(engine.call(at("t1")), displace);
    under_way.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_the_named_endpoints_keeps_those_on_demand() {
    let (engine, source) = engine(10);
    engine.call(at("t1")).await.unwrap();
    let named = EndpointConfig::new(EndpointId::new("named"), vec![upstream("a", &Scripted::named(&["x"]))]);
    engine.apply(vec![named]).unwrap();
    assert_eq!(engine.endpoints(), [EndpointId::new("named"), EndpointId::new("t1")]);
    engine.call(at("t1")).await.unwrap();
    assert_eq!(source.server("t1").n_introductions(), 1, "untouched");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_endpoints_come_when_asked_for_and_go_when_idle() {
    let (engine, source) = engine(10_000);
    for n in 0..10_000 {
        assert!(engine.snapshot(&EndpointId::new(format!("t{n}"))).is_some());
    }
    assert!(engine.settled(Instant::now() + Duration::from_secs(30)).await);
    assert_eq!(engine.endpoints().len(), 10_000);
    // One of them stays in use; the others go, with every task and server of theirs.
    for _ in 0..4 {
        sleep(Duration::from_secs(30)).await;
        engine.call(at("t7")).await.unwrap();
    }
    assert_eq!(engine.endpoints(), [EndpointId::new("t7")]);
    assert!(source.server("t8").is_closed() && !source.server("t7").is_closed());
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks < 10, "{tasks} tasks are left");
}
