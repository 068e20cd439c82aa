//! JSON-RPC 2.0 messages, with payloads left as raw JSON.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A request id: a string or an integer, kept with its type (JSON-RPC 2.0 §4; MCP forbids null).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// An integer id.
    Integer(i64),
    /// A string id.
    String(String),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => n.fmt(f),
            Self::String(s) => s.fmt(f),
        }
    }
}

/// A JSON-RPC error as data: `code`, `message` and whatever the peer put into `data`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorObject {
    /// The error code; see [`code`].
    pub code: i64,
    /// One sentence for people.
    pub message: String,
    /// Details, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// A request: it will be answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// Repeated by the response, type included.
    pub id: Id,
    /// The method.
    pub method: String,
    /// The parameters, unparsed.
    pub params: Option<Box<RawValue>>,
}

/// A notification: never answered.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The method.
    pub method: String,
    /// The parameters, unparsed.
    pub params: Option<Box<RawValue>>,
}

/// A response to a request.
#[derive(Clone, Debug)]
pub struct Response {
    /// The request's id; absent only on an error about an unreadable request.
    pub id: Option<Id>,
    /// The result, unparsed, or the error.
    pub outcome: Result<Box<RawValue>, ErrorObject>,
}

/// One JSON-RPC message.
#[derive(Clone, Debug)]
pub enum Message {
    /// See [`Notification`].
    Notification(Notification),
    /// See [`Request`].
    Request(Request),
    /// See [`Response`].
    Response(Response),
}

/// Why bytes are not a message of the protocol.
#[derive(Debug)]
pub struct DecodeError {
    /// Which rule is broken.
    pub kind: DecodeErrorKind,
    /// Where and why, in one lower-case sentence.
    pub message: String,
    /// The id of the offending request, where it could still be read.
    pub id: Option<Id>,
}

/// The rule that a [`DecodeError`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// JSON, but not a JSON-RPC 2.0 message (-32600).
    InvalidRequest,
    /// Parameters or a result of the wrong shape (-32602).
    InvalidShape,
    /// Not JSON (-32700).
    Parse,
    /// Over a size, nesting or count limit.
    TooLarge,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl Message {
    /// Reads one message. Payloads stay unparsed; duplicate envelope members are refused.
    ///
    /// # Errors
    /// [`DecodeErrorKind::Parse`] when it is not JSON, [`DecodeErrorKind::InvalidRequest`] when it is no message
    /// (an array included).
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let _ = bytes;
        todo!()
    }

    /// The message as compact JSON, one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }
}

/// Error codes of JSON-RPC 2.0 and MCP.
pub mod code {
    /// Not JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// Not a JSON-RPC request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Parameters the method cannot use; unknown tool, prompt, resource or cursor.
    pub const INVALID_PARAMS: i64 = -32602;
    /// A failure of the server itself.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// Header and body disagree (2026-07-28).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// The client did not declare a capability that this request needs (2026-07-28).
    pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
    /// The server does not speak the requested revision (2026-07-28).
    pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
    /// Resource not found, as legacy servers say it.
    pub const LEGACY_RESOURCE_NOT_FOUND: i64 = -32002;
}
