//! Servers whose lists depend on what a client declares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mpe_engine::upstream::{Change, Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{
    CallContext, CallErrorKind, EndpointId, Engine, Interest, Lists, Snapshot, Target, ToolCall,
    UpstreamConfig, Wish,
};
use mpe_mcp_protocol::version::ProtocolVersion;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::scripted::{Scripted, call, endpoint, engine, names, raw, tool, upstream};

/// Shows one more tool for each capability that is declared, and hides `plain` from whoever declares `roots`.
#[derive(Default)]
struct Choosy {
    /// It says that everybody sees the same.
    is_public: AtomicBool,
    /// It lists as if nobody had declared anything.
    is_even: AtomicBool,
    /// It takes five seconds over a list that somebody's capabilities vary.
    is_slow: AtomicBool,
    /// It takes so long over such a list, having made up its mind before.
    pause: Mutex<Option<Duration>>,
    /// It lists one tool more to whoever declares `sampling`.
    has_more: AtomicBool,
    /// It refuses to list to whoever declares anything.
    is_cross: AtomicBool,
    /// The capabilities of each `tools/list`.
    lists: Mutex<Vec<String>>,
    calls: Mutex<Vec<String>>,
    changes: Mutex<Option<mpsc::Sender<Change>>>,
}

impl Choosy {
    fn tools(&self, declared: &str) -> Value {
        if self.is_even.load(Ordering::SeqCst) {
            return json!([tool("plain")]);
        }
        let mut tools = Vec::new();
        if !declared.contains("roots") {
            tools.push(tool("plain"));
        }
        for capability in ["elicitation", "sampling"] {
            if declared.contains(capability) {
                tools.push(tool(&format!("{capability}-tool")));
            }
        }
        if self.has_more.load(Ordering::SeqCst) && declared.contains("sampling") {
            tools.push(tool("more"));
        }
        Value::Array(tools)
    }

    /// The capabilities of the lists so far, without those of whoever declares nothing.
    fn varied_lists(&self) -> Vec<String> {
        self.lists.lock().unwrap().iter().filter(|declared| !declared.is_empty()).cloned().collect()
    }

    fn announce(&self) {
        self.changes.lock().unwrap().as_ref().unwrap().try_send(Change::Tools).unwrap();
    }
}

impl Upstream for Choosy {
    fn introduce(&self, _: tokio::time::Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async {
            Ok(Introduction {
                version: ProtocolVersion::LATEST,
                capabilities: Arc::from(raw(&json!({ "tools": {} }))),
                server_info: None,
                instructions: None,
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            let declared = request
                .context
                .capabilities
                .as_deref()
                .map_or_else(String::new, |declared| declared.get().to_owned());
            let outcome = if request.method == "tools/list" {
                self.lists.lock().unwrap().push(declared.clone());
                let tools = self.tools(&declared);
                let pause = self.pause.lock().unwrap().filter(|_| !declared.is_empty());
                if let Some(pause) = pause {
                    sleep(pause).await;
                }
                if !declared.is_empty() && self.is_slow.load(Ordering::SeqCst) {
                    sleep(Duration::from_secs(5)).await;
                }
                if !declared.is_empty() && self.is_cross.load(Ordering::SeqCst) {
                    Err(mpe_mcp_protocol::jsonrpc::ErrorObject::new(-32000, "go away".to_owned()))
                } else {
                    let scope = if self.is_public.load(Ordering::SeqCst) { "public" } else { "private" };
                    Ok(raw(&json!({ "tools": tools, "cacheScope": scope })))
                }
            } else {
                let params: Value = serde_json::from_str(request.params.as_deref().unwrap().get()).unwrap();
                self.calls.lock().unwrap().push(params["name"].as_str().unwrap_or_default().to_owned());
                Ok(raw(&json!({ "content": [] })))
            };
            Ok(UpstreamReply { outcome, protocol: None, address: None })
        })
    }

    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let (sender, receiver) = mpsc::channel(16);
        *self.changes.lock().unwrap() = Some(sender);
        Some(receiver)
    }
}

fn at(key: &str, server: &Arc<Choosy>) -> UpstreamConfig {
    UpstreamConfig::new(key, Target::Custom(Arc::clone(server) as Arc<dyn Upstream>))
}

