//! Why an invocation has no reply: what Lambda shows as the function's error.

use std::fmt;

use lambda_runtime::Diagnostic;

/// What went wrong with an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvocationErrorKind {
    /// The gateway answered a direct payload with an error; `error_type` is the problem's own.
    Answered,
    /// The deadline passed before the reply was complete.
    Deadline,
    /// The event has a known shape and a value in it that cannot be used.
    InvalidEvent,
    /// The reply is larger than Lambda carries, or its body broke off.
    Reply,
    /// The event has no shape this function knows.
    UnknownEvent,
}

/// An invocation without a reply. Lambda reports it as `FunctionError` with `errorType` and `errorMessage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvocationError {
    kind: InvocationErrorKind,
    error_type: String,
    message: String,
}

impl InvocationError {
    pub(crate) fn new(kind: InvocationErrorKind, message: impl Into<String>) -> Self {
        let error_type = match kind {
            InvocationErrorKind::Answered => "McpProxyEngine.Answered",
            InvocationErrorKind::Deadline => "McpProxyEngine.Deadline",
            InvocationErrorKind::InvalidEvent => "McpProxyEngine.InvalidEvent",
            InvocationErrorKind::Reply => "McpProxyEngine.Reply",
            InvocationErrorKind::UnknownEvent => "McpProxyEngine.UnknownEvent",
        };
        Self { kind, error_type: error_type.to_owned(), message: message.into() }
    }

    pub(crate) fn answered(error_type: String, message: String) -> Self {
        Self { kind: InvocationErrorKind::Answered, error_type, message }
    }

    pub(crate) fn invalid(pointer: &str, message: impl fmt::Display) -> Self {
        let place = if pointer.is_empty() { "the event" } else { pointer };
        Self::new(InvocationErrorKind::InvalidEvent, format!("{place}: {message}"))
    }

    /// What went wrong.
    pub fn kind(&self) -> InvocationErrorKind {
        self.kind
    }

    /// The `errorType` Lambda shows: the problem's type, or `McpProxyEngine.` and the kind.
    pub fn error_type(&self) -> &str {
        &self.error_type
    }
}

impl fmt::Display for InvocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvocationError {}

impl From<InvocationError> for Diagnostic {
    fn from(error: InvocationError) -> Self {
        Self { error_type: error.error_type, error_message: error.message }
    }
}
