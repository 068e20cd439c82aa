//! Decoding a tree into types, with every failure at its place, and more than one failure at a time.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{Entry, KeyPath, Node, Position, Step, Value};

/// One failure: what, and the way there.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) path: KeyPath,
    pub(crate) at: Position,
}

/// A tree as a `T`, with everything that had to be left out of it.
pub(crate) struct Decoded<T> {
    /// `None` when even the rest makes no `T`.
    pub(crate) value: Option<T>,
    pub(crate) failures: Vec<Failure>,
}

/// Failures reported of one configuration, at most: whoever has more has the wrong file.
const MAX_FAILURES: usize = 50;

/// Decodes `root`. On a failure its place is cut out of the tree and decoding starts over, so that one run reports
/// all of them.
pub(crate) fn decode<T: DeserializeOwned>(root: &Node) -> Decoded<T> {
    let mut tree = root.clone();
    let mut failures: Vec<Failure> = Vec::new();
    while failures.len() < MAX_FAILURES {
        let error = match T::deserialize(&tree) {
            Ok(value) => return Decoded { value: Some(value), failures },
            Err(error) => error,
        };
        let path = KeyPath(error.path.into_iter().rev().collect());
        let at = error.at.unwrap_or(tree.at);
        // What lacks a key only because we have cut it out is no news.
        let is_echo = failures.iter().any(|failure| path.holds(&failure.path) && path != failure.path);
        let is_cut = tree.remove(&path.up_to_list());
        if !is_echo {
            failures.push(Failure { message: error.message, path, at });
        }
        if !is_cut {
            break;
        }
    }
    Decoded { value: None, failures }
}

/// A failure on its way out: the path grows from the inside.
#[derive(Debug)]
pub(crate) struct DecodeError {
    message: String,
    path: Vec<Step>,
    at: Option<Position>,
}

impl DecodeError {
    fn inside(mut self, step: Step, at: Position) -> Self {
        self.path.push(step);
        self.at.get_or_insert(at);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self { message: message.to_string(), path: Vec::new(), at: None }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // Never the value itself: it may be a secret in the wrong place.
        let found = match unexpected {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Float(_) => "a number with a fraction",
            Unexpected::Map => "a table",
            Unexpected::Option | Unexpected::Unit => "nothing (null)",
            Unexpected::Seq => "a list",
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => "an integer",
            Unexpected::Str(_) => "a string",
            _ => "something else",
        };
        Self::custom(format_args!("expected {expected}, found {found}"))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {unexpected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("unknown key{}", hint(field, expected, "keys here are")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("unknown value `{variant}`{}", hint(variant, expected, "it may be")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("the key `{field}` is missing"))
    }
}

/// The nearest of `known`, else all of them.
fn hint(word: &str, known: &[&str], all: &str) -> String {
    let folded = fold(word);
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &fold(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, candidate)) if distance <= 1 + word.chars().count() / 4 => {
            format!("; did you mean `{candidate}`?")
        }
        _ if known.is_empty() => "; no key is allowed here".to_owned(),
        _ => format!("; {all} `{}`", known.join("`, `")),
    }
}

/// Spelling without what people vary: case, hyphens, underscores.
fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

// === Deserializer over the tree ===

impl<'de> Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let outcome = match &self.value {
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Integer(integer) => visit_integer(*integer, visitor),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), current: None }),
            Value::Null => visitor.visit_unit(),
            Value::String { text, .. } => visitor.visit_borrowed_str(text),
        };
        outcome.map_err(|mut error| {
            error.at.get_or_insert(self.at);
            error
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let outcome = match &self.value {
            Value::String { text, .. } => visitor.visit_enum(Word(text)),
            other => Err(DecodeError::invalid_type(unexpected(other), &"a string")),
        };
        outcome.map_err(|mut error: DecodeError| {
            error.at.get_or_insert(self.at);
            error
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        // By position would be a meaning that nobody wrote down.
        if let Value::List(_) = &self.value {
            let mut error = DecodeError::invalid_type(Unexpected::Seq, &"a table");
            error.at.get_or_insert(self.at);
            return Err(error);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.expanded().and_then(|text| text.parse().ok()) {
            Some(flag) => visitor.visit_bool(flag),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.expanded().and_then(|text| text.parse().ok()) {
            Some(integer) => visit_integer(integer, visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.expanded().and_then(|text| text.parse().ok()) {
            Some(float) => visitor.visit_f64(float),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_u64(visitor)
    }
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_u64(visitor)
    }
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_u64(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

impl Node {
    /// The text, if it came out of a variable.
    fn expanded(&self) -> Option<&str> {
        match &self.value {
            Value::String { text, expanded: true } => Some(text.trim()),
            _ => None,
        }
    }
}

fn visit_integer<'de, V: Visitor<'de>>(integer: i128, visitor: V) -> Result<V::Value, DecodeError> {
    if let Ok(integer) = u64::try_from(integer) {
        return visitor.visit_u64(integer);
    }
    match i64::try_from(integer) {
        Ok(integer) => visitor.visit_i64(integer),
        Err(_) => visitor.visit_i128(integer),
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Bool(flag) => Unexpected::Bool(*flag),
        Value::Float(float) => Unexpected::Float(*float),
        Value::Integer(_) => Unexpected::Signed(0),
        Value::List(_) => Unexpected::Seq,
        Value::Map(_) => Unexpected::Map,
        Value::Null => Unexpected::Unit,
        Value::String { text, .. } => Unexpected::Str(text),
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(node).map(Some).map_err(|error| error.inside(Step::Index(index), node.at))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.current = self.entries.next();
        let Some(entry) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'de, DecodeError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|error| error.inside(Step::Key(entry.key.clone()), entry.key_at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let entry = self.current.expect("serde asks for a value after its key only");
        seed.deserialize(&entry.node)
            .map_err(|error| error.inside(Step::Key(entry.key.clone()), entry.node.at))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A word that names a variant without content.
struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let word: StrDeserializer<'de, DecodeError> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, DecodeError> {
        Err(DecodeError::custom("expected a table, found a string"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("expected a list, found a string"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("expected a table, found a string"))
    }
}
