//! The steps of a JSON Pointer (RFC 6901 §3).

/// A member's name as one step, without the slash before it.
///
/// ```
/// assert_eq!(mpe_mcp_protocol::pointer::escape("a/b~c"), "a~1b~0c");
/// ```
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The member's name that a step means.
///
/// ```
/// assert_eq!(mpe_mcp_protocol::pointer::unescape("a~1b~0c"), "a/b~c");
/// ```
pub fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}
