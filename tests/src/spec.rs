//! The official schema of each revision, as a judge of what we write.
//!
//! `MPE_SPEC_DIR` names a directory with one folder per revision (`2026-07-28/schema.json`). Without it nothing is
//! judged, which is an error where `CI` is set.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Value, json};

/// Every revision with an official schema, the oldest first.
pub const REVISIONS: [&str; 5] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];

/// The schema of one revision. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spec {
    revision: &'static str,
    schema: Arc<Value>,
}

/// A definition: its revision and its name.
type Definition = (&'static str, String);

/// Compiled definitions.
static COMPILED: OnceLock<Mutex<HashMap<Definition, Arc<Validator>>>> = OnceLock::new();
/// Parsed schemas, by revision.
static PARSED: OnceLock<Mutex<HashMap<&'static str, Arc<Value>>>> = OnceLock::new();

impl Spec {
    /// The schema of a revision; `None` without `MPE_SPEC_DIR`.
    ///
    /// # Panics
    /// Without `MPE_SPEC_DIR` where `CI` is set; when there is no such schema.
    pub fn of(revision: &str) -> Option<Self> {
        let directory = std::env::var_os("MPE_SPEC_DIR").map(PathBuf::from);
        assert!(
            directory.is_some() || std::env::var_os("CI").is_none(),
            "MPE_SPEC_DIR is not set: nothing that is written is held against the specification"
        );
        let revision =
            REVISIONS.into_iter().find(|known| *known == revision).expect("a revision with a schema");
        let path = directory?.join(revision).join("schema.json");
        let mut parsed = PARSED.get_or_init(Mutex::default).lock().expect("no panic under the lock");
        let schema = parsed.entry(revision).or_insert_with(|| {
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("MPE_SPEC_DIR: {}: {error}", path.display()));
            Arc::new(serde_json::from_str(&text).expect("a schema is JSON"))
        });
        Some(Self { revision, schema: Arc::clone(schema) })
    }

    /// Judges a request or a notification.
    ///
    /// # Errors
    /// Each reason why it is not one of this revision's.
    pub fn judge(&self, message: &Value) -> Result<(), String> {
        let Some(method) = message["method"].as_str() else { return Err(format!("no method: {message}")) };
        let shell = if message.get("id").is_some() { "JSONRPCRequest" } else { "JSONRPCNotification" };
        self.judge_as(shell, message)?;
        match self.definition_of(method) {
            Some(definition) => self.judge_as(&definition, message),
            None => Err(format!("{} has no method {method}", self.revision)),
        }
    }

    /// Judges the response to a request of that method.
    ///
    /// # Errors
    /// Each reason why it is none.
    pub fn judge_response(&self, method: &str, response: &Value) -> Result<(), String> {
        let names = |result, old| if self.has(result) { result } else { old };
        if response.get("error").is_some() {
            return self.judge_as(names("JSONRPCErrorResponse", "JSONRPCError"), response);
        }
        self.judge_as(names("JSONRPCResultResponse", "JSONRPCResponse"), response)?;
        let request = self.definition_of(method);
        let request = request.ok_or_else(|| format!("{} has no method {method}", self.revision))?;
        let stem = request.strip_suffix("Request").unwrap_or(&request);
        let whole = format!("{stem}ResultResponse");
        if self.has(&whole) {
            self.judge_as(&whole, response)?;
        }
        let result = &response["result"];
        // Where either may come, the schema takes anything for the one that asks for input.
        if result["resultType"] == "input_required" {
            return self.judge_as("InputRequiredResult", result);
        }
        let name = format!("{stem}Result");
        let name = if self.has(&name) { name } else { "EmptyResult".to_owned() };
        self.judge_as(&name, result)
    }

    /// Judges any message: a response is one to `method`.
    ///
    /// # Errors
    /// As [`Spec::judge`] and [`Spec::judge_response`].
    pub fn judge_any(&self, method: &str, message: &Value) -> Result<(), String> {
        match message.get("method") {
            Some(_) => self.judge(message),
            None => self.judge_response(method, message),
        }
    }

    fn definitions(&self) -> (&'static str, &serde_json::Map<String, Value>) {
        let name = if self.schema.get("$defs").is_some() { "$defs" } else { "definitions" };
        (name, self.schema[name].as_object().expect("definitions are an object"))
    }

    fn has(&self, name: &str) -> bool {
        self.definitions().1.contains_key(name)
    }

    /// The definition of a request or notification.
    fn definition_of(&self, method: &str) -> Option<String> {
        let (_, definitions) = self.definitions();
        let found =
            definitions.iter().find(|(_, definition)| definition["properties"]["method"]["const"] == method);
        found.map(|(name, _)| name.clone())
    }

    fn judge_as(&self, definition: &str, value: &Value) -> Result<(), String> {
        let mut compiled = COMPILED.get_or_init(Mutex::default).lock().expect("no panic under the lock");
        let key = (self.revision, definition.to_owned());
        let validator = Arc::clone(compiled.entry(key).or_insert_with(|| {
            let (name, definitions) = self.definitions();
            let schema = json!({
                "$schema": self.schema["$schema"],
                name: definitions,
                "allOf": [{ "$ref": format!("#/{name}/{definition}") }],
            });
            Arc::new(jsonschema::validator_for(&schema).expect("an official schema compiles"))
        }));
        drop(compiled);
        let reasons: Vec<_> = validator
            .iter_errors(value)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        if reasons.is_empty() {
            return Ok(());
        }
        Err(format!("no {definition} of {}: {value}\n  {}", self.revision, reasons.join("\n  ")))
    }
}
