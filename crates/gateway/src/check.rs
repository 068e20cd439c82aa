//! The engine's argument checks, done by the schema crate.

use std::sync::Arc;

use mpe_engine::{ArgumentChecker, CheckerFactory, Violation};
use mpe_mcp_protocol::tool::Tool;
use mpe_schema::{Validator, repeated_member};
use serde_json::Value;
use serde_json::value::RawValue;

/// Compiles each tool's schemas.
pub(crate) struct SchemaCheckers;

struct Checker(Validator);

impl CheckerFactory for SchemaCheckers {
    fn compile(&self, tool: &Tool) -> Result<Arc<dyn ArgumentChecker>, String> {
        let validator = Validator::compile(tool.input_schema()).map_err(|error| error.to_string())?;
        Ok(Arc::new(Checker(validator)))
    }

    fn compile_output(&self, tool: &Tool) -> Result<Option<Arc<dyn ArgumentChecker>>, String> {
        let Some(schema) = tool.output_schema() else { return Ok(None) };
        let validator = Validator::compile(schema).map_err(|error| error.to_string())?;
        Ok(Some(Arc::new(Checker(validator))))
    }
}

impl ArgumentChecker for Checker {
    fn check(&self, arguments: &RawValue) -> Vec<Violation> {
        // What is checked below is the last of the two; the upstream may read the first.
        if let Some(twice) = repeated_member(arguments) {
            return vec![Violation { pointer: twice.pointer, message: twice.message }];
        }
        match serde_json::from_str::<Value>(arguments.get()) {
            Ok(arguments) => self
                .0
                .check(&arguments)
                .into_iter()
                .map(|violation| Violation { pointer: violation.pointer, message: violation.message })
                .collect(),
            Err(error) => vec![Violation { pointer: String::new(), message: error.to_string() }],
        }
    }
}
