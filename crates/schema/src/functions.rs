//! Function-calling arrays for LLM vendors.

use mpe_mcp_protocol::tool::Tool;
use serde_json::{Map, Value, json};

use crate::names::unique;

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

/// The array of these tools in the vendor's shape, in order.
///
/// Names that the vendor's alphabet or length refuses are rewritten; two that would then be equal get a hash of their own.
pub fn array<'a>(tools: impl IntoIterator<Item = &'a Tool>, vendor: Vendor) -> Value {
    let tools: Vec<&Tool> = tools.into_iter().collect();
    if vendor == Vendor::Mcp {
        let raw = |tool: &&Tool| serde_json::from_str::<Value>(tool.raw().get()).unwrap_or_default();
        return Value::Array(tools.iter().map(raw).collect());
    }
    let names = unique(tools.iter().map(|tool| tool.name()), MAX_NAME_BYTES, function_name);
    let functions: Vec<Value> =
        tools.iter().zip(names).map(|(tool, name)| function(tool, &name, vendor)).collect();
    match vendor {
        Vendor::Gemini => json!([{"functionDeclarations": functions}]),
        _ => Value::Array(functions),
    }
}

fn function(tool: &Tool, name: &str, vendor: Vendor) -> Value {
    let parameters = match vendor {
        Vendor::Anthropic => "input_schema",
        Vendor::Gemini => "parametersJsonSchema",
        _ => "parameters",
    };
    let mut function = Map::new();
    function.insert("name".to_owned(), name.into());
    if let Some(text) = tool.description().or(tool.title()) {
        function.insert("description".to_owned(), text.into());
    }
    let mut schema = tool.input_schema().clone();
    if let Value::Object(members) = &mut schema {
        // Vendors read a subset without dialects; some refuse the member, all expect the type.
        members.shift_remove("$schema");
        members.entry("type").or_insert_with(|| "object".into());
    }
    function.insert(parameters.to_owned(), schema);
    match vendor {
        Vendor::OpenAi | Vendor::Ollama => json!({"type": "function", "function": function}),
        _ => Value::Object(function),
    }
}

/// Letters, digits, `_` and `-`: the alphabet that all vendors share.
fn function_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let clean: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if clean.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { clean } else { format!("_{clean}") }
}

/// The shortest of the vendors' limits.
const MAX_NAME_BYTES: usize = 64;
