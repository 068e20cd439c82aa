//! The walk of one call. Read this page first.
//!
//! 1. The tool's name leads to its upstream: one look into the catalogue that stands now ([`Tenant::view`]).
//! 2. Arguments are checked, if the face asks for it.
//! 3. The rest is the same for every request ([`Errand::run`](crate::attempt::Errand::run)): is the upstream known to be
//!    down (`breaker`)? Is there a place (`limit`)? Send; on failure, may it be sent again (`retry`)?
//!    The request goes out in its caller's era where the upstream speaks it and lists the tool in it (`eras`).
//! 4. What came back is labelled and handed on; its bytes are not touched.
//!
//! Dropping the future undoes everything that is still open: the exchange is cancelled, permits and places are free.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mpe_mcp_protocol::jsonrpc::code;
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::result::CallToolResult;
use mpe_mcp_protocol::version::Era;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::{Instant, timeout_at};

use crate::attempt::{Answer, Errand, shutting_down};
use crate::catalog::build::Way;
use crate::eras::Kind;
use crate::handle::Handle;
use crate::outcome;
use crate::outputs;
use crate::retry::Repeatability;
use crate::reuse::CallKey;
use crate::tenant::{Tenant, View};
use crate::upstream::UpstreamRequest;
use crate::{
    CallContext, CallError, CallErrorKind, CatalogueTool, Executed, OutcomeKind, Relay, RelayReply, ToolCall,
    ToolOutcome, UpstreamState, Violation, Wish,
};

impl Tenant {
    /// Calls one tool.
    pub(crate) async fn call(&self, call: &ToolCall) -> Result<ToolOutcome, CallError> {
        let accepted = Instant::now();
        let _under_way = self.accept()?;
        let view = self.view_for(call).await;
        let route = Route::find(&view, &call.tool)?;
        let _gauge = InFlight::new(route.handle);
        let mut outcome = self.dispatch(&view, &route, call, accepted).await;
        if outcome.as_ref().is_err_and(is_about_our_headers) {
            outcome = Box::pin(self.dispatch_anew(route.handle, call, accepted, outcome)).await;
        }
        let (label, elapsed) = match &outcome {
            Ok(outcome) => (outcome::label(&outcome.kind), outcome.elapsed),
            Err(error) => (error.kind.as_str(), accepted.elapsed()),
        };
        route.handle.meters.called(label, elapsed);
        outcome
    }

