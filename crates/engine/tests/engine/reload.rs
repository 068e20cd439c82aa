//! Changing the configuration while calls are under way.

use std::sync::Arc;
use std::time::Duration;

use mpe_engine::{CallErrorKind, EndpointConfig, EndpointId, ToolCall};
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Step, call, endpoint, engine, names, upstream};

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_is_not_touched() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    let engine = engine(vec![upstream("a", &a)]).await;
    engine.apply(vec![endpoint(vec![upstream("a", &a), upstream("b", &b)])]).unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(5)).await);
    assert_eq!(names(&engine), ["x", "y"]);
    assert_eq!((a.n_introductions(), a.n_lists()), (1, 1), "a knows nothing of it");
}

#[tokio::test(start_paused = true)]
async fn a_removed_upstream_finishes_its_calls_takes_no_new_ones_and_is_closed() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    b.script([Step::Slow(Duration::from_secs(5))]);
    let engine = engine(vec![upstream("a", &a), upstream("b", &b)]).await;
    let reload = async {
        sleep(Duration::from_secs(1)).await;
        engine.apply(vec![endpoint(vec![upstream("a", &a)])]).unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(names(&engine), ["x"]);
        assert!(!b.is_closed(), "a call is still under way");
    };
    let (under_way, ()) = tokio::join!(engine.call(call("y")), reload);
    under_way.expect("the reload did not harm it");
    sleep(Duration::from_secs(1)).await;
    assert!(b.is_closed());
    assert!(!a.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_upstream_with_new_options_keeps_its_server_and_its_tools() {
    let server = Scripted::named(&["x", "z"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let mut changed = upstream("a", &server);
    changed.timeout = Duration::from_secs(3);
    changed.deny = vec!["z".to_owned()];
    engine.apply(vec![endpoint(vec![changed])]).unwrap();
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert_eq!(names(&engine), ["x"]);
    sleep(Duration::from_secs(400)).await;
    assert!(!server.is_closed(), "the same server goes on");
}

#[tokio::test(start_paused = true)]
async fn a_bad_configuration_changes_nothing() {
    let server = Scripted::named(&["x"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let twice = endpoint(vec![upstream("b", &server), upstream("b", &server)]);
    assert_eq!(engine.apply(vec![twice]).unwrap_err().kind, CallErrorKind::Misconfigured);
    engine.call(call("x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_ends_once_its_calls_have_ended() {
    let server = Scripted::named(&["x"]);
    server.script([Step::Slow(Duration::from_secs(5))]);
    let other = EndpointId::new("other");
    let config = EndpointConfig::new(other.clone(), vec![upstream("a", &server)]);
    let engine = engine(vec![]).await;
    engine.apply(vec![config]).unwrap();
    let at_other = || ToolCall { endpoint: other.clone(), ..call("x") };
    let remove = async {
        sleep(Duration::from_secs(1)).await;
        engine.apply(vec![]).unwrap();
        assert_eq!(engine.call(at_other()).await.unwrap_err().kind, CallErrorKind::UnknownEndpoint);
    };
    let (under_way, ()) = tokio::join!(engine.call(at_other()), remove);
    under_way.expect("finished");
    sleep(Duration::from_secs(1)).await;
    assert!(server.is_closed());
    assert_eq!(Arc::strong_count(&server), 1, "nothing of the endpoint is left");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_under_way_do_not_notice_reloads() {
    let servers: Vec<_> = (0..5).map(|n| Scripted::named(&[&format!("tool_{n}")])).collect();
    for server in &servers {
        server.script((0..200).map(|n| Step::Slow(Duration::from_millis(10 * n))));
    }
    let all = || {
        servers.iter().enumerate().map(|(n, server)| upstream(&format!("s{n}"), server)).collect::<Vec<_>>()
    };
    let engine = engine(all()).await;
    let calls = engine.call_many((0..1000).map(|n| call(&format!("tool_{}", n % 5))).collect());
    let reloads = async {
        for round in 0..40 {
            sleep(Duration::from_millis(50)).await;
            let mut upstreams = all();
            // Changed options, a removed server, an added server, another order.
            upstreams[0].timeout = Duration::from_secs(30 + round % 2);
            if round % 2 == 0 {
                upstreams.remove(4);
                upstreams.push(upstream("extra", &Scripted::named(&["extra"])));
                upstreams.reverse();
            }
            engine.apply(vec![endpoint(upstreams)]).unwrap();
        }
    };
    let (results, ()) = tokio::join!(calls, reloads);
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
}

#[tokio::test(start_paused = true)]
async fn a_discovery_under_way_is_not_cut_short_by_a_reload() {
    let server = Scripted::named(&["x"]);
    let engine = engine(vec![upstream("a", &server)]).await;
    server.list_slowly(Duration::from_secs(2));
    let mut patient = upstream("a", &server);
    patient.timeout = Duration::from_secs(20);
    engine.apply(vec![endpoint(vec![patient])]).unwrap();
    sleep(Duration::from_secs(1)).await;
    let mut more_patient = upstream("a", &server);
    more_patient.timeout = Duration::from_secs(21);
    engine.apply(vec![endpoint(vec![more_patient])]).unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!((server.n_lists(), server.n_answered_lists()), (3, 3), "every request was answered");
}
