//! How an MCP tool looks from outside.
#![doc = include_str!("../README.md")]

mod arguments;
mod check;
mod coerce;
mod error;
pub mod functions;
pub mod graphql;
mod local;
mod mapping;
mod names;
pub mod openapi;
mod operation;
mod operations;
mod path;
mod query;
mod repair;
mod repeated;
mod result;

pub use check::{MAX_VIOLATIONS, SchemaViolation, Validator};
pub use error::{SchemaError, SchemaErrorKind};
pub use mapping::response_schema;
pub use operation::{Location, Method, Operation, Operations, Parameter, ResponseMapping};
pub use path::{MAX_TEMPLATE_BYTES, PathTemplate, Segment};
pub use repeated::repeated_member;
pub use result::{Media, MediaContent, ResultValue};
