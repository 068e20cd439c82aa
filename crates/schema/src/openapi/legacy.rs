//! Schemas in the words of OpenAPI 3.0.3, which reads a dialect of JSON Schema draft-05.
//!
//! What 3.0 cannot say is weakened, never strengthened: every instance that the original allows, the lowered schema allows.

use serde_json::{Map, Value, json};

use super::components::placed;
use super::parts::place;
use crate::local::MAX_DEPTH;
use crate::names::hashed;

/// `schema` in 3.0's words. Targets of its references become components of their own, named after `component`.
pub(super) fn lower(
    root: &Value,
    schema: &Value,
    component: &str,
    schemas: &mut Map<String, Value>,
) -> Value {
    let mut lowering = Lowering { component, waiting: Vec::new() };
    let lowered = lowering.schema(&pointed(root, schema), 0);
    // A list of work instead of recursion: definitions may refer to one another in chains of any length.
    while let Some((pointer, name)) = lowering.waiting.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        let target = root.pointer(&pointer).map_or(Value::Bool(true), |target| pointed(root, target));
        schemas.insert(name.clone(), Value::Null);
        let ready = lowering.schema(&target, 0);
        schemas.insert(name, ready);
    }
    lowered
}

/// `schema` with references that are pointers into `root`.
fn pointed(root: &Value, schema: &Value) -> Value {
    placed(root, schema, &mut |pointer| pointer.to_owned())
}

struct Lowering<'a> {
    component: &'a str,
    /// Targets still to be made components: pointer into `root`, and the component's name.
    waiting: Vec<(String, String)>,
}

