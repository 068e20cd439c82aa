//! A hundred endpoints at once, under reload: nobody sees anything of anybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mpe_engine::{CallContext, EndpointConfig, EndpointId, Engine, ToolCall};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::scripted::{Scripted, raw, upstream};

const ENDPOINTS: usize = 100;
const CALLS: usize = 20;
const RELOADS: usize = 10;

fn id(n: usize) -> EndpointId {
    EndpointId::new(format!("tenant-{n}"))
}

fn secret(n: usize) -> Value {
    json!({ "name": format!("secret-of-{n}"), "version": "1" })
}

#[tokio::test(start_paused = true)]
async fn a_tenant_s_performance_names_its_own_servers_only() {
    let servers = [Scripted::named(&["shared"]), Scripted::named(&["shared"])];
    let configs = [("red", &servers[0]), ("blue", &servers[1])];
    let mut builder = Engine::builder();
    for (name, server) in configs {
        builder = builder.endpoint(EndpointConfig::new(EndpointId::new(name), vec![upstream(name, server)]));
    }
    let engine = builder.start().unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(5)).await);
    let names = |id: &str| {
        let records = engine.performance_of(&EndpointId::new(id));
        records.map(|records| records.into_keys().collect::<Vec<_>>())
    };
    assert_eq!(names("red"), Some(vec!["custom:red".to_owned()]));
    assert_eq!(names("blue"), Some(vec!["custom:blue".to_owned()]));
    assert_eq!(names("green"), None);
    assert_eq!(engine.performance().len(), 2);
}

/// Every tenant has a server of the same key with a tool of the same name, and one of its own.
fn configs(servers: &[Arc<Scripted>], round: usize) -> Vec<EndpointConfig> {
    let config = |(n, server): (usize, &Arc<Scripted>)| {
        let mut upstream = upstream("server", server);
        // A third of them changes in every round.
        if n % 3 == round % 3 {
            upstream.timeout = Duration::from_secs(20 + (round % 7) as u64);
        }
        EndpointConfig::new(id(n), vec![upstream])
    };
    servers.iter().enumerate().map(config).collect()
}

/// Calls until there were enough reloads. Returns how many calls that took.
async fn hammer(engine: Engine, n: usize, reloads: Arc<AtomicUsize>) -> usize {
    let mut round = 0;
    while round < CALLS || reloads.load(Ordering::SeqCst) < RELOADS {
        let tool = if round % 2 == 0 { "shared".to_owned() } else { format!("only_{n}") };
        let arguments = json!({ "tenant": n, "round": round });
        let call = ToolCall {
            endpoint: id(n),
            tool,
            arguments: raw(&arguments),
            deadline: None,
            check_arguments: false,
            context: Arc::new(CallContext { client_info: Some(raw(&secret(n))), ..CallContext::default() }),
        };
        let outcome = engine.call(call).await.unwrap();
        let result: Value = serde_json::from_str(outcome.result.get()).unwrap();
        assert_eq!(result["content"][0]["text"], arguments.to_string(), "somebody else's answer");
        let catalogue = &engine.snapshot(&id(n)).unwrap().catalogue;
        let own = format!("only_{n}");
        let names: Vec<_> = catalogue.tools().iter().map(|entry| entry.tool.name()).collect();
        assert_eq!(names, ["shared", own.as_str()], "somebody else's tools");
        round += 1;
        // The upstream answers at once: without this nobody else would have a turn.
        tokio::task::yield_now().await;
    }
    round
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_endpoints_under_reload_see_nothing_of_each_other() {
    let servers: Vec<_> =
        (0..ENDPOINTS).map(|n| Scripted::named(&["shared", &format!("only_{n}")])).collect();
    let engine = configs(&servers, 0)
        .into_iter()
        .fold(Engine::builder(), mpe_engine::EngineBuilder::endpoint)
        .start()
        .unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(60)).await);
    let is_done = Arc::new(AtomicBool::new(false));
    let reloads = Arc::new(AtomicUsize::new(0));
    let reloading = {
        let (engine, is_done, reloads) = (engine.clone(), Arc::clone(&is_done), Arc::clone(&reloads));
        let servers = servers.clone();
        tokio::spawn(async move {
            while !is_done.load(Ordering::SeqCst) {
                let round = reloads.fetch_add(1, Ordering::SeqCst);
                engine.apply(configs(&servers, round)).unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let hammer = |n| tokio::spawn(hammer(engine.clone(), n, Arc::clone(&reloads)));
    let tenants: Vec<_> = (0..ENDPOINTS).map(hammer).collect();
    let mut n_calls = Vec::new();
    for tenant in tenants {
        n_calls.push(tenant.await.unwrap());
    }
    is_done.store(true, Ordering::SeqCst);
    reloading.await.unwrap();
    for (n, server) in servers.iter().enumerate() {
        let calls = server.calls();
        assert_eq!(calls.len(), n_calls[n]);
        for call in calls {
            let info = call.context.client_info.as_ref().unwrap().get().to_owned();
            assert_eq!(info, secret(n).to_string(), "somebody else's client");
            assert!(call.params.unwrap().get().contains(&format!(r#""tenant":{n},"#)));
        }
    }
    engine.close(Duration::from_secs(5)).await;
}
