//! The engine through its front door, in front of scripted upstreams and on paused time.

#![allow(clippy::unwrap_used, reason = "test helpers say what they expect by unwrapping it")]

mod batch;
mod catalogue;
mod dispatch;
mod eras;
mod hedge;
mod hostile;
mod isolation;
mod items;
mod lazy;
mod listen;
mod memory;
mod once;
mod outputs;
mod peer;
mod plan;
mod reload;
mod retry;
mod reuse;
mod scripted;
mod shutdown;
mod sleep;
mod source;
mod tenants;
mod variants;
