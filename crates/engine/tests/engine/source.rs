//! Servers that come from sources.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_engine::source::{SourceConfig, SourceError, SourceKind, SourceState, Sourced, UpstreamSource};
use mpe_engine::{EndpointConfig, EndpointId, Engine, UpstreamConfig};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, Step, call, endpoint, names, upstream};

/// Lists what a test tells it, or fails.
#[derive(Default)]
struct Listed {
    answers: Mutex<VecDeque<Result<Sourced, SourceError>>>,
    asked: AtomicUsize,
    changed: Notify,
}

impl Listed {
    fn new(upstreams: Vec<UpstreamConfig>) -> Arc<Self> {
        let listed = Arc::new(Self::default());
        listed.say(upstreams);
        listed
    }

    fn say(&self, upstreams: Vec<UpstreamConfig>) {
        let answer = Ok(Sourced { upstreams, left_out: Vec::new() });
        self.answers.lock().unwrap().push_back(answer);
    }

    fn fail(&self, reason: &str) {
        self.answers.lock().unwrap().push_back(Err(SourceError(reason.to_owned())));
    }

    fn n_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl UpstreamSource for Listed {
    fn name(&self) -> &str {
        "listed"
    }

    /// The next answer; the last one for ever.
    fn upstreams<'a>(&'a self, _: &'a EndpointId, _: Instant) -> BoxFuture<'a, Result<Sourced, SourceError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(std::future::ready(answer.expect("a test says what is listed")))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }
}

fn source(listed: &Arc<Listed>) -> SourceConfig {
    SourceConfig::new(SourceKind::Custom(Arc::clone(listed) as Arc<dyn UpstreamSource>))
}

fn with_source(upstreams: Vec<UpstreamConfig>, source: SourceConfig) -> EndpointConfig {
    let mut config = endpoint(upstreams);
    config.sources.push(source);
    config
}

async fn started(config: EndpointConfig) -> Engine {
    crate::scripted::started(config).await
}

fn state(engine: &Engine) -> SourceState {
    engine.sources(&EndpointId::default())[0].state.clone()
}

#[tokio::test(start_paused = true)]
async fn servers_of_a_source_stand_behind_the_configured_ones_and_a_call_right_after_the_start_finds_them() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    let listed = Listed::new(vec![upstream("b", &b)]);
    let engine =
        Engine::builder().endpoint(with_source(vec![upstream("a", &a)], source(&listed))).start().unwrap();
    assert_eq!(engine.call(call("y")).await.unwrap().upstream.as_str(), "b");
    assert_eq!(names(&engine), ["x", "y"]);
    let status = &engine.sources(&EndpointId::default())[0];
    assert_eq!((status.name.as_str(), &status.state, status.servers), ("listed", &SourceState::Good, 1));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_taken_up_at_the_next_look_without_touching_the_others() {
    let (a, b, c) = (Scripted::named(&["x"]), Scripted::named(&["y"]), Scripted::named(&["z"]));
    let listed = Listed::new(vec![upstream("b", &b)]);
    listed.say(vec![upstream("b", &b), upstream("c", &c)]);
    listed.say(vec![upstream("c", &c)]);
    let engine = started(with_source(vec![upstream("a", &a)], source(&listed))).await;
    assert_eq!(names(&engine), ["x", "y"]);
    sleep(Duration::from_secs(67)).await;
    assert_eq!(names(&engine), ["x", "y", "z"]);
    assert_eq!(b.n_introductions(), 1);
    sleep(Duration::from_secs(67)).await;
    assert_eq!(names(&engine), ["x", "z"]);
    assert!(b.is_closed());
    assert_eq!((a.n_introductions(), c.n_introductions()), (1, 1), "neither was disturbed");
}

