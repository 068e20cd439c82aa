//! Plans: named calls that use each other's results.
//!
//! A plan is a JSON list of steps:
//!
//! ```json
//! [
//!   { "id": "user", "tool": "get_user", "arguments": { "user_id": "7" } },
//!   { "id": "orders", "tool": "get_orders", "arguments": { "user_id": { "$from": "user#/id" } } },
//!   { "id": "lines", "tool": "get_order", "map": { "$from": "orders#/orders" },
//!     "arguments": { "order": { "$item": "/id" } }, "on_error": "skip" }
//! ]
//! ```
//!
//! * `{"$from": "STEP#POINTER"}` stands for a part of another step's value, by JSON Pointer (RFC 6901); `STEP` alone for
//!   all of it. The value of a step is its `structuredContent`; without one its only text block, read as JSON if it is
//!   JSON; else its `content`.
//! * `map` calls the tool once for each element of an array, and `{"$item": "POINTER"}` stands for a part of the element.
//!   The value of such a step is the array of the calls' values.
//! * `{"$literal": X}` is `X`, whatever it looks like.
//! * `on_error` says what a failed call means: `"fail"` (the default) ends the plan, `"skip"` leaves out the step and
//!   whatever needs it, or only the element of a `map`; `{"default": X}` goes on with the value `X`.
//!
//! Steps whose references are there run at once. A plan that cannot work is refused before anything runs. Arguments are
//! put together from the bytes of the plan and of the results: numbers and key order stay as they were written.

mod pointer;
mod run;
mod template;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use mpe_mcp_protocol::object::{Object, array_of, string_of};
use mpe_mcp_protocol::pointer::escape;
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::template::Template;
use crate::{CallContext, CallError, EndpointId, ToolOutcome};

/// Steps of a plan, at most.
pub const MAX_STEPS: usize = 1000;

/// A plan that can be run: every reference leads to a step, and none leads back to itself.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Vec<Step>,
}

/// Why a plan cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// JSON Pointer into the plan.
    pub pointer: String,
    /// What is wrong there and what was expected.
    pub message: String,
}

/// A plan to be run.
#[derive(Clone, Debug)]
pub struct PlanCall {
    /// The tenant.
    pub endpoint: EndpointId,
    /// What to do.
    pub plan: Plan,
    /// When the caller stops waiting, for all steps together. `None`: each call has its upstream's timeout.
    pub deadline: Option<Instant>,
    /// As in [`ToolCall::check_arguments`](crate::ToolCall::check_arguments), for every call.
    pub check_arguments: bool,
    /// What the caller declared and wants to hear, for every call.
    pub context: Arc<CallContext>,
}

/// What became of one step.
#[derive(Debug)]
pub struct StepReport {
    /// The step.
    pub id: String,
    /// How it ended.
    pub end: StepEnd,
    /// What it called and what came of it: one entry, or one for each element of a `map`, in order.
    pub calls: Vec<Result<ToolOutcome, CallError>>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// It was under way when the plan failed, and was cancelled. What it called may have run.
    Cancelled,
    /// Every call brought a value.
    Done,
    /// A call failed, and the step goes on with its default.
    Defaulted,
    /// It failed, and with it the plan.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was not run, because the plan had failed.
    NotRun,
    /// It failed or needs a step that was skipped, and was left out.
    Skipped {
        /// Why.
        reason: String,
    },
}

#[derive(Clone, Debug)]
struct Step {
    id: String,
    tool: String,
    arguments: Template,
    /// The array to call the tool for.
    map: Option<Template>,
    on_error: OnError,
    /// Steps it refers to, sorted.
    needs: Vec<usize>,
}

#[derive(Clone, Debug)]
enum OnError {
    Default(Box<RawValue>),
    Fail,
    Skip,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// The first thing that cannot work, and where it stands: no list, unknown members, a repeated id, a reference to a
    /// step that does not exist, a circle of references, `$item` outside a `map`, too many steps.
    pub fn parse(json: &str) -> Result<Self, PlanError> {
        let raw: &RawValue = serde_json::from_str(json)
            .map_err(|error| PlanError::new("", format!("the plan is not JSON: {error}")))?;
        let listed = array_of(raw).ok_or_else(|| PlanError::new("", "a plan is a list of steps"))?;
        if listed.len() > MAX_STEPS {
            return Err(PlanError::new(
                "",
                format!("{} steps; at most {MAX_STEPS} are allowed", listed.len()),
            ));
        }
        let ids = ids(&listed)?;
        let steps: Vec<Step> =
            listed.iter().enumerate().map(|(n, raw)| Step::parse(n, raw, &ids)).collect::<Result<_, _>>()?;
        refuse_circles(&steps)?;
        Ok(Self { steps })
    }

