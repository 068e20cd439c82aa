//! From the text of a path or query to JSON, guided by the schema.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use indexmap::IndexMap;
use mpe_mcp_protocol::pointer::escape;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::local::{follow, percent_decode};
use crate::operations::properties;
use crate::query::Text;
use crate::{SchemaViolation, Validator};

/// Reads the texts of one request. What it may spend on them is bounded, because alternatives multiply with nesting.
pub(crate) struct Reader<'a> {
    root: &'a Value,
    steps: Cell<usize>,
    /// Patterns of names, compiled; `None`: cannot be.
    patterns: RefCell<HashMap<String, Option<Validator>>>,
}

impl<'a> Reader<'a> {
    /// A reader of arguments whose schemas stand in `root`.
    pub(crate) fn new(root: &'a Value) -> Self {
        Self { root, steps: Cell::new(MAX_STEPS), patterns: RefCell::default() }
    }

    /// Whether a name fits a pattern of `patternProperties`.
    fn fits(&self, pattern: &str, name: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let compiled = patterns
            .entry(pattern.to_owned())
            .or_insert_with(|| Validator::compile(&serde_json::json!({ "pattern": pattern })).ok());
        compiled.as_ref().is_some_and(|compiled| self.step() && compiled.check(&name.into()).is_empty())
    }

    /// Takes one step; `false` when all are spent.
    fn step(&self) -> bool {
        let left = self.steps.get().checked_sub(1);
        self.steps.set(left.unwrap_or(0));
        left.is_some()
    }
}

/// The JSON text of what a query says, as `schema` understands it.
///
/// # Errors
/// Every part that fits no alternative of its schema, by pointer.
pub(crate) fn coerce(
    reader: &Reader<'_>,
    schema: &Value,
    text: &Text,
    at: &str,
) -> Result<String, Vec<SchemaViolation>> {
    match text {
        Text::Members(members) => from_members(reader, schema, members, at),
        Text::Values(values) => from_values(reader, schema, values, at),
    }
}

/// The JSON text of one header: lists are separated by commas (OpenAPI's `simple` style).
///
/// # Errors
/// As [`coerce`].
pub(crate) fn coerce_segment(
    reader: &Reader<'_>,
    schema: &Value,
    text: &str,
    at: &str,
) -> Result<String, Vec<SchemaViolation>> {
    if wants_list(reader, schema) && !text.starts_with('[') {
        let values: Vec<String> = text.split(',').map(str::to_owned).collect();
        return from_values(reader, schema, &values, at);
    }
    from_values(reader, schema, &[text.to_owned()], at)
}

/// The JSON text of a path variable as it stands in the path. Of a list, commas that are encoded belong to its items
/// (RFC 6570 §3.2.2).
///
/// # Errors
/// As [`coerce`].
pub(crate) fn coerce_variable(
    reader: &Reader<'_>,
    schema: &Value,
    text: &str,
    at: &str,
) -> Result<String, Vec<SchemaViolation>> {
    let decoded = |text: &str| percent_decode(text).unwrap_or_else(|| text.to_owned());
    let whole = decoded(text);
    if wants_list(reader, schema) && !whole.starts_with('[') {
        let values: Vec<String> = text.split(',').map(decoded).collect();
        return from_values(reader, schema, &values, at);
    }
    if wants(reader, schema, Kind::Object) && !whole.trim_start().starts_with('{') {
        let pieces: Vec<String> = text.split(',').map(decoded).collect();
        let (pairs, rest) = pieces.as_chunks::<2>();
        if rest.is_empty() && !pairs.is_empty() {
            let mut members = IndexMap::new();
            for [name, value] in pairs {
                if members.insert(name.clone(), Text::Values(vec![value.clone()])).is_some() {
                    let here = format!("{at}/{}", escape(name));
                    return Err(vec![SchemaViolation::new(here, "stands there twice; send it once")]);
                }
            }
            return from_members(reader, schema, &members, at);
        }
    }
    from_values(reader, schema, &[whole], at)
}

fn wants_list(reader: &Reader<'_>, schema: &Value) -> bool {
    wants(reader, schema, Kind::Array)
}

