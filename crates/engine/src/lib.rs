//! One call in, one outcome out: catalogue, dispatch, retry, limits and sessions over many MCP servers.
//!
//! Read [`Engine::call`] first. No REST, no status codes, no web server.

mod call;
mod catalog;
mod check;
mod config;
mod endpoint;
mod engine;
mod error;
pub mod upstream;

pub use call::{Attempt, CallContext, CallEvents, OutcomeKind, Relay, RelayReply, ToolCall, ToolOutcome};
pub use catalog::{
    Catalogue, CatalogueTool, Collision, Derive, Derived, Snapshot, UpstreamState, UpstreamStatus,
};
pub use check::{ArgumentChecker, CheckerFactory, Violation};
pub use config::{EndpointConfig, Era, Limits, Naming, Target, UpstreamConfig};
pub use endpoint::{EndpointId, UpstreamKey};
pub use engine::{Engine, EngineBuilder, OriginPerformance};
pub use error::{Blame, CallError, CallErrorKind, Executed};
