//! What a call hears while it is under way, whatever carries it.

use std::sync::Arc;

use mpe_mcp_protocol::capability::may_ask;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id, Notification, code};
use mpe_mcp_protocol::object::{Object, string_of};
use mpe_mcp_protocol::params::Progress;
use serde_json::value::RawValue;
use tracing::debug;

use crate::{CallContext, CallEvents};

/// The severities of RFC 5424, as MCP names them, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogLevel(u8);

const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

impl LogLevel {
    pub(super) fn parse(name: &str) -> Option<Self> {
        LEVELS.iter().position(|level| *level == name).map(|at| Self(u8::try_from(at).expect("eight levels")))
    }

    pub(super) fn as_str(self) -> &'static str {
        LEVELS[usize::from(self.0)]
    }
}

/// Passes on what belongs to one call, and nothing else.
pub(super) struct Listener {
    context: Arc<CallContext>,
    id: Id,
    token: Option<Id>,
    last_progress: Option<f64>,
    level: Option<LogLevel>,
}

impl Listener {
    /// For the request of that id, which is its progress token, too, where the caller wants progress.
    pub(super) fn new(context: &Arc<CallContext>, id: &Id) -> Self {
        let wants_progress = context.wants_progress && context.events.is_some();
        Self {
            token: wants_progress.then(|| id.clone()),
            id: id.clone(),
            last_progress: None,
            level: context.log_level.as_deref().and_then(LogLevel::parse),
            context: Arc::clone(context),
        }
    }

    /// The request's id.
    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    /// The token to ask for progress with.
    pub(super) fn token(&self) -> Option<&Id> {
        self.token.as_ref()
    }

    /// The level at which the caller wants log messages.
    pub(super) fn level(&self) -> Option<LogLevel> {
        self.level
    }

    /// Passes a notification on if the caller wants it and it is well formed.
    pub(super) fn hear(&mut self, method: &str, params: Option<&RawValue>) {
        let Some(events) = self.context.events.clone() else { return };
        let params = match method {
            "notifications/progress" => self.progress(params),
            "notifications/message" => self.message(params),
            _ => None,
        };
        match params {
            Some(params) => events.notify(Notification { method: method.to_owned(), params: Some(params) }),
            None => debug!(method, "notification not passed on"),
        }
    }

    /// Progress of this call that goes forward; a peer that breaks either rule would make us break it downstream.
    fn progress(&mut self, params: Option<&RawValue>) -> Option<Box<RawValue>> {
        let progress = Progress::parse(params)?;
        if Some(&progress.token) != self.token.as_ref() {
            return None;
        }
        if self.last_progress.is_some_and(|last| progress.progress <= last) {
            return None;
        }
        self.last_progress = Some(progress.progress);
        Some(progress.without_token())
    }

    fn message(&self, params: Option<&RawValue>) -> Option<Box<RawValue>> {
        let wanted = self.level?;
        let level = Object::parse(params?).ok()?.get("level").and_then(string_of)?;
        (LogLevel::parse(&level)? >= wanted).then(|| params.map(ToOwned::to_owned)).flatten()
    }

    /// Who answers a request of the server, if the caller declared that it can.
    ///
    /// # Errors
    /// What to tell the server instead.
    pub(super) fn answerer(
        &self,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<Arc<dyn CallEvents>, ErrorObject> {
        let may_ask = may_ask(self.context.capabilities.as_deref(), method, params);
        match (&self.context.events, may_ask) {
            (Some(events), Ok(())) => Ok(Arc::clone(events)),
            (Some(_), Err(why)) => {
                debug!(method, why, "the server is refused a question");
                Err(no_such_method(method))
            }
            (None, _) => Err(no_such_method(method)),
        }
    }
}

/// What a server is told that asks for something nobody declared, or at a moment when nobody is there to ask.
pub(super) fn no_such_method(method: &str) -> ErrorObject {
    ErrorObject::new(code::METHOD_NOT_FOUND, format!("the client has no method {method:?}"))
}
