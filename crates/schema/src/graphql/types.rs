//! GraphQL input types from JSON Schema, where it is simple; those of results are in `output`.

use std::collections::{HashMap, HashSet};

use async_graphql::dynamic::{Enum, EnumItem, InputObject, InputValue, Object, TypeRef};
use serde_json::Value;

use super::arguments::{Member, Shape};
use crate::local::{follow, reference};
use crate::names::{identifier, pascal, unique};
use crate::operations::{properties, required};

/// The types that the tools of one catalogue need.
pub(super) struct Types {
    taken: HashSet<String>,
    pub(super) enums: Vec<Enum>,
    pub(super) inputs: Vec<InputObject>,
    pub(super) objects: Vec<Object>,
}

/// One argument or input field: its declaration, and how its value becomes JSON.
pub(super) struct Declared {
    pub(super) input: InputValue,
    pub(super) member: Member,
}

/// Names of the schema's own types.
pub(super) const JSON: &str = "JSON";
/// An integer without 32-bit bounds.
pub(super) const LONG: &str = "Long";

impl Types {
    pub(super) fn new() -> Self {
        let own =
            [JSON, LONG, "Query", "Mutation", "Subscription", "Int", "Float", "String", "Boolean", "ID"];
        Self {
            taken: own.iter().map(|name| (*name).to_owned()).collect(),
            enums: Vec::new(),
            inputs: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// The arguments of a tool, typed where simple.
    pub(super) fn arguments(&mut self, tool: &str, schema: &Value) -> Vec<Declared> {
        let mut declared = self.fields(schema, schema, &pascal(tool), 0).unwrap_or_default();
        let open = declared.is_empty() || takes_more(schema);
        if open && !properties_closed(schema) {
            declared.push(more(&declared));
        }
        declared
    }

    fn fields(&mut self, root: &Value, schema: &Value, prefix: &str, depth: usize) -> Option<Vec<Declared>> {
        let known = properties(root, schema);
        if known.is_empty() || known.len() > MAX_MEMBERS {
            return None;
        }
        let required = required(root, schema);
        let fields = unique(known.iter().map(|(name, _)| *name), MAX_NAME_BYTES, identifier);
        let mut declared = Vec::with_capacity(known.len());
        for ((name, schema), field) in known.into_iter().zip(fields) {
            let kind = self.kind(root, schema, &format!("{prefix}{}", pascal(name)), depth);
            let type_ref = if required.contains(&name) && !kind.nullable {
                TypeRef::NonNull(Box::new(kind.type_ref))
            } else {
                kind.type_ref
            };
            let mut input = InputValue::new(&field, type_ref);
            if let Some(text) = description(root, schema) {
                input = input.description(prose(text));
            }
            let member = Member {
                field,
                name: name.to_owned(),
                nullable: kind.nullable,
                spread: false,
                shape: kind.shape,
            };
            declared.push(Declared { input, member });
        }
        Some(declared)
    }

    fn kind(&mut self, root: &Value, schema: &Value, name: &str, depth: usize) -> Kind {
        let (schema, nullable) = without_null(root, schema);
        let kind = self.simple(root, schema, name, depth).unwrap_or_else(Kind::json);
        // What is carried as `JSON` may be null as far as anybody can tell here.
        let nullable = nullable || matches!(kind.shape, Shape::Any if is_json(&kind.type_ref));
        Kind { nullable, ..kind }
    }

    fn simple(&mut self, root: &Value, schema: &Value, name: &str, depth: usize) -> Option<Kind> {
        if depth > MAX_INPUT_DEPTH || UNIONS.iter().any(|keyword| schema.get(keyword).is_some()) {
            return None;
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let (type_ref, shape) = self.enumeration(values, schema, name)?;
            return Some(Kind { type_ref, shape, nullable: false });
        }
        if schema.get("const").is_some() {
            return None;
        }
        match only_type(schema)? {
            "string" => Some(Kind::named(TypeRef::STRING, Shape::Any)),
            "boolean" => Some(Kind::named(TypeRef::BOOLEAN, Shape::Any)),
            "number" => Some(Kind::named(TypeRef::FLOAT, Shape::Any)),
            "integer" if fits_32_bits(schema) => Some(Kind::named(TypeRef::INT, Shape::Any)),
            "integer" => Some(Kind::named(LONG, Shape::Long)),
            "array" => {
                let items = schema.get("items").filter(|items| items.is_object())?;
                if schema.get("prefixItems").is_some() {
                    return None;
                }
                let item = self.kind(root, items, &format!("{name}Item"), depth + 1);
                let inner =
                    if item.nullable { item.type_ref } else { TypeRef::NonNull(Box::new(item.type_ref)) };
                let member = Member {
                    field: String::new(),
                    name: String::new(),
                    nullable: item.nullable,
                    spread: false,
                    shape: item.shape,
                };
                Some(Kind {
                    type_ref: TypeRef::List(Box::new(inner)),
                    shape: Shape::List(Box::new(member)),
                    nullable: false,
                })
            }
            "object" => self.object(root, schema, name, depth),
            _ => None,
        }
    }

    fn object(&mut self, root: &Value, schema: &Value, name: &str, depth: usize) -> Option<Kind> {
        if takes_more(schema) {
            return None;
        }
        let fields = self.fields(root, schema, name, depth + 1)?;
        let type_name = self.free(&format!("{name}Input"));
        let mut object = InputObject::new(&type_name);
        if let Some(text) = description(root, schema) {
            object = object.description(prose(text));
        }
        let mut members = Vec::with_capacity(fields.len());
        for field in fields {
            object = object.field(field.input);
            members.push(field.member);
        }
        self.inputs.push(object);
        Some(Kind::named(&type_name, Shape::Object(members)))
    }

    /// An enum, when each value is a string that is a GraphQL name already; else its texts, or JSON.
    pub(super) fn enumeration(
        &mut self,
        values: &[Value],
        schema: &Value,
        name: &str,
    ) -> Option<(TypeRef, Shape)> {
        let texts: Vec<&str> =
            values.iter().filter(|value| !value.is_null()).map(Value::as_str).collect::<Option<_>>()?;
        let fits = |text: &str| identifier(text) == text && !matches!(text, "true" | "false" | "null");
        let distinct: HashSet<&str> = texts.iter().copied().collect();
        if texts.is_empty() || distinct.len() != texts.len() || !texts.iter().all(|text| fits(text)) {
            return Some((TypeRef::named(TypeRef::STRING), Shape::Any)).filter(|_| !texts.is_empty());
        }
        let type_name = self.free(name);
        let mut listed = Enum::new(&type_name);
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            listed = listed.description(prose(text));
        }
        let mut json = HashMap::new();
        for text in texts {
            listed = listed.item(EnumItem::new(text));
            json.insert(text.to_owned(), Value::from(text).to_string());
        }
        self.enums.push(listed);
        Some((TypeRef::named(&type_name), Shape::Enum(json)))
    }

    /// A type name that no type has yet.
    pub(super) fn free(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut n = 2_usize;
        while !self.taken.insert(name.clone()) {
            name = format!("{wanted}{n}");
            n += 1;
        }
        name
    }
}

struct Kind {
    type_ref: TypeRef,
    shape: Shape,
    nullable: bool,
}

impl Kind {
    fn named(name: &str, shape: Shape) -> Self {
        Self { type_ref: TypeRef::named(name), shape, nullable: false }
    }

