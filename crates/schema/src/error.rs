//! Why something cannot be described.

use std::fmt;

/// Why a schema, a path or a mapping cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// Which rule is broken.
    pub kind: SchemaErrorKind,
    /// JSON Pointer or byte offset, and the reason, in one lower-case sentence.
    pub message: String,
}

/// The rule that a [`SchemaError`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaErrorKind {
    /// A path template.
    Path,
    /// A response mapping.
    Mapping,
    /// A JSON Schema.
    Schema,
    /// A GraphQL name or type.
    Graphql,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SchemaError {}
