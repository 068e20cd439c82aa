//! What goes into an invocation's payload, and what comes back in it.

use std::sync::Arc;

use mpe_engine::CallErrorKind;
use mpe_engine::upstream::{Introduction, Sent, UpstreamError, UpstreamRequest};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id, Message, encode};
use mpe_mcp_protocol::object::{Object, array_of, raw_of, string_of};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{error, raw};

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_INFO_KEY: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";

/// What an invocation came to.
#[derive(Debug)]
pub(super) enum Reply {
    /// The function answered in MCP.
    Answer(Result<Box<RawValue>, ErrorObject>),
    /// The function failed.
    FunctionError(FunctionError),
}

/// A function's failure as Lambda words it.
#[derive(Debug)]
pub(super) struct FunctionError {
    kind: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorPayload {
    error_type: Option<String>,
    error_message: Option<String>,
}

/// Characters of a function's own words that are passed on, at most.
const MAX_WORDS: usize = 2000;

impl FunctionError {
    /// Reads the error payload; the stack trace stays unread, it is nobody's business downstream.
    pub(super) fn read(kind: &str, payload: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<ErrorPayload>(payload).ok();
        let (error_type, message) =
            parsed.map_or((None, None), |parsed| (parsed.error_type, parsed.error_message));
        let message = message.unwrap_or_else(|| "the function gave no message".to_owned());
        Self {
            kind: error_type.unwrap_or_else(|| kind.to_owned()),
            message: message.chars().take(MAX_WORDS).collect(),
        }
    }

    pub(super) fn sentence(&self) -> String {
        format!("the Lambda function failed: {}: {}", self.kind, self.message)
    }