    fn json() -> Self {
        Self::named(JSON, Shape::Any)
    }
}

fn is_json(type_ref: &TypeRef) -> bool {
    matches!(type_ref, TypeRef::Named(name) if name == JSON)
}

/// The schema behind references and the usual ways to say "or null", and whether null is allowed.
pub(super) fn without_null<'a>(root: &'a Value, schema: &'a Value) -> (&'a Value, bool) {
    let schema = if reference(schema).is_some() { follow(root, schema) } else { schema };
    for keyword in ["anyOf", "oneOf"] {
        let Some(parts) = schema.get(keyword).and_then(Value::as_array) else { continue };
        let is_null = |part: &&Value| part.get("type") == Some(&Value::from("null"));
        let mut others = parts.iter().filter(|part| !is_null(part));
        if let (Some(only), None) = (others.next(), others.next())
            && parts.len() > 1
        {
            let (inner, _) = without_null_type(follow(root, only));
            return (inner, true);
        }
    }
    without_null_type(schema)
}

/// The same schema, and whether its own type or list of values has `null`.
fn without_null_type(schema: &Value) -> (&Value, bool) {
    let has_null = |keyword: &str, null: &Value| {
        schema.get(keyword).and_then(Value::as_array).is_some_and(|values| values.contains(null))
    };
    (schema, has_null("enum", &Value::Null) || has_null("type", &"null".into()))
}

/// The one type a schema names beside `null`.
pub(super) fn only_type(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => {
            let mut others = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            others.next().filter(|_| others.next().is_none())
        }
        _ => None,
    }
}

pub(super) fn description<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a str> {
    schema.get("description").or_else(|| follow(root, schema).get("description"))?.as_str()
}

/// A description as the SDL can hold it: it is printed between three quotes as it is, and control characters are no GraphQL.
pub(super) fn prose(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    plain.replace("\"\"\"", "'''")
}

pub(super) fn fits_32_bits(schema: &Value) -> bool {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_i64);
    let least = bound("minimum").or(bound("exclusiveMinimum"));
    let most = bound("maximum").or(bound("exclusiveMaximum"));
    matches!((least, most), (Some(least), Some(most)) if least >= i64::from(i32::MIN) && most <= i64::from(i32::MAX))
}

/// Whether members that no property names are explicitly welcome.
pub(super) fn takes_more(schema: &Value) -> bool {
    let further = schema.get("additionalProperties").is_some_and(|further| further != &Value::Bool(false));
    further || schema.get("patternProperties").is_some()
}

/// Whether the tool takes no argument at all.
fn properties_closed(schema: &Value) -> bool {
    schema.get("additionalProperties") == Some(&Value::Bool(false))
        && schema.get("patternProperties").is_none()
}

/// The argument for members that the others do not name: a JSON object.
fn more(declared: &[Declared]) -> Declared {
    let mut field = "_arguments".to_owned();
    while declared.iter().any(|other| other.member.field == field) {
        field.push('_');
    }
    let text = "Further arguments: a JSON object whose members are passed on as they are.";
    Declared {
        input: InputValue::new(&field, TypeRef::named(JSON)).description(text),
        member: Member { field, name: String::new(), nullable: false, spread: true, shape: Shape::Any },
    }
}

/// Keywords whose presence makes a schema more than one simple type.
const UNIONS: [&str; 6] = ["anyOf", "oneOf", "allOf", "not", "if", "$ref"];

/// Levels of input objects and lists, at most; deeper parts are `JSON`. Recursive schemas end here too.
const MAX_INPUT_DEPTH: usize = 6;

/// Members of one input object, at most; a larger one is `JSON`.
pub(super) const MAX_MEMBERS: usize = 256;

/// Longest name of a field or argument.
pub(super) const MAX_NAME_BYTES: usize = 200;
