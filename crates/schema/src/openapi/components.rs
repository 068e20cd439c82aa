//! Schemas as components of a 3.1 document: the same schemas, with references that still hold after the move.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::local::{MAX_DEPTH, ends, holds, is_of_type, is_schema, map_children, pointer_of};
use crate::repair::{is_sound, schemas_only};

/// Where the target of a local reference, by its pointer in the tool's schema, stands in the document.
pub(crate) type Placing<'a> = dyn FnMut(&str) -> String + 'a;

/// `schema` in the words of 2020-12, with every local reference as `placing` says.
///
/// `root` is the document that the references were written for. Definitions go: whoever places references places their targets. So
/// do keywords that only make sense in a document of its own (`$id`, `$schema`, anchors). A reference that leads nowhere, or in a
/// loop, becomes the schema that allows everything, with `x-unresolved-ref` saying what it was. Keywords that 2020-12 and OpenAPI do
/// not know, and those whose values break the specification, are kept with `x-` in front, as OpenAPI wants extensions to be called.
pub(crate) fn placed(root: &Value, schema: &Value, placing: &mut Placing<'_>) -> Value {
    place(root, schema, placing, 0)
}

fn place(root: &Value, schema: &Value, placing: &mut Placing<'_>, depth: usize) -> Value {
    let Value::Object(members) = schema else {
        return schema.clone();
    };
    if depth > MAX_DEPTH {
        return Value::Bool(true);
    }
    let mut own = members.clone();
    for gone in GONE {
        own.shift_remove(gone);
    }
    let own = own.iter().map(|(keyword, value)| (keyword.clone(), schemas_only(keyword, value))).collect();
    let mut out = map_children(&own, |child| place(root, child, placing, depth + 1));
    modernise(&mut out);
    set_aside(&mut out);
    redirect(root, &mut out, placing);
    discriminate(root, &mut out, placing);
    // Tools that read documents take any member `$ref` for a reference, be it in a value: such values go.
    out.retain(|keyword, value| !VALUES.contains(&keyword.as_str()) || !mentions_ref(value));
    Value::Object(out.into_iter().map(|(keyword, value)| (known(keyword), value)).collect())
}

/// Keeps what breaks the specification as an extension, for nobody to stumble over.
fn set_aside(members: &mut Map<String, Value>) {
    let is_kept = |keyword: &str, value: &Value| {
        // OpenAPI wants the default of a schema to be of its type.
        is_sound(keyword, value, members) && (keyword != "default" || is_of_type(value, members.get("type")))
    };
    let lost: HashSet<String> = members
        .iter()
        .filter(|(keyword, value)| !is_kept(keyword, value))
        .map(|(keyword, _)| keyword.clone())
        .collect();
    if lost.is_empty() {
        return;
    }
    let named = |keyword: String| if lost.contains(&keyword) { format!("x-{keyword}") } else { keyword };
    *members = std::mem::take(members).into_iter().map(|(keyword, value)| (named(keyword), value)).collect();
}

/// The keyword, or its name as an extension.
fn known(keyword: String) -> String {
    let is_known =
        keyword.starts_with("x-") || holds(&keyword).is_some() || PLAIN.contains(&keyword.as_str());
    if is_known { keyword } else { format!("x-{keyword}") }
}

/// Points `$ref` to where its target stands in the document.
fn redirect(root: &Value, members: &mut Map<String, Value>, placing: &mut Placing<'_>) {
    for keyword in ["$dynamicRef", "$recursiveRef"] {
        if let Some(target) = members.shift_remove(keyword) {
            members.entry("$ref").or_insert(target);
        }
    }
    let Some(text) = members.get("$ref") else { return };
    if let Some(pointer) = text.as_str().and_then(|text| target(root, text)) {
        members.insert("$ref".to_owned(), placing(&pointer).into());
        return;
    }
    let lost = members.shift_remove("$ref").unwrap_or_default();
    members.insert("x-unresolved-ref".to_owned(), lost);
}

/// Points the mapping of a discriminator to where its targets stand; one that is no discriminator goes.
fn discriminate(root: &Value, members: &mut Map<String, Value>, placing: &mut Placing<'_>) {
    let Some(Value::Object(discriminator)) = members.get_mut("discriminator") else {
        members.shift_remove("discriminator");
        return;
    };
    if let Some(Value::Object(mapping)) = discriminator.get_mut("mapping") {
        let targets = std::mem::take(mapping);
        for (name, text) in targets {
            if let Some(pointer) = text.as_str().and_then(|text| target(root, text)) {
                mapping.insert(name, placing(&pointer).into());
            }
        }
    }
    let is_whole = discriminator.get("propertyName").is_some_and(Value::is_string);
    if !is_whole || !(members.contains_key("oneOf") || members.contains_key("anyOf")) {
        members.shift_remove("discriminator");
    }
}

/// The pointer to the schema that a reference means, if it means one.
fn target(root: &Value, text: &str) -> Option<String> {
    let pointer = pointer_of(root, text)?;
    ends(root, root.pointer(&pointer)?).then_some(pointer)
}

fn mentions_ref(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(mentions_ref),
        Value::Object(members) => {
            members.get("$ref").is_some_and(Value::is_string) || members.values().any(mentions_ref)
        }
        _ => false,
    }
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
    // Draft-03 wrote `required: true` at the property; many hand-written schemas still do. A list must not repeat itself.
    match members.get_mut("required") {
        Some(Value::Array(names)) => {
            let mut seen = HashSet::new();
            names.retain(|name| name.as_str().is_some_and(|name| seen.insert(name.to_owned())));
        }
        Some(_) => drop(members.shift_remove("required")),
        None => {}
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

/// Keywords of a schema that is a document of its own, and definitions, which become components. `id` is `$id` in draft-04.
const GONE: [&str; 9] = [
    "$anchor",
    "$defs",
    "$dynamicAnchor",
    "$id",
    "$recursiveAnchor",
    "$schema",
    "$vocabulary",
    "definitions",
    "id",
];

/// Keywords of 2020-12 that hold no schemas, and those OpenAPI 3.1 adds (§4.8.24).
const PLAIN: [&str; 36] = [
    "$comment",
    "$ref",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "discriminator",
    "enum",
    "example",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
    "xml",
];

/// Keywords that hold values, not schemas.
const VALUES: [&str; 5] = ["const", "default", "enum", "example", "examples"];
