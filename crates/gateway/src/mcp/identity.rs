//! What this server says of itself, the same to everybody.

use std::sync::LazyLock;

use mpe_mcp_protocol::meta::key;

/// `serverInfo`, as JSON.
pub(crate) const OURSELVES: &str =
    concat!(r#"{"name":"mcp-proxy-engine","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// The member `_meta` of an answer that says nothing else there.
pub(crate) static META: LazyLock<String> =
    LazyLock::new(|| format!("\"_meta\":{{\"{}\":{OURSELVES}}}", key::SERVER_INFO));
