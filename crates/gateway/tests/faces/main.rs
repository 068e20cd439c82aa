//! Every face, through `Gateway::handle`, in front of a scripted upstream.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod admin;
mod arbitrary;
mod batch;
mod docs;
mod fixture;
mod functions;
mod graphql;
mod mcp_bridge;
mod mcp_channel;
mod mcp_legacy;
mod mcp_listen;
mod mcp_modern;
mod mcp_resources;
mod plan;
mod replicas;
mod rest;
mod rest_extras;
mod serve;
