//! The engine inside your own program: servers in, one list of tools and one way to call them out.
//!
//! `cargo run -p mpe-engine --example embed -- https://example.com/mcp [TOOL [ARGUMENTS]]`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use mpe_engine::{CallContext, EndpointConfig, EndpointId, Engine, Target, ToolCall, UpstreamConfig};
use mpe_transport::Wire;
use serde_json::value::RawValue;
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("which server? give its URL")?;
    let target = Target::Http { url: url.parse()?, headers: Vec::new(), wire: Wire::Auto };
    let upstream = UpstreamConfig::new("server", target);
    let endpoint = EndpointConfig::new(EndpointId::default(), vec![upstream]);
    let engine = Engine::builder().endpoint(endpoint).start()?;

    // Discovery runs in the background; a program that wants to list at once waits for it.
    engine.settled(Instant::now() + Duration::from_secs(10)).await;
    let snapshot =
        engine.snapshot(&EndpointId::default()).ok_or("the default endpoint was configured above")?;
    for status in snapshot.catalogue.upstreams() {
        println!("{}: {:?}, {} tools", status.key, status.state, status.tools);
    }
    for entry in snapshot.catalogue.tools() {
        println!("  {:<30} {}", entry.tool.name(), entry.tool.description().unwrap_or_default());
    }

    if let Some(tool) = arguments.next() {
        let call = ToolCall {
            endpoint: EndpointId::default(),
            tool,
            arguments: RawValue::from_string(arguments.next().unwrap_or_else(|| "{}".to_owned()))?,
            deadline: Some(Instant::now() + Duration::from_secs(30)),
            check_arguments: false,
            context: Arc::new(CallContext::default()),
        };
        let outcome = engine.call(call).await?;
        println!("{:?} after {:?}: {}", outcome.kind, outcome.elapsed, outcome.result.get());
    }
    engine.close(Duration::from_secs(5)).await;
    Ok(())
}
