//! `serve`: every face over HTTP, until a signal.

use std::net::SocketAddr;
use std::time::Duration;

use mcp_proxy_engine::McpProxyEngine;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::args::{LogArgs, ServeArgs};
use super::exit::{Exit, Failure};
use super::source::{self, Choice};
use super::{logging, metrics, output, reload};

/// How long the first lines wait for the servers' tools. Whoever answers later is listed later.
const FIRST_LOOK: Duration = Duration::from_millis(400);

pub(crate) async fn run(args: ServeArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let choice = Choice {
        config: args.config.as_deref(),
        urls: &args.urls,
        command: &args.command,
        h2c: args.h2c,
        headers: &args.header,
    };
    let mut chosen = choice.read()?;
    if let Some(listen) = args.listen {
        chosen.source.config.listen = Some(listen);
    }
    if args.print_config {
        let format = chosen.source.format();
        // What cannot be served is not worth printing.
        chosen.source.clone().settings()?;
        output::result(&chosen.source.effective(format)?)?;
        return Ok(Exit::Done);
    }
    logging::install(log, chosen.source.config.log.as_ref(), "warn")?;
    let metrics = chosen.source.config.records_metrics().then(metrics::install).transpose()?;
    let listen = chosen.source.config.listen.unwrap_or_else(mcp_proxy_engine::config::default_listen);
    let is_demo = chosen.is_demo;
    let mut builder = chosen.builder().wait(Duration::ZERO);
    if let Some(metrics) = &metrics {
        let reader = metrics.handle.clone();
        builder = builder.metrics(move || reader.render());
    }
    let engine = builder.start().await?;

    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::system(format!("cannot listen on {listen}: {error}; choose another address with --listen"))
    })?;
    let address = listener.local_addr().map_err(|error| Failure::system(format!("{listen}: {error}")))?;
    let stop = CancellationToken::new();
    let signals = tokio::spawn(signals(stop.clone()));
    let reloading = args.config.map(|file| {
        let listen = args.listen;
        tokio::spawn(reload::watch(engine.clone(), file, move |source| {
            source.config.listen = listen.or(source.config.listen);
        }))
    });
    let serving = engine.serve(listener, stop);
    let welcome = async {
        engine.ready(FIRST_LOOK).await;
        output::note(&welcome(&engine, address, is_demo, metrics.is_some()));
        std::future::pending::<()>().await;
    };
    let served = tokio::select! {
        served = serving => served,
        () = welcome => unreachable!("the welcome never ends"),
    };
    engine.close().await;
    signals.abort();
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    drop(metrics);
    served.map_err(|error| Failure::system(format!("serving on {address}: {error}")))?;
    output::note("stopped");
    Ok(Exit::Done)
}

/// Stops on the first Ctrl-C or SIGTERM; ends the process on the second.
pub(crate) async fn signals(stop: CancellationToken) {
    signal().await;
    output::note("stopping: calls under way may finish; once more to stop at once");
    stop.cancel();
    signal().await;
    // 128 + SIGINT, as shells report it.
    std::process::exit(130);
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}

/// The first lines: what is served where, and two commands to try.
fn welcome(engine: &McpProxyEngine, address: SocketAddr, is_demo: bool, has_metrics: bool) -> String {
    let snapshot = engine.snapshot();
    let catalogue = &snapshot.catalogue;
    let base = format!("http://{address}");
    let n_tools = catalogue.tools().len();
    let n_servers = catalogue.upstreams().len();
    let what = if is_demo {
        format!("{n_tools} tools of the embedded demo")
    } else {
        format!("{n_tools} {} of {n_servers} {}", plural(n_tools, "tool"), plural(n_servers, "server"))
    };
    let mut lines = vec![
        format!("mcp-proxy-engine {} serves {what} on {base}", env!("CARGO_PKG_VERSION")),
        String::new(),
        format!("  MCP        {base}/mcp"),
        format!("  REST       {base}/tools/{{tool}}"),
        format!("  batch      {base}/batch"),
        format!("  OpenAPI    {base}/openapi.json  {base}/openapi.yaml"),
        format!("  page       {base}/docs"),
        format!("  GraphQL    {base}/graphql"),
        format!("  functions  {base}/tools?format=openai"),
        format!("  health     {base}/livez  {base}/readyz"),
        if has_metrics {
            format!("  metrics    {base}/metrics  {base}/performance")
        } else {
            format!("  metrics    {base}/performance")
        },
    ];
    for id in engine.engine().endpoints() {
        if id != *engine.default_endpoint() {
            lines.push(format!("  endpoint   {base}/endpoints/{id}/mcp and the like"));
        }
    }
    lines.push(String::new());
    lines.extend(engine.notices().iter().map(|notice| format!("note: {notice}")));
    let silent = source::silent_sources(engine, engine.default_endpoint());
    lines.extend(silent.into_iter().map(|line| format!("warning: {line}")));
    lines.extend(source::absent(catalogue).into_iter().map(|line| format!("warning: {line}")));
    lines.extend(catalogue.collisions().iter().map(|collision| {
        format!(
            "note: several servers have a tool `{}`; shown as {}",
            collision.name,
            collision.resolved.join(", ")
        )
    }));
    if is_demo {
        lines.push("Try:".to_owned());
        lines.push(format!("  curl {base}/get_user/123"));
        lines.push(format!(
            "  curl {base}/tools/echo -H 'content-type: application/json' -d '{{\"message\": \"hello\"}}'"
        ));
    } else {
        lines.push("Try:".to_owned());
        lines.push(format!("  curl {base}/tools"));
        lines.push(format!("  curl {base}/openapi.yaml"));
    }
    lines.push("Stop with Ctrl-C.".to_owned());
    lines.join("\n")
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
