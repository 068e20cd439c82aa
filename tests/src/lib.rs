//! Fixtures of the end-to-end tests: scripted MCP servers, a gateway in front of them, and clients of every face.
//!
//! Read a test first; the fixtures are written so that a test says what it arranges and what it expects, and nothing
//! else. Everything listens on the loopback interface, on ports of its own, and ends when dropped.

mod balancer;
mod gateway;
mod http;
mod mcp;
mod reference;
mod server;
mod spec;
mod tls;

pub use balancer::Balancer;
pub use gateway::{GatewayBuilder, RunningGateway, gateway};
pub use http::{Answer, Http};
pub use mcp::{Era, McpClient, McpError};
pub use reference::{Eras, Reference, serve_http, serve_pipe};
pub use server::{Exchange, Fate, Fault, Script, Server, ServerBuilder, server, tool};
pub use spec::{REVISIONS, Spec};
pub use tls::Authority;

/// How long a fixture waits for something that must happen. Long, because it only matters when a test fails anyway.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
