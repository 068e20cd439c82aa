//! `_meta` of requests: the protocol's own members apart from everybody else's.

use serde_json::value::RawValue;

use crate::jsonrpc::encode::{inside, object_with, push_id, push_raw, push_string};
use crate::jsonrpc::{DecodeError, Id};
use crate::object::Object;

/// Names of `_meta` members (2026-07-28, basic protocol, `_meta`).
pub mod key {
    /// The revision a request is written in. Required on every modern request.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// What the client can do. Required on every modern request.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Who the client says it is.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Opts in to log messages for one request.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Who the server says it is; on results.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// Which `subscriptions/listen` a message belongs to.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// Opts in to progress.
    pub const PROGRESS_TOKEN: &str = "progressToken";
    /// W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C Trace Context.
    pub const TRACESTATE: &str = "tracestate";
    /// W3C Baggage.
    pub const BAGGAGE: &str = "baggage";
}

/// The members that belong to one hop, and so are never passed on as they are.
const HOP: [&str; 6] = [
    key::PROTOCOL_VERSION,
    key::CLIENT_CAPABILITIES,
    key::CLIENT_INFO,
    key::LOG_LEVEL,
    key::SUBSCRIPTION_ID,
    key::PROGRESS_TOKEN,
];

/// A request's `_meta`, taken apart.
#[derive(Clone, Debug, Default)]
pub struct RequestMeta {
    /// The revision, as written.
    pub protocol_version: Option<String>,
    /// `ClientCapabilities`, an object.
    pub client_capabilities: Option<Box<RawValue>>,
    /// `Implementation` of the client, an object.
    pub client_info: Option<Box<RawValue>>,
    /// The log level, as written.
    pub log_level: Option<String>,
    /// The progress token, with its type.
    pub progress_token: Option<Id>,
    /// Everything else, an object; `None` when there is nothing else.
    pub rest: Option<Box<RawValue>>,
}

impl RequestMeta {
    /// Takes a request's `_meta` apart.
    ///
    /// # Errors
    /// Invalid shape: no object, a repeated member, or a member of the protocol that has the wrong type.
    pub fn parse(raw: &RawValue) -> Result<Self, DecodeError> {
        let object = Object::parse(raw).map_err(|error| error.within("_meta"))?;
        let within = |error: DecodeError| error.within("_meta");
        let rest: Vec<_> = object.iter().filter(|(name, _)| !HOP.contains(name)).collect();
        Ok(Self {
            protocol_version: object.string(key::PROTOCOL_VERSION).map_err(within)?.map(Into::into),
            client_capabilities: an_object(&object, key::CLIENT_CAPABILITIES).map_err(within)?,
            client_info: an_object(&object, key::CLIENT_INFO).map_err(within)?,
            log_level: object.string(key::LOG_LEVEL).map_err(within)?.map(Into::into),
            progress_token: token(&object).map_err(within)?,
            rest: (!rest.is_empty()).then(|| object_with(None, &rest)),
        })
    }

    /// Puts the parts together again: the protocol's own members first, the rest byte for byte.
    ///
    /// Members of `rest` with a name of the protocol must not be there.
    pub fn to_raw(&self) -> Box<RawValue> {
        let mut out = Vec::with_capacity(256);
        self.view().write(&mut out);
        let text = String::from_utf8(out).expect("JSON texts joined by ASCII are UTF-8");
        RawValue::from_string(text).expect("members of valid objects form a valid object")
    }

    /// The same, borrowed.
    pub fn view(&self) -> MetaView<'_> {
        MetaView {
            protocol_version: self.protocol_version.as_deref(),
            client_capabilities: self.client_capabilities.as_deref(),
            client_info: self.client_info.as_deref(),
            log_level: self.log_level.as_deref(),
            progress_token: self.progress_token.as_ref(),
            rest: self.rest.as_deref(),
        }
    }

    /// Whether nothing at all is in it.
    pub fn is_empty(&self) -> bool {
        self.protocol_version.is_none()
            && self.client_capabilities.is_none()
            && self.client_info.is_none()
            && self.log_level.is_none()
            && self.progress_token.is_none()
            && self.rest.is_none()
    }
}

/// A request's `_meta` whose parts belong to somebody else; see [`RequestMeta`] for what they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetaView<'a> {
    /// The revision.
    pub protocol_version: Option<&'a str>,
    /// `ClientCapabilities`, an object.
    pub client_capabilities: Option<&'a RawValue>,
    /// `Implementation` of the client, an object.
    pub client_info: Option<&'a RawValue>,
    /// The log level.
    pub log_level: Option<&'a str>,
    /// The progress token.
    pub progress_token: Option<&'a Id>,
    /// Everything else, an object without the names of the members above.
    pub rest: Option<&'a RawValue>,
}

impl MetaView<'_> {
    /// Appends it as one JSON object on one line: the protocol's own members first, the rest byte for byte.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut member = MemberWriter { out, is_first: true };
        if let Some(version) = self.protocol_version {
            push_string(member.named(key::PROTOCOL_VERSION), version);
        }
        if let Some(capabilities) = self.client_capabilities {
            push_raw(member.named(key::CLIENT_CAPABILITIES), capabilities.get());
        }
        if let Some(info) = self.client_info {
            push_raw(member.named(key::CLIENT_INFO), info.get());
        }
        if let Some(level) = self.log_level {
            push_string(member.named(key::LOG_LEVEL), level);
        }
        if let Some(token) = self.progress_token {
            push_id(member.named(key::PROGRESS_TOKEN), token);
        }
        let rest = self.rest.map_or("", |rest| inside(rest.get()));
        if !rest.is_empty() {
            member.separate();
            push_raw(out, rest);
        }
        out.push(b'}');
    }

    /// Bytes it takes, at most but for escapes.
    pub(crate) fn size(&self) -> usize {
        let raw = |raw: Option<&RawValue>| raw.map_or(0, |raw| raw.get().len());
        // Names, quotes and commas of all members together are below 250 bytes; version, level and token are short.
        320 + raw(self.client_capabilities) + raw(self.client_info) + raw(self.rest)
    }
}

/// Writes the members of one object.
struct MemberWriter<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl MemberWriter<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
    }

    /// Appends the name of the next member; its value comes next. `name` needs no escapes.
    fn named(&mut self, name: &str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }
}

fn an_object(object: &Object<'_>, name: &str) -> Result<Option<Box<RawValue>>, DecodeError> {
    match object.get(name) {
        None => Ok(None),
        Some(raw) if raw.get().starts_with('{') => Ok(Some(raw.to_owned())),
        Some(_) => Err(DecodeError::shape(format!("{name:?} must be an object"))),
    }
}

fn token(object: &Object<'_>) -> Result<Option<Id>, DecodeError> {
    let Some(raw) = object.get(key::PROGRESS_TOKEN) else { return Ok(None) };
    match serde_json::from_str::<Id>(raw.get()) {
        Ok(token) => Ok(Some(token)),
        Err(_) => Err(DecodeError::shape("\"progressToken\" must be a string or an integer")),
    }
}

#[cfg(test)]
mod tests;
