//! Function-calling arrays for LLM vendors.

use mpe_mcp_protocol::tool::Tool;
use serde_json::Value;

/// Whose array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Anthropic's `tools`.
    Anthropic,
    /// Gemini's `functionDeclarations`.
    Gemini,
    /// MCP's own `tools/list` items.
    Mcp,
    /// Ollama's `tools`.
    Ollama,
    /// OpenAI's `tools`.
    OpenAi,
}

/// The array of these tools in the vendor's shape.
pub fn array<'a>(tools: impl IntoIterator<Item = &'a Tool>, vendor: Vendor) -> Value {
    let _ = (tools.into_iter().count(), vendor);
    todo!()
}
