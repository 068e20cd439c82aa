//! Putting the arguments object together from path, query and body.

use std::collections::HashSet;
use std::fmt;

use mpe_mcp_protocol::pointer::escape;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::SchemaViolation;
use crate::check::MAX_VIOLATIONS;
use crate::coerce::{Reader, coerce, coerce_segment, coerce_variable, quoted};
use crate::local::follow;
use crate::operation::{Given, Location, Operation, Parameter};
use crate::query::tree;

/// See [`Operation::arguments`].
pub(crate) fn assemble(
    operation: &Operation,
    given: &Given<'_>,
    body: Option<&RawValue>,
    check: &dyn Fn(&RawValue) -> Vec<SchemaViolation>,
) -> Result<Box<RawValue>, Vec<SchemaViolation>> {
    let mut violations = Vec::new();
    let members = match body.map(members).transpose() {
        Ok(members) => members.unwrap_or_default(),
        Err(violation) => return Err(vec![violation]),
    };
    refuse_repeated(&members, &mut violations);

    let mut added = Vec::new();
    let reader = Reader::new(operation.tool.input_schema());
    from_path(&reader, operation, given.path, &mut added, &mut violations);
    from_query(&reader, operation, given.query, &mut added, &mut violations);
    refuse_conflicts(&members, &added, &mut violations);
    from_headers(&reader, operation, given.headers, &members, &mut added, &mut violations);
    require(operation, &members, &added, &mut violations);
    if !violations.is_empty() {
        add_what_else_is_wrong(operation, &members, added, &mut violations, check);
        return Err(violations);
    }
    match body {
        Some(body) if added.is_empty() => Ok(body.to_owned()),
        _ => Ok(spliced(&members, &added)),
    }
}

/// Adds what `check` finds wrong with the arguments that could be read: whoever mends the others need not come back for that.
fn add_what_else_is_wrong(
    operation: &Operation,
    members: &[Member],
    mut added: Vec<Member>,
    violations: &mut Vec<SchemaViolation>,
    check: &dyn Fn(&RawValue) -> Vec<SchemaViolation>,
) {
    let top = |pointer: &str| pointer.split('/').nth(1).map(str::to_owned);
    let told: HashSet<String> = violations.iter().filter_map(|violation| top(&violation.pointer)).collect();
    // In the place of what could not be read, so that it is not said to be missing.
    for parameter in &operation.parameters {
        let is_there = added.iter().chain(members).any(|(name, _)| *name == parameter.name);
        if !is_there && told.contains(&escape(&parameter.name)) {
            added.push((parameter.name.clone(), "null".to_owned()));
        }
    }
    let mut more = check(&spliced(members, &added));
    more.retain(|violation| top(&violation.pointer).is_none_or(|top| !told.contains(&top)));
    violations.extend(more);
    violations.truncate(MAX_VIOLATIONS);
}

/// One argument: its name and its JSON.
type Member = (String, String);

fn from_path(
    reader: &Reader<'_>,
    operation: &Operation,
    path: &[(String, String)],
    added: &mut Vec<Member>,
    violations: &mut Vec<SchemaViolation>,
) {
    for (name, text) in path {
        let at = format!("/{}", escape(name));
        let Some(parameter) = parameter(operation, Location::Path, name) else {
            violations.push(SchemaViolation::new(at, "the path of this operation has no such variable"));
            continue;
        };
        match coerce_variable(reader, &parameter.schema, text, &at) {
            Ok(json) => added.push((name.clone(), json)),
            Err(more) => violations.extend(more),
        }
    }
}

fn from_query(
    reader: &Reader<'_>,
    operation: &Operation,
    query: &[(String, String)],
    added: &mut Vec<Member>,
    violations: &mut Vec<SchemaViolation>,
) {
    let root = operation.tool.input_schema();
    let is_known = |name: &str| parameter(operation, Location::Query, name).is_some();
    for (name, text) in tree(query, &is_known, violations) {
        let at = format!("/{}", escape(&name));
        let schema = match parameter(operation, Location::Query, &name) {
            Some(parameter) => &parameter.schema,
            None => match further(operation, root) {
                Some(schema) => schema,
                None => {
                    violations.push(unknown(operation, at));
                    continue;
                }
            },
        };
        if added.iter().any(|(other, _)| *other == name) {
            violations.push(SchemaViolation::new(
                at,
                "given in the path and in the query; send it in the path alone",
            ));
            continue;
        }
        match coerce(reader, schema, &text, &at) {
            Ok(json) => added.push((name, json)),
            Err(more) => violations.extend(more),
        }
    }
}

