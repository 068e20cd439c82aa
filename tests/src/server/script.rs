//! A tool and what it does when called.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// What a tool answers: the arguments as they were written in, a `CallToolResult` out.
type Answers = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// A tool of a scripted server.
#[derive(Clone)]
pub struct Script {
    pub(super) name: String,
    description: Map<String, Value>,
    annotations: Map<String, Value>,
    pub(super) takes: Duration,
    pub(super) answers: Answers,
    /// What it gives its caller to come back with, before it answers.
    pub(super) asks: Option<String>,
    /// The capability that a client must declare to see it.
    pub(super) needs: Option<String>,
}

/// A tool that gives its arguments back, as text and as `structuredContent`, byte for byte.
pub fn tool(name: &str) -> Script {
    let mut description = Map::new();
    description.insert("name".to_owned(), name.into());
    description.insert("description".to_owned(), format!("The scripted tool {name}.").into());
    description.insert("inputSchema".to_owned(), json!({ "type": "object" }));
    Script {
        name: name.to_owned(),
        description,
        annotations: Map::new(),
        takes: Duration::ZERO,
        asks: None,
        needs: None,
        answers: Arc::new(|arguments| {
            let text = Value::from(arguments).to_string();
            format!(r#"{{"content":[{{"type":"text","text":{text}}}],"structuredContent":{arguments}}}"#)
        }),
    }
}

impl Script {
    /// Its `inputSchema`.
    pub fn input(self, schema: Value) -> Self {
        self.with("inputSchema", schema)
    }

    /// Its `outputSchema`.
    pub fn output(self, schema: Value) -> Self {
        self.with("outputSchema", schema)
    }

    /// Any further member of its description.
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.description.insert(member.to_owned(), value);
        self
    }

    /// Annotated as changing nothing.
    pub fn read_only(mut self) -> Self {
        self.annotations.insert("readOnlyHint".to_owned(), true.into());
        self
    }

    /// Annotated as safe to repeat.
    pub fn idempotent(mut self) -> Self {
        self.annotations.insert("idempotentHint".to_owned(), true.into());
        self
    }

    /// Takes this long.
    pub fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }

    /// Answers with this `CallToolResult`, made of the arguments as they were written.
    pub fn answers(mut self, answers: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.answers = Arc::new(answers);
        self
    }

    /// Answers only who comes back with this state, and knows no other (2026-07-28, multi-round requests).
    pub fn asks(mut self, state: &str) -> Self {
        self.asks = Some(state.to_owned());
        self
    }

    /// Is listed to clients that declare this capability.
    pub fn shown_to(mut self, capability: &str) -> Self {
        self.needs = Some(capability.to_owned());
        self
    }

    /// Answers with one block of text.
    pub fn says(self, text: &str) -> Self {
        let result = json!({ "content": [{ "type": "text", "text": text }] }).to_string();
        self.answers(move |_| result.clone())
    }

    /// Runs and reports that it failed.
    pub fn fails(self, text: &str) -> Self {
        let result = json!({ "content": [{ "type": "text", "text": text }], "isError": true }).to_string();
        self.answers(move |_| result.clone())
    }

    /// The tool as `tools/list` shows it.
    pub fn described(&self) -> Value {
        let mut description = self.description.clone();
        if !self.annotations.is_empty() {
            description.insert("annotations".to_owned(), Value::Object(self.annotations.clone()));
        }
        Value::Object(description)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("name", &self.name).field("takes", &self.takes).finish_non_exhaustive()
    }
}
