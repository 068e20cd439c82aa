//! Writes every outside description of a set of tools, for validators of other projects to judge.
//!
//! `cargo run -p mpe-schema --example corpus -- OUT [FILE…]`: each FILE holds one tool, one JSON Schema, or a `tools/list` result; without any, the
//! corpus of difficult schemas. Writes `openapi-3.1.{json,yaml}`, `openapi-3.0.{json,yaml}`, `schema.graphql` and `functions-VENDOR.json`.

use std::error::Error;
use std::path::{Path, PathBuf};

use mpe_mcp_protocol::tool::Tool;
use mpe_schema::functions::{Vendor, array};
use mpe_schema::graphql::GraphqlSchema;
use mpe_schema::openapi::{DocumentInfo, OpenApiVersion, Security, document, to_yaml};
use mpe_schema::{Operations, PathTemplate, ResponseMapping};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let out = arguments.next().ok_or("expected the folder to write to")?;
    let mut files: Vec<PathBuf> = arguments.collect();
    if files.is_empty() {
        files = corpus()?;
    }
    let mut tools = Vec::new();
    for file in &files {
        tools.extend(tools_of(file).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    std::fs::create_dir_all(&out)?;
    write_all(&out, &tools)?;
    Ok(())
}

/// One scheme of each kind, for validators to see.
fn security() -> Result<Security, String> {
    let flow = json!({
        "authorizationUrl": "https://login.test/authorize", "tokenUrl": "https://login.test/token",
        "scopes": {"call": "Call tools."},
    });
    let mut security = Security::default();
    security.add("bearer", &json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}))?;
    security.add("key", &json!({"type": "apiKey", "in": "header", "name": "X-Api-Key"}))?;
    security.add("login", &json!({"type": "oauth2", "flows": {"authorizationCode": flow}}))?;
    let discovery = "https://login.test/.well-known/openid-configuration";
    security.add("person", &json!({"type": "openIdConnect", "openIdConnectUrl": discovery}))?;
    Ok(security)
}

fn write_all(out: &Path, tools: &[Tool]) -> Result<(), Box<dyn Error>> {
    let info = DocumentInfo {
        title: "Corpus".to_owned(),
        version: "1.0.0".to_owned(),
        description: Some("Every tool of the corpus.".to_owned()),
        servers: vec![("https://gateway.test".to_owned(), None)],
        security: security()?,
    };
    let operations = Operations::of(tools.iter().map(|tool| (tool, "corpus")), &mappings(tools));
    for (name, version) in [("3.1", OpenApiVersion::V3_1), ("3.0", OpenApiVersion::V3_0)] {
        let document = document(&info, &operations, version);
        std::fs::write(out.join(format!("openapi-{name}.json")), serde_json::to_vec_pretty(&document)?)?;
        std::fs::write(out.join(format!("openapi-{name}.yaml")), to_yaml(&document))?;
    }
    std::fs::write(out.join("schema.graphql"), GraphqlSchema::build(tools)?.sdl())?;
    for vendor in Vendor::ALL {
        let path = out.join(format!("functions-{}.json", vendor.name()));
        std::fs::write(path, serde_json::to_vec_pretty(&array(tools, vendor))?)?;
    }
    Ok(())
}

/// A GET for each tool that has a property whose name fits a path.
fn mappings(tools: &[Tool]) -> Vec<ResponseMapping> {
    let mut mappings = Vec::new();
    for tool in tools {
        let properties = tool.input_schema().get("properties").and_then(Value::as_object);
        // Redocly reads variables of other alphabets wrongly, so they get no path here.
        for name in properties.into_iter().flat_map(serde_json::Map::keys).filter(|name| name.is_ascii()) {
            if let Ok(path) = PathTemplate::parse(&format!("/{}/{{{name}}}", tool.name())) {
                mappings.push(ResponseMapping { path, response: json!({"type": "dict"}) });
                break;
            }
        }
    }
    mappings
}

fn corpus() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    Ok(files)
}

/// One tool, one JSON Schema (the tool is named after the file), or a `tools/list` result.
fn tools_of(file: &Path) -> Result<Vec<Tool>, Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    let value: Value = serde_json::from_str(&text)?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let listed = match value {
        Value::Object(ref members) if members.get("tools").is_some_and(Value::is_array) => {
            value["tools"].as_array().cloned().unwrap_or_default()
        }
        Value::Object(ref members) if members.contains_key("inputSchema") => vec![value],
        schema => vec![json!({"name": stem, "inputSchema": schema})],
    };
    let parse = |tool: &Value| -> Result<Tool, Box<dyn Error>> {
        Ok(Tool::parse(&RawValue::from_string(tool.to_string())?)?)
    };
    listed.iter().map(parse).collect()
}
