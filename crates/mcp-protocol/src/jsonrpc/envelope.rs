//! One message, borrowed: what the hot path reads of it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{DecodeError, DecodeErrorKind, ErrorObject, Id, Message, Notification, Request, Response};
use crate::object::{MAX_DEPTH, each_member, is_deeper_than, kind_of, string_of};

/// One JSON-RPC message that borrows everything but its id from the bytes it was read from.
#[derive(Clone, Debug)]
pub enum Envelope<'a> {
    /// A notification.
    Notification {
        /// The method.
        method: Cow<'a, str>,
        /// The parameters, an object, unparsed.
        params: Option<&'a RawValue>,
    },
    /// A request.
    Request {
        /// Repeated by the response, type included.
        id: Id,
        /// The method.
        method: Cow<'a, str>,
        /// The parameters, an object, unparsed.
        params: Option<&'a RawValue>,
    },
    /// A response.
    Response {
        /// The request's id; absent only on an error about an unreadable request.
        id: Option<Id>,
        /// The result, unparsed, or the error.
        outcome: Result<&'a RawValue, ErrorObject>,
    },
}

impl<'a> Envelope<'a> {
    /// Reads one message in a single pass; see [`Message::parse`] for the rules.
    ///
    /// # Errors
    /// As [`Message::parse`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            fail(DecodeErrorKind::Parse, format!("not UTF-8 at byte {}", error.valid_up_to()))
        })?;
        if is_deeper_than(bytes, MAX_DEPTH) {
            return Err(fail(DecodeErrorKind::TooLarge, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        match Parts::read(text) {
            Ok(parts) => Self::of(&parts),
            Err(error) if error.kind == DecodeErrorKind::Parse => Err(error),
            Err(_) => Err(no_object(text)),
        }
    }

    fn of(parts: &Parts<'a>) -> Result<Self, DecodeError> {
        let id = read_id(parts.id);
        // Whatever else is wrong, the sender learns which of its requests it was about.
        let refuse = |message: String| {
            let readable = id.as_ref().ok().and_then(Clone::clone);
            fail(DecodeErrorKind::InvalidRequest, message).about(readable)
        };
        if let Some(name) = parts.repeated {
            return Err(fail(DecodeErrorKind::InvalidRequest, format!("member {name:?} stands there twice"))
                .about(if name == "id" { None } else { id.ok().flatten() }));
        }
        if parts.jsonrpc.and_then(string_of).as_deref() != Some("2.0") {
            return Err(refuse("\"jsonrpc\" must be \"2.0\"".to_owned()));
        }
        let (result, error) = (parts.result, parts.error);
        let Some(method) = parts.method else {
            return match (result, error) {
                (Some(result), None) => Self::success(id, result),
                (None, Some(error)) => Self::failure(parts, id, error),
                (Some(_), Some(_)) => {
                    Err(refuse("a response has \"result\" or \"error\", not both".to_owned()))
                }
                (None, None) => Err(refuse("neither \"method\" nor \"result\" nor \"error\"".to_owned())),
            };
        };
        if result.is_some() || error.is_some() {
            return Err(refuse("\"method\" and \"result\" or \"error\" in one message".to_owned()));
        }
        let Some(method) = string_of(method) else {
            return Err(refuse(format!("\"method\" must be a string, found {}", kind_of(method.get()))));
        };
        // Some clients write `"params": null` for none.
        let params = parts.params.filter(|params| params.get() != "null");
        if let Some(params) = params.filter(|params| !params.get().starts_with('{')) {
            return Err(refuse(format!("\"params\" must be an object, found {}", kind_of(params.get()))));
        }
        Ok(match id? {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }

    fn success(id: Result<Option<Id>, DecodeError>, result: &'a RawValue) -> Result<Self, DecodeError> {
        match id? {
            Some(id) => Ok(Self::Response { id: Some(id), outcome: Ok(result) }),
            None => Err(fail(DecodeErrorKind::InvalidRequest, "a result without \"id\"".to_owned())),
        }
    }

    fn failure(
        parts: &Parts<'a>,
        id: Result<Option<Id>, DecodeError>,
        error: &'a RawValue,
    ) -> Result<Self, DecodeError> {
        // JSON-RPC 2.0 §5: an error about a request whose id could not be read has a null id.
        let id = if parts.id.is_some_and(|id| id.get() == "null") { None } else { id? };
        match ErrorObject::parse(error) {
            Ok(error) => Ok(Self::Response { id, outcome: Err(error) }),
            Err(error) => Err(error.about(id)),
        }
    }

    /// The id of a request or response.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Notification { .. } => None,
            Self::Request { id, .. } => Some(id),
            Self::Response { id, .. } => id.as_ref(),
        }
    }

    /// The same message, owning everything.
    pub fn into_message(self) -> Message {
        let owned = |raw: Option<&RawValue>| raw.map(ToOwned::to_owned);
        match self {
            Self::Notification { method, params } => {
                Message::Notification(Notification { method: method.into_owned(), params: owned(params) })
            }
            Self::Request { id, method, params } => {
                Message::Request(Request { id, method: method.into_owned(), params: owned(params) })
            }
            Self::Response { id, outcome } => {
                Message::Response(Response { id, outcome: outcome.map(ToOwned::to_owned) })
            }
        }
    }
}

/// The members that JSON-RPC 2.0 defines, unread. What others there are is passed over.
#[derive(Default)]
struct Parts<'a> {
    jsonrpc: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    /// One of them that stands there twice.
    repeated: Option<&'static str>,
}

