//! Runs a plan: whatever is ready, at once.

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use mpe_mcp_protocol::object::{Object, array_of, string_of};
use mpe_mcp_protocol::result::CallToolResult;
use serde_json::value::RawValue;

use super::template::Bindings;
use super::{OnError, PlanCall, Step, StepEnd, StepReport};
use crate::{CallError, CallErrorKind, Engine, OutcomeKind, ToolCall, ToolOutcome};

/// Bytes of the arguments of all calls of one `map`: they exist at the same time.
const MAX_MAPPED: usize = 64 << 20;

type Ended = Result<ToolOutcome, CallError>;

/// A plan under way.
struct Run<'a> {
    engine: &'a Engine,
    call: &'a PlanCall,
    /// The value of each step that has one.
    values: Vec<Option<Box<RawValue>>>,
    reports: Vec<Option<StepReport>>,
    is_started: Vec<bool>,
    has_failed: bool,
}

impl Engine {
    /// Runs a plan. One report for each step, in the order of the plan.
    ///
    /// # Cancel safety
    /// Dropping the future cancels every call that is still under way.
    pub async fn call_plan(&self, call: PlanCall) -> Vec<StepReport> {
        let n_steps = call.plan.steps.len();
        let mut run = Run {
            engine: self,
            call: &call,
            values: vec![None; n_steps],
            reports: (0..n_steps).map(|_| None).collect(),
            is_started: vec![false; n_steps],
            has_failed: false,
        };
        run.finish().await;
        let Run { reports, is_started, .. } = run;
        let unended = |((step, report), is_started): ((&Step, Option<StepReport>), bool)| {
            report.unwrap_or_else(|| StepReport {
                id: step.id.clone(),
                end: if is_started { StepEnd::Cancelled } else { StepEnd::NotRun },
                calls: Vec::new(),
            })
        };
        call.plan.steps.iter().zip(reports).zip(is_started).map(unended).collect()
    }
}

impl<'a> Run<'a> {
    async fn finish(&mut self) {
        let limits = self.engine.limits(&self.call.endpoint);
        let at_once = if limits.is_none_or(|limits| limits.concurrent) { usize::MAX } else { 1 };
        let mut running: FuturesUnordered<BoxFuture<'a, (usize, Vec<Ended>)>> = FuturesUnordered::new();
        loop {
            while running.len() < at_once && !self.has_failed {
                let Some(next) = self.next_ready() else { break };
                self.is_started[next] = true;
                match self.prepare(next) {
                    Ok(calls) => running.push(self.start(next, calls)),
                    Err(reason) => self.end_without_call(next, reason),
                }
            }
            // A failed plan drops what is still under way: it is cancelled.
            if self.has_failed {
                return;
            }
            match running.next().await {
                Some((n, calls)) => self.end(n, calls),
                None => return,
            }
        }
    }

    /// The first step in the order of the plan that has what it needs. Steps that need a skipped one are skipped here.
    fn next_ready(&mut self) -> Option<usize> {
        let call = self.call;
        for (n, step) in call.plan.steps.iter().enumerate() {
            if self.is_started[n] || self.reports[n].is_some() {
                continue;
            }
            if let Some(&missing) = step.needs.iter().find(|&&needed| self.is_skipped(needed)) {
                let reason = format!("it needs '{}', which was skipped", call.plan.steps[missing].id);
                self.report(n, StepEnd::Skipped { reason }, Vec::new());
                // Steps further up may need this one.
                return self.next_ready();
            }
            if step.needs.iter().all(|&needed| self.values[needed].is_some()) {
                return Some(n);
            }
        }
        None
    }

    fn is_skipped(&self, n: usize) -> bool {
        matches!(&self.reports[n], Some(StepReport { end: StepEnd::Skipped { .. }, .. }))
    }

    /// The calls of a step.
    fn prepare(&self, n: usize) -> Result<Vec<ToolCall>, String> {
        let step = &self.call.plan.steps[n];
        let Some(map) = &step.map else {
            return Ok(vec![self.tool_call(step, None)?]);
        };
        let mapped = map.fill(&Bindings { values: &self.values, item: None })?;
        let items = array_of(&mapped).ok_or("what 'map' refers to is not an array")?;
        let n_allowed = self.engine.limits(&self.call.endpoint).map_or(usize::MAX, |limits| limits.max_batch);
        if items.len() > n_allowed {
            return Err(format!(
                "what 'map' refers to has {} elements; at most {n_allowed} are allowed",
                items.len()
            ));
        }
        let mut n_bytes = 0;
        let mut calls = Vec::with_capacity(items.len());
        for item in items {
            let call = self.tool_call(step, Some(item))?;
            n_bytes += call.arguments.get().len();
            if n_bytes > MAX_MAPPED {
                return Err(format!("the arguments of all elements together grow beyond {MAX_MAPPED} bytes"));
            }
            calls.push(call);
        }
        Ok(calls)
    }

