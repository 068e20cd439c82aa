//! GraphQL: every tool a field.

mod answer;
mod arguments;
mod build;
mod order;
mod output;
mod request;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use async_graphql::dynamic::Schema;
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

/// What a field resolves to; see [`ResultValue`](crate::ResultValue).
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
    schema: Schema,
    /// `sdl()` walks every type: done once, asked often.
    sdl: Arc<str>,
}

impl std::fmt::Debug for GraphqlSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphqlSchema").field("sdl_bytes", &self.sdl.len()).finish_non_exhaustive()
    }
}

impl GraphqlSchema {
    /// Builds the schema: a query field for each read-only tool, a mutation field for each other one.
    ///
    /// Tool and argument names become GraphQL names: what is no letter, digit or `_` is `_`, and names that would then be
    /// equal get a hash of their own. Arguments are typed where their schema is simple; what is not, and integers without
    /// 32-bit bounds, travel in the scalars `JSON` and `Long`, so that no value is lost. A result is an object type where the tool's
    /// `outputSchema` names its members, with `_json` for the whole of it, and else `JSON`. The query type always has `_tools`, the list
    /// of tools with their fields. Requests nest at most [`MAX_FIELD_DEPTH`] deep, have at most [`MAX_FIELDS`] fields and call at most
    /// [`MAX_CALLS`] tools.
    ///
    /// # Errors
    /// [`SchemaErrorKind::Graphql`](crate::SchemaErrorKind::Graphql).
    pub fn build<'a>(tools: impl IntoIterator<Item = &'a Tool>) -> Result<Self, SchemaError> {
        let schema = build::schema(tools.into_iter())?;
        let sdl = schema.sdl().into();
        Ok(Self { schema, sdl })
    }

    /// The schema as SDL.
    pub fn sdl(&self) -> String {
        self.sdl.to_string()
    }

    /// Executes a `{query, variables, operationName}` request and returns the `{data, errors}` response.
    ///
    /// Fields of a query run side by side, those of a mutation one after the other (GraphQL October 2021 §6.2). A result with
    /// `isError` is a field error whose `extensions` hold `code: "TOOL_FAILED"` and the `content`. A request that cannot be read is an
    /// answer with `errors` alone.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls under way; nothing else is held.
    pub async fn execute(&self, request: &[u8], caller: Arc<dyn ToolCaller>) -> Vec<u8> {
        let mut request = match request::parse(request) {
            Ok(request) => request.data(build::Calls::new(caller)),
            Err(message) => return request::refused(&message),
        };
        let order = order::of(&mut request);
        let mut response = self.schema.execute(request).await;
        order::restore(&mut response, &order);
        serde_json::to_vec(&response).unwrap_or_else(|error| {
            request::refused(&format!("the answer cannot be written as JSON: {error}"))
        })
    }
}

/// Levels of fields in one request, at most. The introspection query of common tools needs 15.
pub const MAX_FIELD_DEPTH: usize = 32;

/// Fields of one request, at most, those of fragments counted where they are used.
pub const MAX_FIELDS: usize = 1000;

/// Tools that one request calls, at most: an alias costs a caller nothing and a server a call.
pub const MAX_CALLS: usize = 100;
