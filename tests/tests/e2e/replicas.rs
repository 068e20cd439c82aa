//! Two replicas behind a balancer that knows nothing of sessions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use mcp_proxy_engine::McpProxyEngine;
use mcp_proxy_engine::config::{Format, Source};
use mpe_gateway::Gateway;
use mpe_tests::{Balancer, Era, Http, McpClient, Server, server, tool};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One replica, as an operator would configure it.
struct Replica {
    address: std::net::SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
    engine: McpProxyEngine,
}

impl Replica {
    /// Ends it at once, with whatever is under way.
    async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
        self.engine.engine().close(Duration::ZERO).await;
    }
}

/// Two replicas of one configuration, in front of `server`.
async fn pair(server: &Server) -> [Replica; 2] {
    let names = ["one", "other"];
    let mut listeners = Vec::new();
    for _ in names {
        listeners.push(TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
    }
    let peers: HashMap<_, _> = names
        .iter()
        .zip(&listeners)
        .map(|(name, listener)| (*name, format!("http://{}", listener.local_addr().unwrap())))
        .collect();
    let mut replicas = Vec::new();
    for (name, listener) in names.into_iter().zip(listeners) {
        let config = json!({
            "session_secret": "sixteen bytes, or a few more",
            "replicas": { "name": name, "peers": peers },
            "mcpServers": { "s": { "url": server.url() } },
        });
        let lookup = |_: &str| None;
        let source =
            Source::parse(&config.to_string(), Format::Json, "pair", std::path::PathBuf::new(), &lookup);
        let engine = McpProxyEngine::builder().source(source.unwrap()).start().await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn({
            let engine = engine.clone();
            async move { engine.serve(listener, CancellationToken::new()).await }
        });
        replicas.push(Replica { address, serving, engine });
    }
    replicas.try_into().unwrap_or_else(|_| panic!("two"))
}

#[tokio::test]
async fn clients_of_both_eras_need_no_sticky_sessions_and_survive_a_lost_replica() {
    let server = server().http1().tool(tool("echo")).start().await;
    let [one, other] = pair(&server).await;
    let balancer = Balancer::start([one.address, other.address]).await;
    let mut clients = Vec::new();
    for era in [Era::Legacy, Era::Modern, Era::Legacy, Era::Modern] {
        clients.push((era, McpClient::connect(balancer.http(), "/mcp", era).await));
    }
    for (era, client) in &clients {
        for n in 0..6 {
            let arguments = format!("{{\"n\":{n}}}");
            let result = client.call("echo", &arguments).await.unwrap();
            assert_eq!(result["structuredContent"]["n"], n, "{era:?}");
        }
    }

    // One goes down in the middle of traffic: what it had accepted may be lost, and nothing else is.
    let (calls, n_answered) = (40, Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let traffic = clients.iter().map(|(_, client)| {
        let n_answered = Arc::clone(&n_answered);
        async move {
            let mut n_lost = 0;
            for n in 0..calls {
                let params = format!(r#"{{"name":"echo","arguments":{{"n":{n}}}}}"#);
                let answer = client.exchange("tools/call", &params).await;
                if answer.status.is_success() {
                    assert_eq!(answer.json()["result"]["structuredContent"]["n"], n);
                    n_answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                } else {
                    assert_eq!(answer.status, 502, "a replica that lives answers: {answer:?}");
                    n_lost += 1;
                }
            }
            n_lost
        }
    });
    let traffic = futures_util::future::join_all(traffic);
    let killing = async {
        while n_answered.load(std::sync::atomic::Ordering::SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
        one.kill().await;
    };
    let (lost, ()) = tokio::join!(traffic, killing);
    let n_lost: usize = lost.iter().sum();
    assert!(n_lost <= clients.len(), "at most one call a client was under way there: {lost:?}");

    // Sessions that began at the lost one are still good for plain calls; their listening stream begins anew.
    for (era, client) in &clients {
        assert_eq!(client.tools().await.len(), 1, "{era:?}");
    }
    drop(other);
}

#[tokio::test]
async fn a_listening_stream_crosses_to_its_home_over_real_sockets() {
    let server = server().http1().tool(tool("echo")).start().await;
    let [one, other] = pair(&server).await;
    let session = initialize(&Http::new(one.address)).await;
    let head = stream_status(&other.engine, &session).await;
    assert_eq!(head, 200);
    one.kill().await;
    assert_eq!(stream_status(&other.engine, &session).await, 404, "the client is to begin anew");
    let anew = initialize(&Http::new(other.address)).await;
    assert_eq!(stream_status(&other.engine, &anew).await, 200);
}

async fn initialize(http: &Http) -> String {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
    }});
    http.post("/mcp", message.to_string()).await.header("mcp-session-id").to_owned()
}

/// The status of a GET stream, which is then left.
async fn stream_status(engine: &McpProxyEngine, session: &str) -> u16 {
    let request = http::Request::get("/mcp").header("mcp-session-id", session);
    let empty = http_body_util::Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let gateway: &Gateway = engine.gateway();
    gateway.handle(request.body(empty).unwrap()).await.status().as_u16()
}
