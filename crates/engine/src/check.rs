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

/// A compiled `inputSchema`.
pub trait ArgumentChecker: Send + Sync {
    /// All violations; empty when `arguments` are fine.
    fn check(&self, arguments: &RawValue) -> Vec<Violation>;
}

/// Compiles `inputSchema`s, once per tool and catalogue revision.
pub trait CheckerFactory: Send + Sync {
    /// # Errors
    /// One sentence saying why this schema cannot be checked; the tool stays callable, unchecked.
    fn compile(&self, tool: &Tool) -> Result<Arc<dyn ArgumentChecker>, String>;
}
