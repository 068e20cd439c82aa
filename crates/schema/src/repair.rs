//! Keywords whose values break the specification: a `type` that is none, a bound that is a text. Servers write them, few notice, and
//! one of them makes a whole document or a whole list of functions unreadable.

use std::borrow::Cow;
use std::collections::HashSet;

use mpe_mcp_protocol::pointer::escape;
use serde_json::{Map, Value};

use crate::local::{Holds, MAX_DEPTH, holds, is_schema, map_children};

/// Whether a keyword may have this value (JSON Schema 2020-12 and its older spellings, and what OpenAPI adds). Keywords that nobody
/// knows may have any.
fn may_be(keyword: &str, value: &Value) -> bool {
    let is_texts = |value: &Value| {
        let mut seen = HashSet::new();
        value.as_array().is_some_and(|list| {
            list.iter().all(|item| item.as_str().is_some_and(|text| seen.insert(text.to_owned())))
        })
    };
    match keyword {
        "type" => match value {
            Value::String(name) => TYPES.contains(&name.as_str()),
            _ => {
                let names = value.as_array().map_or(&[][..], Vec::as_slice);
                let is_type = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
                !names.is_empty() && is_texts(value) && names.iter().all(is_type)
            }
        },
        "$anchor" | "$comment" | "$dynamicAnchor" | "$dynamicRef" | "$id" | "$recursiveRef" | "$ref"
        | "$schema" | "contentEncoding" | "contentMediaType" | "description" | "format" | "title" => {
            value.is_string()
        }
        "pattern" => value.as_str().is_some_and(is_pattern),
        "maxContains" | "maxItems" | "maxLength" | "maxProperties" | "minContains" | "minItems"
        | "minLength" | "minProperties" => {
            value.is_u64() || value.as_f64().is_some_and(|number| number >= 0.0 && number.fract() == 0.0)
        }
        "maximum" | "minimum" => value.is_number(),
        // Draft-04 has a flag beside the bound.
        "exclusiveMaximum" | "exclusiveMinimum" => value.is_number() || value.is_boolean(),
        "multipleOf" => value.as_f64().is_some_and(|number| number > 0.0),
        "deprecated" | "readOnly" | "uniqueItems" | "writeOnly" => value.is_boolean(),
        "enum" | "examples" => value.is_array(),
        "required" => is_texts(value),
        "dependentRequired" => value.as_object().is_some_and(|map| map.values().all(is_texts)),
        "discriminator" | "externalDocs" | "xml" => value.is_object(),
        "patternProperties" => value.as_object().is_some_and(|map| map.keys().all(|name| is_pattern(name))),
        _ => match holds(keyword) {
            None => true,
            Some(Holds::List) => value.as_array().is_some_and(|list| !list.is_empty()),
            Some(Holds::Map | Holds::Dependencies) => value.is_object(),
            Some(Holds::One) => is_schema(value),
            Some(Holds::OneOrList) => is_schema(value) || value.is_array(),
        },
    }
}

/// Keywords that refuse what others have not named, and so mean nothing where those are gone.
fn relies_on(keyword: &str) -> &'static [&'static str] {
    match keyword {
        "additionalProperties" | "unevaluatedProperties" => &["properties", "patternProperties"],
        "additionalItems" | "unevaluatedItems" => &["items", "prefixItems"],
        _ => &[],
    }
}

/// Whether one of a schema's `members` may have its value, and those that it relies on may have theirs.
pub(crate) fn is_sound(keyword: &str, value: &Value, members: &Map<String, Value>) -> bool {
    may_be(keyword, value)
        && relies_on(keyword).iter().all(|other| members.get(*other).is_none_or(|value| may_be(other, value)))
}

/// `schema` without keywords whose values break the specification, and where they stood. What is no schema where one is expected
/// becomes the one that allows everything.
pub(crate) fn repaired(schema: &Value) -> (Cow<'_, Value>, Vec<String>) {
    let mut faults = Vec::new();
    find(schema, String::new(), 0, &mut faults);
    if faults.is_empty() {
        return (Cow::Borrowed(schema), faults);
    }
    (Cow::Owned(without_faults(schema, 0)), faults)
}