    /// A tool result that says the tool failed.
    pub(super) fn into_tool_result(self, version: ProtocolVersion) -> Box<RawValue> {
        let mut result = serde_json::json!({
            "content": [{"type": "text", "text": self.sentence()}],
            "isError": true,
        });
        if version.era() == Era::Modern {
            result["resultType"] = "complete".into();
        }
        raw_of(&result)
    }
}

/// `server/discover`, in the newest revision.
pub(super) fn discover(id: &Id) -> Vec<u8> {
    let meta = encode::object_with(
        None,
        &[
            (VERSION_KEY, &*raw_of(ProtocolVersion::LATEST.as_str())),
            (CAPABILITIES_KEY, &*raw("{}")),
            (CLIENT_INFO_KEY, &*client_info()),
        ],
    );
    encode::request_with(id, "server/discover", None, &[("_meta", &*meta)])
}

/// `initialize`, in that revision.
pub(super) fn initialize(id: &Id, version: ProtocolVersion) -> Vec<u8> {
    let extra: [(&str, &RawValue); 3] = [
        ("protocolVersion", &raw_of(version.as_str())),
        ("capabilities", &raw("{}")),
        ("clientInfo", &client_info()),
    ];
    encode::request_with(id, "initialize", None, &extra)
}

fn client_info() -> Box<RawValue> {
    raw_of(&serde_json::json!({"name": "mcp-proxy-engine", "version": env!("CARGO_PKG_VERSION")}))
}

/// Any other request, with what the caller declared.
pub(super) fn request(id: &Id, request: &UpstreamRequest, version: ProtocolVersion) -> Vec<u8> {
    let context = &request.context;
    let own_meta = context.meta.as_deref();
    let meta = match version.era() {
        Era::Legacy => own_meta.map(|meta| encode::object_with(Some(meta), &[])),
        Era::Modern => {
            let date = raw_of(version.as_str());
            let nothing = raw("{}");
            let ours = client_info();
            let level = context.log_level.as_deref().map(raw_of);
            let mut members: Vec<(&str, &RawValue)> = vec![
                (VERSION_KEY, &date),
                (CAPABILITIES_KEY, context.capabilities.as_deref().unwrap_or(&nothing)),
                (CLIENT_INFO_KEY, context.client_info.as_deref().unwrap_or(&ours)),
            ];
            members.extend(level.as_deref().map(|level| (LOG_LEVEL_KEY, level)));
            Some(encode::object_with(own_meta, &members))
        }
    };
    let state = context.request_state.as_deref().map(raw_of);
    let mut extra: Vec<(&str, &RawValue)> = Vec::with_capacity(3);
    extra.extend(meta.as_deref().map(|meta| ("_meta", meta)));
    if version.era() == Era::Modern {
        extra.extend(context.input_responses.as_deref().map(|responses| ("inputResponses", responses)));
        extra.extend(state.as_deref().map(|state| ("requestState", state)));
    }
    encode::request_with(id, &request.method, request.params.as_deref(), &extra)
}

/// The JSON-RPC response in a function's payload.
pub(super) fn answer(payload: &[u8], id: &Id, function: &str) -> Result<Reply, UpstreamError> {
    let broken = |what: String| {
        error(
            CallErrorKind::UpstreamProtocol,
            Sent::Maybe,
            format!("the Lambda function {function} answered {what}"),
        )
    };
    let message = Message::parse(payload).map_err(|cause| {
        broken(format!("with something else than one JSON-RPC response: {cause} (got {})", excerpt(payload)))
    })?;
    match message {
        Message::Response(response) if response.id.as_ref().is_none_or(|answered| answered == id) => {
            Ok(Reply::Answer(response.outcome))
        }
        Message::Response(_) => Err(broken("a request that was not asked in this invocation".to_owned())),
        Message::Request(_) => {
            Err(broken("with a request of its own; an invocation cannot carry one".to_owned()))
        }
        Message::Notification(_) => Err(broken("with a notification instead of a response".to_owned())),
    }
}

/// Reads a discover reply.
pub(super) fn discovered(reply: Reply, function: &str) -> Result<Introduction, UpstreamError> {
    let result = result_of(reply, "server/discover", function)?;
    let object = read(&result, "server/discover", function)?;
    let listed = object.get("supportedVersions").and_then(array_of).unwrap_or_default();
    let version = listed
        .iter()
        .filter_map(|date| ProtocolVersion::parse(&string_of(date)?))
        .filter(|version| version.era() == Era::Modern)
        .max()
        .ok_or_else(|| no_common_version("server/discover", function))?;
    introduction(&object, version)
}

/// Reads an initialize reply.
pub(super) fn initialized(reply: Reply, function: &str) -> Result<Introduction, UpstreamError> {
    let result = result_of(reply, "initialize", function)?;
    let object = read(&result, "initialize", function)?;
    let version = object
        .get("protocolVersion")
        .and_then(string_of)
        .and_then(|date| ProtocolVersion::parse(&date))
        .ok_or_else(|| no_common_version("initialize", function))?;
    introduction(&object, version)
}

fn introduction(object: &Object<'_>, version: ProtocolVersion) -> Result<Introduction, UpstreamError> {
    let owned = |raw: &RawValue| Arc::<RawValue>::from(raw.to_owned());
    let in_meta = || {
        let meta = Object::parse(object.present("_meta")?).ok()?;
        meta.present("io.modelcontextprotocol/serverInfo").map(owned)
    };
    Ok(Introduction {
        version,
        capabilities: object.present("capabilities").map_or_else(|| Arc::from(raw("{}")), owned),
        server_info: object.present("serverInfo").map(owned).or_else(in_meta),
        instructions: object.present("instructions").and_then(string_of).map(Arc::from),
    })
}

fn result_of(reply: Reply, method: &str, function: &str) -> Result<Box<RawValue>, UpstreamError> {
    let reason = match reply {
        Reply::Answer(Ok(result)) => return Ok(result),
        Reply::Answer(Err(refusal)) => format!("{} ({})", refusal.message, refusal.code),
        Reply::FunctionError(failure) => failure.sentence(),
    };
    let message = format!("the Lambda function {function} refused {method}: {reason}");
    Err(error(CallErrorKind::UpstreamProtocol, Sent::Maybe, message))
}

fn read<'a>(result: &'a RawValue, method: &str, function: &str) -> Result<Object<'a>, UpstreamError> {
    Object::parse(result).map_err(|cause| {
        let message =
            format!("the Lambda function {function} answered {method} with an unusable result: {cause}");
        error(CallErrorKind::UpstreamProtocol, Sent::Maybe, message)
    })
}

fn no_common_version(method: &str, function: &str) -> UpstreamError {
    let message =
        format!("the Lambda function {function} names no revision we speak in its answer to {method}");
    error(CallErrorKind::UpstreamProtocol, Sent::Maybe, message)
}

/// The beginning of a payload, for people.
fn excerpt(payload: &[u8]) -> String {
    if payload.is_empty() {
        return "nothing".to_owned();
    }
    let text = String::from_utf8_lossy(&payload[..payload.len().min(400)]);
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    if shown.len() < payload.len() {
        shown.push('…');
    }
    shown
}
