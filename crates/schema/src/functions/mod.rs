//! Function-calling arrays for LLM vendors.
//!
//! Each vendor reads a subset of JSON Schema. [`lower`] says a tool in that subset, tells what the subset could not say, and keeps the way
//! back from what a model emits to what the tool expects.

mod inverse;
mod listed;
mod merge;
mod open;
mod profile;
mod subset;

use indexmap::IndexMap;
use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use self::inverse::{Definition, Inverse};
use self::profile::Family;
use crate::SchemaViolation;
use crate::names::unique;
use crate::repair::repaired;

/// Whose array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// Anthropic's `tools` (Messages API).
    Anthropic,
    /// Amazon Bedrock's `toolConfig.tools` (Converse API).
    Bedrock,
    /// Gemini's `functionDeclarations`, in the OpenAPI subset of `parameters`.
    Gemini,
    /// MCP's own `tools/list` items.
    Mcp,
    /// Ollama's `tools`.
    Ollama,
    /// OpenAI's `tools`, the schema as a hint.
    OpenAi,
    /// OpenAI's `tools` with `strict: true`, the schema enforced.
    OpenAiStrict,
}

/// Something that a vendor's subset could not say as the tool's schema says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The tool.
    pub tool: String,
    /// JSON Pointer into the tool's `inputSchema`.
    pub pointer: String,
    /// What became of it.
    pub kind: LossKind,
    /// The reason, in one sentence.
    pub message: String,
}

/// What became of something that could not be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// A rule is gone: the model may emit what the tool refuses.
    Dropped,
    /// Something that the tool takes cannot be emitted any more.
    Narrowed,
    /// Said in another shape, which [`Lowered::call`] turns back: nothing is lost.
    Reshaped,
    /// The value travels as JSON text, which nobody checks before the tool does.
    Text,
}

/// Tools in a vendor's words, and the way back.
#[derive(Debug)]
pub struct Lowered {
    /// The array, one entry for each tool, in order.
    pub array: Value,
    /// What was lost, tool by tool.
    pub report: Vec<Loss>,
    functions: Vec<Function>,
}

/// A call that a model emitted, in the tool's own words.
#[derive(Debug)]
pub struct FunctionCall {
    /// The tool's name.
    pub tool: String,
    /// The tool's arguments.
    pub arguments: Box<RawValue>,
}

#[derive(Debug)]
struct Function {
    name: String,
    tool: String,
    inverse: Inverse,
    definitions: IndexMap<String, Definition>,
}

impl Vendor {
    /// Every vendor, by name.
    pub const ALL: [Self; 7] = [
        Self::Anthropic,
        Self::Bedrock,
        Self::Gemini,
        Self::Mcp,
        Self::Ollama,
        Self::OpenAi,
        Self::OpenAiStrict,
    ];

    /// The name in `?format=` and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Bedrock => "bedrock",
            Self::Gemini => "gemini",
            Self::Mcp => "mcp",
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
            Self::OpenAiStrict => "openai-strict",
        }
    }

    /// The vendor of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vendor| vendor.name() == name)
    }
}

/// The array of these tools in the vendor's shape, in order. See [`lower`].
pub fn array<'a>(tools: impl IntoIterator<Item = &'a Tool>, vendor: Vendor) -> Value {
    lower(tools, vendor).array
}

/// These tools in the vendor's words.
///
/// Names outside the vendor's alphabet or length are rewritten; two that would then be equal get a hash of their own.
pub fn lower<'a>(tools: impl IntoIterator<Item = &'a Tool>, vendor: Vendor) -> Lowered {
    let tools: Vec<&Tool> = tools.into_iter().collect();
    let names: Vec<String> = match vendor {
        Vendor::Mcp => tools.iter().map(|tool| tool.name().to_owned()).collect(),
        _ => unique(tools.iter().map(|tool| tool.name()), MAX_NAME_BYTES, function_name),
    };
    let mut report = Vec::new();
    let mut entries = Vec::with_capacity(tools.len());
    let mut functions = Vec::with_capacity(tools.len());
    for (tool, name) in tools.into_iter().zip(names) {
        let said = say(tool, vendor);
        if name != tool.name() {
            report.push(Loss {
                tool: tool.name().to_owned(),
                pointer: String::new(),
                kind: LossKind::Reshaped,
                message: format!("called `{name}`: the vendor's names are letters, digits, `_` and `-`, at most {MAX_NAME_BYTES}"),
            });
        }
        let tell = |(pointer, kind, message)| Loss { tool: tool.name().to_owned(), pointer, kind, message };
        report.extend(said.losses.into_iter().map(tell));
        entries.push(entry(tool, &name, said.schema, vendor));
        functions.push(Function {
            name,
            tool: tool.name().to_owned(),
            inverse: said.inverse,
            definitions: said.definitions,
        });
    }
    let array = match vendor {
        Vendor::Gemini => json!([{"functionDeclarations": entries}]),
        _ => Value::Array(entries),
    };
    Lowered { array, report, functions }
}