async fn seen(engine: &Engine, capabilities: &Value) -> Arc<Snapshot> {
    let endpoint = EndpointId::default();
    engine.snapshot_declaring(&endpoint, &raw(capabilities), Wish::Lists, None).await.unwrap()
}

async fn names_for(engine: &Engine, capabilities: &Value) -> Vec<String> {
    let snapshot = seen(engine, capabilities).await;
    snapshot.catalogue.tools().iter().map(|entry| entry.tool.name().to_owned()).collect()
}

fn by(capabilities: &Value, tool: &str) -> ToolCall {
    let context = CallContext { capabilities: Some(raw(capabilities)), ..CallContext::default() };
    ToolCall { context: Arc::new(context), ..call(tool) }
}

fn sampling() -> Value {
    json!({ "sampling": {} })
}

#[tokio::test(start_paused = true)]
async fn each_set_of_capabilities_sees_its_own_catalogue_and_never_anothers() {
    let (server, even) = (Arc::new(Choosy::default()), Scripted::named(&["calc"]));
    let engine = engine(vec![at("a", &server), upstream("b", &even)]).await;
    let both = json!({ "sampling": {}, "elicitation": {} });
    for _ in 0..2 {
        assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool", "calc"]);
        assert_eq!(
            names_for(&engine, &json!({ "elicitation": {} })).await,
            ["plain", "elicitation-tool", "calc"]
        );
        assert_eq!(names_for(&engine, &both).await, ["plain", "elicitation-tool", "sampling-tool", "calc"]);
        assert_eq!(names_for(&engine, &json!({ "roots": {} })).await, ["calc"]);
        assert_eq!(names_for(&engine, &json!({})).await, ["plain", "calc"]);
        assert_eq!(names(&engine), ["plain", "calc"]);
    }
    assert_eq!(server.varied_lists().len(), 4, "each set is asked for once");
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_called_by_those_who_see_it() {
    let (server, even) = (Arc::new(Choosy::default()), Scripted::named(&["calc"]));
    let engine = engine(vec![at("a", &server), upstream("b", &even)]).await;
    // Nobody has listed anything yet: it may have been listed at another replica.
    engine.call(by(&sampling(), "sampling-tool")).await.unwrap();
    assert_eq!(*server.calls.lock().unwrap(), ["sampling-tool"]);
    for stranger in [json!({ "elicitation": {} }), json!({})] {
        let refused = engine.call(by(&stranger, "sampling-tool")).await.unwrap_err();
        assert_eq!(refused.kind, CallErrorKind::UnknownTool, "{stranger}");
    }
    let hidden = json!({ "roots": {} });
    assert_eq!(names_for(&engine, &hidden).await, ["calc"]);
    assert_eq!(engine.call(by(&hidden, "plain")).await.unwrap_err().kind, CallErrorKind::UnknownTool);
    assert_eq!(server.calls.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_what_everybody_sees_waits_for_nothing() {
    let server = Arc::new(Choosy::default());
    let engine = engine(vec![at("a", &server)]).await;
    engine.call(by(&sampling(), "plain")).await.unwrap();
    assert!(server.varied_lists().is_empty());
}

#[tokio::test(start_paused = true)]
async fn however_a_client_writes_its_capabilities_they_are_one_set() {
    let server = Arc::new(Choosy::default());
    let engine = engine(vec![at("a", &server)]).await;
    for text in [
        r#"{"sampling":{},"roots":{}}"#,
        r#"{"roots":{}, "sampling":{}}"#,
        "{\"roots\": {},\n\"sampling\":{}}",
    ] {
        let capabilities = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
        let endpoint = EndpointId::default();
        let seen = engine.snapshot_declaring(&endpoint, &capabilities, Wish::Lists, None).await.unwrap();
        assert_eq!(seen.catalogue.tools().len(), 1);
    }
    assert_eq!(server.varied_lists().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn clients_that_come_at_once_share_one_look() {
    let server = Arc::new(Choosy::default());
    server.is_slow.store(true, Ordering::SeqCst);
    let engine = engine(vec![at("a", &server)]).await;
    let capabilities = sampling();
    join_all((0..20).map(|_| seen(&engine, &capabilities))).await;
    assert_eq!(server.varied_lists().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_makes_no_difference_shares_everybodys_catalogue_and_is_left_alone() {
    let server = Arc::new(Choosy::default());
    server.is_even.store(true, Ordering::SeqCst);
    let engine = engine(vec![at("a", &server)]).await;
    let everybodys = engine.snapshot(&EndpointId::default()).unwrap();
    for _ in 0..5 {
        assert!(Arc::ptr_eq(&seen(&engine, &sampling()).await, &everybodys));
        sleep(Duration::from_secs(100)).await;
    }
    assert_eq!(server.varied_lists().len(), 1, "over several rounds of discovery");
    sleep(Duration::from_secs(600)).await;
    seen(&engine, &sampling()).await;
    assert_eq!(server.varied_lists().len(), 2, "it may have changed its mind");
    server.is_even.store(false, Ordering::SeqCst);
    server.announce();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_public_or_shared_by_configuration_are_asked_for_once() {
    let (public, shared) = (Arc::new(Choosy::default()), Arc::new(Choosy::default()));
    public.is_public.store(true, Ordering::SeqCst);
    let mut config = at("b", &shared);
    config.lists = Lists::Shared;
    let engine = engine(vec![at("a", &public), config]).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["a_plain", "b_plain"]);
    assert!(public.varied_lists().is_empty() && shared.varied_lists().is_empty());
}

#[tokio::test(start_paused = true)]
async fn lists_that_the_operator_knows_to_vary_are_asked_for_whatever_they_say() {
    let server = Arc::new(Choosy::default());
    server.is_public.store(true, Ordering::SeqCst);
    let mut config = at("a", &server);
    config.lists = Lists::PerClient;
    let engine = engine(vec![config]).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_varied_list_shows_with_the_next_round_or_its_announcement() {
    let server = Arc::new(Choosy::default());
    let engine = engine(vec![at("a", &server)]).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
    server.has_more.store(true, Ordering::SeqCst);
    assert_eq!(names_for(&engine, &sampling()).await.len(), 2, "nothing says so yet");
    let interest = Interest { tools: true, ..Interest::default() };
    let mut listening = engine.listen(&EndpointId::default(), interest, None).await.unwrap();
    server.announce();
    assert_eq!(timeout(Duration::from_secs(1), listening.changes.recv()).await.unwrap(), Some(Change::Tools));
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool", "more"]);
    server.has_more.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_takes_long_is_shown_when_it_comes_and_announced() {
    let server = Arc::new(Choosy::default());
    server.is_slow.store(true, Ordering::SeqCst);
    let engine = engine(vec![at("a", &server)]).await;
    let interest = Interest { tools: true, ..Interest::default() };
    let mut listening = engine.listen(&EndpointId::default(), interest, None).await.unwrap();
    assert_eq!(names_for(&engine, &sampling()).await, ["plain"], "after three seconds");
    assert_eq!(timeout(Duration::from_secs(3), listening.changes.recv()).await.unwrap(), Some(Change::Tools));
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
    assert_eq!(server.varied_lists().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_shows_what_everybody_sees_and_is_asked_again_with_the_next_round() {
    let server = Arc::new(Choosy::default());
    server.is_cross.store(true, Ordering::SeqCst);
    let engine = engine(vec![at("a", &server)]).await;
    for _ in 0..3 {
        assert_eq!(names_for(&engine, &sampling()).await, ["plain"]);
    }
    assert_eq!(server.varied_lists().len(), 1, "not with each request");
    server.is_cross.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
    server.is_cross.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(
        names_for(&engine, &sampling()).await,
        ["plain", "sampling-tool"],
        "what was listed last stays"
    );
}

#[tokio::test(start_paused = true)]
async fn more_sets_than_are_told_apart_see_what_everybody_sees_until_one_is_idle() {
    let server = Arc::new(Choosy::default());
    let engine = engine(vec![at("a", &server)]).await;
    let set = |n: usize| json!({ "sampling": {}, "experimental": { "n": n } });
    for n in 0..64 {
        assert_eq!(names_for(&engine, &set(n)).await.len(), 2, "{n}");
    }
    assert_eq!(names_for(&engine, &set(64)).await, ["plain"]);
    assert_eq!(server.varied_lists().len(), 64);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(names_for(&engine, &set(64)).await.len(), 2);
    let long = json!({ "sampling": {}, "experimental": { "text": "x".repeat(5000) } });
    assert_eq!(names_for(&engine, &long).await, ["plain"], "no set is that long");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_took_anothers_place_is_looked_at_anew() {
    let (old, new) = (Arc::new(Choosy::default()), Arc::new(Choosy::default()));
    new.has_more.store(true, Ordering::SeqCst);
    let engine = engine(vec![at("a", &old)]).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
    engine.apply(vec![endpoint(vec![at("a", &new)])]).unwrap();
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool", "more"]);
    assert_eq!((old.varied_lists().len(), new.varied_lists().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_foreseen_is_there_when_it_is_asked_for() {
    let server = Arc::new(Choosy::default());
    let engine = engine(vec![at("a", &server)]).await;
    engine.meet(&EndpointId::default(), mpe_mcp_protocol::version::Era::Modern, Some(&raw(&sampling())));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(server.varied_lists().len(), 1);
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
    assert_eq!(server.varied_lists().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_of_a_change_while_a_look_is_under_way_sees_the_change() {
    let server = Arc::new(Choosy::default());
    let mut config = at("a", &server);
    // Slower than a client is to come back, and quicker than it is patient.
    config.timeout = Duration::from_secs(30);
    let engine = engine(vec![config]).await;
    *server.pause.lock().unwrap() = Some(Duration::from_secs(1));
    let interest = Interest { tools: true, ..Interest::default() };
    let mut listening = engine.listen(&EndpointId::default(), interest, None).await.unwrap();
    let capabilities = sampling();
    let first = seen(&engine, &capabilities);
    let then = async {
        sleep(Duration::from_millis(200)).await;
        server.has_more.store(true, Ordering::SeqCst);
        server.announce();
        assert_eq!(listening.changes.recv().await, Some(Change::Tools));
        names_for(&engine, &capabilities).await
    };
    let (_, names) = tokio::join!(first, then);
    assert_eq!(names, ["plain", "sampling-tool", "more"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_looked_up_waits_for_every_server_that_was_never_looked_at() {
    let (quick, slow) = (Arc::new(Choosy::default()), Arc::new(Choosy::default()));
    let engine = engine(vec![at("a", &quick), at("b", &slow)]).await;
    *slow.pause.lock().unwrap() = Some(Duration::from_secs(1));
    let capabilities = sampling();
    let first = seen(&engine, &capabilities);
    let then = async {
        sleep(Duration::from_millis(300)).await;
        let endpoint = EndpointId::default();
        let seen = engine.snapshot_declaring(&endpoint, &raw(&capabilities), Wish::Item, None).await.unwrap();
        seen.catalogue.tools().len()
    };
    let (_, n_tools) = tokio::join!(first, then);
    assert_eq!(n_tools, 4, "two of each");
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_nothing_away_from_a_set() {
    let server = Arc::new(Choosy::default());
    let config = |seconds| {
        let mut config = at("a", &server);
        config.timeout = Duration::from_secs(seconds);
        endpoint(vec![config])
    };
    let engine = engine(vec![at("a", &server)]).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
    *server.pause.lock().unwrap() = Some(Duration::from_millis(50));
    for seconds in 10..20 {
        engine.apply(vec![config(seconds)]).unwrap();
        for _ in 0..3 {
            engine.call(by(&sampling(), "sampling-tool")).await.unwrap();
            assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
            sleep(Duration::from_millis(20)).await;
        }
    }
    // It refuses to list from now on: what it listed last stays, as everybody's does.
    server.is_cross.store(true, Ordering::SeqCst);
    engine.apply(vec![config(20)]).unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain", "sampling-tool"]);
    // What the operator hides is hidden.
    let mut hidden = at("a", &server);
    hidden.deny = vec!["sampling-tool".to_owned()];
    engine.apply(vec![endpoint(vec![hidden])]).unwrap();
    // Until it is published.
    sleep(Duration::from_millis(20)).await;
    assert_eq!(names_for(&engine, &sampling()).await, ["plain"]);
}
