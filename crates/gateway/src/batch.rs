//! The batch face: many calls in one request, results in order, errors as values.
//!
//! The body is an array of `{"tool":…,"arguments":{…}}` (the Python product's `function_name` is read too), or an object
//! with that array as `calls`. The answer is an array of `{"tool":…,"result":…}` and `{"tool":…,"problem":{…}}`.

use std::sync::Arc;

use http::StatusCode;
use mpe_engine::{CallContext, CallError, OutcomeKind, ToolCall, ToolOutcome};
use serde_json::value::RawValue;

use crate::json::{Members, ObjectWriter, raw_value};
use crate::problem::{Problem, ProblemType, log_call_error};
use crate::service::Inbound;
use crate::{Body, body, render, rest};

/// Answers `POST /batch`.
pub(crate) async fn handle(mut inbound: Inbound) -> http::Response<Body> {
    let calls = match calls_of(&mut inbound).await {
        Ok(calls) => calls,
        Err(problem) => return problem.into_response(),
    };
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
                check_arguments: true,
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
