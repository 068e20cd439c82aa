//! What this server says of itself, the same to everybody.

use std::sync::LazyLock;

use mpe_mcp_protocol::meta::key;

/// `serverInfo`, as JSON.
pub(crate) const OURSELVES: &str =
    concat!(r#"{"name":"mcp-proxy-engine","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// `_meta` of an answer that says nothing else there, as JSON.
pub(crate) static META: LazyLock<String> =
    LazyLock::new(|| format!("{{\"{}\":{OURSELVES}}}", key::SERVER_INFO));
