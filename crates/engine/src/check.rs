//! The seam through which somebody else checks arguments.

use std::sync::Arc;

use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;

/// One way in which arguments break a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer into the arguments; empty for the whole.
    pub pointer: String,
    /// What is wrong there and what was expected.
    pub message: String,
}

/// A compiled `inputSchema`, or `outputSchema`.
pub trait ArgumentChecker: Send + Sync {
    /// All violations; empty when `arguments` (or a result's structured content) are fine.
    fn check(&self, arguments: &RawValue) -> Vec<Violation>;
}

/// Compiles schemas, once per tool and catalogue revision.
pub trait CheckerFactory: Send + Sync {
    /// # Errors
    /// One sentence saying why this schema cannot be checked; the tool stays callable, unchecked.
    fn compile(&self, tool: &Tool) -> Result<Arc<dyn ArgumentChecker>, String>;

    /// Compiles `outputSchema`, for a tool that has one; the checker is given the structured content of results. `None`:
    /// results stay unchecked, which is the default.
    ///
    /// # Errors
    /// One sentence saying why this schema cannot be checked; results of the tool stay unchecked.
    fn compile_output(&self, tool: &Tool) -> Result<Option<Arc<dyn ArgumentChecker>>, String> {
        let _ = tool;
        Ok(None)
    }
}
