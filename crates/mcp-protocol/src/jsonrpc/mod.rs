//! JSON-RPC 2.0 messages, with payloads left as raw JSON.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::object::Object;

pub mod encode;
mod envelope;

pub use envelope::Envelope;

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
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub data: Option<Box<RawValue>>,
}

impl ErrorObject {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The same error with data.
    #[must_use]
    pub fn with_data(mut self, data: &impl Serialize) -> Self {
        self.data = Some(crate::object::raw_of(data));
        self
    }

    /// Reads an `error` member.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidShape`]: no object, or no integer `code`. A missing `message` reads as empty.
    pub fn parse(raw: &RawValue) -> Result<Self, DecodeError> {
        let object = Object::parse(raw).map_err(|error| error.within("error"))?;
        let code = object.get("code").and_then(|code| serde_json::from_str::<i64>(code.get()).ok());
        let Some(code) = code else {
            return Err(DecodeError::shape("error: \"code\" must be an integer"));
        };
        let message = object.string("message").map_err(|error| error.within("error"))?;
        Ok(Self {
            code,
            message: message.unwrap_or_default().into_owned(),
            data: object.get("data").map(ToOwned::to_owned),
        })
    }
}

/// Keeps `"data": null` apart from no `data`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
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

impl DecodeError {
    /// An error about the shape of something inside a message.
    pub fn shape(message: impl Into<String>) -> Self {
        Self { kind: DecodeErrorKind::InvalidShape, message: message.into(), id: None }
    }

    /// The same error, `place` put in front of the message.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same error about the request of that id.
    #[must_use]
    pub fn about(mut self, id: Option<Id>) -> Self {
        self.id = id;
        self
    }

    /// The JSON-RPC error that tells the sender.
    pub fn to_error_object(&self) -> ErrorObject {
        let code = match self.kind {
            DecodeErrorKind::InvalidRequest | DecodeErrorKind::TooLarge => code::INVALID_REQUEST,
            DecodeErrorKind::InvalidShape => code::INVALID_PARAMS,
            DecodeErrorKind::Parse => code::PARSE_ERROR,
        };
        ErrorObject::new(code, self.message.clone())
    }
}

impl Message {
    /// Reads one message. Payloads stay unparsed; duplicate envelope members are refused.
    ///
    /// # Errors
    /// [`DecodeErrorKind::Parse`] when it is not JSON, [`DecodeErrorKind::InvalidRequest`] when it is no message
    /// (an array included), [`DecodeErrorKind::TooLarge`] when it nests deeper than
    /// [`MAX_DEPTH`](crate::object::MAX_DEPTH).
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        Envelope::parse(bytes).map(Envelope::into_message)
    }

    /// The message as compact JSON, one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Notification(notification) => notification.to_bytes(),
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

impl Request {
    /// The request as compact JSON, one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode::request(&self.id, &self.method, self.params.as_deref())
    }
}

impl Notification {
    /// The notification as compact JSON, one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode::notification(&self.method, self.params.as_deref())
    }
}

impl Response {
    /// The response as compact JSON, one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.outcome {
            Ok(result) => encode::result(self.id.as_ref(), result.get()),
            Err(error) => encode::error(self.id.as_ref(), error),
        }
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

#[cfg(test)]
mod tests;
