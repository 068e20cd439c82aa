//! The Model Context Protocol's wire vocabulary and its state machines.
//!
//! This crate does no IO, reads no clock, needs no runtime and names no HTTP type: bytes and decoded
//! messages go in, decisions and bytes come out. Payloads that an intermediary must not change
//! (`params`, `result`, schemas) stay [`RawValue`](serde_json::value::RawValue).

pub mod capability;
pub mod header;
pub mod jsonrpc;
pub mod meta;
pub mod object;
pub mod pager;
pub mod params;
pub mod pointer;
pub mod probe;
pub mod result;
pub mod sse;
pub mod tool;
pub mod version;
