//! A hundred endpoints that share an origin, and so connections, each with a token of its own, under reload.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpe_engine::{CallContext, EndpointConfig, EndpointId, Engine, Target, ToolCall, UpstreamConfig};
use mpe_transport::Wire;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::peer::{Peer, Seen};
use crate::scripted::raw;

const ENDPOINTS: usize = 100;
const CALLS: usize = 12;
const RELOADS: usize = 8;

/// Whose a request is, by its path: `/7/mcp`.
fn owner(path: &str) -> usize {
    path.trim_start_matches('/').split('/').next().unwrap().parse().unwrap()
}

/// What is wrong with a request: a token or a header of somebody else.
fn foreign(seen: &Seen) -> Option<String> {
    let owner = owner(&seen.path);
    let header = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let is_own = |value: &str, prefix: &str| {
        let rest = value.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
        rest.is_some_and(|(n, _)| n == owner.to_string())
    };
    let fine = is_own(header("authorization"), "Bearer token-") && is_own(header("x-tenant"), "tenant-");
    let text = seen.body.to_string();
    let names_another = (0..ENDPOINTS)
        .filter(|other| *other != owner)
        .any(|other| text.contains(&format!("secret-of-{other}.")));
    (!fine || names_another).then(|| format!("{}: {:?} {text}", seen.path, seen.headers))
}

fn answer(seen: &Seen) -> Value {
    let owner = owner(&seen.path);
    match seen.body["method"].as_str() {
        Some("tools/list") => {
            let tool = |name: String| json!({ "name": name, "inputSchema": { "type": "object" } });
            json!({ "tools": [tool("shared".to_owned()), tool(format!("only_{owner}"))] })
        }
        Some("tools/call") => {
            let said = format!("{owner}: {}", seen.body["params"]["arguments"]);
            json!({ "content": [{ "type": "text", "text": said }] })
        }
        _ => json!({}),
    }
}

/// Every round gives a third of the tenants another token.
fn configs(peer: &Peer, round: usize) -> Vec<EndpointConfig> {
    let config = |n: usize| {
        let token = format!("Bearer token-{n}-{}", (round + n) / 3);
        let header = |name, value: String| (http::HeaderName::from_static(name), value.into());
        let headers = vec![header("authorization", token), header("x-tenant", format!("tenant-{n}-x"))];
        let target = Target::Http { url: peer.url(&format!("/{n}/mcp")), headers, wire: Wire::H2c };
        EndpointConfig::new(EndpointId::new(n.to_string()), vec![UpstreamConfig::new("server", target)])
    };
    (0..ENDPOINTS).map(config).collect()
}

async fn hammer(engine: Engine, n: usize, reloads: Arc<AtomicUsize>) {
    let mut round = 0;
    while round < CALLS || reloads.load(Ordering::SeqCst) < RELOADS {
        let own = format!("only_{n}");
        let arguments = json!({ "who": n, "secret": format!("secret-of-{n}."), "round": round });
        let call = ToolCall {
            endpoint: EndpointId::new(n.to_string()),
            tool: if round % 2 == 0 { "shared".to_owned() } else { own.clone() },
            arguments: raw(&arguments),
            deadline: Some(Instant::now() + Duration::from_secs(60)),
            check_arguments: false,
            context: Arc::new(CallContext::default()),
        };
        let outcome = engine.call(call).await.unwrap();
        let result: Value = serde_json::from_str(outcome.result.get()).unwrap();
        assert_eq!(result["content"][0]["text"], format!("{n}: {arguments}"), "somebody else's answer");
        let catalogue = &engine.snapshot(&EndpointId::new(n.to_string())).unwrap().catalogue;
        let names: Vec<_> = catalogue.tools().iter().map(|entry| entry.tool.name()).collect();
        assert_eq!(names, ["shared", own.as_str()], "somebody else's tools");
        round += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_endpoints_on_shared_connections_never_send_each_other_s_headers_or_tokens() {
    let foreigners = Arc::new(Mutex::new(Vec::new()));
    let tokens = Arc::new(Mutex::new(BTreeSet::new()));
    let (seen_foreigners, seen_tokens) = (Arc::clone(&foreigners), Arc::clone(&tokens));
    let peer = Peer::start(move |seen| {
        seen_foreigners.lock().unwrap().extend(foreign(seen));
        if let Some(token) = seen.headers.get("authorization") {
            seen_tokens.lock().unwrap().insert(token.to_str().unwrap().to_owned());
        }
        answer(seen)
    })
    .await;
    let engine = configs(&peer, 0)
        .into_iter()
        .fold(Engine::builder(), mpe_engine::EngineBuilder::endpoint)
        .start()
        .unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(60)).await);
    let (is_done, reloads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let hammering: Vec<_> =
        (0..ENDPOINTS).map(|n| tokio::spawn(hammer(engine.clone(), n, Arc::clone(&reloads)))).collect();
    let reloading = async {
        while !is_done.load(Ordering::SeqCst) {
            let round = reloads.fetch_add(1, Ordering::SeqCst) + 1;
            engine.apply(configs(&peer, round)).unwrap();
            // The next one as soon as this one is discovered: faster reloads would only queue up.
            engine.settled(Instant::now() + Duration::from_secs(60)).await;
        }
    };
    let calling = async {
        for tenant in hammering {
            tenant.await.unwrap();
        }
        is_done.store(true, Ordering::SeqCst);
    };
    tokio::join!(reloading, calling);
    let n_connections = peer.open_connections();
    engine.close(Duration::from_secs(5)).await;
    let foreigners = foreigners.lock().unwrap();
    assert!(foreigners.is_empty(), "{} foreign: {}", foreigners.len(), foreigners[0]);
    let n_tokens = tokens.lock().unwrap().len();
    assert!(n_tokens >= 2 * ENDPOINTS, "tokens changed under way: {n_tokens}");
    assert!(n_connections < ENDPOINTS, "connections were shared: {n_connections}");
}