    /// The tool of each step, in order.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.tool.as_str())
    }

    /// How many steps it has.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it has no steps.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The ids of the steps, in order.
fn ids(listed: &[&RawValue]) -> Result<HashMap<String, usize>, PlanError> {
    let mut ids = HashMap::with_capacity(listed.len());
    for (n, raw) in listed.iter().enumerate() {
        let at = |member: &str| format!("/{n}{member}");
        let object = Object::parse(raw).map_err(|error| PlanError::new(at(""), error.message))?;
        let id = object.get("id").and_then(string_of).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| PlanError::new(at("/id"), "every step needs an id, a string"))?;
        if id.contains('#') {
            return Err(PlanError::new(at("/id"), "an id cannot contain '#', which begins a pointer"));
        }
        if let Some(first) = ids.insert(id.clone().into_owned(), n) {
            return Err(PlanError::new(at("/id"), format!("step {first} has the id '{id}' already")));
        }
    }
    Ok(ids)
}

impl Step {
    fn parse(n: usize, raw: &RawValue, ids: &HashMap<String, usize>) -> Result<Self, PlanError> {
        let object = Object::parse(raw).map_err(|error| PlanError::new(format!("/{n}"), error.message))?;
        for (member, _) in object.iter() {
            if !["id", "tool", "arguments", "map", "on_error"].contains(&member) {
                let message =
                    format!("no such member; expected id, tool, arguments, map or on_error, not '{member}'");
                return Err(PlanError::new(format!("/{n}/{}", escape(member)), message));
            }
        }
        let id = object.get("id").and_then(string_of).expect("ids were read before").into_owned();
        let tool = object.get("tool").and_then(string_of);
        let tool =
            tool.ok_or_else(|| PlanError::new(format!("/{n}/tool"), "every step needs a tool, a string"))?;
        let mut reader = template::Reader::new(ids, format!("/{n}/map"), false);
        let map = object.get("map").map(|raw| reader.read(raw)).transpose()?;
        reader.enter(format!("/{n}/arguments"), map.is_some());
        let arguments = match object.get("arguments") {
            Some(raw) => reader.read(raw)?,
            None => Template::empty_object(),
        };
        let on_error = match object.get("on_error") {
            None => OnError::Fail,
            Some(raw) => OnError::parse(raw).ok_or_else(|| {
                PlanError::new(format!("/{n}/on_error"), r#"expected "fail", "skip" or {"default": value}"#)
            })?,
        };
        Ok(Self { id, tool: tool.into_owned(), arguments, map, on_error, needs: reader.into_needs() })
    }
}

impl OnError {
    fn parse(raw: &RawValue) -> Option<Self> {
        match string_of(raw).as_deref() {
            Some("fail") => return Some(Self::Fail),
            Some("skip") => return Some(Self::Skip),
            Some(_) => return None,
            None => {}
        }
        let object = Object::parse(raw).ok().filter(|object| object.len() == 1)?;
        object.get("default").map(|value| Self::Default(value.to_owned()))
    }
}

/// Takes away steps that need nothing any more until none is left; whatever is left then needs itself.
fn refuse_circles(steps: &[Step]) -> Result<(), PlanError> {
    let mut is_placed = vec![false; steps.len()];
    loop {
        let is_ready = |n: usize| steps[n].needs.iter().all(|&needed| is_placed[needed]);
        let ready: Vec<_> = (0..steps.len()).filter(|&n| !is_placed[n] && is_ready(n)).collect();
        if ready.is_empty() {
            break;
        }
        for n in ready {
            is_placed[n] = true;
        }
    }
    let circle: Vec<_> =
        steps.iter().zip(&is_placed).filter(|(_, placed)| !**placed).map(|(s, _)| &*s.id).collect();
    match is_placed.iter().position(|placed| !placed) {
        None => Ok(()),
        Some(first) => {
            let message = format!("these steps wait for each other: {}", circle.join(", "));
            Err(PlanError::new(format!("/{first}"), message))
        }
    }
}

impl PlanError {
    fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the plan cannot work at '{}': {}", self.pointer, self.message)
    }
}

impl std::error::Error for PlanError {}

#[cfg(test)]
mod tests;
