//! Values that stand in a header and in the body: `Mcp-Name`, `Mcp-Param-*` and the `x-mcp-header` annotation.
//!
//! Source: 2026-07-28, Streamable HTTP, "Standard headers" and "Custom headers from tool parameters".

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::jsonrpc::DecodeError;
use crate::object::{Object, kind_of, string_of};
use crate::pointer::escape;

/// The method of a modern request.
pub const MCP_METHOD: &str = "mcp-method";
/// The tool, prompt, resource or task a modern request is about.
pub const MCP_NAME: &str = "mcp-name";
/// In front of the names of mirrored parameters.
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";
/// The revision.
pub const MCP_PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// A legacy session.
pub const MCP_SESSION_ID: &str = "mcp-session-id";
/// Where a broken legacy stream is taken up again.
pub const LAST_EVENT_ID: &str = "last-event-id";

const SENTINEL_START: &str = "=?base64?";
const SENTINEL_END: &str = "?=";

/// Which member of a method's params `Mcp-Name` repeats, if any.
pub fn named_member(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// The text as a header value: as it is where that is safe, else base64 between markers.
pub fn encode_value(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let padded = text.starts_with(' ') || text.ends_with(' ');
    let sentinel = text.starts_with(SENTINEL_START) && text.ends_with(SENTINEL_END);
    if plain && !padded && !sentinel {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{SENTINEL_START}{}{SENTINEL_END}", STANDARD.encode(text)))
}

/// The text a header value stands for. White space around the value is not part of it (RFC 9110 §5.5).
///
/// # Errors
/// Invalid shape: complete markers around something that is not base64 of UTF-8.
pub fn decode_value(value: &str) -> Result<Cow<'_, str>, DecodeError> {
    let value = value.trim_matches([' ', '\t']);
    let inside = value.strip_prefix(SENTINEL_START).and_then(|rest| rest.strip_suffix(SENTINEL_END));
    let Some(inside) = inside else { return Ok(Cow::Borrowed(value)) };
    let bytes = STANDARD.decode(inside).map_err(|error| {
        DecodeError::shape(format!("a header value in base64 markers is not base64: {error}"))
    })?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(_) => Err(DecodeError::shape("a header value in base64 markers is not UTF-8")),
    }
}

/// What an annotated parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// `true` or `false`.
    Boolean,
    /// An integer.
    Integer,
    /// A string.
    String,
}

/// One parameter that a header repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirroredParam {
    /// The header's name after `Mcp-Param-`, as the server wrote it.
    pub header: String,
    /// Property names from the root of the arguments.
    pub path: Vec<String>,
    /// Its type.
    pub kind: ParamKind,
}

/// Every parameter of one tool that a header repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirroredParams(Vec<MirroredParam>);

/// Why a tool's `x-mcp-header` annotations break the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationError {
    /// JSON Pointer into the schema.
    pub pointer: String,
    /// Which rule is broken.
    pub message: String,
}

impl fmt::Display for AnnotationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x-mcp-header at {:?}: {}", self.pointer, self.message)
    }
}

impl std::error::Error for AnnotationError {}

// === impl MirroredParams ===

impl MirroredParams {
    /// Reads the annotations of an `inputSchema`.
    ///
    /// An annotation may stand on a string, integer or boolean that is reached through `properties` alone, at any
    /// depth; its value is a token (RFC 9110 §5.6.2), unique in the schema without regard to case.
    ///
    /// # Errors
    /// The first annotation that breaks a rule: over HTTP such a tool must not be used.
    pub fn of(schema: &Value) -> Result<Self, AnnotationError> {
        let mut walk = Walk { found: Vec::new() };
        walk.schema(schema, Place::Reachable(&mut Vec::new()), &mut String::new())?;
        Ok(Self(walk.found))
    }

