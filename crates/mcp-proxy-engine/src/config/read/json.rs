//! JSON to a tree.
//!
//! `serde_json` tells no positions of values, but a borrowed [`RawValue`] is a slice of the input: where the slice
//! begins is where the value stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Lines, SyntaxError, duplicate};
use crate::config::node::{Entry, Node, Position, Value};

pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let lines = Lines::of(text);
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        SyntaxError {
            at: Position {
                line: u32::try_from(error.line().max(1)).unwrap_or(u32::MAX),
                column: u32::try_from(error.column().max(1)).unwrap_or(u32::MAX),
            },
            message: format!("this is not JSON: {}", error.to_string().replace(&place, "")),
        }
    })?;
    node(raw, &lines)
}

fn node(raw: &RawValue, lines: &Lines<'_>) -> Result<Node, SyntaxError> {
    let text = raw.get();
    let offset = offset_in(lines.text, text);
    let at = lines.position(offset);
    let broken = |error: serde_json::Error| SyntaxError { at, message: format!("this is not JSON: {error}") };
    let value = match text.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).map_err(broken)?;
            let mut entries: Vec<Entry> = Vec::with_capacity(members.len());
            for (key, member) in members {
                let key_at = match &key {
                    Key::Borrowed(key) => lines.position(offset_in(lines.text, key).saturating_sub(1)),
                    // A key with escapes is no slice of the input; its value stands right behind it.
                    Key::Owned(_) => lines.position(offset_in(lines.text, member.get())),
                };
                let key = key.into_string();
                if entries.iter().any(|entry| entry.key == key) {
                    return Err(duplicate(&key, key_at));
                }
                entries.push(Entry { key, key_at, node: node(member, lines)? });
            }
            Value::Map(entries)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(broken)?;
            Value::List(items.into_iter().map(|item| node(item, lines)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::String { text: serde_json::from_str(text).map_err(broken)?, expanded: false },
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => match text.parse() {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Float(serde_json::from_str(text).map_err(broken)?),
        },
    };
    Ok(Node { at, value })
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The members of an object in their order, duplicates included.
struct Members<'a>(Vec<(Key<'a>, &'a RawValue)>);

enum Key<'a> {
    Borrowed(&'a str),
    Owned(String),
}

impl Key<'_> {
    fn into_string(self) -> String {
        match self {
            Self::Borrowed(key) => key.to_owned(),
            Self::Owned(key) => key,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key::Borrowed(key))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key::Owned(key.to_owned()))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Members<'de>, A::Error> {
                Err(serde::de::Error::custom("expected an object"))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}
