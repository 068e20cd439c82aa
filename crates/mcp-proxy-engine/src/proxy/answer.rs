//! What a function came to, in the shapes that programs want.

use mpe_engine::{OutcomeKind, ToolOutcome};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The answer of a tool that ran.
#[derive(Clone, Debug)]
pub struct Answer {
    outcome: ToolOutcome,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl Answer {
    pub(super) fn new(outcome: ToolOutcome) -> Self {
        Self { outcome }
    }

    /// The `CallToolResult` as the server wrote it.
    pub fn raw(&self) -> &RawValue {
        &self.outcome.result
    }

    /// Everything known of the call: who answered, over which protocol, after how many attempts.
    pub fn outcome(&self) -> &ToolOutcome {
        &self.outcome
    }

    /// Whether the tool says that it failed.
    pub fn is_error(&self) -> bool {
        self.outcome.kind == OutcomeKind::Failed
    }

    /// The answer as one value, the one that REST and GraphQL show too: `structuredContent` where there is any; else
    /// the text of a lone text block, read as JSON where it is JSON; else the content blocks.
    pub fn value(&self) -> Value {
        let value = mpe_schema::ResultValue::of(self.raw()).into_json();
        serde_json::from_str(value.get()).unwrap_or(Value::Null)
    }

    /// The text blocks, one a line; `None` when a block is no text, or when there is none.
    pub fn text(&self) -> Option<String> {
        let content: Content<'_> = serde_json::from_str(self.raw().get()).ok()?;
        let texts: Vec<String> = content
            .content
            .iter()
            .map(|block| serde_json::from_str::<Block>(block.get()).ok())
            .map(|block| block.filter(|block| block.kind == "text").and_then(|block| block.text))
            .collect::<Option<_>>()?;
        (!texts.is_empty()).then(|| texts.join("\n"))
    }
}
