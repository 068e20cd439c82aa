//! Every schema of `tests/corpus`, each named for its difficulty, through every lowering.

use std::path::Path;

use mpe_mcp_protocol::tool::Tool;
use mpe_schema::functions::{Vendor, lower};
use mpe_schema::graphql::GraphqlSchema;
use mpe_schema::openapi::{DocumentInfo, OpenApiVersion, document, to_yaml};
use mpe_schema::{Operations, PathTemplate, ResponseMapping};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Name of the file and the tool in it.
fn corpus() -> Vec<(String, Tool)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("file");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let tool = if value.get("inputSchema").is_some() {
            value
        } else {
            json!({"name": name, "inputSchema": value})
        };
        let raw = RawValue::from_string(tool.to_string()).expect("JSON");
        (name, Tool::parse(&raw).expect("tool"))
    };
    files.iter().map(read).collect()
}

fn describe(tool: &Tool, version: OpenApiVersion) -> Value {
    let info = DocumentInfo::new("T", "1");
    let properties = tool.input_schema().get("properties").and_then(Value::as_object);
    let path = properties.into_iter().flat_map(serde_json::Map::keys).find_map(|name| {
        PathTemplate::parse(&format!("/{}/{{{name}}}", tool.name().replace(['/', ' '], "%2F"))).ok()
    });
    let mapping = path.map(|path| ResponseMapping { path, response: json!({"type": "object"}) });
    document(&info, &Operations::of([(tool, "t")], mapping.as_slice()), version)
}

