//! YAML to a tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{SyntaxError, duplicate};
use crate::config::node::{Entry, Node, Position, Value};

pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    if text.trim().is_empty() {
        return Ok(Node { at: Position { line: 1, column: 1 }, value: Value::Map(Vec::new()) });
    }
    let tree: Spanned<Tree> = serde_saphyr::from_str(text).map_err(|error| SyntaxError {
        at: error.location().map_or(Position { line: 1, column: 1 }, position),
        message: format!("this is not YAML: {}", first_line(&error.without_snippet().to_string())),
    })?;
    node(tree)
}

fn node(tree: Spanned<Tree>) -> Result<Node, SyntaxError> {
    let at = position(tree.referenced);
    let value = match tree.value {
        Tree::Leaf(value) => value,
        Tree::List(items) => Value::List(items.into_iter().map(node).collect::<Result<_, _>>()?),
        Tree::Map(members) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(members.len());
            for (key, member) in members {
                let key_at = position(key.referenced);
                if entries.iter().any(|entry| entry.key == key.value) {
                    return Err(duplicate(&key.value, key_at));
                }
                entries.push(Entry { key: key.value, key_at, node: node(member)? });
            }
            Value::Map(entries)
        }
    };
    Ok(Node { at, value })
}

fn position(location: Location) -> Position {
    Position {
        line: u32::try_from(location.line().max(1)).unwrap_or(u32::MAX),
        column: u32::try_from(location.column().max(1)).unwrap_or(u32::MAX),
    }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::Bool(flag)))
            }
            fn visit_i64<E>(self, integer: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::Integer(integer.into())))
            }
            fn visit_u64<E>(self, integer: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::Integer(integer.into())))
            }
            fn visit_i128<E>(self, integer: i128) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::Integer(integer)))
            }
            fn visit_f64<E>(self, float: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::Float(float)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::String { text: text.to_owned(), expanded: false }))
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf(Value::Null))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
                Tree::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Map(members))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}
