//! Schemas as components of a 3.1 document: the same schemas, with references that still hold after the move.

use serde_json::{Map, Value};

use crate::local::{MAX_DEPTH, is_schema, map_children, pointer_of};

/// `schema` with every local reference relative to `base` in the document, and in the words of 2020-12.
///
/// `root` is the document that the references were written for. Keywords that only make sense in a document of its own
/// (`$id`, `$schema`, anchors) go; a reference that leads nowhere becomes the schema that allows everything, with
/// `x-unresolved-ref` saying what it was.
pub(super) fn placed(root: &Value, schema: &Value, base: &str) -> Value {
    place(root, schema, base, 0)
}

fn place(root: &Value, schema: &Value, base: &str, depth: usize) -> Value {
    let Value::Object(members) = schema else {
        return schema.clone();
    };
    if depth > MAX_DEPTH {
        return Value::Bool(true);
    }
    let mut out = map_children(members, |child| place(root, child, base, depth + 1));
    for gone in ["$id", "$schema", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "id"] {
        // `id` was the draft-04 spelling; elsewhere the word is an annotation nobody reads.
        out.shift_remove(gone);
    }
    modernise(&mut out);
    redirect(root, &mut out, base);
    Value::Object(out)
}

/// Points `$ref` to where its target stands in the document.
fn redirect(root: &Value, members: &mut Map<String, Value>, base: &str) {
    for keyword in ["$dynamicRef", "$recursiveRef"] {
        if let Some(target) = members.shift_remove(keyword) {
            members.entry("$ref").or_insert(target);
        }
    }
    let Some(text) = members.get("$ref") else { return };
    let pointer = text.as_str().and_then(|text| pointer_of(root, text));
    let target = pointer.filter(|pointer| root.pointer(pointer).is_some_and(is_schema));
    if let Some(pointer) = target {
        let place = format!("{base}{}", fragment(&modern_pointer(root, &pointer)));
        members.insert("$ref".to_owned(), place.into());
        return;
    }
    let lost = members.shift_remove("$ref").unwrap_or_default();
    members.insert("x-unresolved-ref".to_owned(), lost);
}

/// The spellings of draft-04 to 2019-09 in the words of 2020-12.
fn modernise(members: &mut Map<String, Value>) {
    if members.get("items").is_some_and(Value::is_array) {
        let prefix = members.shift_remove("items").unwrap_or_default();
        // An empty list says nothing, and `prefixItems` must not be empty.
        if prefix.as_array().is_some_and(|items| !items.is_empty()) {
            members.insert("prefixItems".to_owned(), prefix);
        }
        if let Some(rest) = members.shift_remove("additionalItems") {
            members.insert("items".to_owned(), rest);
        }
    }
    members.shift_remove("additionalItems");
    split_dependencies(members);
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match members.get(flag) {
            Some(Value::Bool(true)) => match members.shift_remove(bound) {
                Some(value) => drop(members.insert(flag.to_owned(), value)),
                None => drop(members.shift_remove(flag)),
            },
            Some(Value::Bool(false)) => drop(members.shift_remove(flag)),
            _ => {}
        }
    }
    // Draft-03 wrote `required: true` at the property; many hand-written schemas still do.
    if members.get("required").is_some_and(|required| !required.is_array()) {
        members.shift_remove("required");
    }
}

fn split_dependencies(members: &mut Map<String, Value>) {
    let Some(Value::Object(dependencies)) = members.shift_remove("dependencies") else {
        return;
    };
    let mut names = Map::new();
    let mut schemas = Map::new();
    for (name, value) in dependencies {
        match value {
            Value::Array(_) => drop(names.insert(name, value)),
            value if is_schema(&value) => drop(schemas.insert(name, value)),
            _ => {}
        }
    }
    for (keyword, map) in [("dependentRequired", names), ("dependentSchemas", schemas)] {
        if !map.is_empty() {
            members.entry(keyword).or_insert(Value::Object(map));
        }
    }
}

/// The pointer after [`modernise`] has renamed what it passes through.
fn modern_pointer(root: &Value, pointer: &str) -> String {
    let mut here = root;
    let mut out = String::new();
    let mut parent: Option<&str> = None;
    for step in pointer.split('/').skip(1) {
        let name = step.replace("~1", "/").replace("~0", "~");
        let inside_map = matches!(parent, Some("properties" | "patternProperties" | "$defs" | "definitions"));
        let renamed = match name.as_str() {
            "items" if !inside_map && here.get("items").is_some_and(Value::is_array) => "prefixItems",
            "additionalItems" if !inside_map => "items",
            "dependencies" if !inside_map => "dependentSchemas",
            _ => step,
        };
        out.push('/');
        out.push_str(renamed);
        here = match here {
            Value::Array(items) => {
                name.parse::<usize>().ok().and_then(|i| items.get(i)).unwrap_or(&Value::Null)
            }
            other => other.get(&name).unwrap_or(&Value::Null),
        };
        parent = (!inside_map).then_some(step);
    }
    out
}

/// A pointer as the fragment of a URI (RFC 6901 §6).
fn fragment(pointer: &str) -> String {
    let mut out = String::with_capacity(pointer.len());
    for byte in pointer.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