impl Lowering<'_> {
    fn schema(&mut self, schema: &Value, depth: usize) -> Value {
        match schema {
            Value::Bool(false) => json!({"not": {}}),
            Value::Object(members) if depth <= MAX_DEPTH => self.object(members, depth + 1),
            _ => json!({}),
        }
    }

    fn object(&mut self, members: &Map<String, Value>, depth: usize) -> Value {
        let mut out = Map::new();
        for keyword in KEPT {
            if let Some(value) = members.get(keyword) {
                out.insert(keyword.to_owned(), value.clone());
            }
        }
        for (keyword, value) in members.iter().filter(|(keyword, _)| keyword.starts_with("x-")) {
            out.insert(keyword.clone(), value.clone());
        }
        annotations(members, &mut out);
        bounds(members, &mut out);
        required(members, &mut out);
        self.names(members, &mut out, depth);
        self.items(members, &mut out, depth);
        self.unions(members, &mut out, depth);
        values(members, &mut out);
        let out = self.types(members, out);
        self.referenced(members, out)
    }

    fn list(&mut self, list: &Value, depth: usize) -> Vec<Value> {
        list.as_array().into_iter().flatten().map(|part| self.schema(part, depth)).collect()
    }

    /// `properties` and `additionalProperties`; patterns of names become what further members may be.
    fn names(&mut self, members: &Map<String, Value>, out: &mut Map<String, Value>, depth: usize) {
        if let Some(Value::Object(properties)) = members.get("properties") {
            let lowered = properties.iter().map(|(name, value)| (name.clone(), self.schema(value, depth)));
            out.insert("properties".to_owned(), Value::Object(lowered.collect()));
        }
        let patterns =
            members.get("patternProperties").and_then(Value::as_object).filter(|map| !map.is_empty());
        let further = members.get("additionalProperties");
        match (patterns, further) {
            (None, None) => {}
            (None, Some(Value::Bool(allowed))) => {
                drop(out.insert("additionalProperties".to_owned(), (*allowed).into()));
            }
            (None, Some(schema)) => {
                let schema = self.schema(schema, depth);
                out.insert("additionalProperties".to_owned(), schema);
            }
            // Any name may come with any value when what no pattern matches is free.
            (Some(_), None | Some(Value::Bool(true))) => {}
            (Some(patterns), further) => {
                let mut any: Vec<Value> = patterns.values().map(|value| self.schema(value, depth)).collect();
                if let Some(schema) = further.filter(|schema| schema.is_object()) {
                    any.push(self.schema(schema, depth));
                }
                out.insert("additionalProperties".to_owned(), one_of_many(any));
            }
        }
    }

    /// `items`; a tuple becomes a list of any of its parts.
    fn items(&mut self, members: &Map<String, Value>, out: &mut Map<String, Value>, depth: usize) {
        let prefix = members.get("prefixItems").map(|prefix| self.list(prefix, depth));
        let rest = members.get("items");
        match (prefix, rest) {
            (None, None) => {}
            (None, Some(rest)) => {
                let rest = self.schema(rest, depth);
                out.insert("items".to_owned(), rest);
            }
            (Some(prefix), Some(Value::Bool(false))) => {
                let most = prefix.len();
                let stricter =
                    members.get("maxItems").and_then(Value::as_u64).filter(|max| *max < most as u64);
                out.insert("maxItems".to_owned(), stricter.unwrap_or(most as u64).into());
                out.insert("items".to_owned(), one_of_many(prefix));
            }
            (Some(mut prefix), Some(rest @ Value::Object(_))) => {
                prefix.push(self.schema(rest, depth));
                out.insert("items".to_owned(), one_of_many(prefix));
            }
            (Some(_), _) => drop(out.insert("items".to_owned(), json!({}))),
        }
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`. A `null` among alternatives becomes `nullable`.
    fn unions(&mut self, members: &Map<String, Value>, out: &mut Map<String, Value>, depth: usize) {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            if let Some(list) = members.get(keyword) {
                let parts = self.list(list, depth);
                if !parts.is_empty() {
                    out.insert(keyword.to_owned(), parts.into());
                }
            }
        }
        // Lowering weakens, and the opposite of something weaker is stronger: `not` stays only where nothing was lost.
        if let Some(negated) = members.get("not").filter(|negated| is_plain(negated)) {
            let negated = self.schema(negated, depth);
            out.insert("not".to_owned(), negated);
        }
        if out.contains_key("oneOf") && !list_is_plain(members.get("oneOf")) {
            // Weaker alternatives may overlap where the originals did not.
            let parts = out.shift_remove("oneOf").unwrap_or_default();
            if out.contains_key("anyOf") {
                push_all_of(out, json!({"anyOf": parts}));
            } else {
                out.insert("anyOf".to_owned(), parts);
            }
        }
    }

    fn types(&mut self, members: &Map<String, Value>, mut out: Map<String, Value>) -> Map<String, Value> {
        let names: Vec<&str> = match members.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => {
                let values = out.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
                if values.contains(&Value::Null) {
                    // `null` is allowed by `nullable` alone, which wants a type of its own.
                    out.shift_remove("enum");
                    let others: Vec<Value> = values.into_iter().filter(|value| !value.is_null()).collect();
                    let only_null = Value::Object(null_only(&Map::new()));
                    match (others.is_empty(), out.is_empty()) {
                        (true, true) => return null_only(&Map::new()),
                        (true, false) => push_all_of(&mut out, only_null),
                        (false, _) => push_all_of(&mut out, json!({"anyOf": [{"enum": others}, only_null]})),
                    }
                }
                return out;
            }
        };
        let nullable = names.contains(&"null");
        let others: Vec<&str> = names.into_iter().filter(|name| *name != "null").collect();
        match others.as_slice() {
            [] if nullable => return null_only(&out),
            [] => {}
            [only] => {
                out.insert("type".to_owned(), (*only).into());
                if nullable {
                    out.insert("nullable".to_owned(), true.into());
                }
                if *only == "array" && !out.contains_key("items") {
                    out.insert("items".to_owned(), json!({}));
                }
            }
            many => return several_types(many, nullable, &out),
        }
        out
    }

    /// 3.0 reads nothing beside `$ref`: what stands there is joined by `allOf`.
    fn referenced(&mut self, members: &Map<String, Value>, mut out: Map<String, Value>) -> Value {
        let Some(pointer) = members.get("$ref").and_then(Value::as_str).map(str::to_owned) else {
            return Value::Object(out);
        };
        let name = if pointer.is_empty() {
            self.component.to_owned()
        } else {
            let name = format!("{}_{}", self.component, component_name(&pointer));
            self.waiting.push((pointer, name.clone()));
            name
        };
        let reference = json!({"$ref": place(&name)});
        if out.is_empty() {
            return reference;
        }
        match out.get_mut("allOf") {
            Some(Value::Array(parts)) => parts.insert(0, reference),
            _ => drop(out.insert("allOf".to_owned(), json!([reference]))),
        }
        Value::Object(out)
    }
}

fn annotations(members: &Map<String, Value>, out: &mut Map<String, Value>) {
    if let Some(first) = members.get("examples").and_then(Value::as_array).and_then(|list| list.first()) {
        out.entry("example").or_insert_with(|| first.clone());
    }
    if members.get("contentEncoding") == Some(&Value::from("base64")) {
        out.entry("format").or_insert_with(|| "byte".into());
    }
}

/// Numeric `exclusiveMinimum` becomes `minimum` with the flag; of two bounds the stricter one stays.
fn bounds(members: &Map<String, Value>, out: &mut Map<String, Value>) {
    let pairs = [("minimum", "exclusiveMinimum", 1.0), ("maximum", "exclusiveMaximum", -1.0)];
    for (bound, exclusive, sign) in pairs {
        let Some(open) = members.get(exclusive).filter(|value| value.is_number()) else {
            continue;
        };
        let closed = members.get(bound).and_then(Value::as_f64);
        let stricter =
            closed.is_none_or(|closed| open.as_f64().is_some_and(|open| open * sign >= closed * sign));
        if stricter {
            out.insert(bound.to_owned(), open.clone());
            out.insert(exclusive.to_owned(), true.into());
        }
    }
}

/// `required` without repetition, and absent when empty.
fn required(members: &Map<String, Value>, out: &mut Map<String, Value>) {
    let mut names: Vec<Value> = Vec::new();
    for name in members.get("required").and_then(Value::as_array).into_iter().flatten() {
        if name.is_string() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    if !names.is_empty() {
        out.insert("required".to_owned(), names.into());
    }
}

fn values(members: &Map<String, Value>, out: &mut Map<String, Value>) {
    if let Some(only) = members.get("const") {
        out.insert("enum".to_owned(), json!([only]));
    }
    if out.get("enum").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        out.shift_remove("enum");
        push_all_of(out, json!({"not": {}}));
    }
}

/// 3.0 has no type `null`: a nullable schema with `null` as its only value says the same.
fn null_only(out: &Map<String, Value>) -> Map<String, Value> {
    let mut only = Map::new();
    for keyword in ["title", "description"] {
        if let Some(value) = out.get(keyword) {
            only.insert(keyword.to_owned(), value.clone());
        }
    }
    only.insert("type".to_owned(), "string".into());
    only.insert("nullable".to_owned(), true.into());
    only.insert("enum".to_owned(), json!([null]));
    only
}

/// A list of types becomes alternatives beside the keywords, which ignore the types they do not speak of.
fn several_types(names: &[&str], nullable: bool, out: &Map<String, Value>) -> Map<String, Value> {
    let mut out = out.clone();
    let mut alternatives: Vec<Value> = names
        .iter()
        .map(|name| if *name == "array" { json!({"type": name, "items": {}}) } else { json!({"type": name}) })
        .collect();
    if nullable {
        alternatives.push(Value::Object(null_only(&Map::new())));
    }
    if out.contains_key("anyOf") {
        push_all_of(&mut out, json!({"anyOf": alternatives}));
    } else {
        out.insert("anyOf".to_owned(), alternatives.into());
    }
    out
}

fn push_all_of(out: &mut Map<String, Value>, part: Value) {
    match out.get_mut("allOf") {
        Some(Value::Array(parts)) => parts.push(part),
        _ => drop(out.insert("allOf".to_owned(), json!([part]))),
    }
}

fn one_of_many(mut parts: Vec<Value>) -> Value {
    let mut distinct: Vec<Value> = Vec::new();
    for part in parts.drain(..) {
        if !distinct.contains(&part) {
            distinct.push(part);
        }
    }
    match distinct.len() {
        0 => json!({}),
        1 => distinct.swap_remove(0),
        _ => json!({"anyOf": distinct}),
    }
}

/// Whether lowering loses nothing of a schema: it holds only keywords that 3.0 reads alike, and no reference.
fn is_plain(schema: &Value) -> bool {
    let Value::Object(members) = schema else {
        return schema.is_boolean();
    };
    members.iter().all(|(keyword, value)| match keyword.as_str() {
        "properties" => value.as_object().is_some_and(|map| map.values().all(is_plain)),
        "items" | "additionalProperties" | "not" => is_plain(value),
        "allOf" | "anyOf" | "oneOf" => list_is_plain(Some(value)),
        "type" => value.as_str().is_some_and(|name| name != "null"),
        "const" | "required" | "$comment" | "examples" => true,
        "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
        other => KEPT.contains(&other) || other.starts_with("x-"),
    })
}

fn list_is_plain(list: Option<&Value>) -> bool {
    list.and_then(Value::as_array).is_some_and(|list| list.iter().all(is_plain))
}

/// `/$defs/Node` as `Node`. Whatever does not fit a component's alphabet is told apart by a hash.
pub(crate) fn component_name(pointer: &str) -> String {
    let bare = pointer.strip_prefix("/$defs/").or_else(|| pointer.strip_prefix("/definitions/"));
    let wanted = bare.unwrap_or(pointer);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if bare.is_some() && !wanted.is_empty() && wanted.chars().all(fits) {
        return wanted.to_owned();
    }
    let clean: String = wanted.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    hashed(pointer, clean.trim_matches('_'))
}

/// Keywords that 3.0 reads as 2020-12 does.
const KEPT: [&str; 21] = [
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "example",
    "externalDocs",
    "format",
    "enum",
    "multipleOf",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
];
