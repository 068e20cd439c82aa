use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{DocumentInfo, OpenApiVersion, document, to_yaml};
use crate::{Operations, PathTemplate, ResponseMapping};

fn tool(tool: &Value) -> Tool {
    let raw = RawValue::from_string(tool.to_string()).expect("JSON");
    Tool::parse(&raw).expect("tool")
}

fn info() -> DocumentInfo {
    DocumentInfo {
        servers: vec![("https://api.example.org".to_owned(), None)],
        ..DocumentInfo::new("Demo", "1.0")
    }
}

fn describe(tools: &[Value], mappings: &[(&str, Value)], version: OpenApiVersion) -> Value {
    let tools: Vec<Tool> = tools.iter().map(tool).collect();
    let mappings: Vec<ResponseMapping> = mappings
        .iter()
        .map(|(path, response)| ResponseMapping {
            path: PathTemplate::parse(path).expect("path"),
            response: response.clone(),
        })
        .collect();
    let operations = Operations::of(tools.iter().map(|tool| (tool, "demo")), &mappings);
    assert_eq!(operations.problems, []);
    document(&info(), &operations, version)
}

fn get_user() -> Value {
    json!({
        "name": "get_user", "title": "Get a user", "description": "Looks a user up.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "user_id": {"type": "string", "description": "The user's id."},
                "fields": {"type": "array", "items": {"$ref": "#/$defs/field"}},
                "page": {"type": ["integer", "null"], "exclusiveMinimum": 0}
            },
            "required": ["user_id"],
            "$defs": {"field": {"enum": ["name", "mail"]}}
        },
        "annotations": {"readOnlyHint": true}
    })
}

fn lowered(input: Value) -> Value {
    let document = describe(&[json!({"name": "t", "inputSchema": input})], &[], OpenApiVersion::V3_0);
    let schemas = &document["components"]["schemas"];
    for (name, schema) in schemas.as_object().expect("schemas") {
        serde_json::from_value::<openapiv3::Schema>(schema.clone())
            .map(drop)
            .or_else(|error| if schema.get("$ref").is_some() { Ok(()) } else { Err(error) })
            .unwrap_or_else(|error| panic!("{name}: {error}: {schema}"));
    }
    schemas.clone()
}

#[test]
fn no_component_is_there_for_nothing() {
    for version in [OpenApiVersion::V3_1, OpenApiVersion::V3_0] {
        let mut described = get_user();
        let has_content = |tool: &Value| {
            describe(std::slice::from_ref(tool), &[], version)["components"]["schemas"]
                .get("Content")
                .is_some()
        };
        assert!(has_content(&described), "{version:?}");
        described["outputSchema"] = json!({"type": "object"});
        assert!(!has_content(&described), "{version:?}");
    }
}

#[test]
fn a_document_of_each_version_is_as_reviewed() {
    let mapping =
        ("/get_user/{user_id}", json!({"type": "dict", "properties": [{"name": "id", "type": "str"}]}));
    for (name, version) in [("3.1", OpenApiVersion::V3_1), ("3.0", OpenApiVersion::V3_0)] {
        let document = describe(&[get_user()], std::slice::from_ref(&mapping), version);
        insta::assert_snapshot!(format!("demo-{name}"), to_yaml(&document));
    }
}

#[test]
fn both_versions_are_read_back_by_others() {
    let document_31 =
        describe(&[get_user()], &[("/get_user/{user_id}", json!({"type": "object"}))], OpenApiVersion::V3_1);
    oas3::from_json(document_31.to_string()).expect("3.1 reads");
    let document_30 =
        describe(&[get_user()], &[("/get_user/{user_id}", json!({"type": "object"}))], OpenApiVersion::V3_0);
    let read: openapiv3::OpenAPI = serde_json::from_value(document_30).expect("3.0 reads");
    assert_eq!(read.operations().count(), 2);
}