/// Whether nothing but this kind fits, or `null`.
fn wants(reader: &Reader<'_>, schema: &Value, kind: Kind) -> bool {
    let alternatives = alternatives(reader, schema);
    let is_one = |alternative: &Alternative<'_>| alternative.kind == kind && alternative.values.is_none();
    alternatives.iter().any(is_one)
        && alternatives.iter().all(|alternative| is_one(alternative) || alternative.kind == Kind::Null)
}

/// Whether some alternative of a schema is an object.
pub(crate) fn may_be_object(root: &Value, schema: &Value) -> bool {
    let reader = Reader::new(root);
    alternatives(&reader, schema).iter().any(|alternative| alternative.kind == Kind::Object)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Array,
    Boolean,
    Integer,
    Null,
    Number,
    Object,
    String,
}

/// One way to satisfy a schema: the type it wants, and the schema that says more about it.
struct Alternative<'a> {
    kind: Kind,
    schema: &'a Value,
    /// The closed list of values, where there is one.
    values: Option<Vec<&'a Value>>,
}

/// The alternatives of a schema in the order in which it lists them, through references, unions and `allOf`.
fn alternatives<'a>(reader: &Reader<'a>, schema: &'a Value) -> Vec<Alternative<'a>> {
    let mut found = Vec::new();
    gather(reader, schema, 0, &mut found);
    found
}

fn gather<'a>(reader: &Reader<'a>, schema: &'a Value, depth: usize, found: &mut Vec<Alternative<'a>>) {
    if depth > MAX_UNION_DEPTH || !reader.step() {
        return;
    }
    let schema = if says_nothing_itself(schema) { follow(reader.root, schema) } else { schema };
    if let Some(values) = closed_list(schema) {
        return found.push(Alternative { kind: Kind::Any, schema, values: Some(values) });
    }
    let typed = types(schema);
    if !typed.is_empty() {
        let one = |kind| Alternative { kind, schema, values: None };
        return found.extend(typed.into_iter().map(one));
    }
    if let Some(parts) = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(keyword)?.as_array()) {
        for part in parts {
            gather(reader, part, depth + 1, found);
        }
        return;
    }
    // Each part of `allOf` must hold; the first that names types or values decides how text is read.
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        let mut inner = Vec::new();
        gather(reader, part, depth + 1, &mut inner);
        if inner.iter().any(|alternative| alternative.kind != Kind::Any || alternative.values.is_some()) {
            return found.extend(inner);
        }
    }
    found.push(Alternative { kind: implied(schema), schema, values: None });
}

fn types(schema: &Value) -> Vec<Kind> {
    match schema.get("type") {
        Some(Value::String(name)) => kind(name).into_iter().collect(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).filter_map(kind).collect(),
        _ => Vec::new(),
    }
}

/// The type that a schema without `type` can only mean.
fn implied(schema: &Value) -> Kind {
    let has = |keyword: &str| schema.get(keyword).is_some();
    if has("properties") || has("patternProperties") {
        Kind::Object
    } else if has("items") || has("prefixItems") {
        Kind::Array
    } else {
        Kind::Any
    }
}

/// Whether a schema is a bare reference: nothing beside it changes how text is read.
fn says_nothing_itself(schema: &Value) -> bool {
    ["type", "enum", "const", "anyOf", "oneOf", "allOf"].iter().all(|keyword| schema.get(keyword).is_none())
}

fn closed_list(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(value) = schema.get("const") {
        return Some(vec![value]);
    }
    Some(schema.get("enum")?.as_array()?.iter().collect())
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "array" => Kind::Array,
        "boolean" => Kind::Boolean,
        "integer" => Kind::Integer,
        "null" => Kind::Null,
        "number" => Kind::Number,
        "object" => Kind::Object,
        "string" => Kind::String,
        _ => return None,
    })
}

