//! Settings that are more than a number or a text: durations, sizes, counts, secrets.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// A length of time: a number of seconds, or a text such as `"250ms"`, `"30s"`, `"5m"`, `"1h"`.
///
/// More than nothing and at most a day: longer waits are outages nobody would notice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span(Duration);

/// A number of bytes: an integer, or a text such as `"64KiB"`, `"4MiB"`, `"1GiB"`.
///
/// From 1 KiB to 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

/// How many of something there may be: from 1 to 1 000 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u32);

/// A text that is never shown again: not in logs, errors, metrics or `--print-config`.
#[derive(Clone)]
pub struct Secret(SecretString);

/// What stands in for a secret wherever a configuration is shown.
pub(crate) const REDACTED: &str = "[redacted]";

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const SMALLEST: u64 = 1 << 10;
const LARGEST: u64 = 4 << 30;
const MOST: u64 = 1_000_000;

// === impl Span ===

impl Span {
    /// A span of that length.
    ///
    /// # Errors
    /// One sentence when it is nothing, or more than a day.
    pub fn new(duration: Duration) -> Result<Self, String> {
        if duration.is_zero() || duration > LONGEST {
            return Err("a duration is more than nothing and at most a day (24h)".to_owned());
        }
        Ok(Self(duration))
    }

    /// The length.
    pub fn get(self) -> Duration {
        self.0
    }

    fn seconds(seconds: f64) -> Result<Self, String> {
        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()).and_then(Self::new)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let scale = match unit {
            "" | "s" => 1.0,
            "h" => 3600.0,
            "m" | "min" => 60.0,
            "ms" => 0.001,
            _ => return Err("the units of a duration are ms, s, m and h".to_owned()),
        };
        let number: f64 = number.parse().map_err(|_| "there is no number in front".to_owned())?;
        Self::seconds(number * scale)
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|reason| format!("expected a time such as `250ms`, `30s`, `5m`: {reason}"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration: seconds as a number, or a text such as \"250ms\", \"30s\", \"5m\"")
            }
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Span, E> {
                Span::seconds(seconds).map_err(E::custom)
            }
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Span, E> {
                Span::new(Duration::from_secs(seconds)).map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Span, E> {
                Err(E::invalid_value(Unexpected::Signed(seconds), &self))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(|reason| {
                    E::custom(format_args!("{}; {reason}", invalid::<E>(Unexpected::Str(text), &self)))
                })
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: seconds as a number, or a text such as \"250ms\", \"30s\", \"5m\", \"1h\"; at most a day.",
            "anyOf": [
                { "type": "number", "exclusiveMinimum": 0, "maximum": LONGEST.as_secs() },
                { "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)? *(ms|s|m|min|h)?|.*\\$\\{.*)$" },
            ],
        })
    }
}

// === impl Size ===

impl Size {
    /// That many bytes.
    ///
    /// # Errors
    /// One sentence when it is under 1 KiB or over 4 GiB.
    pub fn new(bytes: u64) -> Result<Self, String> {
        if !(SMALLEST..=LARGEST).contains(&bytes) {
            return Err("a size is from 1 KiB to 4 GiB".to_owned());
        }
        Ok(Self(bytes))
    }

    /// The number of bytes.
    pub fn get(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let scale = match unit {
            "" | "B" => 1,
            "GiB" => 1 << 30,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err("the units of a size are B, KiB, MiB and GiB".to_owned()),
        };
        let number: u64 = number.parse().map_err(|_| "there is no whole number in front".to_owned())?;
        Self::new(number.saturating_mul(scale))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size: bytes as an integer, or a text such as \"64KiB\", \"4MiB\"")
            }
            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                Size::new(bytes).map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                Err(E::invalid_value(Unexpected::Signed(bytes), &self))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).map_err(|reason| {
                    E::custom(format_args!("{}; {reason}", invalid::<E>(Unexpected::Str(text), &self)))
                })
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: an integer, or a text such as \"64KiB\", \"4MiB\"; from 1 KiB to 4 GiB.",
            "anyOf": [
                { "type": "integer", "minimum": SMALLEST, "maximum": LARGEST },
                { "type": "string", "pattern": "^([0-9]+ *(B|KiB|MiB|GiB)?|.*\\$\\{.*)$" },
            ],
        })
    }
}

// === impl Count ===

impl Count {
    /// That many.
    ///
    /// # Errors
    /// One sentence when it is 0 or over a million.
    pub fn new(count: u64) -> Result<Self, String> {
        match u32::try_from(count) {
            Ok(small) if (1..=MOST).contains(&count) => Ok(Self(small)),
            _ => Err(format!("expected a count from 1 to {MOST}, found {count}")),
        }
    }

    /// The number.
    pub fn get(self) -> usize {
        self.0 as usize
    }

    /// The number, for those who count in 32 bits.
    pub fn small(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a count from 1 to {MOST}")
            }
            fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
                Count::new(count).map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, count: i64) -> Result<Count, E> {
                Err(E::invalid_value(Unexpected::Signed(count), &self))
            }
        }
        deserializer.deserialize_u64(CountVisitor)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How many there may be, from 1 to 1000000.",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": MOST },
                { "type": "string", "pattern": "\\$\\{" },
            ],
        })
    }
}

// === impl Secret ===

impl Secret {
    /// A secret of that text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The secret, for whoever has to send it.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }

    /// The text. Never log it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;
        impl Visitor<'_> for SecretVisitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string (a secret)")
            }
            fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
        }
        deserializer.deserialize_str(SecretVisitor)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: better `\"${VARIABLE}\"` than the text itself. Never shown again.",
            "type": "string",
        })
    }
}

/// A number and what follows it.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// The sentence of an invalid value.
fn invalid<E: Error>(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> E {
    E::invalid_value(found, expected)
}
