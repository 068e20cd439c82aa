//! Vendors that read a subset: the schema is rebuilt from what they read.

use std::collections::HashMap;

use indexmap::IndexMap;
use mpe_mcp_protocol::pointer::escape;
use serde_json::{Map, Value, json};

use super::inverse::{Definition, Inverse, Member, WHOLE, tuple_member};
use super::listed::texts_of;
use super::merge::{ANNOTATIONS, Merged, merged};
use super::profile::Subset;
use super::{LossKind, Said};
use crate::local::{ends, is_own_alternative, pointer_of};
use crate::openapi::component_name;

/// The arguments of a tool for such a vendor.
pub(super) fn say(root: &Value, profile: &Subset) -> Said {
    let mut builder = Builder {
        root,
        profile,
        losses: Vec::new(),
        definitions: IndexMap::new(),
        waiting: Vec::new(),
        stack: Vec::new(),
        left: MAX_NODES,
    };
    let mut said = builder.top();
    builder.finish_definitions();
    if !builder.definitions.is_empty() {
        let schemas = builder.definitions.iter().map(|(name, one)| (name.clone(), one.schema.clone()));
        said.schema["$defs"] = Value::Object(schemas.collect());
    }
    Said {
        schema: said.schema,
        losses: builder.losses,
        inverse: said.inverse,
        definitions: builder.definitions,
    }
}

struct Builder<'a> {
    root: &'a Value,
    profile: &'a Subset,
    losses: Vec<(String, LossKind, String)>,
    definitions: IndexMap<String, Definition>,
    /// Definitions still to be built: name and pointer.
    waiting: Vec<(String, String)>,
    /// References inside which we are, for vendors without references.
    stack: Vec<String>,
    /// Schemas that may still be built.
    left: usize,
}

/// A schema in the vendor's words.
struct Node {
    schema: Value,
    inverse: Inverse,
    is_nullable: bool,
}

impl Node {
    fn same(schema: Value) -> Self {
        Self { schema, inverse: Inverse::Same, is_nullable: false }
    }
}

