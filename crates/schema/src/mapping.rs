//! `response_mappings`: JSON Schema, or the Python product's `list`/`dict` spelling of it.

use mpe_mcp_protocol::pointer::escape;
use serde_json::{Map, Value};

use crate::{SchemaError, SchemaErrorKind};

/// The JSON Schema of a response mapping.
///
/// JSON Schema passes unchanged. The Python product's spelling is recognised by its words and rewritten:
///
/// * types `dict`, `list`/`tuple`/`set`, `str`, `int`, `float`, `bool`, `none`, `any` are `object`, `array`, `string`, `integer`,
///   `number`, `boolean`, `null`, and no type at all;
/// * a schema may be just such a word: `"str"`;
/// * `properties` may be a list, of names (`"id"`), of objects with `name` (`{"name": "id", "type": "str"}`, where
///   `"required": true` makes the member required) or of single pairs (`{"id": "str"}`);
/// * `properties` of a `list` describe its items, which are then objects.
///
/// # Errors
/// [`SchemaErrorKind::Mapping`] with the JSON Pointer of the part that is neither spelling.
pub fn response_schema(mapping: &Value) -> Result<Value, SchemaError> {
    schema(mapping, "", 0)
}

fn schema(value: &Value, at: &str, depth: usize) -> Result<Value, SchemaError> {
    if depth > crate::local::MAX_DEPTH {
        return Err(bad(at, "nested too deeply"));
    }
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(word) => Ok(Value::Object(of_word(word, at)?)),
        Value::Object(members) => object(members, at, depth),
        _ => Err(bad(at, "expected a schema: an object, a boolean or the name of a type")),
    }
}

fn object(members: &Map<String, Value>, at: &str, depth: usize) -> Result<Value, SchemaError> {
    let mut out = Map::new();
    for (keyword, value) in members {
        let here = format!("{at}/{}", escape(keyword));
        match (keyword.as_str(), value) {
            ("type", Value::String(word)) => out.extend(of_word(word, &here)?),
            ("type", Value::Array(words)) => {
                out.insert(keyword.clone(), Value::Array(types(words, &here)?));
            }
            ("type", _) => return Err(bad(&here, "expected the name of a type")),
            ("properties", Value::Array(list)) => properties(list, &mut out, &here, depth)?,
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(map)) => {
                let mut inner = Map::new();
                for (name, value) in map {
                    let place = format!("{here}/{}", escape(name));
                    inner.insert(name.clone(), schema(value, &place, depth + 1)?);
                }
                out.insert(keyword.clone(), Value::Object(inner));
            }
            ("properties", _) => return Err(bad(&here, "expected an object or a list")),
            ("items" | "additionalProperties", _) if !value.is_array() => {
                out.insert(keyword.clone(), schema(value, &here, depth + 1)?);
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(list)) => {
                let mut inner = Vec::new();
                for (i, value) in list.iter().enumerate() {
                    inner.push(schema(value, &format!("{here}/{i}"), depth + 1)?);
                }
                out.insert(keyword.clone(), Value::Array(inner));
            }
            // Python's `"required": true` belongs to the list entry, which has read it already.
            ("required", Value::Bool(_)) => {}
            ("required", Value::Array(names)) => require(&mut out, names.clone()),
            _ => {
                out.insert(keyword.clone(), value.clone());
            }
        }
    }
    if out.get("type").and_then(Value::as_str) == Some("array") {
        properties_of_items(&mut out);
    }
    Ok(Value::Object(out))
}

/// `properties` of a list describe its items.
fn properties_of_items(out: &mut Map<String, Value>) {
    if out.contains_key("items") {
        return;
    }
    let Some(properties) = out.shift_remove("properties") else {
        return;
    };
    let mut items = Map::new();
    items.insert("type".to_owned(), "object".into());
    items.insert("properties".to_owned(), properties);
    if let Some(required) = out.shift_remove("required") {
        items.insert("required".to_owned(), required);
    }
    out.insert("items".to_owned(), Value::Object(items));
}

fn properties(
    list: &[Value],
    out: &mut Map<String, Value>,
    at: &str,
    depth: usize,
) -> Result<(), SchemaError> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (i, entry) in list.iter().enumerate() {
        let here = format!("{at}/{i}");
        let (name, value) = match entry {
            Value::String(name) => (name.clone(), Value::Object(Map::new())),
            Value::Object(members) => match members.get("name").and_then(Value::as_str) {
                Some(name) => {
                    let mut rest = members.clone();
                    rest.shift_remove("name");
                    if rest.get("required") == Some(&Value::Bool(true)) {
                        required.push(Value::from(name));
                    }
                    (name.to_owned(), schema(&Value::Object(rest), &here, depth + 1)?)
                }
                None => {
                    let mut pairs = members.iter();
                    let (Some((name, value)), None) = (pairs.next(), pairs.next()) else {
                        return Err(bad(
                            &here,
                            "expected a member `name`, or exactly one pair of name and schema",
                        ));
                    };
                    (name.clone(), schema(value, &format!("{here}/{}", escape(name)), depth + 1)?)
                }
            },
            _ => return Err(bad(&here, "expected a name or an object")),
        };
        if properties.insert(name.clone(), value).is_some() {
            return Err(bad(&here, &format!("property `{name}` appears twice")));
        }
    }
    out.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        require(out, required);
    }
    Ok(())
}

