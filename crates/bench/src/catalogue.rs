//! What a large catalogue costs: to build, to keep, to look into, to change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::BoxFuture;
use mpe_engine::upstream::{Change, Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{CallContext, EndpointConfig, EndpointId, Engine, Naming, Target, ToolCall, UpstreamConfig};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What `catalogue` measures.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Upstreams.
    #[arg(long, default_value_t = 1000)]
    pub upstreams: usize,
    /// Tools of each.
    #[arg(long, default_value_t = 20)]
    pub tools: usize,
    /// Write the rows to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// One size of catalogue.
#[derive(Debug, Serialize)]
struct Row {
    upstreams: usize,
    tools: usize,
    /// From the start until every upstream is discovered and published.
    build_ms: f64,
    /// Resident memory gained.
    memory_mib: f64,
    /// One look by name.
    lookup_ns: f64,
    /// One whole call through the engine to an upstream that answers at once.
    call_ns: f64,
    /// From one server's announcement until the changed catalogue is published, debounce taken off.
    change_ms: f64,
}

/// How long discovery waits for more announcements after the first.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Measures a single small upstream first, then the size asked for.
pub async fn run(options: Options) -> anyhow::Result<()> {
    println!(
        "{:>9} {:>7} {:>10} {:>11} {:>10} {:>9} {:>10}",
        "upstreams", "tools", "build ms", "memory MiB", "lookup ns", "call ns", "change ms"
    );
    let mut rows = Vec::new();
    for upstreams in [1, options.upstreams] {
        let row = measure(upstreams, options.tools).await?;
        println!(
            "{:>9} {:>7} {:>10.1} {:>11.1} {:>10.1} {:>9.0} {:>10.1}",
            row.upstreams, row.tools, row.build_ms, row.memory_mib, row.lookup_ns, row.call_ns, row.change_ms
        );
        rows.push(row);
    }
    let Some(path) = options.json else { return Ok(()) };
    std::fs::write(&path, serde_json::to_vec_pretty(&rows)?).with_context(|| path.display().to_string())
}

async fn measure(upstreams: usize, tools: usize) -> anyhow::Result<Row> {
    let servers: Vec<_> = (0..upstreams).map(|n| Arc::new(Prompt::new(n, tools))).collect();
    let before = resident_mib()?;
    let start = Instant::now();
    let config = |(n, server): (usize, &Arc<Prompt>)| {
        UpstreamConfig::new(format!("server{n}"), Target::Custom(Arc::clone(server) as Arc<dyn Upstream>))
    };
    let mut endpoint =
        EndpointConfig::new(EndpointId::default(), servers.iter().enumerate().map(config).collect());
    endpoint.naming = Naming::Prefix;
    let engine = Engine::builder().endpoint(endpoint).start().context("engine")?;
    ensure!(engine.settled(Instant::now() + Duration::from_secs(120)).await, "not discovered in two minutes");
    let build_ms = start.elapsed().as_secs_f64() * 1000.0;
    let memory_mib = resident_mib()? - before;
    let names: Vec<String> = {
        let catalogue = &engine.snapshot(&EndpointId::default()).context("endpoint")?.catalogue;
        catalogue.tools().iter().map(|entry| entry.tool.name().to_owned()).collect()
    };
    let row = Row {
        upstreams,
        tools: names.len(),
        build_ms,
        memory_mib,
        lookup_ns: lookup_ns(&engine, &names)?,
        call_ns: call_ns(&engine, &names).await?,
        change_ms: change_ms(&engine, &servers[upstreams / 2]).await?,
    };
    engine.close(Duration::from_secs(1)).await;
    Ok(row)
}

const LOOKUPS: usize = 1_000_000;
const CALLS: usize = 200_000;

fn lookup_ns(engine: &Engine, names: &[String]) -> anyhow::Result<f64> {
    let catalogue = &engine.snapshot(&EndpointId::default()).context("endpoint")?.catalogue;
    let start = Instant::now();
    for n in 0..LOOKUPS {
        // A stride that is no divisor of the size, so that neighbours in memory are not asked one after the other.
        let found = catalogue.tool(&names[(n * 7919) % names.len()]);
        ensure!(std::hint::black_box(found).is_some(), "a listed tool was not found");
    }
    Ok(start.elapsed().as_nanos() as f64 / LOOKUPS as f64)
}

async fn call_ns(engine: &Engine, names: &[String]) -> anyhow::Result<f64> {
    let context = Arc::new(CallContext::default());
    let arguments = RawValue::from_string("{}".to_owned())?;
    let start = Instant::now();
    for n in 0..CALLS {
        let call = ToolCall {
            endpoint: EndpointId::default(),
            tool: names[(n * 7919) % names.len()].clone(),
            arguments: arguments.clone(),
            deadline: None,
            check_arguments: false,
            context: Arc::clone(&context),
        };
        engine.call(call).await.context("call")?;
    }
    Ok(start.elapsed().as_nanos() as f64 / CALLS as f64)
}

async fn change_ms(engine: &Engine, server: &Prompt) -> anyhow::Result<f64> {
    let mut revision = engine.watch(&EndpointId::default()).context("endpoint")?;
    revision.mark_unchanged();
    server.change()?;
    let start = Instant::now();
    tokio::time::timeout(Duration::from_secs(30), revision.changed()).await.context("no new revision")??;
    Ok(start.elapsed().saturating_sub(DEBOUNCE).as_secs_f64() * 1000.0)
}

pub fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

// === An upstream that answers at once ===

/// An upstream that answers at once.
pub struct Prompt {
    tools: Mutex<Box<RawValue>>,
    result: Box<RawValue>,
    n: usize,
    n_tools: usize,
    changes: Mutex<Option<mpsc::Sender<Change>>>,
}

impl Prompt {
    pub fn new(n: usize, n_tools: usize) -> Self {
        Self {
            tools: Mutex::new(tools(n, n_tools, "")),
            result: raw(&json!({ "content": [{ "type": "text", "text": "ok" }] })),
            n,
            n_tools,
            changes: Mutex::default(),
        }
    }

    fn change(&self) -> anyhow::Result<()> {
        *lock(&self.tools) = tools(self.n, self.n_tools, " (changed)");
        lock(&self.changes).as_ref().context("nobody listens")?.try_send(Change::Tools)?;
        Ok(())
    }
}

/// Descriptions and schemas of the size that real servers have.
fn tools(n: usize, n_tools: usize, mark: &str) -> Box<RawValue> {
    let tool = |t: usize| {
        json!({
            "name": format!("tool_{t}"),
            "title": format!("Tool {t} of server {n}"),
            "description": format!("Looks up record {t} of server {n} and tells what is known of it{mark}."),
            "inputSchema": {
                "type": "object",
                "properties": {
                    "user_id": { "type": "string", "description": "Whose record it is." },
                    "limit": { "type": "integer", "minimum": 1, "maximum": 100, "default": 10 },
                    "tags": { "type": "array", "items": { "type": "string" } },
                },
                "required": ["user_id"],
            },
            "annotations": { "readOnlyHint": true },
        })
    };
    raw(&json!({ "tools": (0..n_tools).map(tool).collect::<Vec<_>>() }))
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(value).expect("a value is JSON")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Upstream for Prompt {
    fn introduce(&self, _: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async {
            Ok(Introduction {
                version: mpe_mcp_protocol::version::ProtocolVersion::LATEST,
                capabilities: Arc::from(raw(&json!({ "tools": { "listChanged": true } }))),
                server_info: None,
                instructions: None,
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            let result =
                if request.method == "tools/list" { lock(&self.tools).clone() } else { self.result.clone() };
            Ok(UpstreamReply { outcome: Ok(result), protocol: None, address: None })
        })
    }

    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let (sender, receiver) = mpsc::channel(1);
        *lock(&self.changes) = Some(sender);
        Some(receiver)
    }
}
