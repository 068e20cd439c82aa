//! Every face, through `Gateway::handle`, in front of a scripted upstream.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod admin;
mod batch;
mod fixture;
mod graphql;
mod mcp_bridge;
mod mcp_legacy;
mod mcp_modern;
mod rest;
mod serve;
