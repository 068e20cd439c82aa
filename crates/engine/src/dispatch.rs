//! The walk of one call. Read this page first.
//!
//! 1. The tool's name leads to its upstream: one look into the catalogue that stands now ([`Tenant::view`]).
//! 2. Arguments are checked, if the face asks for it.
//! 3. The rest is the same for every request ([`Errand::run`](crate::attempt::Errand::run)): is the upstream known to be
//!    down (`breaker`)? Is there a place (`limit`)? Send; on failure, may it be sent again (`retry`)?
//! 4. What came back is labelled and handed on; its bytes are not touched.
//!
//! Dropping the future undoes everything that is still open: the exchange is cancelled, permits and places are free.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::{Instant, timeout_at};

use crate::attempt::{Errand, shutting_down};
use crate::catalog::build::Way;
use crate::handle::Handle;
use crate::outcome;
use crate::retry::Repeatability;
use crate::reuse::CallKey;
use crate::tenant::{Tenant, View};
use crate::upstream::UpstreamRequest;
use crate::{
    CallError, CallErrorKind, CatalogueTool, Executed, Relay, RelayReply, ToolCall, ToolOutcome,
    UpstreamState, Violation,
};

impl Tenant {
    /// Calls one tool.
    pub(crate) async fn call(&self, mut call: ToolCall) -> Result<ToolOutcome, CallError> {
        let accepted = Instant::now();
        let _under_way = self.accept()?;
        let name = std::mem::take(&mut call.tool);
        let view = self.view_with(&name, call.deadline).await;
        let route = Route::find(&view, &name)?;
        let _gauge = InFlight::new(route.handle);
        let outcome = self.dispatch(&view, &route, call, accepted).await;
        let label = match &outcome {
            Ok(outcome) => outcome::label(&outcome.kind),
            Err(error) => error.kind.as_str(),
        };
        route.handle.meters.called(label, accepted.elapsed());
        outcome
    }

    async fn dispatch(
        &self,
        view: &View,
        route: &Route<'_>,
        call: ToolCall,
        accepted: Instant,
    ) -> Result<ToolOutcome, CallError> {
        let handle = route.handle;
        if call.check_arguments {
            route.check(&call.arguments)?;
        }
        let repeatability = route.repeatability();
        let deadline = call.deadline.unwrap_or(accepted + handle.config.timeout);
        let reuse = handle.reuse.as_ref().filter(|_| repeatability == Repeatability::ReadOnly);
        let reuse = reuse.and_then(|reuse| {
            Some((reuse, CallKey::of(route.original_name, &call.arguments, &call.context)?))
        });
        let errand = Errand {
            tenant: self,
            gate: &view.roster.gate,
            handle,
            repeatability,
            request: UpstreamRequest {
                method: "tools/call".into(),
                params: Some(call_params(route.original_name, &call.arguments)),
                mirrored: route.mirrored(&call.arguments)?,
                context: call.context,
                deadline,
            },
        };
        let answer = match reuse {
            Some((reuse, key)) => reuse.answer(key, deadline, errand.run()).await?,
            None => errand.run().await?,
        };
        let kind = outcome::kind_of(&answer.result).map_err(|malformed| {
            let mut error =
                CallError::new(CallErrorKind::UpstreamProtocol, malformed.message).at(&handle.config.key);
            error.executed = Executed::Unknown;
            error.attempts = answer.attempts.clone();
            error
        })?;
        Ok(ToolOutcome {
            result: answer.result,
            kind,
            upstream: handle.config.key.clone(),
            protocol: answer.protocol,
            attempts: answer.attempts,
            elapsed: accepted.elapsed(),
        })
    }

    /// Relays any other request.
    pub(crate) async fn relay(&self, relay: Relay) -> Result<RelayReply, CallError> {
        let accepted = Instant::now();
        let _under_way = self.accept()?;
        let view = self.view();
        let is_meant = |handle: &&Arc<Handle>| handle.config.key == relay.upstream;
        let handle = view.roster.upstreams.iter().find(is_meant).ok_or_else(|| {
            CallError::new(CallErrorKind::UnknownUpstream, format!("no upstream '{}'", relay.upstream))
        })?;
        let _gauge = InFlight::new(handle);
        let errand = Errand {
            tenant: self,
            gate: &view.roster.gate,
            handle,
            repeatability: repeatability_of(&relay.method),
            request: UpstreamRequest {
                method: relay.method.into(),
                params: relay.params,
                mirrored: Vec::new(),
                context: relay.context,
                deadline: relay.deadline.unwrap_or(accepted + handle.config.timeout),
            },
        };
        let answer = errand.run().await?;
        Ok(RelayReply { result: answer.result, protocol: answer.protocol, attempts: answer.attempts })
    }

    /// Counts the call until the token is dropped, unless the endpoint is closing.
    fn accept(&self) -> Result<tokio_util::task::task_tracker::TaskTrackerToken, CallError> {
        // Counted first: whoever closes after this look waits for us.
        let token = self.calls.token();
        if self.calls.is_closed() { Err(shutting_down()) } else { Ok(token) }
    }

