//! Who hears of which change, and when.

use std::time::Duration;

use mpe_engine::upstream::Change;
use mpe_engine::{EndpointId, Interest};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Scripted, engine, names, tool, upstream};

const SOON: Duration = Duration::from_millis(200);

fn lists() -> Interest {
    Interest { tools: true, prompts: true, resources: true, uris: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn a_list_change_is_told_once_the_catalogue_shows_it() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut listening = engine.listen(&EndpointId::default(), lists(), None).await.unwrap();
    server.set_tools([tool("two")]);
    for _ in 0..5 {
        server.announce(Change::Tools);
    }
    assert_eq!(timeout(SOON, listening.changes.recv()).await.unwrap(), Some(Change::Tools));
    assert_eq!(names(&engine), ["two"]);
    assert!(timeout(Duration::from_secs(5), listening.changes.recv()).await.is_err(), "told once");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_only_a_refresh_finds_is_told_too() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut listening = engine.listen(&EndpointId::default(), lists(), None).await.unwrap();
    server.set_tools([tool("two")]);
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert_eq!(listening.changes.recv().await, Some(Change::Tools));
}

#[tokio::test(start_paused = true)]
async fn an_announcement_that_changes_nothing_we_list_is_passed_on() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut listening = engine.listen(&EndpointId::default(), lists(), None).await.unwrap();
    server.announce(Change::Prompts);
    assert_eq!(timeout(SOON, listening.changes.recv()).await.unwrap(), Some(Change::Prompts));
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_what_he_did_not_ask_for() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let interest = Interest { prompts: true, ..Interest::default() };
    let mut listening = engine.listen(&EndpointId::default(), interest, None).await.unwrap();
    server.set_tools([tool("two")]);
    server.announce(Change::Tools);
    assert!(timeout(Duration::from_secs(5), listening.changes.recv()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn resources_are_watched_upstream_as_long_as_somebody_listens() {
    let (a, b) = (Scripted::named(&[]), Scripted::named(&[]));
    for server in [&a, &b] {
        server.set_items("resources", [json!({ "uri": "file:///x", "name": "x" })]);
    }
    let engine = engine(vec![upstream("a", &a), upstream("b", &b)]).await;
    let shown = "mcp-proxy://b/file:///x".to_owned();
    let interest = Interest { uris: vec![shown.clone(), "nowhere:/".to_owned()], ..Interest::default() };
    let mut first = engine.listen(&EndpointId::default(), interest.clone(), None).await.unwrap();
    let second = engine.listen(&EndpointId::default(), interest, None).await.unwrap();
    assert_eq!(first.armed.uris, vec![shown.clone()], "nobody answers for the other one");
    assert_eq!((a.watched(), b.watched()), (vec![], vec!["file:///x".to_owned()]));

    let announced = Instant::now();
    a.announce(Change::Resource("file:///x".to_owned()));
    b.announce(Change::Resource("file:///x".to_owned()));
    let heard = first.changes.recv().await;
    assert_eq!(heard, Some(Change::Resource(shown)), "under the URI that is shown, and only b's");
    assert!(announced.elapsed() < Duration::from_millis(10), "not held back for a list");

    drop(second);
    sleep(SOON).await;
    assert_eq!(b.watched().len(), 1, "the first still listens");
    drop(first);
    sleep(SOON).await;
    assert!(b.watched().is_empty());
}

#[tokio::test(start_paused = true)]
async fn listeners_learn_that_the_engine_has_closed() {
    let server = Scripted::named(&["one"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut listening = engine.listen(&EndpointId::default(), lists(), None).await.unwrap();
    engine.close(Duration::from_secs(1)).await;
    assert_eq!(timeout(SOON, listening.changes.recv()).await.unwrap(), None);
}
