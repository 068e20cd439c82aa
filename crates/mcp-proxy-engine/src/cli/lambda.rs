//! `lambda`: answering AWS Lambda's invocations.

use std::time::Duration;

use super::args::{LambdaArgs, LogArgs};
use super::exit::{Exit, Failure, chain};
use super::logging;
use super::source::Choice;

pub(crate) async fn run(args: LambdaArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let choice = Choice { config: args.config.as_deref(), urls: &[], command: &[], h2c: false, headers: &[] };
    let chosen = choice.read()?;
    logging::install(log, chosen.source.config.log.as_ref(), "info")?;
    // The adapter waits for the tools itself, as long as Lambda lets it.
    let engine = chosen.builder().wait(Duration::ZERO).start().await?;
    let ended = mcp_proxy_engine::lambda::run(engine.gateway().clone()).await;
    engine.close().await;
    ended.map_err(|error| Failure::system(chain(&error)))?;
    Ok(Exit::Done)
}
