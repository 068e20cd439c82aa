//! From a tool's result to the value of a field.

use async_graphql::{Error, ErrorExtensionValues, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::FieldError;

/// The members of a `CallToolResult` that an answer is made of.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "structuredContent")]
    structured: Option<&'a RawValue>,
    #[serde(default, rename = "isError")]
    is_error: bool,
}

/// A content block, as far as it may be a text.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
}

/// An embedded resource, as far as it may be a text.
#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    text: Option<String>,
    #[serde(default, rename = "mimeType")]
    media_type: Option<String>,
}

/// The one JSON value that a tool's result stands for, with its bytes.
///
/// `structuredContent` where there is one. Else the text of a lone text block (or of a lone resource without a media type): as JSON
/// when all of it is JSON, as a string when not. Else the envelope `{"content":[…]}` with the blocks as the server wrote them. `None`
/// when `result` is no `CallToolResult`.
pub fn result_value(result: &RawValue) -> Option<Box<RawValue>> {
    let parts: Parts<'_> = serde_json::from_str(result.get()).ok()?;
    value_of(&parts)
}

/// The value of a field, or its error when the tool reported one.
pub(super) fn field_value(result: &RawValue) -> Result<Box<RawValue>, Error> {
    let parts: Parts<'_> = serde_json::from_str(result.get()).map_err(|error| {
        coded("UPSTREAM_PROTOCOL_ERROR", &format!("the server's answer is no tool result: {error}"))
    })?;
    if parts.is_error {
        return Err(tool_failed(&parts));
    }
    value_of(&parts).ok_or_else(|| {
        coded("UPSTREAM_PROTOCOL_ERROR", "the server's answer has neither content nor structuredContent")
    })
}

/// An error whose `extensions` hold a code.
pub(super) fn coded(code: &str, message: &str) -> Error {
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", code);
    Error { extensions: Some(extensions), ..Error::new(message) }
}

/// The caller's error as a field error.
pub(super) fn field_error(error: FieldError) -> Error {
    let mut extensions = ErrorExtensionValues::default();
    for (name, value) in error.extensions {
        extensions.set(name, Value::from_json(value).unwrap_or_default());
    }
    extensions.set("code", error.code);
    Error { extensions: Some(extensions), ..Error::new(error.message) }
}

/// Raw JSON as a GraphQL value that is written out byte by byte.
pub(super) fn raw(json: &RawValue) -> Value {
    async_graphql::to_value(json).expect("raw JSON is one string to the serializer")
}

fn value_of(parts: &Parts<'_>) -> Option<Box<RawValue>> {
    if let Some(structured) = parts.structured.filter(|raw| raw.get() != "null") {
        return Some(structured.to_owned());
    }
    let content = parts.content?;
    let Some(text) = lone_text(content) else {
        return RawValue::from_string(format!(r#"{{"content":{content}}}"#)).ok();
    };
    if let Ok(json) = serde_json::from_str::<&RawValue>(&text) {
        return Some(json.to_owned());
    }
    serde_json::value::to_raw_value(&text).ok()
}

fn lone_text(content: &RawValue) -> Option<String> {
    let blocks: Vec<&RawValue> = serde_json::from_str(content.get()).ok()?;
    let [only] = blocks.as_slice() else { return None };
    let block: Block<'_> = serde_json::from_str(only.get()).ok()?;
    match (block.kind.as_str(), block.resource) {
        ("text", _) => block.text,
        ("resource", Some(raw)) => {
            let resource: Resource = serde_json::from_str(raw.get()).ok()?;
            resource.text.filter(|_| resource.media_type.is_none())
        }
        _ => None,
    }
}

fn tool_failed(parts: &Parts<'_>) -> Error {
    let text = parts.content.and_then(lone_text).filter(|text| !text.is_empty());
    let mut error = coded("TOOL_FAILED", text.as_deref().unwrap_or("the tool reported an error"));
    let extensions = error.extensions.get_or_insert_default();
    if let Some(content) = parts.content {
        extensions.set("content", raw(content));
    }
    if let Some(structured) = parts.structured {
        extensions.set("structuredContent", raw(structured));
    }
    error
}
