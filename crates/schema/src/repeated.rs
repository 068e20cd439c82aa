//! Members that stand twice in one object: readers differ in which of them they see, so what was checked need not be what counts.

use std::borrow::Cow;
use std::fmt;

use mpe_mcp_protocol::pointer::escape;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::SchemaViolation;

/// The first member of `json`, at any depth, that its object names twice; or that it cannot be read, and so nobody knows.
pub fn repeated_member(json: &RawValue) -> Option<SchemaViolation> {
    let mut scan = Scan::default();
    let mut reader = serde_json::Deserializer::from_str(json.get());
    let read = Values(&mut scan).deserialize(&mut reader);
    match (scan.found, read) {
        (Some(pointer), _) => Some(SchemaViolation::new(pointer, "stands there twice; send it once")),
        (None, Err(error)) => Some(SchemaViolation::new("", format!("cannot be read: {error}"))),
        (None, Ok(())) => None,
    }
}

#[derive(Default)]
struct Scan {
    /// The way to where the reader is; empty again once something is found.
    path: Vec<String>,
    found: Option<String>,
}

impl Scan {
    fn found(&mut self, name: &str) {
        if self.found.is_none() {
            let steps = self.path.iter().map(String::as_str).chain([name]);
            self.found = Some(steps.map(|step| format!("/{}", escape(step))).collect());
        }
    }
}

/// Reads any value.
struct Values<'s>(&'s mut Scan);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<Cow<'de, str>> = Vec::new();
        let mut many = std::collections::HashSet::new();
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            let is_new = if seen.len() < FEW {
                !seen.contains(&name)
            } else {
                if many.is_empty() {
                    many.extend(seen.iter().cloned());
                }
                many.insert(name.clone())
            };
            if !is_new {
                self.0.found(&name);
            }
            self.0.path.push(name.clone().into_owned());
            map.next_value_seed(Values(&mut *self.0))?;
            self.0.path.pop();
            if seen.len() < FEW {
                seen.push(name);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for at in 0_usize.. {
            self.0.path.push(at.to_string());
            let next = items.next_element_seed(Values(&mut *self.0))?;
            self.0.path.pop();
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A name as it stands in the text, where it needs no reading.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Names that are compared one by one; of more a table is made.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::repeated_member;

    fn found(json: &str) -> Option<String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        repeated_member(&raw).map(|violation| violation.pointer)
    }

    #[test]
    fn a_repeated_name_is_found_at_any_depth_however_it_is_written() {
        assert_eq!(found(r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#), None);
        assert_eq!(found(r#"{"a":1,"a":1}"#).as_deref(), Some("/a"));
        assert_eq!(found(r#"{"a":1,"\u0061":1}"#).as_deref(), Some("/a"));
        assert_eq!(found(r#"{"x":[0,{"y/z":{"a":null,"b":1e9,"a":"t"}}]}"#).as_deref(), Some("/x/1/y~1z/a"));
        assert_eq!(found("[1,true,-1,\"t\"]"), None);
        // Beyond a number that nobody can read it stops.
        assert_eq!(found(r#"{"n":1e999,"a":1,"a":2}"#).as_deref(), Some(""));
    }

    #[test]
    fn many_names_are_told_apart() {
        let names: Vec<String> = (0..1000).map(|n| format!("\"n{n}\":{n}")).collect();
        assert_eq!(found(&format!("{{{}}}", names.join(","))), None);
        for repeated in [0, 15, 16, 17, 999] {
            let json = format!("{{{},\"n{repeated}\":0}}", names.join(","));
            assert_eq!(found(&json), Some(format!("/n{repeated}")));
        }
    }
}