/// Every `$ref` of a document, wherever it stands.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "$ref" => found.push(text),
                    value => references(value, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_corpus_is_as_large_as_promised() {
    assert!(corpus().len() >= 60);
}

#[test]
fn every_reference_of_every_document_leads_somewhere() {
    for (name, tool) in corpus() {
        for version in [OpenApiVersion::V3_1, OpenApiVersion::V3_0] {
            let document = describe(&tool, version);
            let mut found = Vec::new();
            references(&document, &mut found);
            for reference in found {
                let pointer =
                    reference.strip_prefix('#').unwrap_or_else(|| panic!("{name}: {reference} leaves"));
                let target = document.pointer(&pointer.replace("%20", " "));
                assert!(target.is_some(), "{name} {version:?}: {reference} dangles");
            }
        }
    }
}

#[test]
fn every_document_is_read_by_an_independent_model_of_its_version() {
    for (name, tool) in corpus() {
        let document = describe(&tool, OpenApiVersion::V3_0);
        let read: openapiv3::OpenAPI =
            serde_json::from_value(document).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read.operations().count() > 0, "{name}");
        let document = describe(&tool, OpenApiVersion::V3_1);
        oas3::from_json(document.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_lowered_schema_uses_only_keywords_of_3_0() {
    const KNOWN: [&str; 36] = [
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "default",
        "deprecated",
        "description",
        "discriminator",
        "enum",
        "example",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "externalDocs",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "nullable",
        "oneOf",
        "pattern",
        "properties",
        "readOnly",
        "required",
        "title",
        "type",
        "uniqueItems",
        "writeOnly",
        "xml",
    ];
    fn judge(name: &str, schema: &Value) {
        let members = schema.as_object().unwrap_or_else(|| panic!("{name}: {schema} is no object"));
        for (keyword, value) in members {
            assert!(KNOWN.contains(&keyword.as_str()) || keyword.starts_with("x-"), "{name}: {keyword}");
            match keyword.as_str() {
                "type" => assert!(value.is_string() && value != "null", "{name}: {value}"),
                "properties" => value.as_object().expect("map").values().for_each(|value| judge(name, value)),
                "allOf" | "anyOf" | "oneOf" => {
                    value.as_array().expect("list").iter().for_each(|value| judge(name, value));
                }
                "items" | "not" => judge(name, value),
                "additionalProperties" if !value.is_boolean() => judge(name, value),
                "exclusiveMinimum" | "exclusiveMaximum" | "nullable" => {
                    assert!(value.is_boolean(), "{name}: {value}");
                }
                _ => {}
            }
        }
    }
    for (name, tool) in corpus() {
        let document = describe(&tool, OpenApiVersion::V3_0);
        document["components"]["schemas"]
            .as_object()
            .expect("schemas")
            .values()
            .for_each(|schema| judge(&name, schema));
    }
}

#[test]
fn every_document_reads_back_from_yaml() {
    for (name, tool) in corpus() {
        let document = describe(&tool, OpenApiVersion::V3_1);
        let read: Value =
            serde_saphyr::from_str(&to_yaml(&document)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read, document, "{name}");
    }
}

#[test]
fn the_whole_corpus_is_one_graphql_schema() {
    let tools: Vec<Tool> = corpus().into_iter().map(|(_, tool)| tool).collect();
    let sdl = GraphqlSchema::build(&tools).expect("schema").sdl();
    assert!(sdl.contains("type Query"));
}

#[test]
fn every_tool_of_the_corpus_can_be_said_to_every_vendor() {
    let tools: Vec<Tool> = corpus().into_iter().map(|(_, tool)| tool).collect();
    for vendor in Vendor::ALL {
        let lowered = lower(&tools, vendor);
        let entries = match vendor {
            Vendor::Gemini => lowered.array[0]["functionDeclarations"].as_array(),
            _ => lowered.array.as_array(),
        };
        assert_eq!(entries.map(Vec::len), Some(tools.len()), "{vendor:?}");
        assert_eq!(lowered.array, lower(&tools, vendor).array, "{vendor:?}: the same tools, the same array");
    }
}

/// The rules of OpenAI's strict mode: closed objects, everything required, no keyword beyond the published ones.
#[test]
fn every_strict_schema_obeys_the_published_subset() {
    fn judge(name: &str, schema: &Value) {
        const KNOWN: [&str; 18] = [
            "$defs",
            "$ref",
            "additionalProperties",
            "anyOf",
            "description",
            "enum",
            "exclusiveMaximum",
            "exclusiveMinimum",
            "format",
            "items",
            "maxItems",
            "maximum",
            "minItems",
            "minimum",
            "multipleOf",
            "pattern",
            "properties",
            "type",
        ];
        let members = schema.as_object().unwrap_or_else(|| panic!("{name}: {schema}"));
        for (keyword, value) in members {
            assert!(KNOWN.contains(&keyword.as_str()) || keyword == "required", "{name}: {keyword}");
            match keyword.as_str() {
                "$defs" | "properties" => {
                    value.as_object().expect("map").values().for_each(|value| judge(name, value));
                }
                "anyOf" => value.as_array().expect("list").iter().for_each(|value| judge(name, value)),
                "items" => judge(name, value),
                _ => {}
            }
        }
        if let Some(properties) = members.get("properties").and_then(Value::as_object) {
            let names: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
            assert_eq!(members.get("required"), Some(&Value::Array(names)), "{name}: {schema}");
            assert_eq!(members.get("additionalProperties"), Some(&Value::Bool(false)), "{name}: {schema}");
        }
    }
    for (name, tool) in corpus() {
        let lowered = lower([&tool], Vendor::OpenAiStrict);
        let schema = &lowered.array[0]["function"]["parameters"];
        assert_eq!((&schema["type"], schema.get("anyOf")), (&json!("object"), None), "{name}");
        judge(&name, schema);
    }
}

/// The `Schema` of the Gemini API: no references, no boolean schemas, no object without properties, `enum` of strings that are not empty.
#[test]
fn every_gemini_schema_obeys_the_published_subset() {
    fn judge(name: &str, schema: &Value) {
        const KNOWN: [&str; 14] = [
            "anyOf",
            "description",
            "enum",
            "format",
            "items",
            "maxItems",
            "maxLength",
            "maximum",
            "minItems",
            "minLength",
            "minimum",
            "nullable",
            "pattern",
            "properties",
        ];
        let members = schema.as_object().unwrap_or_else(|| panic!("{name}: {schema}"));
        for (keyword, value) in members {
            let is_known = KNOWN.contains(&keyword.as_str()) || keyword == "type" || keyword == "required";
            assert!(is_known, "{name}: {keyword}");
            match keyword.as_str() {
                "properties" => {
                    let map = value.as_object().expect("map");
                    assert!(!map.is_empty(), "{name}: {schema}");
                    map.values().for_each(|value| judge(name, value));
                }
                "anyOf" => value.as_array().expect("list").iter().for_each(|value| judge(name, value)),
                "items" => judge(name, value),
                "type" => assert!(value.is_string() && value != "null", "{name}: {schema}"),
                "enum" => {
                    let texts = value.as_array().expect("list").iter();
                    assert!(
                        texts.clone().all(|v| v.as_str().is_some_and(|text| !text.is_empty())),
                        "{name}: {schema}"
                    );
                }
                _ => {}
            }
        }
    }
    for (name, tool) in corpus() {
        let lowered = lower([&tool], Vendor::Gemini);
        if let Some(schema) = lowered.array.pointer("/0/functionDeclarations/0/parameters") {
            judge(&name, schema);
        }
    }
}
