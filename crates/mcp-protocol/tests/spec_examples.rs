//! The specification's own examples: each is read, written again and compared, and what is written fits the schema.
//!
//! `MPE_SPEC_DIR` names a directory with one folder per revision (`2026-07-28/schema.json`, `…/examples/TYPE/*.json`).
//! Without it the tests say that they are skipped, or fail where `CI` is set.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::io::Write;
use std::path::{Path, PathBuf};

use mpe_mcp_protocol::jsonrpc::Message;
use mpe_mcp_protocol::jsonrpc::encode::object_with;
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::params::RequestParams;
use mpe_mcp_protocol::probe::{Carrier, Heard, Probe, Verdict};
use mpe_mcp_protocol::result::{
    CallToolResult, ContentBlock, ContentKind, InputRequired, ResultType, type_of,
};
use mpe_mcp_protocol::tool::Tool;
use serde_json::Value;
use serde_json::value::RawValue;

const REVISION: &str = "2026-07-28";
/// How many examples the revision has.
const EXAMPLES: usize = 129;

struct Example {
    kind: String,
    path: PathBuf,
    text: String,
}

fn directory() -> Option<PathBuf> {
    let Some(directory) = std::env::var_os("MPE_SPEC_DIR") else {
        assert!(std::env::var_os("CI").is_none(), "MPE_SPEC_DIR is not set, and in CI nothing is skipped");
        // Not `println!`: the harness keeps that to itself when a test passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: MPE_SPEC_DIR is not set: no example of the specification is read"
        );
        return None;
    };
    Some(PathBuf::from(directory).join(REVISION))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("MPE_SPEC_DIR: {}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn examples(directory: &Path) -> Vec<Example> {
    let mut examples = Vec::new();
    for folder in files(&directory.join("examples")) {
        for path in files(&folder) {
            let kind = folder.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            examples.push(Example { kind, path, text });
        }
    }
    examples
}

/// Reads an example with what we have for its kind, and writes it again.
fn again(example: &Example) -> String {
    let raw: &RawValue = serde_json::from_str(&example.text).unwrap();
    let object = Object::parse(raw).unwrap();
    if object.get("jsonrpc").is_some() {
        return String::from_utf8(Message::parse(example.text.as_bytes()).unwrap().to_bytes()).unwrap();
    }
    match example.kind.as_str() {
        "Tool" => return Tool::parse(raw).unwrap().raw().get().to_owned(),
        "CallToolResult" => {
            let result = CallToolResult::peek(raw).unwrap();
            assert_eq!(result.result_type, ResultType::Complete);
            let blocks = ContentBlock::all(result.content.unwrap()).unwrap();
            assert!(blocks.iter().all(|block| !matches!(block.kind, ContentKind::Unknown)));
        }
        "InputRequiredResult" => drop(InputRequired::parse(raw).unwrap()),
        "AudioContent" | "EmbeddedResource" | "ImageContent" | "ResourceLink" | "TextContent" => {
            assert!(!matches!(ContentBlock::parse(raw).kind, ContentKind::Unknown));
        }
        "DiscoverResult" => {
            let outcome = Ok(raw.to_owned());
            let heard = Heard::Reply { status: Some(200), outcome: &outcome };
            assert!(matches!(Probe::new(Carrier::Http, None).hear(heard), Verdict::Found(_)));
        }
        kind if kind.ends_with("Result") => drop(type_of(raw).unwrap()),
        kind if kind.ends_with("RequestParams") => return with_meta(raw),
        _ => {}
    }
    let members: Vec<_> = object.iter().collect();
    object_with(None, &members).get().to_owned()
}

/// Takes params apart as the gateway does, and puts them together again.
fn with_meta(raw: &RawValue) -> String {
    let params = RequestParams::parse(Some(raw)).unwrap();
    let state = params.request_state.as_deref().map(|state| serde_json::value::to_raw_value(state).unwrap());
    let meta = params.meta.to_raw();
    let mut extra: Vec<(&str, &RawValue)> = Vec::new();
    extra.extend(params.has_meta.then_some(("_meta", &*meta)));
    extra.extend(params.input_responses.map(|responses| ("inputResponses", responses)));
    extra.extend(state.as_deref().map(|state| ("requestState", state)));
    object_with(Some(&params.passed_on()), &extra).get().to_owned()
}

#[test]
fn every_example_survives_reading_and_writing() {
    let Some(directory) = directory() else { return };
    let examples = examples(&directory);
    assert_eq!(examples.len(), EXAMPLES, "examples in {}", directory.display());
    for example in &examples {
        let (before, after): (Value, Value) =
            (serde_json::from_str(&example.text).unwrap(), serde_json::from_str(&again(example)).unwrap());
        assert_eq!(after, before, "{}", example.path.display());
    }
}

#[test]
fn what_is_written_fits_the_official_schema() {
    let Some(directory) = directory() else { return };
    let text = std::fs::read_to_string(directory.join("schema.json"));
    let text = text.unwrap_or_else(|error| panic!("MPE_SPEC_DIR: {}: {error}", directory.display()));
    let schema: Value = serde_json::from_str(&text).unwrap();
    for example in examples(&directory) {
        let mut of_kind = schema.clone();
        of_kind["$ref"] = format!("#/$defs/{}", example.kind).into();
        let validator = jsonschema::validator_for(&of_kind).unwrap();
        let written: Value = serde_json::from_str(&again(&example)).unwrap();
        let errors: Vec<_> = validator.iter_errors(&written).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", example.path.display());
    }
}
