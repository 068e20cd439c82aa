//! Sixty-four calls of a tool that takes 100 ms, over one HTTP/2 connection: they take about as long as one.
//!
//! Run it with `cargo run --release -p mcp-proxy-engine --example concurrency`.
#![allow(clippy::print_stdout, reason = "an example shows what it finds")]

use std::error::Error;

use mcp_proxy_engine::{FunctionCall, McpProxyEngine};
use serde_json::json;
use tokio::time::Instant;

/// Calls at once.
const CALLS: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = McpProxyEngine::builder().demo().start().await?;
    let slow = || FunctionCall::new("slow", json!({ "ms": 100 }));

    let start = Instant::now();
    engine.execute(slow()?).await?;
    let one = start.elapsed();

    let calls = (0..CALLS).map(|_| slow()).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let answers = engine.execute_concurrent_functions(calls).await;
    let many = start.elapsed();
    let answered =
        answers.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| !answer.is_error())).count();

    let demo = engine.demo().ok_or("there is no demo")?.counts();
    println!("one call:              {:>7.1} ms", one.as_secs_f64() * 1e3);
    println!("{CALLS} calls at once:      {:>7.1} ms, {answered} answered", many.as_secs_f64() * 1e3);
    println!("connections opened:    {:>5}", demo.connections_opened);
    println!("most calls at once:    {:>5}, as the server saw it", demo.max_calls_running);
    println!("performance: {}", serde_json::to_string(&engine.performance_metrics())?);

    engine.close().await;
    Ok(())
}
