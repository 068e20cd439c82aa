//! From a tool's result to the value of a field.

use async_graphql::{Error, ErrorExtensionValues, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::FieldError;
use crate::ResultValue;

/// The members of a `CallToolResult` that tell of a failure.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "structuredContent")]
    structured: Option<&'a RawValue>,
    #[serde(default, rename = "isError")]
    is_error: bool,
}

/// The value of a field, or its error when the tool reported one.
pub(super) fn field_value(result: &RawValue) -> Result<Box<RawValue>, Error> {
    let parts: Parts<'_> = serde_json::from_str(result.get()).map_err(|error| {
        coded("UPSTREAM_PROTOCOL_ERROR", &format!("the server's answer is no tool result: {error}"))
    })?;
    if parts.is_error {
        return Err(tool_failed(&parts));
    }
    Ok(ResultValue::of(result).into_json())
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

fn tool_failed(parts: &Parts<'_>) -> Error {
    let text = parts.content.and_then(first_text).filter(|text| !text.is_empty());
    let mut error = coded("TOOL_FAILED", text.as_deref().unwrap_or("the tool says that it failed"));
    let extensions = error.extensions.get_or_insert_default();
    if let Some(content) = parts.content {
        extensions.set("content", raw(content));
    }
    if let Some(structured) = parts.structured {
        extensions.set("structuredContent", raw(structured));
    }
    error
}

fn first_text(content: &RawValue) -> Option<String> {
    let blocks: Vec<serde_json::Value> = serde_json::from_str(content.get()).ok()?;
    let text = blocks.iter().find(|block| block["type"] == "text")?;
    text["text"].as_str().map(str::to_owned)
}
