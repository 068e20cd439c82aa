//! The plan face: named calls that use each other's results, in one request.
//!
//! The body is a plan as [`mpe_engine::plan`] reads it. The answer is an array with one object for each step, in the plan's
//! order: `{"id":…,"end":"cancelled"|"done"|"defaulted"|"failed"|"not-run"|"skipped","reason":…,"calls":[…]}`, where each call is
//! `{"result":…}` or `{"problem":{…}}`.

use std::sync::Arc;

use http::StatusCode;
use mpe_engine::plan::{Plan, PlanCall, StepEnd, StepReport};
use mpe_engine::{CallContext, OutcomeKind};

use crate::json::ObjectWriter;
use crate::problem::{Problem, ProblemType, log_call_error};
use crate::service::Inbound;
use crate::{Body, body, render, rest};

/// Answers `POST /plan`.
pub(crate) async fn handle(mut inbound: Inbound) -> http::Response<Body> {
    let plan = match plan_of(&mut inbound).await {
        Ok(plan) => plan,
        Err(problem) => return problem.into_response(),
    };
    let call = PlanCall {
        endpoint: inbound.endpoint.clone(),
        plan,
        deadline: inbound.deadline,
        check_arguments: inbound.gateway.config().checks.batch,
        context: Arc::new(CallContext::default()),
    };
    let reports = inbound.gateway.engine().call_plan(call).await;
    let steps: Vec<_> = reports.iter().map(step).collect();
    body::response(StatusCode::OK, "application/json", [&b"["[..], &steps.join(&b","[..]), b"]"].concat())
}

/// The plan of a request. One that cannot work is refused before anything runs.
async fn plan_of(inbound: &mut Inbound) -> Result<Plan, Problem> {
    let bytes = rest::json_body(inbound).await?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Problem::new(ProblemType::BadRequest, "the body is no UTF-8"))?;
    let plan = Plan::parse(text).map_err(|error| {
        let detail = format!("the plan cannot work: {}", error.message);
        let violations = [(error.pointer.as_str(), error.message.as_str())];
        Problem::new(ProblemType::BadRequest, detail).violations(&violations)
    })?;
    let limit = inbound.gateway.config().max_batch;
    if plan.len() > limit {
        let detail = format!("{} steps are more than the {limit} a plan may have", plan.len());
        return Err(Problem::new(ProblemType::BadRequest, detail));
    }
    // Before anything runs: a step whose tool nobody has could only fail.
    for (at, tool) in plan.tools().enumerate() {
        if let Some(problem) = rest::unlisted(inbound, tool) {
            let pointer = format!("/{at}/tool");
            return Err(problem.violations(&[(pointer.as_str(), "no such tool")]));
        }
    }
    Ok(plan)
}

fn step(report: &StepReport) -> Vec<u8> {
    let (end, reason) = match &report.end {
        StepEnd::Cancelled => ("cancelled", None),
        StepEnd::Done => ("done", None),
        StepEnd::Defaulted => ("defaulted", None),
        StepEnd::Failed { reason } => ("failed", Some(reason)),
        StepEnd::NotRun => ("not-run", None),
        StepEnd::Skipped { reason } => ("skipped", Some(reason)),
    };
    let mut step = ObjectWriter::new();
    step.string("id", &report.id).string("end", end);
    if let Some(reason) = reason {
        step.string("reason", reason);
    }
    let mut calls = vec![b'['];
    for call in &report.calls {
        if calls.len() > 1 {
            calls.push(b',');
        }
        let mut item = ObjectWriter::new();
        match call {
            Ok(outcome) if outcome.kind == OutcomeKind::Complete => {
                item.raw("result", render::value(&outcome.result).get());
            }
            Ok(outcome) => {
                item.raw("problem", render::failure(outcome).to_json().get());
            }
            Err(error) => {
                log_call_error(error, &report.id);
                item.raw("problem", Problem::of_call(error).to_json().get());
            }
        }
        calls.extend(item.finish());
    }
    calls.push(b']');
    step.raw("calls", std::str::from_utf8(&calls).expect("joined from UTF-8"));
    step.finish()
}
