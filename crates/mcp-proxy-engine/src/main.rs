//! The `mcp-proxy-engine` command.
fn main() {}
