//! Servers that offer one thing in one era and another in the other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mpe_engine::upstream::{Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{CallContext, EndpointId, Engine, Relay, Target, ToolCall, UpstreamConfig};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::scripted::{call, engine, names, raw, tool};

/// A server of both eras: some tools, prompts and resources it has in one of them only.
#[derive(Default)]
struct TwoEras {
    /// It speaks the modern era alone.
    is_modern_only: AtomicBool,
    introductions: Mutex<Vec<Era>>,
    lists: AtomicUsize,
    /// What was asked for, and in which era.
    asked: Mutex<Vec<(String, Era)>>,
}

impl TwoEras {
    fn introduction(version: ProtocolVersion) -> Introduction {
        let capabilities = json!({ "tools": {}, "prompts": {}, "resources": {} });
        Introduction {
            version,
            capabilities: Arc::from(raw(&capabilities)),
            server_info: None,
            instructions: None,
        }
    }

    /// The era of the last request for this.
    fn era_of(&self, name: &str) -> Option<Era> {
        let asked = self.asked.lock().unwrap();
        asked.iter().rfind(|(asked, _)| asked == name).map(|(_, era)| *era)
    }

    fn answer(&self, request: &UpstreamRequest) -> Value {
        let wanted = request.context.era.unwrap_or(Era::Modern);
        let era = if self.is_modern_only.load(Ordering::SeqCst) { Era::Modern } else { wanted };
        let own = if era == Era::Modern { "new" } else { "old" };
        let params: Value =
            request.params.as_deref().map(|raw| serde_json::from_str(raw.get()).unwrap()).unwrap_or_default();
        match request.method.as_ref() {
            "tools/list" => {
                self.lists.fetch_add(1, Ordering::SeqCst);
                json!({ "tools": [tool("both"), tool(own)] })
            }
            "prompts/list" => json!({ "prompts": [{ "name": format!("{own}-prompt") }] }),
            "resources/list" => json!({ "resources": [{ "uri": format!("x://{own}"), "name": own }] }),
            "resources/templates/list" => json!({ "resourceTemplates": [] }),
            _ => {
                let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default();
                self.asked.lock().unwrap().push((name.to_owned(), era));
                json!({ "content": [] })
            }
        }
    }
}

impl Upstream for TwoEras {
    fn introduce(&self, _: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        self.introductions.lock().unwrap().push(Era::Modern);
        Box::pin(async { Ok(Self::introduction(ProtocolVersion::LATEST)) })
    }

    fn introduce_in(
        &self,
        era: Era,
        _: Instant,
    ) -> BoxFuture<'_, Result<Option<Introduction>, UpstreamError>> {
        self.introductions.lock().unwrap().push(era);
        let speaks = !self.is_modern_only.load(Ordering::SeqCst);
        Box::pin(async move { Ok(speaks.then(|| Self::introduction(ProtocolVersion::LATEST_LEGACY))) })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            Ok(UpstreamReply { outcome: Ok(raw(&self.answer(&request))), protocol: None, address: None })
        })
    }
}

async fn in_front_of(server: &Arc<TwoEras>) -> Engine {
    let mut config = UpstreamConfig::new("s", Target::Custom(Arc::clone(server) as Arc<dyn Upstream>));
    config.refresh = Duration::from_secs(60);
    engine(vec![config]).await
}

fn by(era: Option<Era>, tool: &str) -> ToolCall {
    ToolCall { context: Arc::new(CallContext { era, ..CallContext::default() }), ..call(tool) }
}

