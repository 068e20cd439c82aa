//! The HTTP face: MCP server, REST, GraphQL, documents and administration over one engine.
//!
//! The only place where an error becomes a status.

mod carrier;
mod config;
mod serve;
mod service;

pub use carrier::{Carrier, Deadline};
pub use config::{EndpointView, GatewayConfig};
pub use serve::serve;
pub use service::{Body, BoxError, Gateway};
