//! One engine in front of many MCP servers: MCP, REST, OpenAPI, GraphQL, AWS Lambda and function-calling arrays.

pub mod config;
pub mod demo;