    /// The view to look `tool` up in. A tool that is not there while a discovery is still out is waited for: right after
    /// the start "unknown" would be a guess.
    async fn view_with(&self, tool: &str, deadline: Option<Instant>) -> Arc<View> {
        let view = self.view();
        if view.tool(tool).is_some() || self.is_settled() {
            return view;
        }
        let longest = view.roster.upstreams.iter().map(|upstream| upstream.config.timeout).max();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + longest.unwrap_or_default());
        let mut published = self.watch_published();
        // At the deadline the lookup decides with what is known by then.
        let _ = timeout_at(deadline, async {
            loop {
                if self.view().tool(tool).is_some() || self.is_settled() || self.stop.is_cancelled() {
                    return;
                }
                if published.changed().await.is_err() {
                    return;
                }
            }
        })
        .await;
        self.view()
    }
}

// === Route ===

/// Where a tool is.
struct Route<'a> {
    handle: &'a Arc<Handle>,
    /// `None`: unlisted, forwarded to the only upstream by the name it was asked for.
    tool: Option<(&'a CatalogueTool, &'a Way)>,
    original_name: &'a str,
}

impl<'a> Route<'a> {
    fn find(view: &'a View, name: &'a str) -> Result<Self, CallError> {
        if let Some((tool, way)) = view.tool(name) {
            let handle = view.owner(way);
            return Ok(Self { handle, tool: Some((tool, way)), original_name: &tool.original_name });
        }
        match view.roster.transparent() {
            Some(handle) if handle.may_forward(name) => Ok(Self { handle, tool: None, original_name: name }),
            _ => Err(unknown_tool(view, name)),
        }
    }

    fn check(&self, arguments: &RawValue) -> Result<(), CallError> {
        let violations = if !arguments.get().starts_with('{') {
            vec![Violation { pointer: String::new(), message: "arguments must be a JSON object".to_owned() }]
        } else {
            let checker = self.tool.and_then(|(tool, _)| tool.checker.as_deref());
            checker.map(|checker| checker.check(arguments)).unwrap_or_default()
        };
        let Some(first) = violations.first() else { return Ok(()) };
        let more = match violations.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        let message = format!(
            "the arguments of '{}' break its input schema at '{}': {}{more}",
            self.original_name, first.pointer, first.message
        );
        let mut error = CallError::new(CallErrorKind::InvalidArguments, message).at(&self.handle.config.key);
        error.violations = violations;
        Err(error)
    }

    fn repeatability(&self) -> Repeatability {
        match self.tool {
            Some((tool, _)) => self.handle.repeatability(tool),
            None if self.handle.is_repeatable(self.original_name) => Repeatability::Operator,
            None => Repeatability::Once,
        }
    }

    /// The values that the tool's `x-mcp-header` annotations want in headers.
    fn mirrored(&self, arguments: &RawValue) -> Result<Vec<(String, String)>, CallError> {
        let Some((_, way)) = self.tool.filter(|(_, way)| !way.mirrored.is_empty()) else {
            return Ok(Vec::new());
        };
        way.mirrored.mirror(arguments).map_err(|error| {
            CallError::new(CallErrorKind::InvalidArguments, error.message).at(&self.handle.config.key)
        })
    }
}

/// Names the upstreams whose tools are not known, because the one asked for may be among them.
fn unknown_tool(view: &View, name: &str) -> CallError {
    let is_down =
        |state: &UpstreamState| matches!(state, UpstreamState::Down { .. } | UpstreamState::Discovering);
    let statuses = view.snapshot.catalogue.upstreams().iter();
    let down: Vec<_> =
        statuses.filter(|status| is_down(&status.state)).map(|status| format!("'{}'", status.key)).collect();
    let message = match down.as_slice() {
        [] => format!("no tool '{name}'"),
        down => {
            format!("no tool '{name}' among the servers that answer; not reached so far: {}", down.join(", "))
        }
    };
    CallError::new(CallErrorKind::UnknownTool, message)
}

#[derive(Serialize)]
struct CallParams<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

fn call_params(name: &str, arguments: &RawValue) -> Box<RawValue> {
    to_raw_value(&CallParams { name, arguments }).expect("a string and raw JSON are JSON")
}

/// Methods that only read may run twice (MCP 2026-07-28, server/resources, server/prompts, server/utilities).
fn repeatability_of(method: &str) -> Repeatability {
    match method {
        "completion/complete"
        | "ping"
        | "prompts/get"
        | "prompts/list"
        | "resources/list"
        | "resources/read"
        | "resources/templates/list"
        | "server/discover"
        | "tasks/get"
        | "tools/list" => Repeatability::ReadOnly,
        _ => Repeatability::Once,
    }
}

/// Keeps the gauge of calls under way, however they end.
struct InFlight<'a>(&'a Handle);

impl<'a> InFlight<'a> {
    fn new(handle: &'a Handle) -> Self {
        handle.meters.in_flight.increment(1.0);
        Self(handle)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.meters.in_flight.decrement(1.0);
    }
}