fn from_values(
    reader: &Reader<'_>,
    schema: &Value,
    values: &[String],
    at: &str,
) -> Result<String, Vec<SchemaViolation>> {
    let alternatives = alternatives(reader, schema);
    if let [only] = values {
        for alternative in &alternatives {
            if let Some(json) = scalar(alternative, only) {
                return Ok(json);
            }
        }
    }
    let list = alternatives.iter().find(|alternative| alternative.kind == Kind::Array);
    let untyped = alternatives.iter().find(|alternative| {
        alternative.kind == Kind::Any && alternative.values.is_none() && values.len() > 1
    });
    if let Some(list) = list.or(untyped) {
        let items = values.iter().map(|value| Text::Values(vec![value.clone()]));
        return array(reader, list.schema, items, at);
    }
    if values.len() > 1 {
        let message = format!("given {} times; expected {}, once", values.len(), expected(&alternatives));
        return Err(vec![SchemaViolation::new(at, message)]);
    }
    let given = values.first().map_or("", String::as_str);
    let message = format!("expected {}, found {}", expected(&alternatives), quote(given));
    Err(vec![SchemaViolation::new(at, message)])
}

/// A single text as this alternative's JSON; `None` when it does not fit.
fn scalar(alternative: &Alternative<'_>, text: &str) -> Option<String> {
    if let Some(values) = &alternative.values {
        return listed(values, text);
    }
    match alternative.kind {
        Kind::Any => Some(json(text).map_or_else(|| quoted(text), str::to_owned)),
        Kind::Array => json(text).filter(|text| text.starts_with('[')).map(str::to_owned),
        Kind::Boolean => matches!(text, "true" | "false").then(|| text.to_owned()),
        Kind::Integer => is_integer(text).then(|| text.to_owned()),
        Kind::Null => matches!(text, "" | "null").then(|| "null".to_owned()),
        Kind::Number => is_number(text).then(|| text.to_owned()),
        Kind::Object => json(text).filter(|text| text.starts_with('{')).map(str::to_owned),
        Kind::String => Some(quoted(text)),
    }
}

/// The listed value that this text spells: a string as itself, anything else as its JSON.
fn listed(values: &[&Value], text: &str) -> Option<String> {
    let spelled = |value: &&&Value| match value {
        Value::String(own) => own == text,
        Value::Null => matches!(text, "" | "null"),
        Value::Number(own) => own.to_string() == text,
        other => other.to_string() == text,
    };
    values.iter().find(spelled).map(|value| value.to_string())
}

fn array(
    reader: &Reader<'_>,
    schema: &Value,
    items: impl Iterator<Item = Text>,
    at: &str,
) -> Result<String, Vec<SchemaViolation>> {
    let anything = Value::Bool(true);
    let mut parts = Vec::new();
    let mut violations = Vec::new();
    for (i, item) in items.enumerate() {
        let own = item_schema(schema, i).unwrap_or(&anything);
        match coerce(reader, own, &item, &format!("{at}/{i}")) {
            Ok(json) => parts.push(json),
            Err(more) => violations.extend(more),
        }
    }
    if violations.is_empty() { Ok(format!("[{}]", parts.join(","))) } else { Err(violations) }
}

fn item_schema(schema: &Value, i: usize) -> Option<&Value> {
    if let Some(prefix) = schema.get("prefixItems").and_then(Value::as_array)
        && let Some(own) = prefix.get(i)
    {
        return Some(own);
    }
    match schema.get("items")? {
        Value::Array(prefix) => prefix.get(i).or_else(|| schema.get("additionalItems")),
        own => Some(own),
    }
}

fn from_members(
    reader: &Reader<'_>,
    schema: &Value,
    members: &IndexMap<String, Text>,
    at: &str,
) -> Result<String, Vec<SchemaViolation>> {
    let alternatives = alternatives(reader, schema);
    let mut failure: Option<Vec<SchemaViolation>> = None;
    for alternative in alternatives.iter().filter(|alternative| alternative.values.is_none()) {
        let outcome = match alternative.kind {
            Kind::Array => match indexed(members) {
                Some(items) => array(reader, alternative.schema, items.into_iter(), at),
                None => continue,
            },
            Kind::Any | Kind::Object => object(reader, schema, alternative.schema, members, at),
            _ => continue,
        };
        match outcome {
            Ok(json) => return Ok(json),
            // Of several alternatives the one that got furthest explains best; the first is a fair guess at it.
            Err(violations) => failure = failure.or(Some(violations)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let message = format!("expected {}, found members in brackets", expected(&alternatives));
        vec![SchemaViolation::new(at, message)]
    }))
}