#[test]
fn references_point_to_where_their_targets_stand() {
    let input = json!({
        "$id": "https://example.org/s", "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "self": {"$ref": "#"}, "by_name": {"$ref": "#/definitions/a~1b%20c"}, "again": {"$ref": "#/properties/by_name"},
            "gone": {"$ref": "#/definitions/none", "title": "kept"}, "anchor": {"$ref": "#here"},
            "$ref": {"const": {"ref": "#/no/reference"}}, "value": {"const": {"$ref": "#/no/reference"}},
            "loop": {"$ref": "#/definitions/l"}
        },
        "definitions": {"a/b c": {"type": "integer", "$id": "#x"}, "d": {"$anchor": "here"}, "l": {"$ref": "#/definitions/m"}, "m": {"$ref": "#/definitions/l"}}
    });
    let document = describe(&[json!({"name": "t", "inputSchema": input})], &[], OpenApiVersion::V3_1);
    let schema = &document["components"]["schemas"]["TArguments"];
    let place = "#/components/schemas/TArguments";
    assert_eq!(schema["properties"]["self"]["$ref"], place);
    let by_name = schema["properties"]["by_name"]["$ref"].as_str().expect("reference");
    assert!(by_name.starts_with(&format!("{place}_a_1b_c_")), "{by_name}");
    assert_eq!(document.pointer(by_name.trim_start_matches('#')), Some(&json!({"type": "integer"})));
    let again = schema["properties"]["again"]["$ref"].as_str().expect("reference");
    assert_eq!(document.pointer(again.trim_start_matches('#')), Some(&json!({"$ref": by_name})));
    assert_eq!(
        schema["properties"]["gone"],
        json!({"title": "kept", "x-unresolved-ref": "#/definitions/none"})
    );
    assert_eq!(schema["properties"]["anchor"]["$ref"], format!("{place}_d"));
    assert_eq!(schema["properties"]["$ref"], json!({"const": {"ref": "#/no/reference"}}));
    assert_eq!(schema["properties"]["value"], json!({}));
    assert_eq!(schema["properties"]["loop"], json!({"x-unresolved-ref": "#/definitions/l"}));
    assert_eq!((schema.get("$id"), schema.get("definitions")), (None, None));
}

#[test]
fn older_spellings_become_those_of_2020_12() {
    let input = json!({
        "type": "object",
        "properties": {
            "t": {"items": [{"type": "string"}, {"$ref": "#/properties/t/items/0"}], "additionalItems": false},
            "n": {"minimum": 3, "exclusiveMinimum": true, "required": true}
        },
        "dependencies": {"t": ["n"], "n": {"required": ["t"]}}
    });
    let document = describe(&[json!({"name": "t", "inputSchema": input})], &[], OpenApiVersion::V3_1);
    let first = document
        .pointer("/components/schemas/TArguments/properties/t/prefixItems/1/$ref")
        .and_then(Value::as_str)
        .expect("a reference");
    assert_eq!(document.pointer(first.trim_start_matches('#')), Some(&json!({"type": "string"})));
    assert_eq!(
        document["components"]["schemas"]["TArguments"],
        json!({
            "type": "object",
            "properties": {
                "t": {
                    "prefixItems": [{"type": "string"}, {"$ref": first}],
                    "items": false
                },
                "n": {"exclusiveMinimum": 3}
            },
            "dependentRequired": {"t": ["n"]},
            "dependentSchemas": {"n": {"required": ["t"]}}
        })
    );
}

#[test]
fn lowering_says_nullable_enum_bounds_and_tuples_in_the_words_of_3_0() {
    let schemas = lowered(json!({
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", null]},
            "b": {"const": 3},
            "c": {"type": "integer", "exclusiveMinimum": 0, "minimum": -5},
            "d": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false},
            "e": {"type": ["string", "integer"], "maxLength": 3},
            "f": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "g": true, "h": false,
            "i": {"type": "array"},
            "j": {"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": false},
            "k": {"type": "string", "examples": ["one", "two"], "if": {"minLength": 1}, "then": {"maxLength": 2}}
        },
        "required": []
    }));
    let properties = &schemas["TArguments"]["properties"];
    let null_only = json!({"type": "string", "nullable": true, "enum": [null]});
    assert_eq!(properties["a"], json!({"enum": ["x", null], "type": "string", "nullable": true}));
    assert_eq!(properties["b"], json!({"enum": [3]}));
    assert_eq!(properties["c"], json!({"minimum": 0, "exclusiveMinimum": true, "type": "integer"}));
    assert_eq!(
        properties["d"],
        json!({"type": "array", "maxItems": 2, "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}})
    );
    assert_eq!(properties["e"], json!({"maxLength": 3, "anyOf": [{"type": "string"}, {"type": "integer"}]}));
    assert_eq!(properties["f"], json!({"anyOf": [{"type": "string"}, null_only]}));
    assert_eq!((&properties["g"], &properties["h"]), (&json!({}), &json!({"not": {}})));
    assert_eq!(properties["i"], json!({"type": "array", "items": {}}));
    assert_eq!(properties["j"], json!({"additionalProperties": {"type": "string"}}));
    assert_eq!(properties["k"], json!({"example": "one", "type": "string"}));
    assert_eq!(schemas["TArguments"].get("required"), None);
}

#[test]
fn lowering_makes_components_of_definitions_recursive_ones_too() {
    let schemas = lowered(json!({
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/node", "description": "The tree."}, "top": {"$ref": "#"}},
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}
    }));
    let node = json!({"$ref": "#/components/schemas/TArguments_node"});
    assert_eq!(
        schemas["TArguments"]["properties"],
        json!({
            "tree": {"description": "The tree.", "allOf": [node]},
            "top": {"$ref": "#/components/schemas/TArguments"}
        })
    );
    assert_eq!(schemas["TArguments_node"], json!({"properties": {"next": node}, "type": "object"}));
}

