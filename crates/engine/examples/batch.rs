//! Many calls at once, and what to make of those that fail.
//!
//! `cargo run -p mpe-engine --example batch -- https://example.com/mcp TOOL ARGUMENTS [TOOL ARGUMENTS]…`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use mpe_engine::{
    Blame, CallContext, CallError, EndpointConfig, EndpointId, Engine, Executed, OutcomeKind, Target,
    ToolCall, UpstreamConfig,
};
use mpe_transport::Wire;
use serde_json::value::RawValue;
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, rest) =
        arguments.split_first().ok_or("which server? give its URL, then tools and arguments")?;
    let target = Target::Http { url: url.parse()?, headers: Vec::new(), wire: Wire::Auto };
    let endpoint = EndpointConfig::new(EndpointId::default(), vec![UpstreamConfig::new("server", target)]);
    let engine = Engine::builder().endpoint(endpoint).start()?;

    let deadline = Instant::now() + Duration::from_secs(30);
    let calls = rest.chunks(2).map(|pair| call(&pair[0], pair.get(1), deadline));
    let calls: Vec<ToolCall> = calls.collect::<Result<_, _>>()?;
    let start = Instant::now();
    let results = engine.call_many(calls).await;
    println!("{} calls in {:?}", results.len(), start.elapsed());
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(outcome) if outcome.kind == OutcomeKind::Failed => {
                println!("{n}: the tool ran and says that it failed: {}", outcome.result.get());
            }
            Ok(outcome) => println!("{n}: {}", outcome.result.get()),
            Err(error) => println!("{n}: {error}; {}", advice(error)),
        }
    }
    engine.close(Duration::from_secs(5)).await;
    Ok(())
}

fn call(tool: &str, arguments: Option<&String>, deadline: Instant) -> Result<ToolCall, serde_json::Error> {
    Ok(ToolCall {
        endpoint: EndpointId::default(),
        tool: tool.to_owned(),
        arguments: RawValue::from_string(arguments.cloned().unwrap_or_else(|| "{}".to_owned()))?,
        deadline: Some(deadline),
        // For yes, give the builder somebody who compiles schemas (`EngineBuilder::checkers`).
        check_arguments: false,
        context: Arc::new(CallContext::default()),
    })
}

/// The error says whose fault it is and whether the call ran: that decides what may be done next.
fn advice(error: &CallError) -> String {
    match (error.blame, error.executed, error.retry_after) {
        (_, Executed::Unknown, _) => "it may have run; look before you send it again".to_owned(),
        (Blame::Caller, Executed::No, _) => "it did not run; mend the call".to_owned(),
        (_, Executed::No, Some(wait)) => format!("it did not run; try again in {wait:?}"),
        (_, Executed::No, None) => "it did not run; it may be sent again".to_owned(),
    }
}