fn find(schema: &Value, at: String, depth: usize, faults: &mut Vec<String>) {
    let Value::Object(members) = schema else {
        if !schema.is_boolean() {
            faults.push(at);
        }
        return;
    };
    if depth > MAX_DEPTH {
        return;
    }
    for (keyword, value) in members {
        let here = format!("{at}/{}", escape(keyword));
        if !may_be(keyword, value) {
            faults.push(here);
            continue;
        }
        match (holds(keyword), value) {
            (Some(Holds::List | Holds::OneOrList), Value::Array(items)) => {
                for (n, item) in items.iter().enumerate() {
                    find(item, format!("{here}/{n}"), depth + 1, faults);
                }
            }
            (Some(Holds::Map), Value::Object(map)) => {
                for (name, item) in map {
                    find(item, format!("{here}/{}", escape(name)), depth + 1, faults);
                }
            }
            (Some(Holds::Dependencies), Value::Object(map)) => {
                for (name, item) in map.iter().filter(|(_, item)| !item.is_array()) {
                    find(item, format!("{here}/{}", escape(name)), depth + 1, faults);
                }
            }
            (Some(Holds::One | Holds::OneOrList), item) => find(item, here, depth + 1, faults),
            _ => {}
        }
    }
}

fn without_faults(schema: &Value, depth: usize) -> Value {
    let Value::Object(members) = schema else {
        return Value::Bool(schema != &Value::Bool(false));
    };
    if depth > MAX_DEPTH {
        return schema.clone();
    }
    let sound: Map<String, Value> = members
        .iter()
        .filter(|(keyword, value)| is_sound(keyword, value, members))
        .map(|(keyword, value)| (keyword.clone(), schemas_only(keyword, value)))
        .collect();
    Value::Object(map_children(&sound, |child| without_faults(child, depth + 1)))
}

/// The value with the schema that allows everything in the place of what is none.
pub(crate) fn schemas_only(keyword: &str, value: &Value) -> Value {
    // Not `true`: some readers know only objects in a list.
    let whole = |item: &Value| if is_schema(item) { item.clone() } else { Value::Object(Map::new()) };
    match (holds(keyword), value) {
        (Some(Holds::List | Holds::OneOrList), Value::Array(items)) => items.iter().map(whole).collect(),
        (Some(Holds::Map), Value::Object(map)) => {
            Value::Object(map.iter().map(|(name, item)| (name.clone(), whole(item))).collect())
        }
        _ => value.clone(),
    }
}

/// Whether this is a regular expression, look-around included, which ECMA-262 has.
fn is_pattern(text: &str) -> bool {
    jsonschema::options().offline().build(&serde_json::json!({ "pattern": text })).is_ok()
}

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::json;

    use super::repaired;

    #[test]
    fn a_sound_schema_stays_as_it_is() {
        let schema = json!({
            "type": ["object", "null"], "title": "T", "required": ["a"], "deprecated": false, "minProperties": 1.0,
            "properties": {"a": {"type": "string", "pattern": "^(?=x)", "maxLength": 3}, "type": true},
            "exclusiveMinimum": true, "minimum": 0, "items": [], "dependencies": {"a": ["b"], "c": {}},
            "anyOf": [true, {"enum": []}], "x-own": 7, "const": {"type": 7}
        });
        let (same, faults) = repaired(&schema);
        assert!(matches!(same, Cow::Borrowed(_)), "{faults:?}");
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn what_breaks_the_specification_goes_and_is_named() {
        for (schema, expected, fault) in [
            (json!({"type": "strin", "title": "T"}), json!({"title": "T"}), "/type"),
            (json!({"type": []}), json!({}), "/type"),
            (json!({"type": ["string", "string"]}), json!({}), "/type"),
            (json!({"pattern": "(["}), json!({}), "/pattern"),
            (json!({"minLength": -1}), json!({}), "/minLength"),
            (json!({"maxItems": 1.5}), json!({}), "/maxItems"),
            (json!({"minimum": "0"}), json!({}), "/minimum"),
            (json!({"multipleOf": 0}), json!({}), "/multipleOf"),
            (json!({"title": 5}), json!({}), "/title"),
            (json!({"format": 7}), json!({}), "/format"),
            (json!({"deprecated": "yes"}), json!({}), "/deprecated"),
            (json!({"items": "string"}), json!({}), "/items"),
            (json!({"anyOf": []}), json!({}), "/anyOf"),
            (json!({"required": true}), json!({}), "/required"),
            (json!({"properties": null, "additionalProperties": false}), json!({}), "/properties"),
            (
                json!({"patternProperties": {"([": {}}, "additionalProperties": false, "properties": {"a": {}}}),
                json!({"properties": {"a": {}}}),
                "/patternProperties",
            ),
            (json!({"properties": {"a/b": 7}}), json!({"properties": {"a/b": {}}}), "/properties/a~1b"),
            (json!({"allOf": [{"items": 7}, 7]}), json!({"allOf": [{}, {}]}), "/allOf/0/items"),
        ] {
            let (mended, faults) = repaired(&schema);
            assert_eq!((&*mended, faults.first().map(String::as_str)), (&expected, Some(fault)), "{schema}");
        }
    }
}