    async fn dispatch(
        &self,
        view: &View,
        route: &Route<'_>,
        call: &ToolCall,
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
            tool_gate: handle.tool_gate(route.original_name),
            handle,
            subject: route.original_name,
            repeatability,
            request: UpstreamRequest {
                method: "tools/call".into(),
                params: Some(call_params(route.original_name, &call.arguments)),
                name: route.tool.map(|(tool, _)| Arc::clone(&tool.original_name)),
                mirrored: route.mirrored(&call.arguments)?,
                context: in_era(&call.context, route.tool.and_then(|(_, way)| way.only_in)),
                deadline,
            },
        };
        let answer = match reuse {
            // Boxed: the common way stays small.
            Some((reuse, key)) => Box::pin(reuse.answer(key, deadline, errand.run())).await?,
            None => errand.run().await?,
        };
        let head = CallToolResult::peek(&answer.result).map_err(|malformed| {
            let mut error =
                CallError::new(CallErrorKind::UpstreamProtocol, malformed.message).at(&handle.config.key);
            error.executed = Executed::Unknown;
            error.attempts = answer.attempts.clone();
            error
        })?;
        let (kind, names_its_type, has_meta) = (outcome::kind_of(&head), head.names_its_type, head.has_meta);
        let violations = match route.tool {
            Some((tool, _)) if kind == OutcomeKind::Complete => outputs::look(handle, tool, &answer.result),
            _ => Vec::new(),
        };
        Ok(ToolOutcome {
            result: answer.result,
            kind,
            names_its_type,
            has_meta,
            violations,
            upstream: handle.config.key.clone(),
            protocol: answer.protocol,
            address: answer.address,
            attempts: answer.attempts,
            elapsed: accepted.elapsed(),
        })
    }

    /// The server says that our headers and the body disagree, so the tool's annotations have changed since it was listed:
    /// list anew, build the headers anew, send once more (2026-07-28, Streamable HTTP, "Custom headers").
    async fn dispatch_anew(
        &self,
        handle: &Arc<Handle>,
        call: &ToolCall,
        accepted: Instant,
        refused: Result<ToolOutcome, CallError>,
    ) -> Result<ToolOutcome, CallError> {
        let deadline = call.deadline.unwrap_or(accepted + handle.config.timeout);
        let listing = async {
            handle.discovered_anew().await;
            self.is_published().await;
        };
        if timeout_at(deadline, listing).await.is_err() {
            return refused;
        }
        let view = self.view();
        let Ok(route) = Route::find(&view, &call.tool) else { return refused };
        let mut outcome = self.dispatch(&view, &route, call, accepted).await;
        let before = refused.err().map(|error| error.attempts).unwrap_or_default();
        match &mut outcome {
            Ok(outcome) => outcome.attempts.splice(0..0, before),
            Err(error) => error.attempts.splice(0..0, before),
        };
        outcome
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
        let era = relay.context.era;
        if handle.meet(era) {
            self.looked_into(std::slice::from_ref(handle), relay.deadline).await;
        }
        let only_in = relayed_name(&relay).and_then(|(kind, name)| handle.only_in(kind, &name));
        let errand = Errand {
            tenant: self,
            gate: &view.roster.gate,
            tool_gate: None,
            handle,
            subject: &relay.method,
            repeatability: repeatability_of(&relay.method),
            request: UpstreamRequest {
                method: relay.method.clone().into(),
                params: relay.params,
                name: None,
                mirrored: Vec::new(),
                context: in_era(&relay.context, only_in),
                deadline: relay.deadline.unwrap_or(accepted + handle.config.timeout),
            },
        };
        let answer = errand.run().await?;
        let Answer { result, protocol, address, attempts } = answer;
        Ok(RelayReply { result, protocol, address, attempts })
    }

    /// Counts the call until the token is dropped, unless the endpoint is closing.
    fn accept(&self) -> Result<tokio_util::task::task_tracker::TaskTrackerToken, CallError> {
        // Counted first: whoever closes after this look waits for us.
        let token = self.calls.token();
        if self.calls.is_closed() { Err(shutting_down()) } else { Ok(token) }
    }

    /// The view to look the call's tool up in.
    async fn view_for(&self, call: &ToolCall) -> Arc<View> {
        let view = self.view_with(&call.tool, call.deadline).await;
        let view = self.view_declared_by(call, view).await;
        let era = call.context.era;
        if era != Some(Era::Legacy) {
            return view;
        }
        let unknown: Vec<_> = match Route::find(&view, &call.tool) {
            Ok(route) if route.handle.meet(era) => vec![Arc::clone(route.handle)],
            Ok(_) => return view,
            // It may be listed in the caller's era alone, by a server that nobody has asked for that yet.
            Err(_) => view.roster.upstreams.iter().filter(|handle| handle.meet(era)).cloned().collect(),
        };
        if unknown.is_empty() {
            return view;
        }
        self.looked_into(&unknown, call.deadline).await;
        self.view_declared_by(call, self.view()).await
    }

    /// `view` as the caller sees it.
    async fn view_declared_by(&self, call: &ToolCall, view: Arc<View>) -> Arc<View> {
        match call.context.capabilities.as_deref() {
            Some(capabilities) if view.may_vary => {
                let wish = Wish::Tool(&call.tool);
                // Rarely needed, and large.
                Box::pin(self.view_declaring(view, Some(capabilities), wish, call.deadline)).await
            }
            _ => view,
        }
    }

    /// Waits, for a moment at most, until it is known what upstreams offer to a caller of another era than they were
    /// found in.
    async fn looked_into(&self, handles: &[Arc<Handle>], deadline: Option<Instant>) {
        let patience = Instant::now() + LOOK;
        let deadline = deadline.map_or(patience, |deadline| deadline.min(patience));
        // Without knowing, the call is made all the same.
        let _ = timeout_at(deadline, async {
            join_all(handles.iter().map(|handle| handle.discovered_anew())).await;
            self.is_published().await;
        })
        .await;
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

/// The caller's context, for an upstream that knows what is asked for in one era only.
fn in_era(context: &Arc<CallContext>, only_in: Option<Era>) -> Arc<CallContext> {
    match only_in {
        Some(era) if context.era != Some(era) => {
            Arc::new(CallContext { era: Some(era), ..CallContext::clone(context) })
        }
        _ => Arc::clone(context),
    }
}

/// What a relayed request asks for by name.
fn relayed_name(relay: &Relay) -> Option<(Kind, String)> {
    let (kind, member) = match relay.method.as_str() {
        "prompts/get" => (Kind::Prompt, "name"),
        "resources/read" => (Kind::Resource, "uri"),
        _ => return None,
    };
    let params = Object::parse(relay.params.as_deref()?).ok()?;
    Some((kind, params.string(member).ok()??.into_owned()))
}

/// The server, which ran nothing, found that our headers say something else than our body.
fn is_about_our_headers(error: &CallError) -> bool {
    error.rejection.as_ref().is_some_and(|rejection| rejection.code == code::HEADER_MISMATCH)
}

/// How long a call waits until it is known what its upstream offers in the caller's era. Once per upstream.
const LOOK: Duration = Duration::from_secs(3);

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
