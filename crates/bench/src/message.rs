//! The few JSON-RPC shapes that a benchmark reads and writes.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The envelope of a request, payload unread.
#[derive(Debug, Deserialize)]
pub struct Request<'a> {
    /// The id, as written; absent on a notification.
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    /// The method.
    #[serde(borrow)]
    pub method: &'a str,
    /// The parameters, as written.
    #[serde(borrow, default)]
    pub params: Option<&'a RawValue>,
}

/// The two members of `tools/call` parameters that routing needs.
#[derive(Debug, Deserialize)]
pub struct CallParams<'a> {
    /// The tool.
    #[serde(borrow)]
    pub name: &'a str,
    /// Its arguments, as written.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

/// The envelope of a response, payload unread.
#[derive(Debug, Deserialize)]
pub struct Response<'a> {
    /// The result, as written.
    #[serde(borrow, default)]
    pub result: Option<&'a RawValue>,
}

/// The modern revision, as it stands on the wire.
pub const MODERN: &str = "2026-07-28";
/// The newest legacy revision, as it stands on the wire.
pub const LEGACY: &str = "2025-11-25";

/// A modern `_meta` object that declares nothing.
pub const META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A modern `tools/call`.
pub fn modern_call(id: u64, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments},"_meta":{META}}}}}"#
    )
}

/// A legacy `tools/call`.
pub fn legacy_call(id: u64, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

/// A legacy `initialize`.
pub fn initialize() -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"mpe-bench","version":"1"}}}}}}"#
    )
}
