//! Vendors that read JSON Schema: the schema stays, its top becomes a plain object.

use indexmap::IndexMap;
use mpe_mcp_protocol::pointer::escape;
use serde_json::{Map, Value, json};

use super::inverse::{Inverse, Member, WHOLE};
use super::merge::merged;
use super::profile::Open;
use super::{LossKind, Said};
use crate::local::map_children;
use crate::names::unique;
use crate::openapi::{component_name, placed};

/// The arguments of a tool for such a vendor.
pub(super) fn say(root: &Value, profile: &Open) -> Said {
    let mut losses = Vec::new();
    let top = merged(root, root);
    let is_union = UNIONS.iter().any(|keyword| top.members.contains_key(*keyword));
    let mut definitions =
        Definitions { root, whole: if is_union { WHOLE_PLACE } else { "#" }, waiting: Vec::new() };
    let mut schema = if is_union {
        losses.push((
            String::new(),
            LossKind::Reshaped,
            format!("the top must be a plain object: the arguments stand in its member `{WHOLE}`"),
        ));
        let whole = definitions.place(root);
        json!({"type": "object", "properties": {WHOLE: whole}, "required": [WHOLE], "additionalProperties": false})
    } else {
        for keyword in &top.conflicts {
            losses.push((
                format!("/{keyword}"),
                LossKind::Dropped,
                "said twice, differently; the first counts".to_owned(),
            ));
        }
        plain_top(definitions.place(&Value::Object(top.members)))
    };
    let placed_definitions = definitions.finish();
    if !placed_definitions.is_empty() {
        schema["$defs"] = Value::Object(placed_definitions);
    }
    let schema = accepted(&schema);
    if is_union {
        return Said {
            schema,
            losses,
            inverse: Inverse::Whole(Box::new(Inverse::Same)),
            definitions: IndexMap::new(),
        };
    }
    if !profile.plain_properties {
        return Said { schema, losses, inverse: Inverse::Same, definitions: IndexMap::new() };
    }
    let (schema, inverse) = renamed(&schema, "", &mut losses);
    Said { schema, losses, inverse, definitions: IndexMap::new() }
}

/// Definitions, and whatever else references mean, gathered under `$defs`.
struct Definitions<'a> {
    root: &'a Value,
    /// Where the root schema itself stands.
    whole: &'a str,
    waiting: Vec<(String, String)>,
}

impl Definitions<'_> {
    fn place(&mut self, schema: &Value) -> Value {
        let (whole, waiting) = (self.whole, &mut self.waiting);
        placed(self.root, schema, &mut |pointer| {
            if pointer.is_empty() {
                return whole.to_owned();
            }
            let name = component_name(pointer);
            let reference = format!("#/$defs/{name}");
            waiting.push((pointer.to_owned(), name));
            reference
        })
    }

    fn finish(&mut self) -> Map<String, Value> {
        let mut definitions = Map::new();
        while let Some((pointer, name)) = self.waiting.pop() {
            if definitions.contains_key(&name) {
                continue;
            }
            definitions.insert(name.clone(), Value::Null);
            let target = self.root.pointer(&pointer).cloned().unwrap_or(Value::Bool(true));
            let target = self.place(&target);
            definitions.insert(name, target);
        }
        definitions
    }
}

fn plain_top(schema: Value) -> Value {
    let Value::Object(mut members) = schema else {
        return json!({"type": "object", "properties": {}});
    };
    members.insert("type".to_owned(), "object".into());
    members.entry("properties").or_insert_with(|| json!({}));
    Value::Object(members)
}

/// Without boolean schemas and lists of nothing in particular, which some of these vendors refuse.
fn accepted(schema: &Value) -> Value {
    let members = match schema {
        Value::Object(members) => members,
        Value::Bool(false) => return json!({"not": {}}),
        _ => return json!({}),
    };
    let closed = members.get("additionalProperties").filter(|further| further.is_boolean()).cloned();
    let mut out = map_children(members, accepted);
    if let Some(closed) = closed {
        out.insert("additionalProperties".to_owned(), closed);
    }
    let is_list = out.get("type") == Some(&Value::from("array"));
    if is_list && !out.contains_key("items") {
        out.insert("items".to_owned(), json!({}));
    }
    Value::Object(out)
}

/// Properties under names of the vendor's alphabet, through objects and lists.
fn renamed(schema: &Value, at: &str, losses: &mut Vec<(String, LossKind, String)>) -> (Value, Inverse) {
    let Value::Object(members) = schema else {
        return (schema.clone(), Inverse::Same);
    };
    let mut out = members.clone();
    if let Some(Value::Object(properties)) = members.get("properties") {
        let names = unique(properties.keys().map(String::as_str), MAX_PROPERTY_BYTES, property_name);
        let mut lowered = Map::new();
        let mut inverses = IndexMap::new();
        for ((name, schema), plain) in properties.iter().zip(names) {
            let place = format!("{at}/properties/{}", escape(name));
            let (schema, inverse) = renamed(schema, &place, losses);
            if *name != plain {
                losses.push((place, LossKind::Reshaped, format!("called `{plain}`")));
            }
            lowered.insert(plain.clone(), schema);
            inverses.insert(plain, Member { name: name.clone(), null_is_absent: false, inverse });
        }
        let is_same =
            inverses.iter().all(|(plain, member)| *plain == member.name && member.inverse.is_same());
        if is_same {
            return (schema.clone(), Inverse::Same);
        }
        if let Some(Value::Array(required)) = out.get_mut("required") {
            for name in required.iter_mut() {
                if let Some((plain, _)) =
                    inverses.iter().find(|(_, member)| Some(member.name.as_str()) == name.as_str())
                {
                    *name = plain.as_str().into();
                }
            }
        }
        out.insert("properties".to_owned(), Value::Object(lowered));
        return (
            Value::Object(out),
            Inverse::Members { members: inverses, further: Some(Box::new(Inverse::Same)) },
        );
    }
    if let Some(items) = members.get("items").filter(|items| items.is_object()) {
        let (items, inverse) = renamed(items, &format!("{at}/items"), losses);
        if !inverse.is_same() {
            out.insert("items".to_owned(), items);
            return (Value::Object(out), Inverse::Items(Box::new(inverse)));
        }
    }
    (schema.clone(), Inverse::Same)
}

fn property_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let clean: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if clean.is_empty() { "_".to_owned() } else { clean }
}

/// Keywords that make the top more than a plain object.
const UNIONS: [&str; 6] = ["anyOf", "oneOf", "not", "enum", "const", "if"];

/// Where the whole stands when it is a member.
const WHOLE_PLACE: &str = "#/properties/arguments";

/// Longest name of a property.
const MAX_PROPERTY_BYTES: usize = 64;