/// Adds names to those that are required: both spellings may stand side by side.
fn require(out: &mut Map<String, Value>, names: Vec<Value>) {
    let required = out.entry("required").or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(required) = required else { return };
    for name in names {
        if !required.contains(&name) {
            required.push(name);
        }
    }
}

fn of_word(word: &str, at: &str) -> Result<Map<String, Value>, SchemaError> {
    let mut out = Map::new();
    if let Some(name) = type_name(word, at)? {
        out.insert("type".to_owned(), name.into());
    }
    Ok(out)
}

fn types(words: &[Value], at: &str) -> Result<Vec<Value>, SchemaError> {
    let mut out = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let here = format!("{at}/{i}");
        let Some(word) = word.as_str() else {
            return Err(bad(&here, "expected the name of a type"));
        };
        match type_name(word, &here)? {
            Some(name) => out.push(name.into()),
            None => return Err(bad(&here, "`any` stands alone")),
        }
    }
    Ok(out)
}

fn type_name(word: &str, at: &str) -> Result<Option<&'static str>, SchemaError> {
    Ok(Some(match word {
        "object" | "dict" => "object",
        "array" | "list" | "set" | "tuple" => "array",
        "string" | "str" => "string",
        "integer" | "int" => "integer",
        "number" | "float" => "number",
        "boolean" | "bool" => "boolean",
        "null" | "none" | "None" => "null",
        "any" | "Any" => return Ok(None),
        _ => {
            return Err(bad(
                at,
                &format!(
                    "`{word}` is no type; expected object, array, string, integer, number, boolean, null, or dict, list, str, int, \
                     float, bool, none, any"
                ),
            ));
        }
    }))
}

fn bad(at: &str, reason: &str) -> SchemaError {
    SchemaError {
        kind: SchemaErrorKind::Mapping,
        message: if at.is_empty() { reason.to_owned() } else { format!("{at}: {reason}") },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::response_schema;

    #[test]
    fn json_schema_passes_unchanged() {
        let mapping = json!({
            "type": "object",
            "properties": {"id": {"type": "string"}, "name": {"type": ["string", "null"], "const": {"type": "dict"}}},
            "required": ["id"], "additionalProperties": false, "x-own": 1
        });
        assert_eq!(response_schema(&mapping), Ok(mapping));
    }

    #[test]
    fn both_ways_of_requiring_a_member_count_in_any_order() {
        let list = json!([{"name": "b", "type": "str", "required": true}, "a"]);
        let first = json!({"type": "dict", "properties": list, "required": ["a"]});
        let last = json!({"type": "dict", "required": ["a"], "properties": list});
        for (mapping, expected) in [(first, json!(["b", "a"])), (last, json!(["a", "b"]))] {
            assert_eq!(response_schema(&mapping).unwrap()["required"], expected);
        }
    }

    #[test]
    fn a_list_with_named_properties_is_an_array_of_objects() {
        let mapping = json!({"type": "list", "properties": [
            {"name": "id", "type": "str", "required": true},
            {"tags": {"type": "list", "items": "str"}},
            {"score": "float"},
            "note"
        ]});
        assert_eq!(
            response_schema(&mapping),
            Ok(json!({"type": "array", "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "score": {"type": "number"},
                    "note": {}
                },
                "required": ["id"]
            }}))
        );
    }

    #[test]
    fn a_dict_may_nest_dicts() {
        let mapping = json!({"type": "dict", "properties": {"user": {"type": "dict", "properties": ["id"]}, "any": "any"}});
        assert_eq!(
            response_schema(&mapping),
            Ok(json!({"type": "object", "properties": {
                "user": {"type": "object", "properties": {"id": {}}}, "any": {}
            }}))
        );
    }

    #[test]
    fn what_is_neither_spelling_is_named_by_pointer() {
        let cases = [
            (json!(7), "expected a schema"),
            (json!({"type": "dictionary"}), "/type: `dictionary` is no type"),
            (json!({"properties": [{"a": "str", "b": "str"}]}), "/properties/0: expected a member `name`"),
            (json!({"properties": ["a", "a"]}), "/properties/1: property `a` appears twice"),
            (json!({"properties": {"a/b": 3}}), "/properties/a~1b: expected a schema"),
            (json!({"type": "list", "items": "strr"}), "/items: `strr` is no type"),
        ];
        for (mapping, expected) in cases {
            let message = response_schema(&mapping).expect_err("refused").message;
            assert!(message.starts_with(expected), "{mapping}: {message}");
        }
    }
}
