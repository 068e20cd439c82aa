//! One engine in front of many MCP servers: MCP, REST, OpenAPI, GraphQL, AWS Lambda and function-calling arrays.
//!
//! [`McpProxyEngine`] is the front door: ten lines from nothing to an answer. [`config`] reads configuration files,
//! [`login`] keeps logins at servers, [`demo`] is a server to try things with. What lies behind is re-exported below,
//! crate by crate, for those who want a part only.

pub mod config;
pub mod demo;
mod files;
pub mod login;
mod peers;
mod proxy;

pub use mpe_engine as engine;
pub use mpe_gateway as gateway;
#[cfg(feature = "lambda")]
pub use mpe_lambda_adapter as lambda;
pub use mpe_mcp_protocol as protocol;
pub use mpe_schema as schema;
pub use mpe_transport as transport;
pub use proxy::{Answer, Error, ErrorKind, FunctionCall, McpProxyEngine, McpProxyEngineBuilder};
