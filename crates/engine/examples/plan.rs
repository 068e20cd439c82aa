//! Calls that use each other's results, in one go.
//!
//! `cargo run -p mpe-engine --example plan -- https://example.com/mcp < plan.json`
//!
//! A plan for a server with `get_user` and `get_orders`, as the demo has them (`mcp-proxy-engine serve`, then
//! `http://127.0.0.1:8080/mcp`):
//!
//! ```json
//! [
//!   { "id": "user", "tool": "get_user", "arguments": { "user_id": "123" } },
//!   { "id": "orders", "tool": "get_orders", "arguments": { "user_id": { "$from": "user#/id" } },
//!     "on_error": { "default": [] } }
//! ]
//! ```

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use mpe_engine::plan::{Plan, PlanCall};
use mpe_engine::{CallContext, EndpointConfig, EndpointId, Engine, Target, UpstreamConfig};
use mpe_transport::Wire;
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("which server? give its URL, and a plan on standard input")?;
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    // Refused here, before anything runs, if it cannot work.
    let plan = Plan::parse(&json)?;

    let target = Target::Http { url: url.parse()?, headers: Vec::new(), wire: Wire::Auto };
    let endpoint = EndpointConfig::new(EndpointId::default(), vec![UpstreamConfig::new("server", target)]);
    let engine = Engine::builder().endpoint(endpoint).start()?;
    let call = PlanCall {
        endpoint: EndpointId::default(),
        plan,
        deadline: Some(Instant::now() + Duration::from_secs(60)),
        // For yes, give the builder somebody who compiles schemas (`EngineBuilder::checkers`).
        check_arguments: false,
        context: Arc::new(CallContext::default()),
    };
    for report in engine.call_plan(call).await {
        println!("{}: {:?}", report.id, report.end);
        for result in &report.calls {
            match result {
                Ok(outcome) => println!("  {}", outcome.result.get()),
                Err(error) => println!("  {error}"),
            }
        }
    }
    engine.close(Duration::from_secs(5)).await;
    Ok(())
}
