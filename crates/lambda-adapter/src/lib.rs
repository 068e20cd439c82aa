//! MCP Proxy Engine on AWS Lambda: events in, replies out; Lambda functions as upstream servers.
//!
//! Two independent halves:
//!
//! * **Running on Lambda.** [`run`] polls the Lambda Runtime API with the official runtime crate. Every event becomes one
//!   [`http::Request`] for the very same [`Gateway::handle`](mpe_gateway::Gateway::handle) that serves sockets, and the
//!   response goes back in the event's own shape. [`Handler`] is the same without the Runtime API, for tests and for
//!   runtimes of one's own.
//! * **Calling Lambda** (feature `sdk`). [`upstream::LambdaUpstream`] makes a function an MCP server of the engine.
//!
//! # Events
//!
//! | event | becomes | reply |
//! |---|---|---|
//! | Function URL, HTTP API (payload 2.0) | the request it describes | `statusCode`, `headers`, `cookies`, `body` |
//! | REST API, HTTP API (payload 1.0) | the request it describes | `statusCode`, `multiValueHeaders`, `body` |
//! | Application Load Balancer | the request it describes | the same, single or multi value as the target group is set |
//! | `{"path": "get_user/123", …}` | that route of the REST face | the body's JSON |
//! | `{"tool": "get_user", "arguments": {…}}` | `POST /tools/get_user` | the body's JSON |
//! | `[{"tool": …}, …]` | `POST /batch` | the body's JSON |
//! | `{"query": "{ … }", "variables": {…}}` | `POST /graphql` | the body's JSON |
//! | `{"jsonrpc": "2.0", …}` | `POST /mcp` | the JSON-RPC response |
//!
//! Every direct payload may name a tenant with `endpoint_id`; `function_name` is accepted for `tool`, `params` and
//! `body` for `arguments`. A direct payload that the gateway answers with an error ends as a function error whose
//! `errorType` is the problem's type.

mod direct;
mod error;
mod event;
mod handler;
mod http_event;
mod reply;
mod runtime;
#[cfg(feature = "sdk")]
pub mod upstream;

pub use error::{InvocationError, InvocationErrorKind};
pub use handler::{Answer, Handler, Options, ResponseStream};
pub use reply::MAX_PAYLOAD_BYTES;
pub use runtime::{RunError, run, run_with};
