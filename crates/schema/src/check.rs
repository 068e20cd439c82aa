//! JSON Schema validation of arguments (2020-12 by default; nothing is ever fetched).

use std::fmt;

use jsonschema::PatternOptions;
use serde_json::Value;

use crate::{SchemaError, SchemaErrorKind};

/// One way in which an instance breaks a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaViolation {
    /// JSON Pointer into the instance; empty for the whole.
    pub pointer: String,
    /// What is wrong there and what was expected.
    pub message: String,
}

impl SchemaViolation {
    /// A violation at `pointer`.
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// A compiled schema.
pub struct Validator {
    compiled: jsonschema::Validator,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator").finish_non_exhaustive()
    }
}

impl Validator {
    /// Compiles a schema.
    ///
    /// `$schema` chooses the draft, 2020-12 when it is absent. Patterns run in time linear in the text.
    ///
    /// # Errors
    /// [`SchemaErrorKind::Schema`](crate::SchemaErrorKind::Schema): not a schema, a remote `$ref`, a pattern that needs look-around.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let compiled = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
            .build(schema)
            .map_err(|error| {
                let at = error.instance_path().as_str();
                let place = if at.is_empty() { String::new() } else { format!("{at}: ") };
                SchemaError { kind: SchemaErrorKind::Schema, message: clip(&format!("{place}{error}")) }
            })?;
        Ok(Self { compiled })
    }

    /// Every violation, at most [`MAX_VIOLATIONS`]; empty when the instance is valid.
    pub fn check(&self, instance: &Value) -> Vec<SchemaViolation> {
        self.compiled
            .iter_errors(instance)
            .take(MAX_VIOLATIONS)
            .map(|error| SchemaViolation::new(error.instance_path().as_str(), clip(&error.to_string())))
            .collect()
    }
}

/// Violations reported for one instance, at most: a caller who has a hundred things to mend can ask again.
pub const MAX_VIOLATIONS: usize = 100;

/// Compiled size of one pattern, at most; what `regex` allows by default is ten times that.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Longest message in bytes: the instance stands in it, and the instance may be megabytes.
const MAX_MESSAGE_BYTES: usize = 400;

fn clip(message: &str) -> String {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.to_owned();
    }
    let mut end = MAX_MESSAGE_BYTES;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use serde_json::json;

    use super::{SchemaViolation, Validator};

    #[test]
    fn every_violation_is_told_with_its_pointer() {
        let validator = Validator::compile(&json!({
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"items": {"maxLength": 2}}},
            "required": ["c"]
        }))
        .expect("schema");
        let pointers: Vec<String> = validator
            .check(&json!({"a": "x", "b": ["ok", "long"]}))
            .into_iter()
            .map(|violation| violation.pointer)
            .collect();
        assert_eq!(pointers.len(), 3);
        for expected in ["/a", "/b/1", ""] {
            assert!(pointers.iter().any(|pointer| pointer == expected), "{expected}: {pointers:?}");
        }
        assert_eq!(validator.check(&json!({"c": 1})), Vec::<SchemaViolation>::new());
    }

    #[test]
    fn a_remote_reference_a_look_around_and_a_wrong_keyword_are_refused() {
        for schema in [
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"pattern": "(?=a)b"}),
            json!({"type": "strin"}),
            json!({"minimum": "3"}),
        ] {
            assert!(Validator::compile(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn an_evil_pattern_takes_linear_time() {
        let validator = Validator::compile(&json!({"pattern": "^(a+)+$"})).expect("schema");
        let start = Instant::now();
        assert_eq!(validator.check(&json!("a".repeat(50_000) + "!")).len(), 1);
        assert!(start.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_message_stays_short_when_the_instance_is_huge() {
        let validator = Validator::compile(&json!({"type": "integer"})).expect("schema");
        let violations = validator.check(&json!("é".repeat(100_000)));
        assert!(violations[0].message.len() < 500);
    }
}
