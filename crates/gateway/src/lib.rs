//! The HTTP face: MCP server, REST, GraphQL, documents and administration over one engine.
//!
//! The only place where an error becomes a status. Read `serve` (connections), `service` (requests) and `router`
//! (which face), then the face you came for: `mcp`, `rest`, `batch`, `graphql`, `documents`, `admin`. `view` holds what
//! they show of a catalogue, `render` and `problem` what they answer.

mod accept;
mod admin;
mod batch;
mod body;
mod carrier;
mod check;
mod config;
mod deadline;
mod docs;
mod document;
mod documents;
mod function_calls;
mod gone;
mod graphql;
mod graphql_page;
mod guard;
mod idempotency;
mod json;
mod mcp;
mod origin;
mod percent;
mod pinned;
mod plan;
mod problem;
mod render;
mod replicas;
mod rest;
mod rest_stream;
mod router;
mod seal;
mod serve;
mod service;
mod slow;
pub mod stdio;
mod view;

pub use carrier::{Carrier, Deadline};
pub use config::{ArgumentChecks, EndpointView, GatewayConfig};
/// What an [`EndpointView`] is made of.
pub use mpe_schema::openapi::{DocumentInfo, Security};
pub use mpe_schema::{PathTemplate, ResponseMapping};
pub use problem::{ErrorRow, LogLevel, ProblemType, Retry, error_table};
pub use replicas::{Forward, Replicas};
pub use serve::serve;
pub use service::{Body, BoxError, Gateway};
