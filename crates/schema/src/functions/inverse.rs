//! The way back: from a value in the lowered shape to the value the tool expects.

use std::collections::HashMap;

use indexmap::IndexMap;
use mpe_mcp_protocol::pointer::escape;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::SchemaViolation;
use crate::coerce::quoted;
use crate::local::is_of_type;

/// How a lowered value becomes the tool's.
#[derive(Clone, Debug)]
pub(super) enum Inverse {
    /// As the definition of that index says.
    Definition(usize),
    /// A listed text stands for a value.
    Listed(HashMap<String, String>),
    /// Each item.
    Items(Box<Inverse>),
    /// Each member under its own name.
    Members {
        /// By lowered name.
        members: IndexMap<String, Member>,
        /// What members of other names become; `None`: there are none.
        further: Option<Box<Inverse>>,
    },
    /// A list of `{name, value}` stands for an object.
    Pairs(Box<Inverse>),
    /// The value itself, byte by byte.
    Same,
    /// A text holds the value as JSON.
    Text,
    /// An object of `item_0`, `item_1` … stands for a list.
    Tuple(Vec<Inverse>),
    /// The first alternative whose lowered schema fits.
    Union(Vec<(Value, Inverse)>),
    /// The one member `arguments` stands for the whole.
    Whole(Box<Inverse>),
}

/// A definition that lowered schemas refer to.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) schema: Value,
    pub(super) inverse: Inverse,
}

/// One member of an object.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its name in the tool's words.
    pub(super) name: String,
    /// Whether `null` means "left out".
    pub(super) null_is_absent: bool,
    /// What its value becomes.
    pub(super) inverse: Inverse,
}

type Outcome = Result<String, Vec<SchemaViolation>>;

impl Inverse {
    /// Whether every value stays as it is.
    pub(super) fn is_same(&self) -> bool {
        match self {
            Self::Same => true,
            Self::Items(item) => item.is_same(),
            Self::Union(parts) => parts.iter().all(|(_, inverse)| inverse.is_same()),
            _ => false,
        }
    }

    /// The tool's value as JSON.
    ///
    /// # Errors
    /// What does not have the lowered shape, by pointer into the lowered value.
    pub(super) fn apply(&self, definitions: &IndexMap<String, Definition>, value: &RawValue) -> Outcome {
        self.at(definitions, value, "", 0)
    }

    fn at(
        &self,
        definitions: &IndexMap<String, Definition>,
        value: &RawValue,
        at: &str,
        depth: usize,
    ) -> Outcome {
        if depth > crate::local::MAX_DEPTH {
            return refuse(at, "nested too deeply");
        }
        let inner = |inverse: &Inverse, value: &RawValue, place: &str| {
            inverse.at(definitions, value, place, depth + 1)
        };
        match self {
            Self::Same => Ok(value.get().to_owned()),
            Self::Definition(index) => inner(&definitions[*index].inverse, value, at),
            _ if value.get() == "null" => Ok("null".to_owned()),
            Self::Listed(values) => match read::<String>(value).and_then(|text| values.get(&text).cloned()) {
                Some(json) => Ok(json),
                None => refuse(at, "none of the listed values"),
            },
            Self::Items(item) => {
                // A schema without `type` takes other values too, and they stay as they are.
                let Some(items) = read::<Vec<&RawValue>>(value) else { return Ok(value.get().to_owned()) };
                joined(
                    items.iter().enumerate().map(|(i, value)| inner(item, value, &format!("{at}/{i}"))),
                    '[',
                    ']',
                )
            }
            Self::Members { members, further } => {
                let Some(given) = read::<IndexMap<String, &RawValue>>(value) else {
                    if further.is_some() && !at.is_empty() {
                        return Ok(value.get().to_owned());
                    }
                    return refuse(at, "expected an object");
                };
                let mut parts = Vec::new();
                for (name, value) in given {
                    let place = format!("{at}/{}", escape(&name));
                    match (members.get(&name), further) {
                        (Some(member), _) if member.null_is_absent && value.get() == "null" => {}
                        (Some(member), _) => {
                            let json = inner(&member.inverse, value, &place);
                            parts.push(json.map(|json| format!("{}:{json}", quoted(&member.name))));
                        }
                        (None, Some(further)) => {
                            let json = inner(further, value, &place);
                            parts.push(json.map(|json| format!("{}:{json}", quoted(&name))));
                        }
                        (None, None) => parts.push(refuse(&place, "there is no such argument")),
                    }
                }
                joined(parts.into_iter(), '{', '}')
            }
            Self::Pairs(item) => pairs(value, at, |value, place| inner(item, value, place)),
            Self::Text => text(value, at),
            Self::Tuple(items) => {
                let Some(given) = read::<HashMap<String, &RawValue>>(value) else {
                    return refuse(at, "expected an object");
                };
                let parts = items.iter().enumerate().map(|(i, item)| {
                    let name = tuple_member(i);
                    let place = format!("{at}/{name}");
                    match given.get(&name) {
                        Some(value) => inner(item, value, &place),
                        None => refuse(&place, "missing"),
                    }
                });
                joined(parts, '[', ']')
            }
            Self::Union(parts) => {
                let Some(whole) = read::<Value>(value) else { return refuse(at, "nested too deeply") };
                match parts.iter().find(|(schema, _)| fits(definitions, schema, &whole, 0)) {
                    Some((_, inverse)) => inner(inverse, value, at),
                    None => refuse(at, "fits no alternative"),
                }
            }
            Self::Whole(whole) => {
                let Some(given) = read::<HashMap<String, &RawValue>>(value) else {
                    return refuse(at, "expected an object");
                };
                match given.get(WHOLE) {
                    Some(value) if value.get() != "null" => inner(whole, value, &format!("{at}/{WHOLE}")),
                    _ => Ok("{}".to_owned()),
                }
            }
        }
    }
}