    /// Whether nothing is mirrored.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every mirrored parameter.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &MirroredParam> {
        self.0.iter()
    }

    /// The headers that a call with these arguments must carry: name after `Mcp-Param-`, plain value (see
    /// [`encode_value`]). A parameter that is absent, null, or no scalar has none.
    ///
    /// # Errors
    /// Invalid shape: the arguments, or an object on the way to a parameter, name a member twice.
    pub fn mirror(&self, arguments: &RawValue) -> Result<Vec<(String, String)>, DecodeError> {
        let mut headers = Vec::with_capacity(self.0.len());
        for param in &self.0 {
            if let Some(value) = param.find(arguments)?.and_then(plain) {
                headers.push((param.header.clone(), value.into_owned()));
            }
        }
        Ok(headers)
    }
}

impl MirroredParam {
    /// The value in the arguments; `None` when it or an object on the way is absent or null.
    ///
    /// # Errors
    /// Invalid shape: an object on the way names a member twice.
    pub fn find<'a>(&self, arguments: &'a RawValue) -> Result<Option<&'a RawValue>, DecodeError> {
        let mut at = arguments;
        for name in &self.path {
            if !at.get().starts_with('{') {
                return Ok(None);
            }
            match Object::parse(at)?.present(name) {
                Some(value) => at = value,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Whether a decoded header value says the same as the value in the body. Integers compare as numbers.
    pub fn agrees(&self, header: &str, body: &RawValue) -> bool {
        let Some(text) = plain(body) else { return false };
        if text == header {
            return true;
        }
        let is_number = kind_of(body.get()) == "a number";
        match (header.parse::<f64>(), text.parse::<f64>()) {
            (Ok(header), Ok(body)) => is_number && header == body,
            _ => false,
        }
    }
}

/// The plain header text of a scalar; `None` for null, objects and arrays.
fn plain(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => string_of(value),
        b't' | b'f' => Some(Cow::Borrowed(text)),
        b'-' | b'0'..=b'9' => Some(decimal(text)),
        _ => None,
    }
}

/// An integer in decimal, however the body spells it (`4.2e1`, `42.0`); any other number as it stands.
fn decimal(text: &str) -> Cow<'_, str> {
    if text.parse::<i64>().is_ok() {
        return Cow::Borrowed(text);
    }
    match text.parse::<f64>() {
        Ok(number) if number.fract() == 0.0 && number.abs() <= MAX_INTEGER => {
            Cow::Owned(format!("{}", number as i64))
        }
        _ => Cow::Borrowed(text),
    }
}

/// 2^53 − 1: beyond it two readers may disagree about an integer.
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

// === impl Walk ===

struct Walk {
    found: Vec<MirroredParam>,
}

