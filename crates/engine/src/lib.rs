//! One call in, one outcome out: catalogue, dispatch, retry, limits and sessions over many MCP servers.
//!
//! Read [`Engine::call`] first. No REST, no status codes, no web server.

mod asking;
mod attempt;
mod batch;
mod breaker;
mod dispatch;
mod engine;
mod eras;
mod hedge;
mod limit;
mod outcome;
mod outputs;
mod pinned;
pub mod plan;
pub mod retry;
mod reuse;

mod catalog;
mod discovery;
mod fleet;
mod handle;
mod lazy;
mod listen;
mod lister;
pub mod source;
mod tenant;
pub mod upstream;
mod variants;

mod call;
mod check;
mod config;
mod endpoint;
mod error;
mod metrics;
mod performance;

pub use asking::{Asking, Question};
pub use batch::{BatchCancel, BatchResult, BatchStream};
pub use breaker::BreakerConfig;
pub use call::{Attempt, CallContext, CallEvents, OutcomeKind, Relay, RelayReply, ToolCall, ToolOutcome};
pub use catalog::{
    Catalogue, CataloguePrompt, CatalogueResource, CatalogueTemplate, CatalogueTool, Collision,
    CollisionKind, Derive, Derived, Memory, Snapshot, UpstreamState, UpstreamStatus,
};
pub use check::{ArgumentChecker, CheckerFactory, Violation};
pub use config::{
    EjectionConfig, EndpointConfig, Era, Limits, Lists, Naming, ProcessConfig, RESERVED_HEADERS, Start,
    Target, ToolLimits, ToolOverride, UpstreamConfig,
};
pub use endpoint::{EndpointId, UpstreamKey};
pub use engine::{Engine, EngineBuilder};
pub use error::{Blame, CallError, CallErrorKind, Executed};
pub use hedge::HedgeConfig;
pub use lazy::{EndpointSource, LazyLimits};
pub use listen::{Changes, Interest, Listening};
pub use metrics::{METRICS, Metric};
pub use performance::OriginPerformance;
pub use retry::RetryConfig;
pub use reuse::ReuseConfig;
pub use variants::Wish;
