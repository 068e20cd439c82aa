//! Servers that do not run while nobody needs them.

use std::time::Duration;

use mpe_engine::upstream::Change;
use mpe_engine::{EndpointId, Engine, UpstreamState};

use crate::scripted::{Scripted, call, endpoint, engine, names, tool, upstream};

/// Many refresh intervals (60 s).
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn a_sleeping_server_is_not_woken_to_be_listed_again() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    server.set_asleep(true);
    tokio::time::sleep(LONG).await;
    assert_eq!(server.n_lists(), 1);
    assert_eq!(names(&engine), ["one"], "its tools stay listed");
    let status = engine.snapshot(&EndpointId::default()).unwrap().catalogue.upstreams()[0].clone();
    assert_eq!(status.state, UpstreamState::Up);
    engine.call(call("one")).await.unwrap();
    server.set_asleep(false);
    tokio::time::sleep(LONG).await;
    assert!(server.n_lists() >= 9, "{} lists of a server that is awake", server.n_lists());
}

#[tokio::test(start_paused = true)]
async fn somebody_who_asks_or_an_announcement_has_a_sleeping_server_listed() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    server.set_asleep(true);
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert_eq!(server.n_lists(), 2);
    // What a process does that was started again.
    server.set_tools([tool("two")]);
    let mut revisions = engine.watch(&EndpointId::default()).unwrap();
    server.announce(Change::Tools);
    tokio::time::timeout(Duration::from_secs(1), revisions.changed()).await.unwrap().unwrap();
    assert_eq!(names(&engine), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sleeps_from_the_start_is_listed_once_unless_an_earlier_run_remembers_it() {
    let server = Scripted::named(&["one"]);
    server.set_asleep(true);
    let first = engine(vec![upstream("a", &server)]).await;
    tokio::time::sleep(LONG).await;
    assert_eq!((server.n_introductions(), server.n_lists()), (1, 1));
    let memory = first.memory(&EndpointId::default()).unwrap();
    let second = Engine::builder()
        .endpoint(endpoint(vec![upstream("a", &server)]))
        .remember(EndpointId::default(), memory)
        .start()
        .unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(names(&second), ["one"]);
    assert_eq!((server.n_introductions(), server.n_lists()), (1, 1), "the second run asks nothing");
    second.call(call("one")).await.unwrap();
}