// === impl Lowered ===

impl Lowered {
    /// The tool and its arguments that a model means: names, enums, maps and texts turned back.
    ///
    /// Values that were not reshaped keep their bytes. Absent optional members that a strict schema made the model emit as `null` are left out.
    ///
    /// # Errors
    /// No such function, or arguments that do not have the lowered shape; by JSON Pointer into the model's arguments.
    pub fn call(&self, function: &str, arguments: &RawValue) -> Result<FunctionCall, Vec<SchemaViolation>> {
        let Some(found) = self.functions.iter().find(|candidate| candidate.name == function) else {
            return Err(vec![SchemaViolation::new("", format!("there is no function `{function}`"))]);
        };
        let json = found.inverse.apply(&found.definitions, arguments)?;
        let arguments = RawValue::from_string(json)
            .map_err(|error| vec![SchemaViolation::new("", format!("the arguments are no JSON: {error}"))])?;
        Ok(FunctionCall { tool: found.tool.clone(), arguments })
    }
}

/// One tool's parameters in a vendor's words.
struct Said {
    schema: Value,
    losses: Vec<(String, LossKind, String)>,
    inverse: Inverse,
    definitions: IndexMap<String, Definition>,
}

fn say(tool: &Tool, vendor: Vendor) -> Said {
    match profile::of(vendor) {
        Family::Raw => Said {
            schema: Value::Null,
            losses: Vec::new(),
            inverse: Inverse::Same,
            definitions: IndexMap::new(),
        },
        Family::Open(profile) => mended(tool, |schema| open::say(schema, &profile)),
        Family::Subset(profile) => mended(tool, |schema| subset::say(schema, &profile)),
    }
}

/// What `say` makes of the tool's schema, without what breaks the specification: vendors refuse a whole list for that.
fn mended(tool: &Tool, say: impl FnOnce(&Value) -> Said) -> Said {
    let (schema, faults) = repaired(tool.input_schema());
    let mut said = say(&schema);
    let dropped = |at| (at, LossKind::Dropped, "breaks the specification of JSON Schema".to_owned());
    said.losses.splice(0..0, faults.into_iter().map(dropped));
    said
}

fn entry(tool: &Tool, name: &str, schema: Value, vendor: Vendor) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), name.into());
    let text = tool.description().or(tool.title()).filter(|text| !text.is_empty());
    if let Some(text) = text {
        function.insert("description".to_owned(), text.into());
    }
    match vendor {
        Vendor::Mcp => serde_json::from_str(tool.raw().get()).unwrap_or_default(),
        Vendor::Anthropic => {
            function.insert("input_schema".to_owned(), schema);
            Value::Object(function)
        }
        Vendor::Bedrock => {
            function.insert("inputSchema".to_owned(), json!({"json": schema}));
            json!({"toolSpec": function})
        }
        Vendor::Gemini => {
            // An object without properties is refused; a function without parameters is not.
            if schema.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty()) {
                function.insert("parameters".to_owned(), schema);
            }
            Value::Object(function)
        }
        Vendor::Ollama | Vendor::OpenAi => {
            function.insert("parameters".to_owned(), schema);
            json!({"type": "function", "function": function})
        }
        Vendor::OpenAiStrict => {
            function.insert("parameters".to_owned(), schema);
            function.insert("strict".to_owned(), true.into());
            json!({"type": "function", "function": function})
        }
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
