//! The batch face: many calls in one request, results in order, errors as values.
//!
//! The body is an array of `{"tool":…,"arguments":{…}}` (the Python product's `function_name` is read too), or an object
//! with that array as `calls`. The answer is an array of `{"tool":…,"result":…}` and `{"tool":…,"problem":{…}}`.
//!
//! A caller that accepts `text/event-stream` gets each of them as an `item` event as soon as it is there, with its place in the request as
//! `index`, and an `end` event after the last.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::StatusCode;
use mpe_engine::{CallContext, CallError, OutcomeKind, ToolCall, ToolOutcome};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::json::{Members, ObjectWriter, raw_value};
use crate::problem::{Problem, ProblemType, log_call_error};
use crate::service::Inbound;
use crate::{Body, body, render, rest, rest_stream};

/// Answers `POST /batch`.
pub(crate) async fn handle(mut inbound: Inbound) -> http::Response<Body> {
    let calls = match calls_of(&mut inbound).await {
        Ok(calls) => calls,
        Err(problem) => return problem.into_response(),
    };
    if rest_stream::is_wanted(&inbound.parts.headers) {
        return stream(&inbound, calls);
    }
    let mut items = Vec::with_capacity(calls.len());
    let mut known = Vec::with_capacity(calls.len());
    for call in calls {
        items.push((call.tool.clone(), rest::unlisted(&inbound, &call.tool)));
        if items.last().is_some_and(|(_, problem)| problem.is_none()) {
            known.push(call);
        }
    }
    let mut outcomes = inbound.gateway.engine().call_many(known).await.into_iter();
    let rendered = items.into_iter().map(|(tool, unlisted)| match unlisted {
        Some(problem) => refused(&tool, &problem),
        None => outcomes.next().map(|outcome| item(&tool, &outcome)).unwrap_or_default(),
    });
    let body = rendered.collect::<Vec<_>>();
    body::response(StatusCode::OK, "application/json", [&b"["[..], &body.join(&b","[..]), b"]"].concat())
}

/// Runs the calls and streams each result as it comes.
fn stream(inbound: &Inbound, calls: Vec<ToolCall>) -> http::Response<Body> {
    let n_calls = calls.len();
    // As many places as there are events: no call waits for a slow reader, and no more is kept than an array would hold.
    let (events, heard) = mpsc::channel::<Bytes>(n_calls + 1);
    let mut known = Vec::with_capacity(n_calls);
    let mut places = Vec::with_capacity(n_calls);
    for (index, call) in calls.into_iter().enumerate() {
        match rest::unlisted(inbound, &call.tool) {
            Some(problem) => {
                let _ = events.try_send(item_event(index, refused(&call.tool, &problem)));
            }
            None => {
                places.push((index, call.tool.clone()));
                known.push(call);
            }
        }
    }
    let mut results = inbound.gateway.engine().call_many_stream(known);
    // Dropped with the response's body, and the calls still under way with it.
    let running = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(result) = results.next().await {
            let (index, tool) = &places[result.index];
            let _ = events.try_send(item_event(*index, item(tool, &result.outcome)));
        }
        let _ = events.try_send(rest_stream::event("end", format!("{{\"items\":{n_calls}}}").into_bytes()));
    }));
    let said = futures_util::stream::unfold((heard, running), |(mut heard, running)| async move {
        let event = heard.recv().await?;
        Some((event, (heard, running)))
    });
    rest_stream::respond(said, inbound.gateway.config().keep_alive)
}

/// An item with its place in front.
fn item_event(index: usize, item: Vec<u8>) -> Bytes {
    let mut data = format!("{{\"index\":{index},").into_bytes();
    data.extend_from_slice(&item[1..]);
    rest_stream::event("item", data)
}

/// The calls of a request. One that cannot be read makes the whole request a 400 that names it, before anything runs.
async fn calls_of(inbound: &mut Inbound) -> Result<Vec<ToolCall>, Problem> {
    let bytes = rest::json_body(inbound).await?;
    let raw = rest::parse(&bytes)?;
    let object = Members::of(&raw);
    let list = object.as_ref().and_then(|members| members.get("calls")).unwrap_or(&raw);
    let items = serde_json::from_str::<Vec<&RawValue>>(list.get())
        .map_err(|_| Problem::new(ProblemType::BadRequest, "the body is no array of calls"))?;
    let limit = inbound.gateway.config().max_batch;
    if items.len() > limit {
        let detail = format!("{} calls are more than the {limit} a batch may have", items.len());
        return Err(Problem::new(ProblemType::BadRequest, detail));
    }
    let context = Arc::new(CallContext::default());
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let wrong = |what: &str| Problem::new(ProblemType::BadRequest, format!("/{index}: {what}"));
            let members = Members::of(item).ok_or_else(|| wrong("no object"))?;
            let known = ["tool", "function_name", "arguments"];
            if let Some((name, _)) = members.iter().find(|(name, _)| !known.contains(name)) {
                return Err(wrong(&format!("`{name}` means nothing here; expected `tool` and `arguments`")));
            }
            let tool = members.string("tool").or_else(|| members.string("function_name"));
            let tool = tool.ok_or_else(|| wrong("no string `tool`"))?;
            let arguments = match members.get("arguments") {
                None => raw_value(b"{}".to_vec()),
                Some(arguments) if Members::of(arguments).is_some() => arguments.to_owned(),
                Some(_) => return Err(wrong("`arguments` is no object")),
            };
            Ok(ToolCall {
                endpoint: inbound.endpoint.clone(),
                tool,
                arguments,
                deadline: inbound.deadline,
                check_arguments: inbound.gateway.config().checks.batch,
                context: Arc::clone(&context),
            })
        })
        .collect()
}

/// One result or problem.
fn item(tool: &str, outcome: &Result<ToolOutcome, CallError>) -> Vec<u8> {
    let mut item = ObjectWriter::new();
    item.string("tool", tool);
    match outcome {
        Ok(outcome) if outcome.kind == OutcomeKind::Complete => {
            item.raw("result", render::value(&outcome.result).get());
        }
        Ok(outcome) => return refused(tool, &render::failure(outcome)),
        Err(error) => {
            log_call_error(error, tool);
            return refused(tool, &Problem::of_call(error));
        }
    }
    item.finish()
}

fn refused(tool: &str, problem: &Problem) -> Vec<u8> {
    let mut item = ObjectWriter::new();
    item.string("tool", tool).raw("problem", problem.to_json().get());
    item.finish()
}
