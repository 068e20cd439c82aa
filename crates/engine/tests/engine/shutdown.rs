//! What is left when an engine has been closed: nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_engine::source::{SourceConfig, SourceError, SourceKind, Sourced, UpstreamSource};
use mpe_engine::{
    CallErrorKind, EndpointConfig, EndpointId, EndpointSource, Engine, Executed, LazyLimits, Target,
    ToolCall, UpstreamConfig,
};
use mpe_transport::Wire;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::peer::Peer;
use crate::scripted::{call, within};

/// A server over pipes, in a shell: tells its process id, then answers every request in the same words.
const SHELL_SERVER: &str = r#"
echo $$ > "$1"
while read -r line; do
    id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case "$line" in
        *server/discover*) result='{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}' ;;
        *tools/list*) result='{"tools":[{"name":"shell","inputSchema":{"type":"object"}}]}' ;;
        *) result='{"content":[]}' ;;
    esac
    [ -n "$id" ] && printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

fn http(peer: &Peer, key: &str, path: &str) -> UpstreamConfig {
    UpstreamConfig::new(key, Target::Http { url: peer.url(path), headers: Vec::new(), wire: Wire::H2c })
}

fn shell(pid_file: &Path) -> UpstreamConfig {
    let target = Target::Stdio {
        command: "sh".to_owned(),
        args: ["-c", SHELL_SERVER, "sh"]
            .map(str::to_owned)
            .into_iter()
            .chain([pid_file.display().to_string()])
            .collect(),
        env: Vec::new(),
        cwd: None,
    };
    UpstreamConfig::new("shell", target)
}

/// Names one server for ever.
struct Names(UpstreamConfig);

impl UpstreamSource for Names {
    fn name(&self) -> &str {
        "names"
    }

    fn upstreams<'a>(&'a self, _: &'a EndpointId, _: Instant) -> BoxFuture<'a, Result<Sourced, SourceError>> {
        let upstreams = vec![self.0.clone()];
        Box::pin(std::future::ready(Ok(Sourced { upstreams, left_out: Vec::new() })))
    }
}

struct OnDemand(UpstreamConfig);

impl EndpointSource for OnDemand {
    fn endpoint(&self, id: &EndpointId) -> Option<EndpointConfig> {
        Some(EndpointConfig::new(id.clone(), vec![self.0.clone()]))
    }
}

async fn peer() -> Peer {
    Peer::start(|seen| match (seen.body["method"].as_str(), seen.path.as_str()) {
        (Some("tools/list"), path) => {
            let name = path.trim_matches('/').to_owned();
            json!({ "tools": [{ "name": name, "inputSchema": { "type": "object" } }] })
        }
        _ => json!({ "content": [] }),
    })
    .await
}

fn alive() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until `is_so`.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{name}-{}", std::process::id()))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn close_leaves_no_task_no_child_and_no_connection() {
    let peer = peer().await;
    until("the server's own task", || alive() >= 1).await;
    let before = alive();
    let pid_file = scratch("mpe-shutdown");
    let mut config =
        EndpointConfig::new(EndpointId::default(), vec![http(&peer, "http", "/http"), shell(&pid_file)]);
    let mut balanced = http(&peer, "both", "/both");
    let urls = vec![peer.url("/both"), peer.url("/both")];
    balanced.target = Target::Balanced { urls, headers: Vec::new(), wire: Wire::H2c };
    config.upstreams.push(balanced);
    let names = Arc::new(Names(http(&peer, "named", "/named")));
    config.sources.push(SourceConfig::new(SourceKind::Custom(names)));
    let on_demand = Arc::new(OnDemand(http(&peer, "lazy", "/lazy")));
    let engine = Engine::builder()
        .endpoint(config)
        .endpoints_on_demand(on_demand, LazyLimits::default())
        .start()
        .unwrap();
    for tool in ["http", "both", "named", "shell"] {
        engine.call(within(call(tool), Duration::from_secs(30))).await.unwrap();
    }
    let lazy =
        ToolCall { endpoint: EndpointId::new("tenant"), ..within(call("lazy"), Duration::from_secs(30)) };
    engine.call(lazy).await.unwrap();
    let pid: u32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    let child = PathBuf::from(format!("/proc/{pid}"));
    assert!(child.exists() && peer.open_connections() >= 1 && alive() > before);

    engine.close(Duration::from_secs(5)).await;
    assert!(!child.exists(), "the child is gone when `close` returns");
    until("no connection is left", || peer.open_connections() == 0).await;
    until("no task is left", || alive() <= before).await;
    let error = engine.call(call("http")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::ShuttingDown);
    let _ = std::fs::remove_file(pid_file);
}

#[tokio::test]
async fn close_ends_within_its_limit_and_the_farewell_whatever_calls_do() {
    let peer = peer().await;
    let hanging = crate::scripted::Scripted::named(&["hang"]);
    hanging.script(vec![crate::scripted::Step::Hang; 20]);
    let engine = Engine::builder()
        .endpoint(EndpointConfig::new(
            EndpointId::default(),
            vec![http(&peer, "http", "/http"), crate::scripted::upstream("hanging", &hanging)],
        ))
        .start()
        .unwrap();
    assert!(engine.settled(Instant::now() + Duration::from_secs(30)).await);
    let name = crate::scripted::names(&engine).into_iter().find(|name| name == "hang").unwrap();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (engine, name) = (engine.clone(), name.clone());
            tokio::spawn(async move { engine.call(within(call(&name), Duration::from_secs(60))).await })
        })
        .collect();
    until("the calls are under way", || hanging.in_flight() == 20).await;
    let start = Instant::now();
    engine.close(Duration::from_millis(300)).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(7), "{took:?}");
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind, error.executed), (CallErrorKind::ShuttingDown, Executed::Unknown));
    }
    assert_eq!(hanging.in_flight(), 0);
}