/// Whether a subschema describes exactly one place in the arguments.
enum Place<'a> {
    /// Yes: the one at the end of these property names.
    Reachable(&'a mut Vec<String>),
    /// No: it lies behind the keyword.
    Behind(&'static str),
}

impl Walk {
    fn schema(
        &mut self,
        schema: &Value,
        place: Place<'_>,
        pointer: &mut String,
    ) -> Result<(), AnnotationError> {
        let Value::Object(keywords) = schema else { return Ok(()) };
        if let Some(annotation) = keywords.get("x-mcp-header") {
            self.annotation(annotation, keywords, &place, pointer)?;
        }
        let mut place = place;
        for (keyword, value) in keywords {
            let length = pointer.len();
            push_token(pointer, keyword);
            if keyword == "properties" {
                self.properties(value, &mut place, pointer)?;
            } else if let Some(&known) = APPLICATORS.iter().find(|known| *known == keyword) {
                self.behind(known, value, pointer)?;
            }
            pointer.truncate(length);
        }
        Ok(())
    }

    fn properties(
        &mut self,
        value: &Value,
        place: &mut Place<'_>,
        pointer: &mut String,
    ) -> Result<(), AnnotationError> {
        let Value::Object(properties) = value else { return Ok(()) };
        for (name, schema) in properties {
            let length = pointer.len();
            push_token(pointer, name);
            match place {
                Place::Reachable(path) => {
                    path.push(name.clone());
                    self.schema(schema, Place::Reachable(path), pointer)?;
                    path.pop();
                }
                Place::Behind(keyword) => self.schema(schema, Place::Behind(keyword), pointer)?,
            }
            pointer.truncate(length);
        }
        Ok(())
    }

    /// The subschemas under any other keyword: one, an array of them, or a map of them.
    fn behind(
        &mut self,
        keyword: &'static str,
        value: &Value,
        pointer: &mut String,
    ) -> Result<(), AnnotationError> {
        let length = pointer.len();
        match value {
            Value::Array(schemas) => {
                for (at, schema) in schemas.iter().enumerate() {
                    push_token(pointer, &at.to_string());
                    self.schema(schema, Place::Behind(keyword), pointer)?;
                    pointer.truncate(length);
                }
                Ok(())
            }
            Value::Object(schemas) if MAPS.contains(&keyword) => {
                for (name, schema) in schemas {
                    push_token(pointer, name);
                    self.schema(schema, Place::Behind(keyword), pointer)?;
                    pointer.truncate(length);
                }
                Ok(())
            }
            schema => self.schema(schema, Place::Behind(keyword), pointer),
        }
    }

    fn annotation(
        &mut self,
        annotation: &Value,
        keywords: &serde_json::Map<String, Value>,
        place: &Place<'_>,
        pointer: &str,
    ) -> Result<(), AnnotationError> {
        let fail = |message: String| AnnotationError { pointer: pointer.to_owned(), message };
        let Value::String(header) = annotation else { return Err(fail("must be a string".to_owned())) };
        if header.is_empty() {
            return Err(fail("must not be empty".to_owned()));
        }
        if !header.bytes().all(is_token_byte) {
            return Err(fail(format!("{header:?} is not a token that may stand in a header name")));
        }
        let path = match place {
            Place::Reachable(path) => path,
            Place::Behind(keyword) => {
                return Err(fail(format!(
                    "may only be reached through \"properties\", not through {keyword:?}"
                )));
            }
        };
        let kind = param_kind(keywords.get("type")).ok_or_else(|| {
            fail("may only stand on a parameter of type string, integer or boolean".to_owned())
        })?;
        if self.found.iter().any(|other| other.header.eq_ignore_ascii_case(header)) {
            return Err(fail(format!("{header:?} is used twice")));
        }
        self.found.push(MirroredParam { header: header.clone(), path: path.to_vec(), kind });
        Ok(())
    }
}

/// The schema without any `x-mcp-header`: for a server that no headers go to, so that its tool need not be given up for an
/// annotation that breaks a rule.
pub fn without_annotations(schema: &Value) -> Value {
    let Value::Object(keywords) = schema else { return schema.clone() };
    let map = |value: &Value| match value {
        Value::Object(schemas) => {
            schemas.iter().map(|(name, schema)| (name.clone(), without_annotations(schema))).collect()
        }
        other => other.clone(),
    };
    let strip = |(keyword, value): (&String, &Value)| {
        let value = match value {
            value if keyword == "properties" || MAPS.contains(&keyword.as_str()) => map(value),
            Value::Array(schemas) if APPLICATORS.contains(&keyword.as_str()) => {
                schemas.iter().map(without_annotations).collect()
            }
            value if APPLICATORS.contains(&keyword.as_str()) => without_annotations(value),
            value => value.clone(),
        };
        (keyword.clone(), value)
    };
    keywords.iter().filter(|(keyword, _)| *keyword != "x-mcp-header").map(strip).collect()
}

fn param_kind(types: Option<&Value>) -> Option<ParamKind> {
    let one = |name: &str| match name {
        "boolean" => Some(ParamKind::Boolean),
        "integer" => Some(ParamKind::Integer),
        "string" => Some(ParamKind::String),
        _ => None,
    };
    match types? {
        Value::String(name) => one(name),
        // A null value is not mirrored, so "nullable" does no harm.
        Value::Array(names) => {
            let mut names = names.iter().filter(|name| *name != "null");
            match (names.next().and_then(Value::as_str), names.next()) {
                (Some(name), None) => one(name),
                _ => None,
            }
        }
        _ => None,
    }
}

fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.push_str(&escape(token));
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Keywords of JSON Schema 2020-12 (and of the older drafts) under which schemas stand, `properties` aside.
const APPLICATORS: [&str; 21] = [
    "$defs",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Those of them that hold a map of schemas.
const MAPS: [&str; 5] = ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties"];

#[cfg(test)]
mod tests;