/// The member that holds the whole of arguments that are no plain object.
pub(super) const WHOLE: &str = "arguments";

/// The member that holds an item of a tuple.
pub(super) fn tuple_member(i: usize) -> String {
    format!("item_{i}")
}

fn pairs(value: &RawValue, at: &str, inner: impl Fn(&RawValue, &str) -> Outcome) -> Outcome {
    #[derive(serde::Deserialize)]
    struct Pair<'a> {
        name: String,
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let Some(given) = read::<Vec<Pair<'_>>>(value) else {
        return refuse(at, "expected a list of objects with `name` and `value`");
    };
    let mut seen = std::collections::HashSet::new();
    let parts = given.iter().enumerate().map(|(i, pair)| {
        if !seen.insert(pair.name.as_str()) {
            return refuse(&format!("{at}/{i}/name"), "given twice");
        }
        let json = inner(pair.value, &format!("{at}/{i}/value"))?;
        Ok(format!("{}:{json}", quoted(&pair.name)))
    });
    joined(parts, '{', '}')
}

fn text(value: &RawValue, at: &str) -> Outcome {
    // A model that sends the value itself means the same.
    let Some(text) = read::<String>(value) else { return Ok(value.get().to_owned()) };
    match RawValue::from_string(text) {
        Ok(json) => Ok(json.get().to_owned()),
        Err(error) => refuse(at, &format!("expected a text that holds JSON: {error}")),
    }
}

/// Whether a value has the outline of a lowered schema: types, listed values, names. Enough to tell alternatives apart.
fn fits(definitions: &IndexMap<String, Definition>, schema: &Value, value: &Value, depth: usize) -> bool {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/$defs/"));
    if let Some(definition) = name.and_then(|name| definitions.get(name)) {
        return depth > crate::local::MAX_DEPTH || fits(definitions, &definition.schema, value, depth + 1);
    }
    let fits = |schema: &Value, value: &Value| fits(definitions, schema, value, depth + 1);
    if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
        return true;
    }
    let listed = schema.get("enum").and_then(Value::as_array);
    if listed.is_some_and(|values| !values.contains(value)) {
        return false;
    }
    if let Some(parts) = schema.get("anyOf").and_then(Value::as_array) {
        return parts.iter().any(|part| fits(part, value));
    }
    let typed = is_of_type(value, schema.get("type"));
    if !is_within(schema, value) {
        return false;
    }
    let Value::Object(given) = value else {
        let items = schema.get("items");
        return typed
            && value.as_array().is_none_or(|list| list.iter().all(|v| items.is_none_or(|s| fits(s, v))));
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let has_all = required
        .is_none_or(|names| names.iter().filter_map(Value::as_str).all(|name| given.contains_key(name)));
    let known = properties.is_none_or(|map| {
        given.iter().all(|(name, value)| map.get(name).is_some_and(|schema| fits(schema, value)))
    });
    typed && has_all && known
}

/// Whether a number, or the length of a text or list, is within the schema's bounds.
fn is_within(schema: &Value, value: &Value) -> bool {
    let (size, least, most) = match value {
        Value::Number(number) => (number.as_f64(), "minimum", "maximum"),
        Value::String(text) => (Some(text.chars().count() as f64), "minLength", "maxLength"),
        Value::Array(items) => (Some(items.len() as f64), "minItems", "maxItems"),
        _ => return true,
    };
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let Some(size) = size else { return true };
    bound(least).is_none_or(|least| size >= least) && bound(most).is_none_or(|most| size <= most)
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

fn refuse(at: &str, message: &str) -> Outcome {
    Err(vec![SchemaViolation::new(at, message)])
}

/// The parts with commas, or every violation in them.
fn joined(parts: impl Iterator<Item = Outcome>, open: char, close: char) -> Outcome {
    let mut json = String::from(open);
    let mut violations = Vec::new();
    for part in parts {
        match part {
            Ok(text) => {
                if json.len() > 1 {
                    json.push(',');
                }
                json.push_str(&text);
            }
            Err(more) => violations.extend(more),
        }
    }
    json.push(close);
    if violations.is_empty() { Ok(json) } else { Err(violations) }
}
