//! Problems (RFC 9457), and the one table that turns an error's kind into what each face says.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use mpe_engine::{CallError, CallErrorKind, Executed};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, code};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::ObjectWriter;
use crate::{Body, body};

/// The media type of a problem (RFC 9457 §6.1).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Every kind of problem a face may answer with. Its URI is stable: `urn:mcp-proxy-engine:problem:<slug>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemType {
    /// The request cannot be read.
    BadRequest,
    /// The body is over the limit.
    BodyTooLarge,
    /// The caller went away.
    Cancelled,
    /// The upstream is known to be down.
    CircuitOpen,
    /// The deadline passed.
    DeadlineExceeded,
    /// `Host` or `Origin` is not allowed.
    Forbidden,
    /// An `Idempotency-Key` was used for another request.
    IdempotencyConflict,
    /// The tool wants input from a person, which this face cannot carry.
    InputRequired,
    /// The arguments break the tool's schema.
    InvalidArguments,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// Nothing is served there.
    NotFound,
    /// Too much is under way.
    Overloaded,
    /// The upstream answered with an error of its own.
    Rejected,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The gateway is closing.
    ShuttingDown,
    /// The tool ran and says it failed.
    ToolFailed,
    /// No such endpoint.
    UnknownEndpoint,
    /// No such tool.
    UnknownTool,
    /// No such upstream.
    UnknownUpstream,
    /// The body's media type is not one this face reads.
    UnsupportedMediaType,
    /// The upstream refused our credentials.
    UpstreamAuth,
    /// The connection was lost after the call was sent.
    UpstreamLost,
    /// The upstream broke the protocol.
    UpstreamProtocol,
    /// The upstream answered with a status that is no answer.
    UpstreamStatus,
    /// The upstream cannot be reached.
    UpstreamUnreachable,
}

/// How loudly an error is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The caller's own doing.
    Debug,
    /// Worth a look when it repeats.
    Warn,
    /// Somebody should look.
    Error,
}

/// Whether the same call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// It would fail again.
    Never,
    /// It did not run: yes, after a while.
    Later,
    /// It may have run: only if running twice does no harm.
    IfIdempotent,
}