impl<'a> Parts<'a> {
    /// # Errors
    /// [`DecodeErrorKind::InvalidShape`] when it is no object, [`DecodeErrorKind::Parse`] when it is not JSON.
    fn read(text: &'a str) -> Result<Self, DecodeError> {
        let mut parts = Self::default();
        each_member(text, |name, value| parts.put(&name, value))?;
        Ok(parts)
    }

    fn put(&mut self, name: &str, value: &'a RawValue) {
        let Some((name, place)) = self.place(name) else { return };
        if place.replace(value).is_some() {
            self.repeated = Some(name);
        }
    }

    /// Where the value of that member belongs.
    fn place(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'a RawValue>)> {
        Some(match name {
            "jsonrpc" => ("jsonrpc", &mut self.jsonrpc),
            "id" => ("id", &mut self.id),
            "method" => ("method", &mut self.method),
            "params" => ("params", &mut self.params),
            "result" => ("result", &mut self.result),
            "error" => ("error", &mut self.error),
            _ => return None,
        })
    }
}

fn read_id(id: Option<&RawValue>) -> Result<Option<Id>, DecodeError> {
    let Some(raw) = id else { return Ok(None) };
    let text = raw.get();
    if let Some(id) = string_of(raw) {
        return Ok(Some(Id::String(id.into_owned())));
    }
    if let Ok(id) = text.parse::<i64>() {
        return Ok(Some(Id::Integer(id)));
    }
    let found = if text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        "a fraction or a number beyond 64 bits"
    } else {
        kind_of(text)
    };
    Err(fail(
        DecodeErrorKind::InvalidRequest,
        format!("\"id\" must be a string or an integer, found {found}"),
    ))
}

fn no_object(text: &str) -> DecodeError {
    let kind = kind_of(text);
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    if !is_json {
        return fail(DecodeErrorKind::Parse, format!("not JSON: {kind}"));
    }
    let hint = if kind == "an array" { " (batches are not part of MCP)" } else { "" };
    fail(DecodeErrorKind::InvalidRequest, format!("expected one JSON-RPC object, found {kind}{hint}"))
}

fn fail(kind: DecodeErrorKind, message: String) -> DecodeError {
    DecodeError { kind, message, id: None }
}
