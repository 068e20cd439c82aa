//! GraphQL output types from a tool's `outputSchema`, and how the members of a result become their fields.
//!
//! Every field may be null, whatever the schema requires: a server that breaks its own promise costs the caller that field and an
//! error, never the rest of what the tool answered. `_json` holds all of it, digit for digit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_graphql::dynamic::{Field, FieldFuture, FieldValue, Object, ResolverContext, TypeRef};
use async_graphql::indexmap::IndexMap;
use async_graphql::{Error, Name, Value as Answer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{coded, raw};
use super::arguments::{Shape, is_digits};
use super::types::{
    JSON, LONG, MAX_MEMBERS, MAX_NAME_BYTES, Types, description, fits_32_bits, only_type, prose, takes_more,
    without_null,
};
use crate::local::{follow, reference};
use crate::names::{identifier, pascal, unique};
use crate::operations::properties;

/// An object of a result, taken apart once for all of its fields.
pub(super) struct Node {
    members: IndexMap<String, Box<RawValue>>,
    whole: Box<RawValue>,
}

/// The types of one tool's result.
struct Outputs<'t, 'a> {
    types: &'t mut Types,
    root: &'a Value,
    prefix: String,
    /// The type of each object schema that has one, so that what refers to itself ends.
    known: HashMap<*const Value, String>,
}

/// A type, and how a value becomes one of it.
struct Kind {
    type_ref: TypeRef,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Any,
    Boolean,
    Enum(Arc<HashSet<String>>),
    Float,
    Int,
    List(Box<Form>),
    Long,
    Object,
    String,
}

impl Types {
    /// The type of a tool's result; `None` where it is no object with members that the schema names: then it is `JSON`.
    pub(super) fn output(&mut self, tool: &str, schema: &Value) -> Option<TypeRef> {
        let prefix = format!("{}Result", pascal(tool));
        let mut outputs =
            Outputs { types: self, root: schema, prefix: prefix.clone(), known: HashMap::new() };
        Some(outputs.object(follow(schema, schema), &prefix, 0, true)?.type_ref)
    }
}

impl<'a> Outputs<'_, 'a> {
    fn object(&mut self, schema: &'a Value, name: &str, depth: usize, is_whole: bool) -> Option<Kind> {
        let key = std::ptr::from_ref(schema);
        if let Some(name) = self.known.get(&key) {
            return Some(Kind::named(name, Form::Object));
        }
        let is_partly_said = takes_more(schema) || ALTERNATIVES.iter().any(|word| schema.get(word).is_some());
        if depth > MAX_OUTPUT_DEPTH || (is_partly_said && !is_whole) {
            return None;
        }
        let members = properties(self.root, schema);
        if members.is_empty() || members.len() > MAX_MEMBERS {
            return None;
        }
        let type_name = self.types.free(shortened(name));
        self.known.insert(key, type_name.clone());
        let mut object = Object::new(&type_name);
        if let Some(text) = description(self.root, schema) {
            object = object.description(prose(text));
        }
        let fields = unique(members.iter().map(|(name, _)| *name), MAX_NAME_BYTES, identifier);
        if is_whole {
            object = object.field(whole(&fields));
        }
        for ((member, schema), field) in members.into_iter().zip(fields) {
            let kind = self.kind(schema, &format!("{name}{}", pascal(member)), depth + 1);
            let described = description(self.root, schema);
            object = object.field(member_field(&field, member, kind, described));
        }
        self.types.objects.push(object);
        Some(Kind::named(&type_name, Form::Object))
    }

    fn kind(&mut self, schema: &'a Value, name: &str, depth: usize) -> Kind {
        self.simple(schema, name, depth).unwrap_or_else(|| Kind::named(JSON, Form::Any))
    }

    fn simple(&mut self, schema: &'a Value, name: &str, depth: usize) -> Option<Kind> {
        let by_reference = self.name_of_target(schema);
        let (schema, _) = without_null(self.root, schema);
        let name = by_reference.as_deref().unwrap_or(name);
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return self.listed(values, schema, name);
        }
        let is_object = || !properties(self.root, schema).is_empty();
        match only_type(schema) {
            Some("object") => self.object(schema, name, depth, false),
            None if schema.get("type").is_none() && is_object() => self.object(schema, name, depth, false),
            Some(_) if ALTERNATIVES.iter().any(|word| schema.get(word).is_some()) => None,
            Some("array") => self.list(schema, name, depth),
            Some("boolean") => Some(Kind::named(TypeRef::BOOLEAN, Form::Boolean)),
            Some("integer") if fits_32_bits(schema) => Some(Kind::named(TypeRef::INT, Form::Int)),
            Some("integer") => Some(Kind::named(LONG, Form::Long)),
            Some("number") => Some(Kind::named(TypeRef::FLOAT, Form::Float)),
            Some("string") => Some(Kind::named(TypeRef::STRING, Form::String)),
            _ => None,
        }
    }

    fn list(&mut self, schema: &'a Value, name: &str, depth: usize) -> Option<Kind> {
        let items = schema.get("items").filter(|items| items.is_object())?;
        if schema.get("prefixItems").is_some() || depth > MAX_OUTPUT_DEPTH {
            return None;
        }
        let item = self.kind(items, &format!("{name}Item"), depth + 1);
        let (_, has_null) = without_null(self.root, items);
        // The executor takes a null item for a wrong one wherever it looks into it.
        if has_null && !item.form.takes_null() {
            return None;
        }
        Some(Kind { type_ref: TypeRef::List(Box::new(item.type_ref)), form: Form::List(Box::new(item.form)) })
    }

    fn listed(&mut self, values: &[Value], schema: &Value, name: &str) -> Option<Kind> {
        let (type_ref, shape) = self.types.enumeration(values, schema, shortened(name))?;
        let form = match shape {
            Shape::Enum(values) => Form::Enum(Arc::new(values.into_keys().collect())),
            _ => Form::String,
        };
        Some(Kind { type_ref, form })
    }

    /// What is referred to is named after its definition, from wherever it is used.
    fn name_of_target(&self, schema: &Value) -> Option<String> {
        let last = reference(schema)?.rsplit('/').next().filter(|last| !last.is_empty() && *last != "#")?;
        Some(format!("{}{}", self.prefix, pascal(&last.replace("~1", "_").replace("~0", "_"))))
    }
}

