//! Finding one's way inside one schema document: keywords that hold schemas, and local references.

use mpe_mcp_protocol::pointer::escape;
use serde_json::Value;

/// How a keyword holds further schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// A list of schemas.
    List,
    /// A map from names to schemas.
    Map,
    /// One schema.
    One,
    /// One schema, or a list of them (`items` before 2020-12).
    OneOrList,
    /// A map from names to schemas or lists of names (`dependencies` before 2019-09).
    Dependencies,
}

/// What a keyword holds; `None` when it holds no schema.
///
/// JSON Schema 2020-12 core §10 and §11, with the older spellings that generators still write.
pub(crate) fn holds(keyword: &str) -> Option<Holds> {
    Some(match keyword {
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Holds::List,
        "$defs" | "definitions" | "properties" | "patternProperties" | "dependentSchemas" => Holds::Map,
        "dependencies" => Holds::Dependencies,
        "items" => Holds::OneOrList,
        "additionalItems"
        | "additionalProperties"
        | "contains"
        | "contentSchema"
        | "else"
        | "if"
        | "not"
        | "propertyNames"
        | "then"
        | "unevaluatedItems"
        | "unevaluatedProperties" => Holds::One,
        _ => return None,
    })
}

/// Calls `visit` on each schema directly inside `schema`, with its pointer relative to `schema`.
pub(crate) fn each_child<'a>(schema: &'a Value, mut visit: impl FnMut(String, &'a Value)) {
    let Value::Object(members) = schema else {
        return;
    };
    for (keyword, value) in members {
        let Some(holds) = holds(keyword) else { continue };
        match (holds, value) {
            (Holds::List | Holds::OneOrList, Value::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    visit(format!("/{keyword}/{i}"), item);
                }
            }
            (Holds::Map | Holds::Dependencies, Value::Object(map)) => {
                for (name, item) in map {
                    if is_schema(item) {
                        visit(format!("/{keyword}/{}", escape(name)), item);
                    }
                }
            }
            (Holds::One | Holds::OneOrList, item) if is_schema(item) => {
                visit(format!("/{keyword}"), item);
            }
            _ => {}
        }
    }
}

/// `schema` with each schema directly inside it replaced by what `map` makes of it.
pub(crate) fn map_children(
    members: &serde_json::Map<String, Value>,
    mut map: impl FnMut(&Value) -> Value,
) -> serde_json::Map<String, Value> {
    let mut out = serde_json::Map::new();
    for (keyword, value) in members {
        let mapped = match (holds(keyword), value) {
            (Some(Holds::List | Holds::OneOrList), Value::Array(items)) => {
                Value::Array(items.iter().map(&mut map).collect())
            }
            (Some(Holds::Map | Holds::Dependencies), Value::Object(inner)) => Value::Object(
                inner
                    .iter()
                    .map(|(name, item)| {
                        let item = if is_schema(item) { map(item) } else { item.clone() };
                        (name.clone(), item)
                    })
                    .collect(),
            ),
            (Some(Holds::One | Holds::OneOrList), item) if is_schema(item) => map(item),
            _ => value.clone(),
        };
        out.insert(keyword.clone(), mapped);
    }
    out
}

/// Follows local `$ref`s from `schema` to the schema that says something itself; stops at siblings.
///
/// A chain longer than [`MAX_HOPS`], a cycle or a dangling reference ends where it stands.
pub(crate) fn follow<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..MAX_HOPS {
        let Some(target) = reference(schema).and_then(|text| resolve(root, text)) else {
            return schema;
        };
        schema = target;
    }
    schema
}

/// The text of `$ref` (or `$dynamicRef`, which means the same inside one document).
pub(crate) fn reference(schema: &Value) -> Option<&str> {
    let members = schema.as_object()?;
    ["$ref", "$dynamicRef", "$recursiveRef"].iter().find_map(|keyword| members.get(*keyword))?.as_str()
}

/// The schema a local reference points to: `#`, `#/pointer`, `#anchor`, or any of them behind the root's own `$id`.
pub(crate) fn resolve<'a>(root: &'a Value, text: &str) -> Option<&'a Value> {
    let pointer = pointer_of(root, text)?;
    root.pointer(&pointer).filter(|target| is_schema(target))
}

