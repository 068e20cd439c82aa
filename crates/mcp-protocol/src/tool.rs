//! A tool as a server describes it: the few fields an intermediary reads, and the bytes it passes on.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::jsonrpc::DecodeError;

/// The hints a server gives about a tool. They are the server's own words: trust them as far as the operator does.
///
/// Absent hints read as the specification's defaults: not read-only, destructive, not idempotent, open world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolAnnotations {
    /// The tool changes nothing.
    pub read_only: bool,
    /// The tool may destroy something. Meaningless when `read_only`.
    pub destructive: bool,
    /// Calling twice with the same arguments changes nothing more.
    pub idempotent: bool,
    /// The tool reaches out to things the server does not own.
    pub open_world: bool,
}

/// One tool of `tools/list`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tool {
    raw: Arc<RawValue>,
    name: Arc<str>,
    title: Option<Arc<str>>,
    description: Option<Arc<str>>,
    input_schema: Arc<serde_json::Value>,
    output_schema: Option<Arc<serde_json::Value>>,
    annotations: ToolAnnotations,
}

impl Tool {
    /// Reads a tool; the bytes are kept as they are.
    ///
    /// # Errors
    /// Invalid shape: no object, no string `name`, or an `inputSchema` that is not an object.
    pub fn parse(raw: &RawValue) -> Result<Self, DecodeError> {
        let _ = raw;
        todo!()
    }

    /// The whole description as the server wrote it, but for the name after [`Tool::renamed`].
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }

    /// The name in `raw`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `title`, else `annotations.title`.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// What the tool does.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// JSON Schema of the arguments, always an object.
    pub fn input_schema(&self) -> &serde_json::Value {
        &self.input_schema
    }

    /// JSON Schema of `structuredContent`, if the server gave one.
    pub fn output_schema(&self) -> Option<&serde_json::Value> {
        self.output_schema.as_deref()
    }

    /// The hints, defaults filled in.
    pub fn annotations(&self) -> ToolAnnotations {
        self.annotations
    }

    /// The same tool under another name: only the bytes of the name change.
    pub fn renamed(&self, name: &str) -> Self {
        let _ = name;
        todo!()
    }
}
