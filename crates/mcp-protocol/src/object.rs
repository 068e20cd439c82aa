//! A JSON object read one level deep: keys decoded, values left as the bytes they are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::jsonrpc::{DecodeError, DecodeErrorKind};

/// Objects and arrays inside one another, at most.
///
/// As deep as `serde_json` lets a [`serde_json::Value`] nest, so that an ordinary peer can read what we pass on.
pub const MAX_DEPTH: usize = 128;

/// Members of one object that is read, at most. Objects that only pass through are not counted.
pub const MAX_MEMBERS: usize = 65_536;

/// The members of one object, in the order of the text, values unparsed.
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads `raw` one level deep.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidShape`] when it is no object or names a member twice: two readers that disagree
    /// about which one counts would let a caller smuggle.
    pub fn parse(raw: &'a RawValue) -> Result<Self, DecodeError> {
        Self::parse_text(raw.get())
    }

    /// As [`Object::parse`], from text.
    ///
    /// # Errors
    /// As [`Object::parse`], and [`DecodeErrorKind::Parse`] when it is not JSON.
    pub fn parse_text(text: &'a str) -> Result<Self, DecodeError> {
        let object = Self::parse_any(text)?;
        if let Some(name) = object.repeated() {
            let message = format!("member {name:?} stands there twice");
            return Err(DecodeError { kind: DecodeErrorKind::InvalidShape, message, id: None });
        }
        Ok(object)
    }

    /// As [`Object::parse_text`], without looking for repeated members: for what is only shown, where nobody decides by it.
    ///
    /// # Errors
    /// As [`Object::parse_text`], but for repeated members.
    pub fn parse_any(text: &'a str) -> Result<Self, DecodeError> {
        let mut members = Vec::with_capacity(8);
        each_member(text, |name, value| members.push((name, value)))?;
        Ok(Self { members })
    }

    /// The first member name that occurs twice.
    pub fn repeated(&self) -> Option<&str> {
        // Objects of the protocol have a handful of members; only a hostile or a data-like one is worth a set.
        if self.members.len() <= 32 {
            return self.members.iter().enumerate().find_map(|(at, (name, _))| {
                self.members[..at].iter().any(|(earlier, _)| earlier == name).then_some(name.as_ref())
            });
        }
        let mut seen = std::collections::HashSet::with_capacity(self.members.len());
        self.members.iter().find_map(|(name, _)| (!seen.insert(name.as_ref())).then_some(name.as_ref()))
    }

    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().find_map(|(member, value)| (member == name).then_some(*value))
    }

    /// The last member of that name: what most readers take of one that repeats.
    pub fn last(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().rev().find_map(|(member, value)| (member == name).then_some(*value))
    }

    /// As [`Object::get`], with `null` read as absent.
    pub fn present(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get() != "null")
    }

    /// The member of that name if it is a string.
    ///
    /// # Errors
    /// [`DecodeErrorKind::InvalidShape`] when it is there and is no string.
    pub fn string(&self, name: &str) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let Some(raw) = self.present(name) else { return Ok(None) };
        match string_of(raw) {
            Some(text) => Ok(Some(text)),
            None => {
                Err(DecodeError::shape(format!("{name:?} must be a string, found {}", kind_of(raw.get()))))
            }
        }
    }

    /// Every member, in the order of the text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &'a RawValue)> {
        self.members.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Hands the members of one object to `each`, in the order of the text: names decoded, values unparsed.
///
/// # Errors
/// [`DecodeErrorKind::InvalidShape`] when it is no object, [`DecodeErrorKind::Parse`] when it is not JSON or has more than
/// [`MAX_MEMBERS`].
pub(crate) fn each_member<'a>(
    text: &'a str,
    each: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), DecodeError> {
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(DecodeError::shape(format!("expected an object, found {}", kind_of(text))));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_map(Members(each)).and_then(|()| deserializer.end());
    read.map_err(|error| DecodeError { kind: DecodeErrorKind::Parse, message: error.to_string(), id: None })
}

/// Reads an object for [`each_member`].
struct Members<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut n_members = 0;
        while let Some(Key(name)) = map.next_key()? {
            if n_members == MAX_MEMBERS {
                return Err(serde::de::Error::custom(format_args!(
                    "more than {MAX_MEMBERS} members in one object"
                )));
            }
            n_members += 1;
            (self.0)(name, map.next_value::<&'de RawValue>()?);
        }
        Ok(())
    }
}

/// A key that borrows whenever it holds no escape.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The string that `raw` is, borrowed where it holds no escape; `None` when it is no string.
pub fn string_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        // The value is JSON already: without an escape its text stands between the quotes.
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str::<Key<'_>>(raw.get()).ok().map(|Key(text)| text)
}

/// `value` as raw JSON.
pub fn raw_of<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value)
        .expect("strings, numbers and maps with string keys always serialize")
}

/// The elements of an array, unparsed; `None` when `raw` is no array.
pub fn array_of(raw: &RawValue) -> Option<Vec<&RawValue>> {
    raw.get().starts_with('[').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// Where `part` stands in `whole`, in bytes.
///
/// `part` must be borrowed from `whole`.
pub(crate) fn offset_in(whole: &str, part: &str) -> usize {
    let offset = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    debug_assert!(offset <= whole.len() && offset + part.len() <= whole.len());
    offset
}

/// What a JSON text is, in a word a person understands.
pub(crate) fn kind_of(text: &str) -> &'static str {
    match text.trim_start_matches([' ', '\t', '\r', '\n']).as_bytes().first() {
        None => "nothing",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) => "something that is not JSON",
    }
}

/// How often `{` and `[` stand in `text`, in strings too.
fn n_openings(text: &[u8]) -> usize {
    // The two differ in one bit. Few enough at a time for a sum of one byte, of which a register holds many.
    let n_among = |part: &[u8]| part.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    text.chunks(usize::from(u8::MAX)).map(|part| usize::from(n_among(part))).sum()
}

/// Whether `text` opens more than `limit` objects and arrays inside one another.
///
/// Most messages have fewer brackets than the limit allows levels; counting those is one vectorized sweep. Only the
/// others are walked.
pub fn is_deeper_than(text: &[u8], limit: usize) -> bool {
    if n_openings(text) <= limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