impl Builder<'_> {
    /// The top, which is an object whatever the tool's schema is.
    fn top(&mut self) -> Node {
        let top = merged(self.root, self.root);
        let is_plain =
            ["anyOf", "oneOf", "enum", "const"].iter().all(|keyword| !top.members.contains_key(*keyword));
        let has_properties =
            top.members.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
        let further = top.members.get("additionalProperties").unwrap_or(&Value::Bool(false));
        let is_free = further != &Value::Bool(false) || top.members.contains_key("patternProperties");
        if is_plain && (has_properties || !is_free) {
            self.note(&top, "");
            return self.members_of(&top.members, "", 0);
        }
        self.lose(
            "",
            LossKind::Reshaped,
            format!("the top must be a plain object: the arguments stand in its member `{WHOLE}`"),
        );
        let whole = self.node(&Value::Object(without_definitions(self.root)), "", 1);
        let mut members = Map::new();
        members.insert("type".to_owned(), "object".into());
        members.insert("properties".to_owned(), json!({WHOLE: whole.schema}));
        members.insert("required".to_owned(), json!([WHOLE]));
        if self.profile.is_strict {
            members.insert("additionalProperties".to_owned(), false.into());
        }
        Node {
            schema: Value::Object(members),
            inverse: Inverse::Whole(Box::new(whole.inverse)),
            is_nullable: false,
        }
    }

    fn finish_definitions(&mut self) {
        while let Some((name, pointer)) = self.waiting.pop() {
            let target = self.root.pointer(&pointer).cloned().unwrap_or(Value::Bool(true));
            let node = self.node(&target, &pointer, 1);
            self.definitions.insert(name, Definition { schema: node.schema, inverse: node.inverse });
        }
    }

    fn node(&mut self, schema: &Value, at: &str, depth: usize) -> Node {
        self.left = self.left.saturating_sub(1);
        if depth > self.profile.max_depth || self.left == 0 {
            return self.text(schema, at, "nested too deeply for the vendor");
        }
        if let Some(node) = self.definition(schema, depth) {
            return node;
        }
        let merged = merged(self.root, schema);
        if merged.followed.iter().any(|reference| self.stack.contains(reference)) {
            return self.text(schema, at, "refers to itself, which the vendor cannot say");
        }
        let n_followed = merged.followed.len();
        self.stack.extend(merged.followed.iter().cloned());
        let node = self.flat(&merged, at, depth);
        self.stack.truncate(self.stack.len() - n_followed);
        node
    }

    /// A bare reference, where the vendor reads references.
    fn definition(&mut self, schema: &Value, depth: usize) -> Option<Node> {
        if !self.profile.has_references || depth == 0 {
            return None;
        }
        let members = schema.as_object()?;
        let is_bare =
            members.keys().all(|keyword| keyword == "$ref" || ANNOTATIONS.contains(&keyword.as_str()));
        let pointer = pointer_of(self.root, members.get("$ref").filter(|_| is_bare)?.as_str()?)?;
        let target = self.root.pointer(&pointer)?;
        if !ends(self.root, target) || is_own_alternative(self.root, target) {
            return None;
        }
        let name = if pointer.is_empty() { "root".to_owned() } else { component_name(&pointer) };
        let index = match self.definitions.get_index_of(&name) {
            Some(index) => index,
            None => {
                let empty = Definition { schema: Value::Null, inverse: Inverse::Same };
                let (index, _) = self.definitions.insert_full(name.clone(), empty);
                self.waiting.push((name.clone(), pointer));
                index
            }
        };
        let schema = json!({"$ref": format!("#/$defs/{name}")});
        // Whether the definition takes null is not known before it is built; saying it twice does no harm.
        Some(Node { schema, inverse: Inverse::Definition(index), is_nullable: false })
    }

    fn flat(&mut self, merged: &Merged, at: &str, depth: usize) -> Node {
        self.note(merged, at);
        let members = &merged.members;
        if let Some(values) = listed_values(members) {
            return self.listed(&values, members, at);
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(parts) = members.get(keyword).and_then(Value::as_array) else { continue };
            let alone = members.keys().all(|other| {
                other == keyword
                    || ANNOTATIONS.contains(&other.as_str())
                    || (other == "type" && members[other].is_string())
            });
            if alone {
                return self.union(parts, keyword, members, at, depth);
            }
            self.lose(
                &format!("{at}/{keyword}"),
                LossKind::Dropped,
                "alternatives beside other rules cannot be said".to_owned(),
            );
        }
        let (types, nullable) = types(members);
        let node = match types.as_slice() {
            [] if nullable => self.null(at),
            [] => self.text(&Value::Object(members.clone()), at, "any value"),
            [only] => self.typed(only, members, at, depth),
            many => {
                let n_losses = self.losses.len();
                let parts: Vec<Node> = many.iter().map(|name| self.typed(name, members, at, depth)).collect();
                if texts_meet(&parts) {
                    self.losses.truncate(n_losses);
                    self.text(&Value::Object(members.clone()), at, TEXTS_MEET)
                } else {
                    any_of(parts)
                }
            }
        };
        if nullable { self.or_null(node) } else { node }
    }

    fn typed(&mut self, name: &str, members: &Map<String, Value>, at: &str, depth: usize) -> Node {
        match name {
            "array" => self.list(members, at, depth),
            "object" => self.members_of(members, at, depth),
            "boolean" => Node::same(described(members, json!({"type": "boolean"}))),
            _ => self.scalar(name, members, at),
        }
    }

    fn scalar(&mut self, name: &str, members: &Map<String, Value>, at: &str) -> Node {
        let mut schema = described(members, json!({"type": name}));
        let own: &[&str] = if name == "string" { &STRING } else { &NUMBER };
        for keyword in own {
            if let Some(value) = members.get(*keyword) {
                self.rule(&mut schema, keyword, value, name, at);
            }
        }
        // A format is an annotation (2020-12 validation §7.2.1): leaving it out loses no rule.
        let format = members.get("format").and_then(Value::as_str);
        if let Some(format) = format.filter(|format| self.profile.formats.contains(format)) {
            schema["format"] = format.into();
        }
        Node::same(schema)
    }

    fn rule(&mut self, schema: &mut Value, keyword: &str, value: &Value, name: &str, at: &str) {
        if self.profile.keywords.contains(&keyword) {
            schema[keyword] = value.clone();
            return;
        }
        let whole = value.as_i64().filter(|_| name == "integer");
        let (bound, moved) = match keyword {
            "exclusiveMinimum" => ("minimum", whole.and_then(|n| n.checked_add(1))),
            "exclusiveMaximum" => ("maximum", whole.and_then(|n| n.checked_sub(1))),
            _ => ("", None),
        };
        match moved.filter(|_| self.profile.keywords.contains(&bound)) {
            Some(n) if schema.get(bound).is_none() => schema[bound] = n.into(),
            _ => self.lose(&format!("{at}/{keyword}"), LossKind::Dropped, format!("`{keyword}` is not read")),
        }
    }

    fn list(&mut self, members: &Map<String, Value>, at: &str, depth: usize) -> Node {
        if let Some(prefix) =
            members.get("prefixItems").and_then(Value::as_array).filter(|list| !list.is_empty())
        {
            return self.tuple(prefix, members, at, depth);
        }
        let items = members.get("items").unwrap_or(&Value::Bool(true));
        let item = self.node(items, &format!("{at}/items"), depth + 1);
        let mut schema = described(members, json!({"type": "array", "items": item.schema}));
        for keyword in ["minItems", "maxItems"] {
            if let Some(value) = members.get(keyword) {
                self.rule(&mut schema, keyword, value, "array", at);
            }
        }
        let inverse =
            if item.inverse.is_same() { Inverse::Same } else { Inverse::Items(Box::new(item.inverse)) };
        Node { schema, inverse, is_nullable: false }
    }

    /// A list of fixed places becomes an object with a member for each.
    fn tuple(&mut self, prefix: &[Value], members: &Map<String, Value>, at: &str, depth: usize) -> Node {
        let places = prefix.len() as u64;
        let least = members.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = members.get("maxItems").and_then(Value::as_u64);
        if least > places || most.is_some_and(|most| most < places) {
            return self.text(
                &Value::Object(members.clone()),
                at,
                "a list with fixed places and a length of its own",
            );
        }
        if least < places || (members.get("items") != Some(&Value::Bool(false)) && most != Some(places)) {
            self.lose(at, LossKind::Narrowed, format!("always {places} items, in fixed places"));
        }
        self.lose(at, LossKind::Reshaped, "a list with fixed places is said as an object".to_owned());
        let mut properties = Map::new();
        let mut inverses = Vec::new();
        for (i, item) in prefix.iter().enumerate() {
            let node = self.node(item, &format!("{at}/prefixItems/{i}"), depth + 1);
            properties.insert(tuple_member(i), node.schema);
            inverses.push(node.inverse);
        }
        let required: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
        let schema = json!({"type": "object", "properties": properties, "required": required});
        let schema = self.closed(described(members, schema));
        Node { schema, inverse: Inverse::Tuple(inverses), is_nullable: false }
    }

    fn members_of(&mut self, members: &Map<String, Value>, at: &str, depth: usize) -> Node {
        let mut properties =
            members.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let required: Vec<String> = strings(members.get("required"));
        for name in &required {
            // Required, and described nowhere: any value.
            properties.entry(name).or_insert(Value::Bool(true));
        }
        let further = members.get("additionalProperties");
        let patterns =
            members.get("patternProperties").filter(|map| map.as_object().is_some_and(|map| !map.is_empty()));
        if properties.is_empty() && depth > 0 {
            return match (further, patterns) {
                (Some(Value::Bool(false)), None) if !self.profile.needs_properties => {
                    let empty = json!({"type": "object", "properties": {}, "required": []});
                    Node::same(self.closed(described(members, empty)))
                }
                (Some(item @ Value::Object(_)), None) => self.map(item, members, at, depth),
                _ => self.text(&Value::Object(members.clone()), at, "an object with members of any name"),
            };
        }
        if patterns.is_some() || further.is_some_and(|further| further != &Value::Bool(false)) {
            self.lose(at, LossKind::Narrowed, "members that no property names cannot be given".to_owned());
        }
        self.object(&properties, &required, members, at, depth)
    }

    fn object(
        &mut self,
        properties: &Map<String, Value>,
        required: &[String],
        members: &Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Node {
        let mut lowered = Map::new();
        let mut inverses = IndexMap::new();
        let mut needed: Vec<Value> = Vec::new();
        for (name, schema) in properties {
            let is_required = required.contains(name);
            if schema == &Value::Bool(false) && !is_required {
                continue;
            }
            let node = self.node(schema, &format!("{at}/properties/{}", escape(name)), depth + 1);
            let null_is_absent = self.profile.is_strict && !is_required && !node.is_nullable;
            let node = if null_is_absent { self.or_null(node) } else { node };
            if is_required || self.profile.is_strict {
                needed.push(name.as_str().into());
            }
            lowered.insert(name.clone(), node.schema);
            inverses
                .insert(name.clone(), Member { name: name.clone(), null_is_absent, inverse: node.inverse });
        }
        let schema = json!({"type": "object", "properties": lowered, "required": needed});
        let schema = self.closed(described(members, schema));
        Node { schema, inverse: Inverse::Members { members: inverses, further: None }, is_nullable: false }
    }

    /// An object with any names and one kind of value becomes a list of pairs.
    fn map(&mut self, item: &Value, members: &Map<String, Value>, at: &str, depth: usize) -> Node {
        self.lose(
            at,
            LossKind::Reshaped,
            "an object with names of any kind is said as a list of `name` and `value`".to_owned(),
        );
        let node = self.node(item, &format!("{at}/additionalProperties"), depth + 2);
        let pair = json!({
            "type": "object",
            "properties": {"name": {"type": "string"}, "value": node.schema},
            "required": ["name", "value"],
        });
        let schema = json!({"type": "array", "items": self.closed(pair)});
        Node {
            schema: described(members, schema),
            inverse: Inverse::Pairs(Box::new(node.inverse)),
            is_nullable: false,
        }
    }

    fn closed(&self, mut schema: Value) -> Value {
        if self.profile.is_strict {
            schema["additionalProperties"] = false.into();
        } else if schema["required"].as_array().is_some_and(Vec::is_empty)
            && let Value::Object(members) = &mut schema
        {
            members.shift_remove("required");
        }
        schema
    }

    fn union(
        &mut self,
        parts: &[Value],
        keyword: &str,
        members: &Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Node {
        let is_null = |part: &Value| part.get("type") == Some(&Value::from("null"));
        let outer = members.get("type");
        let n_losses = self.losses.len();
        let mut nodes = Vec::new();
        for (i, part) in parts.iter().enumerate().filter(|(_, part)| !is_null(part)) {
            let joined = outer.map(|outer| json!({"allOf": [part, {"type": outer}]}));
            nodes.push(self.node(joined.as_ref().unwrap_or(part), &format!("{at}/{keyword}/{i}"), depth));
        }
        let allows_null = parts.iter().any(is_null) && outer.is_none();
        if nodes.is_empty() {
            return self.null(at);
        }
        if texts_meet(&nodes) {
            self.losses.truncate(n_losses);
            return self.text(&Value::Object(members.clone()), at, TEXTS_MEET);
        }
        if keyword == "oneOf" && !are_distinct(&nodes) {
            self.lose(
                &format!("{at}/oneOf"),
                LossKind::Dropped,
                "a value may fit several alternatives".to_owned(),
            );
        }
        let mut node = any_of(nodes);
        node.schema = described(members, node.schema);
        if allows_null { self.or_null(node) } else { node }
    }

    /// A closed list of values. Whatever is no plain scalar of one type is listed as text.
    fn listed(&mut self, values: &[Value], members: &Map<String, Value>, at: &str) -> Node {
        for keyword in members.keys() {
            let is_told = ["enum", "const", "type"].contains(&keyword.as_str())
                || ANNOTATIONS.contains(&keyword.as_str());
            if !is_told && !UNSAID.contains(&keyword.as_str()) && keyword != "format" {
                self.lose(
                    &format!("{at}/{keyword}"),
                    LossKind::Dropped,
                    "beside a list of values".to_owned(),
                );
            }
        }
        let (types, _) = types(members);
        let fits =
            |value: &Value| !members.contains_key("type") || types.iter().any(|name| is_of(value, name));
        let nullable =
            values.contains(&Value::Null) && (members.get("type").is_none() || has_null_type(members));
        let values: Vec<&Value> = values.iter().filter(|value| !value.is_null() && fits(value)).collect();
        if values.is_empty() {
            if nullable {
                return self.null(at);
            }
            return self.text(&Value::Bool(false), at, "no value at all");
        }
        let kind = kind_of(values[0]);
        let is_uniform = values.iter().all(|value| kind_of(value) == kind) && kind != "complex";
        let awkward =
            self.profile.enum_of_strings && (kind != "string" || values.iter().any(|value| *value == ""));
        let node = if is_uniform && !awkward {
            Node::same(described(members, json!({"type": kind, "enum": values})))
        } else {
            self.lose(at, LossKind::Reshaped, "the listed values are said as texts".to_owned());
            let texts = texts_of(&values);
            let listed: Vec<&String> = texts.keys().collect();
            let schema = described(members, json!({"type": "string", "enum": listed}));
            let inverse = Inverse::Listed(texts.into_iter().collect::<HashMap<_, _>>());
            Node { schema, inverse, is_nullable: false }
        };
        if nullable { self.or_null(node) } else { node }
    }

    fn null(&mut self, at: &str) -> Node {
        if !self.profile.says_nullable {
            return Node { schema: json!({"type": "null"}), inverse: Inverse::Same, is_nullable: true };
        }
        self.lose(at, LossKind::Reshaped, "`null` alone is said as a text".to_owned());
        let inverse = Inverse::Listed(HashMap::from([("null".to_owned(), "null".to_owned())]));
        Node {
            schema: json!({"type": "string", "enum": ["null"], "nullable": true}),
            inverse,
            is_nullable: true,
        }
    }

    /// The value as JSON text: the last resort, which every vendor reads.
    fn text(&mut self, schema: &Value, at: &str, reason: &str) -> Node {
        self.lose(at, LossKind::Text, format!("sent as JSON text: {reason}"));
        let own = schema.get("description").and_then(Value::as_str);
        let note = "JSON text";
        let text = own.map_or_else(|| note.to_owned(), |own| format!("{own} ({note})"));
        Node {
            schema: json!({"type": "string", "description": text}),
            inverse: Inverse::Text,
            is_nullable: false,
        }
    }

    fn or_null(&self, node: Node) -> Node {
        let Node { mut schema, inverse, is_nullable } = node;
        if is_nullable {
            return Node { schema, inverse, is_nullable };
        }
        if self.profile.says_nullable {
            schema["nullable"] = true.into();
        } else if let Some(Value::String(name)) = schema.get("type") {
            schema["type"] = json!([name, "null"]);
            if let Some(Value::Array(values)) = schema.get_mut("enum") {
                values.push(Value::Null);
            }
        } else if let Some(Value::Array(parts)) = schema.get_mut("anyOf") {
            parts.push(json!({"type": "null"}));
        } else {
            schema = json!({"anyOf": [schema, {"type": "null"}]});
        }
        Node { schema, inverse, is_nullable: true }
    }

    /// Reports what a merged schema says and no vendor here reads.
    fn note(&mut self, merged: &Merged, at: &str) {
        for keyword in &merged.conflicts {
            self.lose(
                &format!("{at}/{keyword}"),
                LossKind::Dropped,
                "said twice, differently; the first counts".to_owned(),
            );
        }
        if merged.is_never {
            self.lose(at, LossKind::Dropped, "the schema allows nothing".to_owned());
        }
        for keyword in UNSAID {
            if merged.members.get(keyword).is_some_and(|value| value != &Value::Bool(false)) {
                self.lose(
                    &format!("{at}/{keyword}"),
                    LossKind::Dropped,
                    format!("`{keyword}` cannot be said"),
                );
            }
        }
    }

    fn lose(&mut self, at: &str, kind: LossKind, message: String) {
        self.losses.push((at.to_owned(), kind, message));
    }
}

/// The alternatives as one schema.
fn any_of(mut nodes: Vec<Node>) -> Node {
    if nodes.len() == 1 {
        return nodes.swap_remove(0);
    }
    let is_nullable = nodes.iter().any(|node| node.is_nullable);
    let schemas: Vec<&Value> = nodes.iter().map(|node| &node.schema).collect();
    let schema = json!({"anyOf": schemas});
    let is_same = nodes.iter().all(|node| node.inverse.is_same());
    let inverse = if is_same {
        Inverse::Same
    } else {
        Inverse::Union(nodes.into_iter().map(|node| (node.schema, node.inverse)).collect())
    };
    Node { schema, inverse, is_nullable }
}

/// Whether a text could be one alternative's own or another one said as a text: nobody could tell which is meant.
fn texts_meet(nodes: &[Node]) -> bool {
    let is_text = |node: &&Node| match node.schema.get("type") {
        Some(Value::String(name)) => name == "string",
        Some(Value::Array(names)) => names.contains(&Value::from("string")),
        _ => false,
    };
    let texts: Vec<&Node> = nodes.iter().filter(is_text).collect();
    texts.len() > 1 && texts.iter().any(|node| matches!(node.inverse, Inverse::Text | Inverse::Listed(_)))
}

const TEXTS_MEET: &str = "a text beside what would be said as one cannot be told apart";

/// Whether no value fits two of the alternatives: each has a JSON type of its own.
fn are_distinct(nodes: &[Node]) -> bool {
    let mut seen: Vec<&str> = Vec::new();
    nodes.iter().all(|node| match node.schema.get("type").and_then(Value::as_str) {
        Some(name) if !matches!(node.inverse, Inverse::Text | Inverse::Listed(_)) => {
            // What counts is what they are turned back to.
            let name = match (&node.inverse, name) {
                (Inverse::Pairs(_), _) => "object",
                (Inverse::Tuple(_), _) => "array",
                (_, "integer") => "number",
                (_, name) => name,
            };
            let is_new = !seen.contains(&name);
            seen.push(name);
            is_new
        }
        _ => false,
    })
}

/// The listed values of `enum` or `const`; of both, where both are.
fn listed_values(members: &Map<String, Value>) -> Option<Vec<Value>> {
    let listed = members.get("enum").and_then(Value::as_array);
    match (members.get("const"), listed) {
        (Some(only), Some(values)) => Some(values.iter().filter(|value| *value == only).cloned().collect()),
        (Some(only), None) => Some(vec![only.clone()]),
        (None, values) => values.cloned(),
    }
}

/// The types beside `null`, and whether `null` is one. No type, and nothing that implies one: none.
fn types(members: &Map<String, Value>) -> (Vec<String>, bool) {
    let named = match members.get("type") {
        Some(Value::String(name)) => vec![name.clone()],
        other => strings(other),
    };
    if !named.is_empty() {
        let nullable = named.iter().any(|name| name == "null");
        let mut others: Vec<String> = named.into_iter().filter(|name| name != "null").collect();
        if others.iter().any(|name| name == "number") {
            others.retain(|name| name != "integer");
        }
        return (others, nullable);
    }
    let has = |keyword: &str| members.contains_key(keyword);
    let implied = if has("properties") { Some("object") } else { None };
    (implied.map(str::to_owned).into_iter().collect(), false)
}

fn has_null_type(members: &Map<String, Value>) -> bool {
    types(members).1
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        name => kind_of(value) == name,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        _ => "complex",
    }
}

fn described(members: &Map<String, Value>, mut schema: Value) -> Value {
    let text = members.get("description").or_else(|| members.get("title")).and_then(Value::as_str);
    if let Some(text) = text.filter(|text| !text.is_empty())
        && schema.get("$ref").is_none()
    {
        schema["description"] = text.into();
    }
    schema
}

fn without_definitions(root: &Value) -> Map<String, Value> {
    let mut members = root.as_object().cloned().unwrap_or_default();
    for keyword in ["$defs", "definitions", "$id", "$schema"] {
        members.shift_remove(keyword);
    }
    members
}

/// Keywords that none of these vendors reads and no other shape can say.
const UNSAID: [&str; 16] = [
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "maxProperties",
    "minContains",
    "minProperties",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Rules about strings.
const STRING: [&str; 3] = ["minLength", "maxLength", "pattern"];

/// Rules about numbers.
const NUMBER: [&str; 5] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];

/// Schemas built for one tool, at most; references followed in place may multiply.
const MAX_NODES: usize = 4096;