#[tokio::test(start_paused = true)]
async fn a_failing_source_keeps_its_last_good_list_says_why_and_is_asked_again() {
    let server = Scripted::named(&["x"]);
    let listed = Listed::new(vec![upstream("a", &server)]);
    listed.fail("it answered with HTTP status 503");
    listed.fail("it answered with HTTP status 503");
    listed.say(vec![upstream("a", &server)]);
    let engine = started(with_source(vec![], source(&listed))).await;
    let start = Instant::now();
    while state(&engine) == SourceState::Good {
        assert!(start.elapsed() < Duration::from_secs(67), "it was not asked again");
        sleep(Duration::from_millis(200)).await;
    }
    let error = "it answered with HTTP status 503".to_owned();
    assert_eq!(state(&engine), SourceState::Failing { error });
    engine.call(call("x")).await.expect("its server is still there");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(state(&engine), SourceState::Good, "asked again after 1 s and 2 s, not after a minute");
    assert_eq!(server.n_introductions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_from_the_start_lets_the_engine_settle() {
    let listed = Arc::new(Listed::default());
    listed.fail("no such host");
    let engine = started(with_source(vec![], source(&listed))).await;
    assert_eq!(state(&engine), SourceState::Failing { error: "no such host".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_sources_servers_waits_until_the_source_names_them() {
    let server = Scripted::named(&["x"]);
    let first = started(with_source(vec![], source(&Listed::new(vec![upstream("a", &server)])))).await;
    let memory = first.memory(&EndpointId::default()).unwrap();
    server.set_up(false);

    let listed = Arc::new(Listed::default());
    listed.fail("no such host");
    listed.say(vec![upstream("a", &server)]);
    let engine = Engine::builder()
        .endpoint(with_source(vec![], source(&listed)))
        .remember(EndpointId::default(), memory.clone())
        .start()
        .unwrap();
    engine.settled(Instant::now() + Duration::from_millis(100)).await;
    assert!(names(&engine).is_empty(), "nobody knows where the server is");
    assert_eq!(engine.memory(&EndpointId::default()).unwrap().to_bytes(), memory.to_bytes(), "passed on");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(names(&engine), ["x"]);
    assert_eq!(engine.memory(&EndpointId::default()).unwrap().to_bytes(), memory.to_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_given_up_in_time() {
    struct Hanging;
    impl UpstreamSource for Hanging {
        fn name(&self) -> &str {
            "hanging"
        }
        fn upstreams<'a>(
            &'a self,
            _: &'a EndpointId,
            _: Instant,
        ) -> BoxFuture<'a, Result<Sourced, SourceError>> {
            Box::pin(std::future::pending())
        }
    }
    let start = Instant::now();
    let engine = started(with_source(vec![], SourceConfig::new(SourceKind::Custom(Arc::new(Hanging))))).await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(state(&engine), SourceState::Failing { error: "it did not answer within 10s".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_too_long_is_refused_whole() {
    let servers: Vec<_> = (0..4).map(|n| Scripted::named(&[&format!("t{n}")])).collect();
    let listed = Listed::new(vec![upstream("s0", &servers[0])]);
    listed.say(servers.iter().enumerate().map(|(n, server)| upstream(&format!("s{n}"), server)).collect());
    let mut config = source(&listed);
    config.max_servers = 3;
    let engine = started(with_source(vec![], config)).await;
    engine.refresh(&EndpointId::default()).await.unwrap();
    let error = "it lists 4 servers, and at most 3 are taken".to_owned();
    assert_eq!(state(&engine), SourceState::Failing { error });
    assert_eq!(names(&engine), ["t0"]);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_taken_and_entries_that_cannot_work_are_left_out_with_the_reason() {
    let (a, other, twice) = (Scripted::named(&["x"]), Scripted::named(&["y"]), Scripted::named(&["z"]));
    let listed = Listed::new(vec![
        upstream("a", &other),
        upstream("z", &twice),
        upstream("z", &twice),
        upstream("", &twice),
    ]);
    let engine = started(with_source(vec![upstream("a", &a)], source(&listed))).await;
    assert_eq!(names(&engine), ["x", "z"]);
    let status = &engine.sources(&EndpointId::default())[0];
    assert_eq!(status.servers, 1);
    let left_out: Vec<_> =
        status.left_out.iter().map(|(name, reason)| (name.as_str(), reason.as_str())).collect();
    assert_eq!(
        left_out,
        [
            ("z", "it is listed twice; the first one is used"),
            ("", "it has no name"),
            ("a", "the configuration has a server of this name already"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_it_changed_is_asked_at_once() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    let listed = Listed::new(vec![upstream("a", &a)]);
    listed.say(vec![upstream("b", &b)]);
    let engine = started(with_source(vec![], source(&listed))).await;
    listed.changed.notify_one();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(names(&engine), ["y"]);
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_do_not_notice_that_a_source_changes_its_mind() {
    let servers: Vec<_> = (0..4).map(|n| Scripted::named(&[&format!("t{n}")])).collect();
    let all = |round: usize| {
        let mut all: Vec<_> =
            servers.iter().enumerate().map(|(n, server)| upstream(&format!("s{n}"), server)).collect();
        all.rotate_left(round % 4);
        all.truncate(4 - round % 2);
        all
    };
    let listed = Listed::new(all(0));
    (1..20).for_each(|round| listed.say(all(round)));
    let mut config = source(&listed);
    config.interval = Duration::from_millis(50);
    let engine = started(with_source(vec![], config)).await;
    for server in &servers {
        server.script((0..250).map(|n| Step::Slow(Duration::from_millis(4 * n))));
    }
    let results = engine.call_many((0..1000).map(|n| call(&format!("t{}", n % 4))).collect()).await;
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    assert!(listed.n_asked() > 10, "asked {} times meanwhile", listed.n_asked());
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_an_unchanged_source_and_ends_one_that_is_gone() {
    let (a, b) = (Scripted::named(&["x"]), Scripted::named(&["y"]));
    let listed = Listed::new(vec![upstream("b", &b)]);
    let engine = started(with_source(vec![upstream("a", &a)], source(&listed))).await;
    engine.apply(vec![with_source(vec![upstream("a", &a)], source(&listed))]).unwrap();
    assert_eq!((listed.n_asked(), b.n_introductions()), (1, 1), "nothing has changed");

    // Another interval: asked anew, and its servers stay meanwhile.
    let mut patient = source(&listed);
    patient.interval = Duration::from_secs(3600);
    engine.apply(vec![with_source(vec![upstream("a", &a)], patient)]).unwrap();
    assert_eq!(names(&engine), ["x", "y"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((listed.n_asked(), b.n_introductions()), (2, 1));

    engine.apply(vec![endpoint(vec![upstream("a", &a)])]).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&engine), ["x"]);
    assert!(b.is_closed());
    sleep(Duration::from_secs(7200)).await;
    assert_eq!(listed.n_asked(), 2, "nobody asks it any more");
    assert_eq!(Arc::strong_count(&listed), 1, "and nobody holds it");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_dropped_ends_its_sources() {
    let server = Scripted::named(&["x"]);
    let listed = Listed::new(vec![upstream("a", &server)]);
    let engine = started(with_source(vec![], source(&listed))).await;
    drop(engine);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&listed), 1);
}

#[tokio::test(start_paused = true)]
async fn two_sources_of_one_name_are_refused() {
    let listed = Listed::new(vec![]);
    let mut config = with_source(vec![], source(&listed));
    config.sources.push(source(&listed));
    assert!(Engine::builder().endpoint(config).start().is_err());
}