/// The JSON Pointer inside `root` that a local reference means; `None` when it leaves the document or hits nothing.
pub(crate) fn pointer_of(root: &Value, text: &str) -> Option<String> {
    let fragment = match text.split_once('#') {
        Some(("", fragment)) => fragment,
        Some((base, fragment)) => {
            let id = root.get("$id")?.as_str()?;
            if base != id.trim_end_matches('#') {
                return None;
            }
            fragment
        }
        None => return None,
    };
    if fragment.is_empty() {
        return Some(String::new());
    }
    if fragment.starts_with('/') {
        let pointer = percent_decode(fragment)?;
        return root.pointer(&pointer).is_some().then_some(pointer);
    }
    find_anchor(root, fragment, String::new(), 0)
}

/// Whether references, followed from `target`, come to a schema: a loop of nothing but references does not.
pub(crate) fn ends(root: &Value, target: &Value) -> bool {
    is_schema(target) && (0..MAX_HOPS).try_fold(target, |here, _| resolve(root, reference(here)?)).is_none()
}

/// Whether `target` is among its own alternatives: then it says nothing that its other alternatives do not say.
pub(crate) fn is_own_alternative(root: &Value, target: &Value) -> bool {
    let mut seen: Vec<*const Value> = Vec::new();
    let mut waiting = vec![target];
    while let Some(schema) = waiting.pop() {
        let unions = ["allOf", "anyOf", "oneOf"].iter().filter_map(|keyword| schema.get(keyword)?.as_array());
        let next = unions.flatten().chain(reference(schema).and_then(|text| resolve(root, text)));
        for schema in next {
            if std::ptr::eq(schema, target) {
                return true;
            }
            if !seen.contains(&std::ptr::from_ref(schema)) {
                seen.push(schema);
                waiting.push(schema);
            }
        }
    }
    false
}

/// Whether a value is of what the keyword `type` says; where it says nothing that is known, any is.
pub(crate) fn is_of_type(value: &Value, declared: Option<&Value>) -> bool {
    let is = |name: &str| match name {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        _ => true,
    };
    match declared {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// Whether a value is a schema: an object or a boolean.
pub(crate) fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// References followed in a row, at most. Real schemas need two or three.
pub(crate) const MAX_HOPS: usize = 32;

/// Levels of nesting looked at, at most. `serde_json` reads 128 levels of JSON, which is fewer schemas.
pub(crate) const MAX_DEPTH: usize = 128;

fn find_anchor(schema: &Value, anchor: &str, here: String, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return None;
    }
    let named = |keyword: &str| schema.get(keyword).and_then(Value::as_str) == Some(anchor);
    if named("$anchor") || named("$dynamicAnchor") {
        return Some(here);
    }
    let mut found = None;
    each_child(schema, |step, child| {
        if found.is_none() {
            found = find_anchor(child, anchor, format!("{here}{step}"), depth + 1);
        }
    });
    found
}

pub(crate) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digits = bytes.get(at + 1..at + 3)?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{follow, pointer_of, resolve};

    #[test]
    fn references_are_found_by_pointer_by_anchor_and_behind_the_own_id() {
        let root = json!({
            "$id": "https://example.com/s",
            "$defs": {"a b": {"$anchor": "here", "type": "string"}},
            "properties": {"p/q": {"$ref": "#here"}}
        });
        assert_eq!(pointer_of(&root, "#here").as_deref(), Some("/$defs/a b"));
        assert_eq!(pointer_of(&root, "#/$defs/a%20b").as_deref(), Some("/$defs/a b"));
        assert_eq!(pointer_of(&root, "https://example.com/s#here").as_deref(), Some("/$defs/a b"));
        assert_eq!(pointer_of(&root, "#").as_deref(), Some(""));
        assert_eq!(
            follow(&root, resolve(&root, "#/properties/p~1q").expect("found")),
            &json!({"$anchor": "here", "type": "string"})
        );
    }

    #[test]
    fn a_reference_that_leaves_or_dangles_is_none() {
        let root = json!({"const": {"$anchor": "fake"}});
        for text in ["https://example.com/x", "other.json#/a", "#/$defs/missing", "#fake", "#/%zz"] {
            assert_eq!(pointer_of(&root, text), None, "{text}");
        }
    }

    #[test]
    fn a_cycle_of_references_ends() {
        let root = json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}});
        follow(&root, &root["$defs"]["a"]);
    }
}