impl Kind {
    fn named(name: &str, form: Form) -> Self {
        Self { type_ref: TypeRef::named(name), form }
    }
}

impl Form {
    fn takes_null(&self) -> bool {
        matches!(self, Self::Any | Self::Boolean | Self::Float | Self::Int | Self::String)
    }

    /// The value, as far as the executor has to know it; `None` is null.
    fn value(&self, json: &RawValue) -> Result<Option<FieldValue<'static>>, String> {
        let text = json.get();
        if text == "null" {
            return Ok(None);
        }
        let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let found = match self {
            Self::Any => Some(raw(json)),
            Self::Boolean if matches!(text, "true" | "false") => Some(Answer::Boolean(text == "true")),
            Self::Enum(values) => {
                let value = serde_json::from_str::<String>(text).ok();
                value.filter(|value| values.contains(value)).map(|value| Answer::Enum(Name::new(value)))
            }
            Self::Float if is_number => Some(raw(json)),
            Self::Int => integer(text).filter(|digits| digits.parse::<i32>().is_ok()).map(number),
            Self::List(item) => return list(item, text).map(Some),
            Self::Long => integer(text).map(number),
            Self::Object => {
                let node = Node::of(json).ok_or_else(|| self.mismatch(text))?;
                return Ok(Some(FieldValue::owned_any(node)));
            }
            Self::String if text.starts_with('"') => Some(raw(json)),
            Self::Boolean | Self::Float | Self::String => None,
        };
        found.map(|value| Some(FieldValue::value(value))).ok_or_else(|| self.mismatch(text))
    }

    fn mismatch(&self, text: &str) -> String {
        let expected = match self {
            Self::Any => "any JSON value",
            Self::Boolean => "a boolean",
            Self::Enum(_) => "one of the values its outputSchema lists",
            Self::Float => "a number",
            Self::Int | Self::Long => "an integer",
            Self::List(_) => "a list",
            Self::Object => "an object",
            Self::String => "a string",
        };
        let shown: String = text.chars().take(40).collect();
        format!(
            "the tool answers {shown} here, where its outputSchema promises {expected}; `_json` holds all of it"
        )
    }
}

