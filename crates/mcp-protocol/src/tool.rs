//! A tool as a server describes it: the few fields an intermediary reads, and the bytes it passes on.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::jsonrpc::DecodeError;
use crate::jsonrpc::encode::push_string;
use crate::object::{Object, offset_in};

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
        let object = Object::parse(raw).map_err(|error| error.within("tool"))?;
        let Some(name) = object.string("name").map_err(|error| error.within("tool"))? else {
            return Err(DecodeError::shape("tool: no \"name\""));
        };
        let within = |error: DecodeError| error.within(&format!("tool {name:?}"));
        let annotations = match object.present("annotations") {
            Some(annotations) => {
                Object::parse(annotations).map_err(|error| within(error.within("annotations")))?
            }
            None => Object::default(),
        };
        let title = object.string("title").map_err(within)?;
        let title = title.or_else(|| annotations.string("title").ok().flatten());
        let Some(input_schema) = schema(&object, "inputSchema").map_err(within)? else {
            return Err(within(DecodeError::shape("no \"inputSchema\"")));
        };
        if !input_schema.is_object() {
            return Err(within(DecodeError::shape("\"inputSchema\" must be an object")));
        }
        let output_schema = schema(&object, "outputSchema").map_err(within)?;
        Ok(Self {
            raw: Arc::from(raw.to_owned()),
            title: title.map(Arc::from),
            description: object.string("description").map_err(within)?.map(Arc::from),
            input_schema: Arc::new(input_schema),
            output_schema: output_schema.map(Arc::new),
            annotations: ToolAnnotations::read(&annotations),
            name: Arc::from(name),
        })
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
        let text = self.raw.get();
        let object = Object::parse(&self.raw).expect("a tool's bytes were read before");
        let old = object.get("name").expect("a tool has a name").get();
        let at = offset_in(text, old);
        let mut renamed = Vec::with_capacity(text.len() + name.len());
        renamed.extend_from_slice(&text.as_bytes()[..at]);
        push_string(&mut renamed, name);
        renamed.extend_from_slice(&text.as_bytes()[at + old.len()..]);
        let renamed =
            String::from_utf8(renamed).expect("a JSON string in place of another keeps the text UTF-8");
        let raw =
            RawValue::from_string(renamed).expect("a JSON string in place of another keeps the text JSON");
        Self { raw: Arc::from(raw), name: Arc::from(name), ..self.clone() }
    }
}

// === impl ToolAnnotations ===

impl ToolAnnotations {
    fn read(hints: &Object<'_>) -> Self {
        // A hint that is no boolean says nothing; the default is the careful one.
        let hint = |name, default| match hints.get(name).map(RawValue::get) {
            Some("true") => true,
            Some("false") => false,
            _ => default,
        };
        Self {
            read_only: hint("readOnlyHint", false),
            destructive: hint("destructiveHint", true),
            idempotent: hint("idempotentHint", false),
            open_world: hint("openWorldHint", true),
        }
    }
}

fn schema(object: &Object<'_>, name: &str) -> Result<Option<serde_json::Value>, DecodeError> {
    let Some(raw) = object.present(name) else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(DecodeError::shape(format!("{name:?}: {error}"))),
    }
}

#[cfg(test)]
mod tests;