    fn tool_call(&self, step: &Step, item: Option<&RawValue>) -> Result<ToolCall, String> {
        Ok(ToolCall {
            endpoint: self.call.endpoint.clone(),
            tool: step.tool.clone(),
            arguments: step.arguments.fill(&Bindings { values: &self.values, item })?,
            deadline: self.call.deadline,
            check_arguments: self.call.check_arguments,
            context: self.call.context.clone(),
        })
    }

    fn start(&self, n: usize, calls: Vec<ToolCall>) -> BoxFuture<'a, (usize, Vec<Ended>)> {
        let engine = self.engine;
        async move { (n, engine.call_many(calls).await) }.boxed()
    }

    /// A step that came to nothing before it could call anything.
    fn end_without_call(&mut self, n: usize, reason: String) {
        let step = &self.call.plan.steps[n];
        let error = CallError::new(CallErrorKind::InvalidArguments, format!("step '{}': {reason}", step.id));
        match (&step.on_error, &step.map) {
            (OnError::Default(value), _) => {
                self.values[n] = Some(value.clone());
                self.report(n, StepEnd::Defaulted, vec![Err(error)]);
            }
            (OnError::Fail, _) => self.fail(n, reason, vec![Err(error)]),
            (OnError::Skip, _) => self.report(n, StepEnd::Skipped { reason }, vec![Err(error)]),
        }
    }

    fn end(&mut self, n: usize, calls: Vec<Ended>) {
        let step = &self.call.plan.steps[n];
        let results: Vec<_> = calls.iter().map(value_of).collect();
        let failure = results.iter().find_map(|result| result.as_ref().err().cloned());
        let values: Vec<&str> = match (&step.on_error, &failure) {
            (OnError::Fail, Some(reason)) => return self.fail(n, reason.clone(), calls),
            (OnError::Skip, Some(reason)) if step.map.is_none() => {
                let reason = reason.clone();
                return self.report(n, StepEnd::Skipped { reason }, calls);
            }
            (OnError::Default(value), _) => results
                .iter()
                .map(|result| result.as_ref().map_or(value.get(), |value| value.get()))
                .collect(),
            _ => results.iter().flatten().map(|value| value.get()).collect(),
        };
        let text = if step.map.is_some() { format!("[{}]", values.join(",")) } else { values.concat() };
        self.values[n] = Some(RawValue::from_string(text).expect("JSON put together from JSON is JSON"));
        let is_defaulted = failure.is_some() && matches!(step.on_error, OnError::Default(_));
        self.report(n, if is_defaulted { StepEnd::Defaulted } else { StepEnd::Done }, calls);
    }

    fn fail(&mut self, n: usize, reason: String, calls: Vec<Ended>) {
        self.has_failed = true;
        self.report(n, StepEnd::Failed { reason }, calls);
    }

    fn report(&mut self, n: usize, end: StepEnd, calls: Vec<Ended>) {
        self.reports[n] = Some(StepReport { id: self.call.plan.steps[n].id.clone(), end, calls });
    }
}

/// What a call brought, or why it brought nothing that another step could use.
fn value_of(ended: &Ended) -> Result<Box<RawValue>, String> {
    let outcome = ended.as_ref().map_err(|error| error.message.clone())?;
    match &outcome.kind {
        OutcomeKind::Complete => value_in(&outcome.result),
        OutcomeKind::Failed => Err("the tool says that it failed".to_owned()),
        OutcomeKind::InputRequired => Err("the server asks for input, which a plan cannot give".to_owned()),
        OutcomeKind::Other(kind) => {
            Err(format!("the result is of the type '{kind}', which a plan cannot use"))
        }
    }
}

/// The one value a result stands for: `structuredContent`, else a lone text block (as JSON if it is JSON), else the content.
fn value_in(result: &RawValue) -> Result<Box<RawValue>, String> {
    let result = CallToolResult::peek(result).map_err(|error| error.message)?;
    if let Some(structured) = result.structured_content {
        return Ok(structured.to_owned());
    }
    let Some(content) = result.content else { return Ok(RawValue::NULL.to_owned()) };
    let lone_text = array_of(content).filter(|blocks| blocks.len() == 1).and_then(|blocks| {
        let block = Object::parse(blocks[0]).ok()?;
        let is_text = block.get("type").and_then(string_of).as_deref() == Some("text");
        if is_text { block.get("text") } else { None }
    });
    let Some(raw_text) = lone_text else { return Ok(content.to_owned()) };
    let text = string_of(raw_text).unwrap_or_default();
    Ok(RawValue::from_string(text.into_owned()).unwrap_or_else(|_| raw_text.to_owned()))
}