fn from_headers(
    reader: &Reader<'_>,
    operation: &Operation,
    headers: &[(String, String)],
    members: &[Member],
    added: &mut Vec<Member>,
    violations: &mut Vec<SchemaViolation>,
) {
    for parameter in operation.parameters.iter().filter(|parameter| is_header(parameter)) {
        let header = parameter.header.as_deref().unwrap_or_default();
        let mut given = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header));
        let Some((_, text)) = given.next() else { continue };
        let at = format!("/{}", escape(&parameter.name));
        if given.next().is_some() {
            violations.push(SchemaViolation::new(at, format!("the header {header} stands there twice")));
            continue;
        }
        let json = match coerce_segment(reader, &parameter.schema, text, &at) {
            Ok(json) => json,
            Err(more) => {
                violations.extend(more);
                continue;
            }
        };
        match added.iter().chain(members).find(|(name, _)| *name == parameter.name) {
            None => added.push((parameter.name.clone(), json)),
            Some((_, other)) if is_equal(other, &json) => {}
            Some(_) => {
                violations.push(SchemaViolation::new(at, format!("the header {header} says something else")));
            }
        }
    }
}

fn is_equal(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    one == other || read(one).is_some_and(|one| Some(one) == read(other))
}

fn parameter<'a>(operation: &'a Operation, location: Location, name: &str) -> Option<&'a Parameter> {
    operation.parameters.iter().find(|parameter| parameter.location == location && parameter.name == name)
}

/// The schema of query names that are no parameter, where the tool says that it takes further members.
fn further<'a>(operation: &Operation, root: &'a Value) -> Option<&'a Value> {
    if operation.parameters.iter().all(is_header) {
        return None;
    }
    let schema = follow(root, root).get("additionalProperties")?;
    (schema != &Value::Bool(false)).then_some(schema)
}

fn unknown(operation: &Operation, at: String) -> SchemaViolation {
    let names: Vec<&str> = operation
        .parameters
        .iter()
        .filter(|parameter| parameter.location == Location::Query)
        .map(|parameter| parameter.name.as_str())
        .collect();
    let message = if operation.parameters.iter().all(is_header) {
        "this operation takes its arguments in the body, not in the query".to_owned()
    } else if names.is_empty() {
        "this operation takes nothing in the query".to_owned()
    } else {
        format!("no such query parameter; expected one of: {}", names.join(", "))
    };
    SchemaViolation::new(at, message)
}

fn is_header(parameter: &Parameter) -> bool {
    parameter.location == Location::Header
}

fn refuse_repeated(members: &[Member], violations: &mut Vec<SchemaViolation>) {
    let mut seen = HashSet::new();
    for (name, _) in members {
        if !seen.insert(name) {
            violations.push(SchemaViolation::new(
                format!("/{}", escape(name)),
                "the body has this member twice; send it once",
            ));
        }
    }
}

fn refuse_conflicts(members: &[Member], added: &[Member], violations: &mut Vec<SchemaViolation>) {
    for (name, _) in added {
        if members.iter().any(|(other, _)| other == name) {
            violations.push(SchemaViolation::new(
                format!("/{}", escape(name)),
                "given in the body and in the path or query; send it in one place",
            ));
        }
    }
}

/// Parameters alone: what the body lacks is the validator's to say, which knows the whole schema.
fn require(
    operation: &Operation,
    members: &[Member],
    added: &[Member],
    violations: &mut Vec<SchemaViolation>,
) {
    for parameter in operation.parameters.iter().filter(|parameter| parameter.required) {
        let at = format!("/{}", escape(&parameter.name));
        let given = added.iter().chain(members).any(|(name, _)| *name == parameter.name);
        let told = violations.iter().any(|v| v.pointer == at || v.pointer.starts_with(&format!("{at}/")));
        if !given && !told {
            let place = match parameter.location {
                Location::Path => "path",
                Location::Query => "query",
                Location::Header => "headers",
            };
            violations.push(SchemaViolation::new(at, format!("required, and missing in the {place}")));
        }
    }
}

fn spliced(members: &[Member], added: &[Member]) -> Box<RawValue> {
    let mut json = String::from("{");
    for (i, (name, value)) in members.iter().chain(added).enumerate() {
        if i > 0 {
            json.push(',');
        }
        json.push_str(&quoted(name));
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    RawValue::from_string(json).expect("names and values are JSON, joined as JSON")
}

/// The members of a JSON object in order, repeated ones included, each value with its bytes.
fn members(body: &RawValue) -> Result<Vec<Member>, SchemaViolation> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<Member>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object with the arguments")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                members.push((name, String::from(Box::<str>::from(value))));
            }
            Ok(members)
        }
    }

    if !body.get().starts_with('{') {
        return Err(SchemaViolation::new("", "expected a JSON object with the arguments"));
    }
    serde_json::Deserializer::from_str(body.get()).deserialize_map(Members).map_err(|error| {
        SchemaViolation::new("", format!("expected a JSON object with the arguments: {error}"))
    })
}