fn relay(era: Era, method: &str, params: &Value) -> Relay {
    Relay {
        endpoint: EndpointId::default(),
        upstream: mpe_engine::UpstreamKey::new("s"),
        method: method.to_owned(),
        params: Some(raw(params)),
        deadline: None,
        context: Arc::new(CallContext { era: Some(era), ..CallContext::default() }),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_out_in_its_callers_era_unless_only_the_other_one_has_the_tool() {
    let server = Arc::new(TwoEras::default());
    let engine = in_front_of(&server).await;
    for (caller, tool, expected) in [
        (Some(Era::Modern), "both", Era::Modern),
        (Some(Era::Legacy), "both", Era::Legacy),
        (None, "both", Era::Modern),
        (Some(Era::Legacy), "new", Era::Modern),
        (Some(Era::Modern), "new", Era::Modern),
        (Some(Era::Modern), "old", Era::Legacy),
        (Some(Era::Legacy), "old", Era::Legacy),
        (None, "old", Era::Legacy),
        // Nobody lists it: whoever asks knows best.
        (Some(Era::Legacy), "unlisted", Era::Legacy),
        (Some(Era::Modern), "unlisted", Era::Modern),
    ] {
        engine.call(by(caller, tool)).await.unwrap();
        assert_eq!(server.era_of(tool), Some(expected), "{caller:?} calls {tool}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_very_first_legacy_calls_already_know_what_the_legacy_era_lists() {
    let server = Arc::new(TwoEras::default());
    let engine = in_front_of(&server).await;
    let calls = ["new", "old", "both"].map(|tool| engine.call(by(Some(Era::Legacy), tool)));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(server.era_of("new"), Some(Era::Modern));
    assert_eq!(server.era_of("old"), Some(Era::Legacy));
    assert_eq!(server.era_of("both"), Some(Era::Legacy));
}

#[tokio::test(start_paused = true)]
async fn what_one_era_alone_lists_joins_the_catalogue_when_a_client_of_it_turns_up() {
    let server = Arc::new(TwoEras::default());
    let engine = in_front_of(&server).await;
    assert_eq!(names(&engine), ["both", "new"]);
    let mut revision = engine.watch(&EndpointId::default()).unwrap();
    revision.mark_unchanged();
    engine.meet(&EndpointId::default(), Era::Legacy, None);
    revision.changed().await.unwrap();
    assert_eq!(names(&engine), ["both", "new", "old"]);
    let snapshot = engine.snapshot(&EndpointId::default()).unwrap();
    let prompts: Vec<_> = snapshot.catalogue.prompts().iter().map(|prompt| &*prompt.name).collect();
    assert_eq!(prompts, ["new-prompt", "old-prompt"]);
    // A later run has yet to meet such a client.
    let memory = engine.memory(&EndpointId::default()).unwrap();
    let memory: Value = serde_json::from_slice(&memory.to_bytes()).unwrap();
    assert_eq!(memory["upstreams"]["s"]["tools"], json!([tool("both"), tool("new")]));
    assert_eq!(memory["upstreams"]["s"]["prompts"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn prompts_and_resources_are_asked_for_in_the_era_that_has_them() {
    let server = Arc::new(TwoEras::default());
    let engine = in_front_of(&server).await;
    for (caller, name, expected) in [
        (Era::Legacy, "new-prompt", Era::Modern),
        (Era::Legacy, "old-prompt", Era::Legacy),
        (Era::Modern, "old-prompt", Era::Legacy),
    ] {
        engine.relay(relay(caller, "prompts/get", &json!({ "name": name }))).await.unwrap();
        assert_eq!(server.era_of(name), Some(expected), "{caller:?} asks for {name}");
    }
    for (caller, uri, expected) in
        [(Era::Modern, "x://old", Era::Legacy), (Era::Legacy, "x://new", Era::Modern)]
    {
        engine.relay(relay(caller, "resources/read", &json!({ "uri": uri }))).await.unwrap();
        assert_eq!(server.era_of(uri), Some(expected), "{caller:?} asks for {uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_not_asked_about_an_era_that_nobody_speaks() {
    let server = Arc::new(TwoEras::default());
    let engine = in_front_of(&server).await;
    engine.call(by(Some(Era::Modern), "both")).await.unwrap();
    engine.call(by(None, "both")).await.unwrap();
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert_eq!(*server.introductions.lock().unwrap(), [Era::Modern]);
    assert_eq!(server.lists.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_era_that_nobody_has_spoken_for_an_hour_is_forgotten_until_somebody_does() {
    let server = Arc::new(TwoEras::default());
    let engine = in_front_of(&server).await;
    engine.call(by(Some(Era::Legacy), "both")).await.unwrap();
    assert_eq!(names(&engine), ["both", "new", "old"]);
    tokio::time::sleep(Duration::from_secs(3800)).await;
    assert_eq!(names(&engine), ["both", "new"]);
    engine.call(by(Some(Era::Legacy), "old")).await.unwrap();
    assert_eq!(server.era_of("old"), Some(Era::Legacy));
    assert_eq!(names(&engine), ["both", "new", "old"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_of_one_era_costs_its_legacy_callers_one_question() {
    let server = Arc::new(TwoEras::default());
    server.is_modern_only.store(true, Ordering::SeqCst);
    let engine = in_front_of(&server).await;
    for _ in 0..5 {
        engine.call(by(Some(Era::Legacy), "new")).await.unwrap();
    }
    assert_eq!(server.era_of("new"), Some(Era::Modern));
    assert_eq!(*server.introductions.lock().unwrap(), [Era::Modern, Era::Legacy]);
}
