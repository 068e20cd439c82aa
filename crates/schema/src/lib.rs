//! How an MCP tool looks from outside: REST operations, OpenAPI, GraphQL, function-calling arrays.
//!
//! Tools in, documents out. No IO; the same input gives the same bytes.

mod check;
mod error;
pub mod functions;
pub mod graphql;
pub mod openapi;
mod operation;
mod path;

pub use check::{SchemaViolation, Validator};
pub use error::{SchemaError, SchemaErrorKind};
pub use operation::{Location, Method, Operation, Operations, Parameter, ResponseMapping};
pub use path::{PathTemplate, Segment};