/// One row of the error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorRow {
    /// The problem's type.
    pub problem: ProblemType,
    /// One line for people; the same for every occurrence (RFC 9457 §3.1.3).
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The JSON-RPC code.
    pub json_rpc: i64,
    /// GraphQL's `extensions.code`.
    pub graphql: &'static str,
    /// Whether sending it again can help.
    pub retry: Retry,
    /// How loudly it is logged.
    pub log: LogLevel,
}

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemType,
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    extensions: Vec<(&'static str, Box<RawValue>)>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

// === impl ProblemType ===

impl ProblemType {
    /// Every type, by name.
    pub const ALL: [Self; 25] = [
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::Cancelled,
        Self::CircuitOpen,
        Self::DeadlineExceeded,
        Self::Forbidden,
        Self::IdempotencyConflict,
        Self::InputRequired,
        Self::InvalidArguments,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::Overloaded,
        Self::Rejected,
        Self::RequestTimeout,
        Self::ShuttingDown,
        Self::ToolFailed,
        Self::UnknownEndpoint,
        Self::UnknownTool,
        Self::UnknownUpstream,
        Self::UnsupportedMediaType,
        Self::UpstreamAuth,
        Self::UpstreamLost,
        Self::UpstreamProtocol,
        Self::UpstreamStatus,
        Self::UpstreamUnreachable,
    ];

    /// The stable URI in a problem's `type`.
    pub fn uri(self) -> String {
        let slug = serde_json::to_value(self).ok();
        format!(
            "urn:mcp-proxy-engine:problem:{}",
            slug.as_ref().and_then(|v| v.as_str()).unwrap_or("unknown")
        )
    }

    /// What every face says about this type.
    pub fn row(self) -> ErrorRow {
        use LogLevel::{Debug, Error, Warn};
        use Retry::{IfIdempotent, Later, Never};
        use code::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST};

        let row = |title, status, json_rpc, graphql, retry, log| ErrorRow {
            problem: self,
            title,
            status,
            json_rpc,
            graphql,
            retry,
            log,
        };
        match self {
            Self::BadRequest => {
                row("The request cannot be read", 400, INVALID_REQUEST, "BAD_REQUEST", Never, Debug)
            }
            Self::BodyTooLarge => {
                row("The body is too large", 413, INVALID_REQUEST, "BODY_TOO_LARGE", Never, Debug)
            }
            Self::Cancelled => row("The call was cancelled", 499, INTERNAL_ERROR, "CANCELLED", Never, Debug),
            Self::CircuitOpen => {
                row("The upstream is known to be down", 503, INTERNAL_ERROR, "CIRCUIT_OPEN", Later, Warn)
            }
            Self::DeadlineExceeded => {
                row("The deadline passed", 504, INTERNAL_ERROR, "DEADLINE_EXCEEDED", IfIdempotent, Warn)
            }
            Self::Forbidden => {
                row("Host or Origin is not allowed", 403, INVALID_REQUEST, "FORBIDDEN", Never, Warn)
            }
            Self::IdempotencyConflict => row(
                "The idempotency key cannot be used for this again",
                409,
                INVALID_REQUEST,
                "IDEMPOTENCY_CONFLICT",
                Never,
                Debug,
            ),
            Self::InputRequired => row(
                "The tool needs input this face cannot carry",
                422,
                INTERNAL_ERROR,
                "INPUT_REQUIRED",
                Never,
                Debug,
            ),
            Self::InvalidArguments => row(
                "The arguments do not fit the tool",
                400,
                INVALID_PARAMS,
                "INVALID_ARGUMENTS",
                Never,
                Debug,
            ),
            Self::MethodNotAllowed => {
                row("The method is not served here", 405, INVALID_REQUEST, "METHOD_NOT_ALLOWED", Never, Debug)
            }
            Self::NotFound => row("Nothing is served here", 404, INVALID_REQUEST, "NOT_FOUND", Never, Debug),
            Self::Overloaded => row("Too much is under way", 503, INTERNAL_ERROR, "OVERLOADED", Later, Warn),
            Self::Rejected => {
                row("The upstream answered with an error", 502, INTERNAL_ERROR, "REJECTED", Never, Debug)
            }
            Self::RequestTimeout => row(
                "The request took too long to arrive",
                408,
                INVALID_REQUEST,
                "REQUEST_TIMEOUT",
                Later,
                Debug,
            ),
            Self::ShuttingDown => {
                row("The gateway is closing", 503, INTERNAL_ERROR, "SHUTTING_DOWN", Later, Debug)
            }
            Self::ToolFailed => {
                row("The tool ran and failed", 422, INTERNAL_ERROR, "TOOL_FAILED", Never, Debug)
            }
            Self::UnknownEndpoint => {
                row("There is no such endpoint", 404, INVALID_PARAMS, "UNKNOWN_ENDPOINT", Never, Debug)
            }
            Self::UnknownTool => {
                row("There is no such tool", 404, INVALID_PARAMS, "UNKNOWN_TOOL", Never, Debug)
            }
            Self::UnknownUpstream => {
                row("There is no such upstream", 404, INVALID_PARAMS, "UNKNOWN_UPSTREAM", Never, Debug)
            }
            Self::UnsupportedMediaType => row(
                "The media type is not read here",
                415,
                INVALID_REQUEST,
                "UNSUPPORTED_MEDIA_TYPE",
                Never,
                Debug,
            ),
            Self::UpstreamAuth => row(
                "The upstream refused the gateway's credentials",
                502,
                INTERNAL_ERROR,
                "UPSTREAM_AUTH",
                Never,
                Error,
            ),
            Self::UpstreamLost => row(
                "The upstream was lost while the call was under way",
                502,
                INTERNAL_ERROR,
                "UPSTREAM_LOST",
                IfIdempotent,
                Warn,
            ),
            Self::UpstreamProtocol => row(
                "The upstream broke the protocol",
                502,
                INTERNAL_ERROR,
                "UPSTREAM_PROTOCOL",
                IfIdempotent,
                Error,
            ),
            Self::UpstreamStatus => row(
                "The upstream gave no MCP answer",
                502,
                INTERNAL_ERROR,
                "UPSTREAM_STATUS",
                IfIdempotent,
                Warn,
            ),
            Self::UpstreamUnreachable => row(
                "The upstream cannot be reached",
                502,
                INTERNAL_ERROR,
                "UPSTREAM_UNREACHABLE",
                Later,
                Warn,
            ),
        }
    }
}

impl From<CallErrorKind> for ProblemType {
    fn from(kind: CallErrorKind) -> Self {
        match kind {
            CallErrorKind::Cancelled => Self::Cancelled,
            CallErrorKind::CircuitOpen => Self::CircuitOpen,
            CallErrorKind::DeadlineExceeded => Self::DeadlineExceeded,
            CallErrorKind::InvalidArguments => Self::InvalidArguments,
            CallErrorKind::Overloaded => Self::Overloaded,
            CallErrorKind::Rejected => Self::Rejected,
            CallErrorKind::ShuttingDown => Self::ShuttingDown,
            CallErrorKind::UnknownEndpoint => Self::UnknownEndpoint,
            CallErrorKind::UnknownTool => Self::UnknownTool,
            CallErrorKind::UnknownUpstream => Self::UnknownUpstream,
            CallErrorKind::UpstreamAuth => Self::UpstreamAuth,
            CallErrorKind::UpstreamLost => Self::UpstreamLost,
            CallErrorKind::UpstreamProtocol => Self::UpstreamProtocol,
            CallErrorKind::UpstreamStatus => Self::UpstreamStatus,
            CallErrorKind::UpstreamUnreachable => Self::UpstreamUnreachable,
            // A kind this crate does not know yet is ours to explain, so it must not blame the caller.
            _ => Self::UpstreamProtocol,
        }
    }
}