#[test]
fn a_chain_of_ten_thousand_definitions_does_not_exhaust_the_stack() {
    let mut definitions = serde_json::Map::new();
    for i in 0..10_000 {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        definitions.insert(format!("d{i}"), json!({"type": "object", "properties": {"next": next}}));
    }
    definitions.insert("d10000".to_owned(), json!({"type": "string"}));
    let schemas =
        lowered(json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}));
    assert_eq!(schemas["TArguments_d10000"], json!({"type": "string"}));
}

#[test]
fn yaml_reads_back_as_the_same_document() {
    let strings = [
        "yes",
        "no",
        "on",
        "off",
        "null",
        "~",
        "",
        " ",
        "1.0",
        "1e3",
        "0x1F",
        "0o7",
        "012",
        "12:30",
        "2024-01-01",
        "- a",
        "# a",
        "a: b",
        "a #b",
        "{a}",
        "[a]",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "'",
        "\"",
        "a\nb",
        "a\nb\n",
        "\n",
        "\ta",
        "trailing ",
        " leading",
        "é",
        "\u{2028}",
        "\u{7f}",
        "\u{85}",
        "\u{feff}",
        "😀",
        "true",
        "NaN",
        ".inf",
        "=",
        "<<",
        "---",
        "...",
        "a\r\nb",
        "long long long long long long long long long long long long long long long long long long long line",
    ];
    let document = json!({
        "strings": strings.as_slice(),
        "keys": strings.iter().map(|text| ((*text).to_owned(), json!(text))).collect::<serde_json::Map<_, _>>(),
        "values": [null, true, 0, -1, 1.5, 1e300, u64::MAX, i64::MIN, [], {}, [[]], [{}], {"a": [{"b": []}]}]
    });
    let yaml = to_yaml(&document);
    let read: Value = serde_saphyr::from_str(&yaml).expect("YAML reads");
    assert_eq!(read, document);
}

#[test]
fn the_same_tools_give_the_same_bytes() {
    let tools = [get_user(), json!({"name": "b", "inputSchema": {"type": "object"}})];
    let once = describe(&tools, &[], OpenApiVersion::V3_1).to_string();
    assert_eq!(once, describe(&tools, &[], OpenApiVersion::V3_1).to_string());
}

#[test]
fn null_among_values_is_said_in_3_0_and_nothing_else_is_allowed_with_it() {
    let v = |schema: Value| {
        let input = json!({"type": "object", "properties": {"v": schema}});
        lowered(input)["TArguments"]["properties"]["v"].clone()
    };
    let nothing = json!({"type": "string", "nullable": true, "enum": [null]});
    assert_eq!(v(json!({"const": null})), nothing);
    assert_eq!(v(json!({"not": {"const": null}})), json!({"not": nothing}));
    assert_eq!(v(json!({"enum": [null, "a"]})), json!({"allOf": [{"anyOf": [{"enum": ["a"]}, nothing]}]}));
    assert_eq!(
        v(json!({"oneOf": [{"const": null}, {"type": "string"}]})),
        json!({"oneOf": [nothing, {"type": "string"}]})
    );
}

#[test]
fn a_default_of_another_type_is_set_aside() {
    let document = |version| {
        let properties = json!({"a": {"type": "string", "default": null}, "b": {"type": ["string", "null"], "default": null}});
        let tool = json!({"name": "t", "inputSchema": {"type": "object", "properties": properties}});
        let document = describe(&[tool], &[], version);
        document["components"]["schemas"]["TArguments"]["properties"].clone()
    };
    for version in [OpenApiVersion::V3_0, OpenApiVersion::V3_1] {
        let properties = document(version);
        assert_eq!(properties["a"], json!({"type": "string", "x-default": null}), "{version:?}");
        assert_eq!(properties["b"]["default"], Value::Null);
        assert!(properties["b"].get("default").is_some(), "{version:?}");
    }
}
