//! Polling the Lambda Runtime API.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use lambda_runtime::{
    Diagnostic, FunctionResponse, LambdaEvent, MetadataPrelude, StreamResponse, service_fn,
};
use mpe_gateway::Gateway;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{Answer, Handler, Options, ResponseStream};

/// How long the first invocation's work may wait for discovery: below the ten seconds Lambda gives a function to start
/// (AWS Lambda developer guide, "Understanding the Lambda execution environment lifecycle").
const WARM_UP: Duration = Duration::from_secs(8);

/// Kept back of an invocation's time for handing the reply over.
const HAND_OVER: Duration = Duration::from_millis(250);

/// What the Runtime API's client insists on finding in the environment.
const REQUIRED: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
];

/// Why the runtime cannot run, or cannot go on.
#[derive(Debug)]
pub struct RunError {
    message: String,
    source: Option<lambda_runtime::Error>,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// [`run_with`] default options: buffered replies.
///
/// # Errors
/// As [`run_with`].
///
/// # Cancel safety
/// As [`run_with`].
pub async fn run(gateway: Gateway) -> Result<(), RunError> {
    run_with(gateway, Options::default()).await
}

/// Answers Lambda's invocations with `gateway` until the process ends.
///
/// Waits for discovery first, so that the first event finds the catalogue, but no longer than the start-up time Lambda
/// allows. Takes several invocations at a time where Lambda offers them (`AWS_LAMBDA_MAX_CONCURRENCY`). Each
/// invocation's deadline, less a quarter of a second for handing the reply over, becomes the deadline of its call.
///
/// # Errors
/// When this is not a Lambda environment (the message names the missing variable), or the Runtime API fails for good.
///
/// # Cancel safety
/// Dropping the future stops polling and cancels the invocation under way, which Lambda then reports as failed.
pub async fn run_with(gateway: Gateway, options: Options) -> Result<(), RunError> {
    if let Some(missing) = missing_variable(|name| std::env::var_os(name).is_some()) {
        let message = format!("this is no Lambda environment: the variable {missing} is not set");
        return Err(RunError { message, source: None });
    }
    if !gateway.engine().settled(Instant::now() + WARM_UP).await {
        tracing::warn!("discovery is still under way; the first events may find tools missing");
    }
    let handler = Handler::new(gateway, options);
    let service = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let handler = handler.clone();
        let reply: BoxFuture<'static, Result<Reply, Diagnostic>> =
            Box::pin(async move { invoke(&handler, event).await });
        reply
    });
    lambda_runtime::run_concurrent(service)
        .await
        .map_err(|source| RunError { message: "the Lambda runtime ended".to_owned(), source: Some(source) })
}

fn missing_variable(is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    REQUIRED.into_iter().find(|name| !is_set(name))
}

type Reply = FunctionResponse<Box<RawValue>, ResponseStream>;

async fn invoke(handler: &Handler, event: LambdaEvent<Box<RawValue>>) -> Result<Reply, Diagnostic> {
    let (payload, context) = event.into_parts();
    let deadline = deadline(context.deadline, SystemTime::now(), Instant::now());
    match handler.handle(&payload, deadline).await? {
        Answer::Buffered(reply) => Ok(FunctionResponse::BufferedResponse(reply)),
        Answer::Streaming { status, headers, cookies, body } => {
            let metadata_prelude = MetadataPrelude { status_code: status, headers, cookies };
            Ok(FunctionResponse::StreamingResponse(StreamResponse { metadata_prelude, stream: body }))
        }
    }
}

/// The invocation's deadline in our clock, less the time for handing over. `None` for a value that is no time of this
/// century: some emulators send a constant there.
fn deadline(epoch_millis: u64, wall: SystemTime, now: Instant) -> Option<Instant> {
    const YEAR_2001: u64 = 1_000_000_000_000;
    if epoch_millis < YEAR_2001 {
        return None;
    }
    let wall_millis = wall.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let left = u128::from(epoch_millis).saturating_sub(wall_millis);
    let left = Duration::from_millis(u64::try_from(left).ok()?).saturating_sub(HAND_OVER);
    now.checked_add(left)
}

#[cfg(test)]
mod tests;