/// The whole table, by type: what `docs/errors.md` prints.
pub fn error_table() -> Vec<ErrorRow> {
    ProblemType::ALL.into_iter().map(ProblemType::row).collect()
}

// === impl Problem ===

impl Problem {
    pub(crate) fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(kind.row().status).expect("the table holds valid statuses");
        Self { kind, status, detail: detail.into(), extensions: Vec::new(), headers: Vec::new() }
    }

    /// Adds a member beside the standard ones (RFC 9457 §3.2).
    pub(crate) fn with(mut self, key: &'static str, value: Box<RawValue>) -> Self {
        self.extensions.push((key, value));
        self
    }

    pub(crate) fn with_value<T: Serialize + ?Sized>(self, key: &'static str, value: &T) -> Self {
        match serde_json::value::to_raw_value(value) {
            Ok(raw) => self.with(key, raw),
            Err(_) => self,
        }
    }

    pub(crate) fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        // Rounded up: coming back too early costs both sides another round.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// What a call's error looks like to an HTTP caller.
    pub(crate) fn of_call(error: &CallError) -> Self {
        let mut problem = Self::new(error.kind.into(), error.message.clone());
        if let Some(rejection) = &error.rejection {
            problem.status = rejection_status(rejection);
            problem = problem.with_value("error", rejection);
        }
        if !error.violations.is_empty() {
            let violations: Vec<_> =
                error.violations.iter().map(|v| (v.pointer.as_str(), v.message.as_str())).collect();
            problem = problem.violations(&violations);
        }
        if let Some(upstream) = &error.upstream {
            problem = problem.with_value("upstream", upstream.as_str());
        }
        if error.executed == Executed::Unknown {
            problem = problem.with_value("executed", "unknown");
        }
        if !error.attempts.is_empty() {
            problem = problem.with_value("attempts", &error.attempts.len());
        }
        match error.retry_after {
            Some(wait) => problem.retry_after(wait),
            None if problem.kind.row().retry == Retry::Later => problem.retry_after(Duration::from_secs(1)),
            None => problem,
        }
    }

    /// Adds each violation with its JSON Pointer.
    pub(crate) fn violations(self, violations: &[(&str, &str)]) -> Self {
        #[derive(Serialize)]
        struct Row<'a> {
            pointer: &'a str,
            message: &'a str,
        }
        let rows: Vec<_> = violations.iter().map(|(pointer, message)| Row { pointer, message }).collect();
        self.with_value("violations", &rows)
    }

    /// The problem's JSON.
    pub(crate) fn to_json(&self) -> Box<RawValue> {
        let mut writer = ObjectWriter::new();
        writer.string("type", &self.kind.uri());
        writer.string("title", self.kind.row().title);
        writer.value("status", &self.status.as_u16());
        writer.string("detail", &self.detail);
        for (key, value) in &self.extensions {
            writer.raw(key, value.get());
        }
        writer.finish_raw()
    }

    pub(crate) fn into_response(self) -> http::Response<Body> {
        let json = Bytes::from(self.to_json().get().to_owned());
        let mut response = body::response(self.status, PROBLEM_JSON, json);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// The problem as a JSON-RPC error made by the gateway: its data names us, so that nobody takes it for the
    /// upstream's own words.
    pub(crate) fn to_error_object(&self) -> ErrorObject {
        let mut writer = ObjectWriter::new();
        writer.string("type", &self.kind.uri());
        for (key, value) in &self.extensions {
            writer.raw(key, value.get());
        }
        let mut data = ObjectWriter::new();
        data.raw(VENDOR_KEY, writer.finish_raw().get());
        ErrorObject {
            code: self.kind.row().json_rpc,
            message: self.detail.clone(),
            data: Some(data.finish_raw()),
        }
    }
}

/// Under which key errors and `_meta` carry what is the gateway's own.
pub(crate) const VENDOR_KEY: &str = "io.github.mcp-proxy-engine/gateway";

/// The status of an upstream's own JSON-RPC error. Its codes say whose fault it is.
fn rejection_status(rejection: &ErrorObject) -> StatusCode {
    match rejection.code {
        code::INVALID_PARAMS => StatusCode::BAD_REQUEST,
        code::METHOD_NOT_FOUND | code::LEGACY_RESOURCE_NOT_FOUND => StatusCode::NOT_FOUND,
        code::MISSING_CLIENT_CAPABILITY => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Writes a call's error to the log, as loudly as the table says.
pub(crate) fn log_call_error(error: &CallError, tool: &str) {
    let kind = ProblemType::from(error.kind);
    let upstream = error.upstream.as_ref().map_or("-", |key| key.as_str());
    let cause = error.source.as_deref().map(ToString::to_string).unwrap_or_default();
    match kind.row().log {
        LogLevel::Debug => tracing::debug!(tool, upstream, ?kind, %error, cause, "call failed"),
        LogLevel::Warn => tracing::warn!(tool, upstream, ?kind, %error, cause, "call failed"),
        LogLevel::Error => tracing::error!(tool, upstream, ?kind, %error, cause, "call failed"),
    }
}