/// `a[0]=x&a[1]=y`: the items in order, when the members are exactly 0, 1, 2 …
fn indexed(members: &IndexMap<String, Text>) -> Option<Vec<Text>> {
    (0..members.len()).map(|i| members.get(&i.to_string()).cloned()).collect()
}

fn object(
    reader: &Reader<'_>,
    outer: &Value,
    schema: &Value,
    members: &IndexMap<String, Text>,
    at: &str,
) -> Result<String, Vec<SchemaViolation>> {
    let anything = Value::Bool(true);
    // `outer` may join what `schema` says with more (`allOf`), so both are asked.
    let known: Vec<(&str, &Value)> =
        properties(reader.root, schema).into_iter().chain(properties(reader.root, outer)).collect();
    let said = follow(reader.root, schema);
    let further = said.get("additionalProperties");
    let patterns: Vec<(&String, &Value)> =
        said.get("patternProperties").and_then(Value::as_object).into_iter().flatten().collect();
    let mut parts = Vec::new();
    let mut violations = Vec::new();
    for (name, text) in members {
        let here = format!("{at}/{}", escape(name));
        let fitting = || patterns.iter().find(|(pattern, _)| reader.fits(pattern, name)).map(|(_, own)| *own);
        let own = known.iter().find(|(other, _)| other == name).map(|(_, own)| *own).or_else(fitting);
        let own = match own {
            Some(own) => own,
            None if further == Some(&Value::Bool(false)) => {
                let names = known.iter().map(|(name, _)| (*name).to_owned());
                let patterns = patterns.iter().map(|(pattern, _)| format!("a name like `{pattern}`"));
                let names: Vec<String> = names.chain(patterns).collect();
                let message = match names.as_slice() {
                    [] => "no such member; expected none".to_owned(),
                    names => format!("no such member; expected one of: {}", names.join(", ")),
                };
                violations.push(SchemaViolation::new(here, message));
                continue;
            }
            None => further.unwrap_or(&anything),
        };
        match coerce(reader, own, text, &here) {
            Ok(json) => parts.push(format!("{}:{json}", quoted(name))),
            Err(more) => violations.extend(more),
        }
    }
    if violations.is_empty() { Ok(format!("{{{}}}", parts.join(","))) } else { Err(violations) }
}

/// A JSON string literal.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// The text itself, without surrounding white space, when it is JSON that can be read again.
fn json(text: &str) -> Option<&str> {
    let text = text.trim();
    serde_json::from_str::<Value>(text).ok()?;
    Some(text)
}

/// An integer as JSON writes it, of any size: its digits are passed on, never a machine word.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain && (digits.len() == 1 || !digits.starts_with('0'))
}

fn is_number(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    begins && !text.ends_with(char::is_whitespace) && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn expected(alternatives: &[Alternative<'_>]) -> String {
    let mut words: Vec<String> = Vec::new();
    for alternative in alternatives {
        let word = match &alternative.values {
            Some(values) => {
                let shown: Vec<String> = values.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
                let more = if values.len() > MAX_SHOWN { ", …" } else { "" };
                format!("one of {}{more}", shown.join(", "))
            }
            None => match alternative.kind {
                Kind::Any => "a value",
                Kind::Array => "a list",
                Kind::Boolean => "`true` or `false`",
                Kind::Integer => "an integer",
                Kind::Null => "`null`",
                Kind::Number => "a number",
                Kind::Object => "an object",
                Kind::String => "a text",
            }
            .to_owned(),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() {
        "nothing (its schema allows no value, or is too intricate)".to_owned()
    } else {
        words.join(" or ")
    }
}

/// The text in backquotes, short.
fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(64).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{short}`")
}

/// Schemas looked at for one request, at most. A hundred arguments with unions of ten need a thousand.
const MAX_STEPS: usize = 16 << 10;

/// Unions inside unions, at most.
const MAX_UNION_DEPTH: usize = 64;

/// Listed values shown in a message, at most.
const MAX_SHOWN: usize = 12;
