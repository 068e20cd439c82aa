use serde_json::json;
use serde_json::value::RawValue;

use super::{MirroredParams, decode_value, encode_value, without_annotations};

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

fn mirror(schema: &serde_json::Value, arguments: &str) -> Vec<(String, String)> {
    MirroredParams::of(schema).unwrap().mirror(raw(arguments)).unwrap()
}

fn refusal(schema: &serde_json::Value) -> String {
    MirroredParams::of(schema).unwrap_err().to_string()
}

#[test]
fn annotations_are_taken_out_wherever_they_are_keywords_and_nothing_else_is() {
    let schema = json!({"type": "object", "x-mcp-header": "A", "properties": {
        "x-mcp-header": {"type": "string", "x-mcp-header": "B"},
        "n": {"anyOf": [{"type": "integer", "x-mcp-header": "C"}], "default": {"x-mcp-header": 1}}},
        "$defs": {"d": {"items": {"x-mcp-header": "D", "type": "string"}}}});
    let expected = json!({"type": "object", "properties": {
        "x-mcp-header": {"type": "string"},
        "n": {"anyOf": [{"type": "integer"}], "default": {"x-mcp-header": 1}}},
        "$defs": {"d": {"items": {"type": "string"}}}});
    assert_eq!(without_annotations(&schema).to_string(), expected.to_string());
}

#[test]
fn values_that_a_header_cannot_hold_are_encoded() {
    assert_eq!(encode_value("us-west 1"), "us-west 1");
    assert_eq!(encode_value(""), "");
    assert_eq!(encode_value("日本"), "=?base64?5pel5pys?=");
    assert_eq!(encode_value(" a"), "=?base64?IGE=?=");
    assert_eq!(encode_value("a\n"), "=?base64?YQo=?=");
    assert_eq!(encode_value("=?base64?x?="), "=?base64?PT9iYXNlNjQ/eD89?=");
    for text in ["日本", " a", "a\t", "\r\nX: y", "=?base64?x?=", "plain", ""] {
        assert_eq!(decode_value(&encode_value(text)).unwrap(), text);
    }
}

#[test]
fn half_a_marker_is_literal_and_bad_base64_is_refused() {
    assert_eq!(decode_value("=?base64?YQ==").unwrap(), "=?base64?YQ==");
    assert_eq!(decode_value("=?BASE64?YQ==?=").unwrap(), "=?BASE64?YQ==?=");
    assert_eq!(decode_value("  a ").unwrap(), "a");
    assert!(decode_value("=?base64?!!?=").is_err());
    assert!(decode_value("=?base64?/w==?=").is_err());
}

#[test]
fn annotated_values_are_mirrored_at_any_depth() {
    let schema = json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
        "flag": {"type": ["boolean", "null"], "x-mcp-header": "Flag"},
    }});
    let pairs = |headers: &[(&str, &str)]| -> Vec<_> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(
        mirror(&schema, r#"{"flag":true,"deep":{"n":42.0},"region":"\u00e4","x":1}"#),
        pairs(&[("Region", "ä"), ("N", "42"), ("Flag", "true")])
    );
    assert_eq!(mirror(&schema, r#"{"flag":null,"deep":7,"region":""}"#), pairs(&[("Region", "")]));
}

#[test]
fn an_annotation_elsewhere_makes_the_tool_unusable() {
    let annotated = json!({"type": "string", "x-mcp-header": "A"});
    for (schema, place) in [
        (json!({"properties": {"a": {"items": annotated}}}), "items"),
        (json!({"oneOf": [{"properties": {"a": annotated}}]}), "oneOf"),
        (json!({"$defs": {"d": annotated}, "properties": {"a": {"$ref": "#/$defs/d"}}}), "$defs"),
        (json!({"if": {"properties": {"a": annotated}}}), "if"),
        (json!({"additionalProperties": annotated}), "additionalProperties"),
        (json!({"patternProperties": {"^a": annotated}}), "patternProperties"),
    ] {
        assert!(refusal(&schema).contains(&format!("not through {place:?}")), "{schema}");
    }
}

#[test]
fn names_types_and_uniqueness_are_checked() {
    let one = |schema: serde_json::Value| json!({"type": "object", "properties": {"a": schema}});
    for header in [json!(""), json!(3), json!("a b"), json!("a\r\nb"), json!("ä"), json!("a:b")] {
        MirroredParams::of(&one(json!({"type": "string", "x-mcp-header": header}))).unwrap_err();
    }
    for kind in
        [json!("number"), json!("object"), json!("array"), json!("null"), json!(["string", "integer"])]
    {
        MirroredParams::of(&one(json!({"type": kind, "x-mcp-header": "A"}))).unwrap_err();
    }
    MirroredParams::of(&one(json!({"x-mcp-header": "A"}))).unwrap_err();
    let twice = json!({"properties": {
        "a": {"type": "string", "x-mcp-header": "Region"},
        "b": {"type": "string", "x-mcp-header": "REGION"},
    }});
    assert_eq!(refusal(&twice), "x-mcp-header at \"/properties/b\": \"REGION\" is used twice");
}

#[test]
fn data_that_looks_like_an_annotation_is_none() {
    let schema = json!({
        "properties": {"x-mcp-header": {"type": "string"}, "b": {"type": "string", "default": {"x-mcp-header": 1}}},
        "examples": [{"x-mcp-header": 4}], "required": ["x-mcp-header"],
    });
    assert!(MirroredParams::of(&schema).unwrap().is_empty());
}

#[test]
fn integers_agree_as_numbers_and_strings_as_text() {
    let schema = json!({"properties": {
        "n": {"type": "integer", "x-mcp-header": "N"}, "s": {"type": "string", "x-mcp-header": "S"},
    }});
    let params = MirroredParams::of(&schema).unwrap();
    let params: Vec<_> = params.iter().collect();
    assert!(params[0].agrees("42.0", raw("42")));
    assert!(params[0].agrees("42", raw("4.2e1")));
    assert!(!params[0].agrees("43", raw("42")));
    assert!(params[1].agrees("42", raw("\"42\"")));
    assert!(!params[1].agrees("42.0", raw("\"42\"")));
}
