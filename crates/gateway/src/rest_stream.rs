//! A REST call as an event stream, for callers that accept `text/event-stream`: `progress` and `log` events while the tool
//! runs, then `result` with the value, or `problem`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mpe_engine::{CallContext, CallEvents, OutcomeKind, ToolCall};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification, code};
use mpe_mcp_protocol::sse;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::json::one_line;
use crate::mcp::exchange::{KEEP_ALIVE, stream_response};
use crate::problem::{Problem, log_call_error};
use crate::service::Inbound;
use crate::{Body, accept, render};

/// Events that may wait for a slow reader; progress beyond it is dropped.
const EVENT_QUEUE: usize = 64;

/// Whether the caller asks for events, by name, and no less than for a plain answer: `*/*` asks for that.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let Some(events) = accept::weight(headers, &["text/event-stream"]) else { return false };
    let plain = accept::weight(headers, &["application/json", "application/*", "*/*"]).unwrap_or(0.0);
    events > 0.0 && events >= plain
}

/// Runs the call and streams what happens.
pub(crate) fn stream(inbound: &Inbound, mut call: ToolCall) -> http::Response<Body> {
    let (events, heard) = mpsc::channel(EVENT_QUEUE);
    call.context = Arc::new(CallContext {
        wants_progress: true,
        log_level: Some("info".to_owned()),
        events: Some(Arc::new(Ear(events))),
        ..CallContext::default()
    });
    let gateway = inbound.gateway.clone();
    let tool = call.tool.clone();
    let running = async move {
        match gateway.engine().call(call).await {
            Ok(outcome) if outcome.kind == OutcomeKind::Complete => {
                event("result", render::value(&outcome.result).get().as_bytes().to_vec())
            }
            Ok(outcome) => event("problem", render::failure(&outcome).to_json().get().as_bytes().to_vec()),
            Err(error) => {
                log_call_error(&error, &tool);
                event("problem", Problem::of_call(&error).to_json().get().as_bytes().to_vec())
            }
        }
    };
    let happening = Happening { heard, running: Some(running.boxed()), last: None };
    let events = futures_util::stream::unfold(happening, |mut happening| async {
        let event = happening.next().await?;
        Some((event, happening))
    });
    respond(events, inbound.gateway.config().keep_alive)
}

/// A stream of events as an answer; a comment stands in where nothing is said for longer than `pause`.
pub(crate) fn respond(
    events: impl Stream<Item = Bytes> + Send + 'static,
    pause: Duration,
) -> http::Response<Body> {
    let frames = futures_util::stream::unfold(Box::pin(events), move |mut events| async move {
        let said = match tokio::time::timeout(pause, events.next()).await {
            Ok(said) => said?,
            Err(_) => Bytes::from_static(KEEP_ALIVE),
        };
        Some((Ok::<_, Infallible>(Frame::data(said)), events))
    });
    stream_response(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync())
}

/// A call under way and what it says.
struct Happening {
    heard: mpsc::Receiver<Bytes>,
    running: Option<BoxFuture<'static, Bytes>>,
    last: Option<Bytes>,
}

impl Happening {
    /// The next event. What was heard stands before the last one, which ends it.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(running) = &mut self.running {
            tokio::select! {
                biased;
                Some(event) = self.heard.recv() => return Some(event),
                last = running => self.last = Some(last),
            }
            self.running = None;
        }
        self.heard.try_recv().ok().or_else(|| self.last.take())
    }
}

/// One event.
pub(crate) fn event(name: &str, data: Vec<u8>) -> Bytes {
    let mut event = Vec::new();
    sse::encode(&mut event, Some(name), None, &one_line(data));
    Bytes::from(event)
}

/// Puts what the call says on its stream.
struct Ear(mpsc::Sender<Bytes>);

impl CallEvents for Ear {
    fn notify(&self, notification: Notification) {
        let name = match notification.method.as_str() {
            "notifications/progress" => "progress",
            "notifications/message" => "log",
            _ => return,
        };
        let data = notification.params.as_deref().map_or("{}", RawValue::get).as_bytes().to_vec();
        if self.0.try_send(event(name, data)).is_err() {
            metrics::counter!("mpe_gateway_dropped_notifications_total").increment(1);
        }
    }

    fn ask<'a>(
        &'a self,
        method: &'a str,
        _params: Option<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<Box<RawValue>, ErrorObject>> {
        let error = ErrorObject::new(code::METHOD_NOT_FOUND, format!("the caller cannot answer {method}"));
        std::future::ready(Err(error)).boxed()
    }
}
