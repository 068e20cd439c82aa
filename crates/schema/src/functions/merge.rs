//! A schema with its references and `allOf` folded into it: one flat object to read from.

use serde_json::{Map, Value, json};

use crate::local::{reference, resolve};

/// A schema without `$ref` and `allOf`.
pub(super) struct Merged {
    /// The keywords.
    pub(super) members: Map<String, Value>,
    /// Keywords that two parts say differently, and where only the first could be kept.
    pub(super) conflicts: Vec<String>,
    /// Pointers of the references that were followed.
    pub(super) followed: Vec<String>,
    /// Some part allows nothing.
    pub(super) is_never: bool,
}

/// Folds everything `schema` is joined with into one object.
pub(super) fn merged(root: &Value, schema: &Value) -> Merged {
    let mut merged =
        Merged { members: Map::new(), conflicts: Vec::new(), followed: Vec::new(), is_never: false };
    let mut waiting = vec![schema];
    let mut closed: Vec<&Value> = Vec::new();
    let mut left = MAX_PARTS;
    while let Some(part) = waiting.pop() {
        let Value::Object(members) = part else {
            merged.is_never |= part == &Value::Bool(false);
            continue;
        };
        left -= 1;
        if left == 0 {
            merged.conflicts.push("allOf".to_owned());
            return merged;
        }
        let parts = members.get("allOf").and_then(Value::as_array);
        waiting.extend(parts.into_iter().flatten().rev());
        if let Some(text) = reference(part) {
            match resolve(root, text) {
                Some(target) if !merged.followed.iter().any(|other| other == text) => {
                    merged.followed.push(text.to_owned());
                    waiting.push(target);
                }
                Some(_) => {}
                None => merged.conflicts.push("$ref".to_owned()),
            }
        }
        if members.get("additionalProperties").is_some_and(|further| further != &Value::Bool(true)) {
            closed.push(part);
        }
        for (keyword, value) in members {
            merged.add(keyword, value);
        }
    }
    let names = merged.members.get("properties").and_then(Value::as_object);
    let stranger = |part: &&Value| {
        let own = part.get("properties");
        names.into_iter().flat_map(Map::keys).any(|name| own.and_then(|own| own.get(name)).is_none())
    };
    if closed.iter().any(stranger) {
        // A part that is closed refuses what another part describes; flat, both are described.
        merged.conflicts.push("additionalProperties".to_owned());
    }
    merged
}

impl Merged {
    fn add(&mut self, keyword: &str, value: &Value) {
        if IGNORED.contains(&keyword) || keyword.starts_with("x-") {
            return;
        }
        let Some(own) = self.members.get_mut(keyword) else {
            self.members.insert(keyword.to_owned(), value.clone());
            return;
        };
        if own == value || ANNOTATIONS.contains(&keyword) {
            return;
        }
        match (keyword, own, value) {
            ("properties", Value::Object(own), Value::Object(more)) => {
                for (name, schema) in more {
                    match own.get_mut(name) {
                        Some(first) if first != schema => *first = json!({"allOf": [first, schema]}),
                        Some(_) => {}
                        None => drop(own.insert(name.clone(), schema.clone())),
                    }
                }
            }
            ("required", Value::Array(own), Value::Array(more)) => {
                let missing: Vec<Value> = more.iter().filter(|name| !own.contains(name)).cloned().collect();
                own.extend(missing);
            }
            ("type", own, more) => match common_types(own, more) {
                Some(types) => *own = types,
                None => self.is_never = true,
            },
            ("minimum" | "minLength" | "minItems" | "exclusiveMinimum", own, more)
                if more.as_f64() > own.as_f64() =>
            {
                *own = more.clone();
            }
            ("maximum" | "maxLength" | "maxItems" | "exclusiveMaximum", own, more)
                if more.as_f64() < own.as_f64() =>
            {
                *own = more.clone();
            }
            (
                "minimum" | "minLength" | "minItems" | "exclusiveMinimum" | "maximum" | "maxLength"
                | "maxItems" | "exclusiveMaximum",
                ..,
            ) => {}
            _ => self.conflicts.push(keyword.to_owned()),
        }
    }
}

/// The types that both allow; `integer` is a `number`.
fn common_types(a: &Value, b: &Value) -> Option<Value> {
    let list = |value: &Value| -> Vec<String> {
        match value {
            Value::String(name) => vec![name.clone()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    let (a, b) = (list(a), list(b));
    let allows = |types: &[String], name: &str| {
        types.iter().any(|other| other == name || (other == "number" && name == "integer"))
    };
    let mut common: Vec<String> = Vec::new();
    for name in a.iter().chain(&b) {
        if allows(&a, name) && allows(&b, name) && !common.contains(name) {
            common.push(name.clone());
        }
    }
    match common.as_slice() {
        [] => None,
        [only] => Some(only.as_str().into()),
        _ => Some(common.into()),
    }
}

/// Whether a keyword says something about the schema and nothing about values.
pub(super) const ANNOTATIONS: [&str; 13] = [
    "$comment",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

/// Keywords that are followed, or belong to the document.
const IGNORED: [&str; 12] = [
    "$anchor",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "allOf",
    "definitions",
];

/// Parts of one schema, at most.
const MAX_PARTS: usize = 256;