fn list(item: &Form, text: &str) -> Result<FieldValue<'static>, String> {
    let items: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|_| Form::List(Box::new(item.clone())).mismatch(text))?;
    let mut values = Vec::with_capacity(items.len());
    for json in items {
        match item.value(json)? {
            Some(value) => values.push(value),
            None if item.takes_null() => values.push(FieldValue::NULL),
            None => return Err(item.mismatch("null")),
        }
    }
    Ok(FieldValue::list(values))
}

/// The digits of an integer, also of one that is spelled `1.0` or `1e3`.
fn integer(text: &str) -> Option<String> {
    if is_digits(text) {
        return Some(text.to_owned());
    }
    let value: f64 = serde_json::from_str(text).ok()?;
    // Beyond this, not every integer has a spelling of its own among these.
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then(|| format!("{value:.0}"))
}

fn number(digits: String) -> Answer {
    raw(&RawValue::from_string(digits).expect("digits are JSON"))
}

impl Node {
    /// Takes an object apart; `None` when it is none.
    fn of(json: &RawValue) -> Option<Self> {
        let members = serde_json::from_str(json.get()).ok()?;
        Some(Self { members, whole: json.to_owned() })
    }

    /// The result of a tool whose result has a type.
    ///
    /// # Errors
    /// It is no object: nothing but `_json` has a value then.
    pub(super) fn whole(json: Box<RawValue>) -> (Self, Result<(), Error>) {
        match Self::of(&json) {
            Some(node) => (node, Ok(())),
            None => {
                let message = Form::Object.mismatch(json.get());
                (Self { members: IndexMap::new(), whole: json }, Err(coded(MISMATCH, &message)))
            }
        }
    }
}

/// Puts an error on the field being resolved, which then is null.
///
/// An error handed to the executor would take the whole of `data` with it (GraphQL October 2021 §6.4.4 wants the nullable field null).
pub(super) fn tell(context: &ResolverContext<'_>, error: Error) {
    context.add_error(context.set_error_path(error.into_server_error(context.item.pos)));
}

fn member_field(field: &str, member: &str, kind: Kind, description: Option<&str>) -> Field {
    let plan = Arc::new((member.to_owned(), kind.form));
    let field = Field::new(field, kind.type_ref, move |context| {
        let plan = Arc::clone(&plan);
        FieldFuture::new(async move {
            let (member, form) = &*plan;
            let node = context.parent_value.try_downcast_ref::<Node>()?;
            let Some(json) = node.members.get(member) else { return Ok(None) };
            Ok(form.value(json).unwrap_or_else(|message| {
                tell(&context, coded(MISMATCH, &message));
                None
            }))
        })
    });
    match description {
        Some(text) => field.description(prose(text)),
        None => field,
    }
}

/// The field that holds everything, under a name that no member has.
fn whole(fields: &[String]) -> Field {
    let mut name = "_json".to_owned();
    while fields.contains(&name) {
        name.push('_');
    }
    let field = Field::new(name, TypeRef::named(JSON), |context| {
        FieldFuture::new(async move {
            let node = context.parent_value.try_downcast_ref::<Node>()?;
            Ok(Some(FieldValue::value(raw(&node.whole))))
        })
    });
    field.description("The whole result, digit for digit.")
}

/// A type's name within its limit, cut where a character ends: names are ASCII.
fn shortened(name: &str) -> &str {
    &name[..name.len().min(MAX_NAME_BYTES)]
}

/// The code of an answer that is not what its schema promises.
const MISMATCH: &str = "UPSTREAM_PROTOCOL_ERROR";

/// Keywords by which an object may have members that its properties do not name.
const ALTERNATIVES: [&str; 4] = ["anyOf", "oneOf", "if", "dependentSchemas"];

/// Levels of objects and lists, at most; what is deeper is `JSON`.
const MAX_OUTPUT_DEPTH: usize = 16;
