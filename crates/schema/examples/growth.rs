//! How time and memory grow with the number of tools: `cargo run --release -p mpe-schema --example growth`.
//!
//! Prints one row for each document and number of tools: milliseconds (the best of three), bytes written, bytes per tool.

use std::error::Error;
use std::time::Duration;

use mpe_mcp_protocol::tool::Tool;
use mpe_schema::functions::{Vendor, lower};
use mpe_schema::graphql::GraphqlSchema;
use mpe_schema::openapi::{DocumentInfo, OpenApiVersion, document, to_yaml};
use mpe_schema::{Operations, PathTemplate, ResponseMapping};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    say(&format!(
        "{:<16} {:>6} {:>10} {:>12} {:>8} {:>9}",
        "document", "tools", "ms", "bytes", "ms/1000", "bytes/1"
    ));
    for n in [500, 1000, 2000, 5000] {
        let tools = (0..n).map(tool).collect::<Result<Vec<Tool>, _>>()?;
        let mappings = (0..n / 5).map(mapping).collect::<Result<Vec<ResponseMapping>, _>>()?;
        let info = DocumentInfo::new("Growth", "1");
        let operations = || Operations::of(tools.iter().map(|tool| (tool, "server")), &mappings);
        let known = operations();
        row("operations", n, || operations().operations.len() * size_of::<mpe_schema::Operation>());
        row("openapi 3.1", n, || document(&info, &known, OpenApiVersion::V3_1).to_string().len());
        row("openapi 3.0", n, || document(&info, &known, OpenApiVersion::V3_0).to_string().len());
        let written = document(&info, &known, OpenApiVersion::V3_1);
        row("yaml", n, || to_yaml(&written).len());
        row("graphql", n, || GraphqlSchema::build(&tools).map_or(0, |schema| schema.sdl().len()));
        for vendor in [Vendor::OpenAi, Vendor::OpenAiStrict, Vendor::Gemini] {
            row(vendor.name(), n, || lower(&tools, vendor).array.to_string().len());
        }
        if let Some(kib) = peak_memory() {
            say(&format!("{:<16} {n:>6} peak resident so far: {kib} KiB", "memory"));
        }
    }
    Ok(())
}

fn row(name: &str, n: usize, mut work: impl FnMut() -> usize) {
    let mut best = Duration::MAX;
    let mut bytes = 0;
    for _ in 0..3 {
        let start = Instant::now();
        bytes = work();
        best = best.min(start.elapsed());
    }
    let ms = best.as_secs_f64() * 1e3;
    say(&format!("{name:<16} {n:>6} {ms:>10.2} {bytes:>12} {:>8.2} {:>9}", ms * 1e3 / n as f64, bytes / n));
}

/// A tool of the kind that frameworks generate: eight arguments, a definition that refers to itself, an output schema.
fn tool(i: usize) -> Result<Tool, Box<dyn Error>> {
    let tool = json!({
        "name": format!("service_{}_operation_{i}", i % 37),
        "title": format!("Operation {i}"),
        "description": format!("Does what operation {i} of the service does, and says so in a sentence of the usual length."),
        "inputSchema": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "Which one."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
                "cursor": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null},
                "mode": {"type": "string", "enum": ["fast", "thorough"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "filter": {"$ref": "#/$defs/Filter"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "dry_run": {"type": "boolean", "default": false}
            },
            "required": ["id"],
            "$defs": {"Filter": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"}, "value": {"type": ["string", "number"]},
                    "and": {"type": "array", "items": {"$ref": "#/$defs/Filter"}}
                },
                "required": ["field"]
            }}
        },
        "outputSchema": {"type": "object", "properties": {"items": {"type": "array", "items": {"type": "object"}}, "next": {"type": "string"}}},
        "annotations": {"readOnlyHint": i.is_multiple_of(2)}
    });
    Ok(Tool::parse(&RawValue::from_string(tool.to_string())?)?)
}

fn mapping(i: usize) -> Result<ResponseMapping, Box<dyn Error>> {
    let i = i * 5;
    let path = PathTemplate::parse(&format!("/v1/service_{}_operation_{i}/{{id}}", i % 37))?;
    Ok(ResponseMapping {
        path,
        response: json!({"type": "dict", "properties": [{"name": "id", "type": "str"}]}),
    })
}

/// The most memory this process has had, in KiB, where the system says (Linux).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "an example prints what it found")]
fn say(line: &str) {
    println!("{line}");
}
