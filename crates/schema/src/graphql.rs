//! GraphQL: every tool a field.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;

use crate::SchemaError;

/// Runs a tool for a GraphQL field.
pub trait ToolCaller: Send + Sync {
    /// The value of the field, or the error to show there.
    fn call<'a>(
        &'a self,
        tool: &'a str,
        arguments: Box<RawValue>,
    ) -> BoxFuture<'a, Result<ToolValue, FieldError>>;
}

/// What a field resolves to: `structuredContent` where the tool has an output schema, else the tool's content.
#[derive(Clone, Debug)]
pub struct ToolValue {
    /// The `CallToolResult`, as the server wrote it.
    pub result: Box<RawValue>,
}

/// Why a field has no value.
#[derive(Clone, Debug)]
pub struct FieldError {
    /// For people.
    pub message: String,
    /// `extensions.code`.
    pub code: String,
    /// Further `extensions`.
    pub extensions: serde_json::Map<String, serde_json::Value>,
}

/// The executable schema of one catalogue.
#[derive(Clone)]
pub struct GraphqlSchema {
    _private: (),
}

impl GraphqlSchema {
    /// Builds the schema: a query field for each read-only tool, a mutation field for each other one.
    ///
    /// # Errors
    /// [`SchemaErrorKind::Graphql`](crate::SchemaErrorKind::Graphql).
    pub fn build<'a>(tools: impl IntoIterator<Item = &'a Tool>) -> Result<Self, SchemaError> {
        let _ = tools.into_iter().count();
        todo!()
    }

    /// The schema as SDL.
    pub fn sdl(&self) -> String {
        todo!()
    }

    /// Executes a `{query, variables, operationName}` request and returns the `{data, errors}` response.
    pub async fn execute(&self, request: &[u8], caller: Arc<dyn ToolCaller>) -> Vec<u8> {
        let _ = (request, caller, &self._private);
        todo!()
    }
}
