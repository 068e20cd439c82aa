//! Values between GraphQL and JSON: variables in, a tool's arguments out.

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::{Name, Value, Variables};
use serde_json::value::RawValue;

use super::answer::raw;
use crate::coerce::quoted;

/// How the value of an argument becomes JSON.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// As it is.
    Any,
    /// An enum's GraphQL name stands for a JSON value.
    Enum(HashMap<String, String>),
    /// An integer that may come as a string of digits.
    Long,
    /// Each item.
    List(Box<Member>),
    /// Each field, under its own name.
    Object(Vec<Member>),
}

/// One argument, field or item.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Name in GraphQL; empty for items.
    pub(super) field: String,
    /// Name in JSON; empty for items.
    pub(super) name: String,
    /// Whether `null` is a value for the tool. Where it is not, a GraphQL `null` means "left out".
    pub(super) nullable: bool,
    /// Whether this member's own members are those of the whole (`_more`).
    pub(super) spread: bool,
    /// How its value becomes JSON.
    pub(super) shape: Shape,
}

/// The tool's arguments as JSON.
///
/// # Errors
/// What fits no shape, in one sentence.
pub(super) fn json(members: &[Member], values: &IndexMap<Name, Value>) -> Result<Box<RawValue>, String> {
    let json = object(members, values)?;
    RawValue::from_string(json).map_err(|error| format!("the arguments are no JSON: {error}"))
}

fn object(members: &[Member], values: &IndexMap<Name, Value>) -> Result<String, String> {
    let mut parts = Vec::new();
    for member in members {
        let Some(value) = values.get(member.field.as_str()) else { continue };
        if *value == Value::Null && !member.nullable {
            continue;
        }
        if member.spread {
            let inner = write(value);
            let inner = inner.trim();
            let body = inner
                .strip_prefix('{')
                .and_then(|text| text.strip_suffix('}'))
                .ok_or_else(|| format!("`{}` takes a JSON object", member.field))?;
            if !body.trim().is_empty() {
                parts.push(body.to_owned());
            }
            continue;
        }
        parts.push(format!("{}:{}", quoted(&member.name), one(member, value)?));
    }
    Ok(format!("{{{}}}", parts.join(",")))
}

fn one(member: &Member, value: &Value) -> Result<String, String> {
    if *value == Value::Null {
        return Ok("null".to_owned());
    }
    match (&member.shape, value) {
        (Shape::Any, value) => Ok(write(value)),
        (Shape::Enum(values), Value::Enum(name)) => listed(values, name),
        (Shape::Enum(values), Value::String(name)) => listed(values, name),
        (Shape::Long, Value::String(digits)) => Ok(digits.clone()),
        (Shape::Long, value) => Ok(write(value)),
        (Shape::List(item), Value::List(items)) => {
            let parts: Result<Vec<String>, String> = items.iter().map(|value| one(item, value)).collect();
            Ok(format!("[{}]", parts?.join(",")))
        }
        // GraphQL coerces a lone value to a list of one (§3.11).
        (Shape::List(item), value) => Ok(format!("[{}]", one(item, value)?)),
        (Shape::Object(members), Value::Object(values)) => object(members, values),
        (Shape::Enum(_) | Shape::Object(_), value) => Err(format!("unexpected value {value}")),
    }
}

fn listed(values: &HashMap<String, String>, name: &str) -> Result<String, String> {
    values.get(name).cloned().ok_or_else(|| format!("`{name}` is none of the enum's values"))
}

fn write(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Whether a value may stand for a `Long`: an integer of any size, or a string of its digits.
pub(super) fn is_long(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::String(digits) => is_digits(digits),
        Value::Object(_) => is_digits(&write(value)),
        _ => false,
    }
}

pub(super) fn is_digits(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain && (digits.len() == 1 || !digits.starts_with('0'))
}

/// Variables from their JSON. Integers beyond 64 bits keep their digits.
///
/// # Errors
/// Not a JSON object, or nested too deeply.
pub(super) fn variables(json: &RawValue) -> Result<Variables, String> {
    match faithful(json, MAX_VARIABLE_DEPTH)? {
        Value::Null => Ok(Variables::default()),
        value @ Value::Object(_) => Ok(Variables::from_value(value)),
        _ => Err("expected a JSON object".to_owned()),
    }
}

/// Reads raw JSON level by level, so that a number's digits are still there to be looked at.
fn faithful(json: &RawValue, depth: usize) -> Result<Value, String> {
    let text = json.get();
    let say = |error: serde_json::Error| error.to_string();
    if depth == 0 {
        return Err(format!("nested deeper than {MAX_VARIABLE_DEPTH} levels"));
    }
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: IndexMap<String, &RawValue> = serde_json::from_str(text).map_err(say)?;
            let mut object = IndexMap::new();
            for (name, value) in members {
                object.insert(Name::new(name), faithful(value, depth - 1)?);
            }
            Ok(Value::Object(object))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(say)?;
            items.into_iter().map(|item| faithful(item, depth - 1)).collect::<Result<_, _>>().map(Value::List)
        }
        _ if is_digits(text) && text.parse::<i64>().is_err() && text.parse::<u64>().is_err() => Ok(raw(json)),
        _ => serde_json::from_str(text).map_err(say),
    }
}

/// Levels of nesting in variables, at most: half of what `serde_json` reads.
const MAX_VARIABLE_DEPTH: usize = 64;
