//! Sets of capabilities that clients declare.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// The same capabilities in the one way in which sets of them are told apart: however a client orders or spaces them.
pub(crate) fn canonical(capabilities: &RawValue) -> Cow<'_, str> {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let members: BTreeMap<_, _> =
                    members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
                Value::Object(members.into_iter().collect())
            }
            Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    match serde_json::from_str::<Value>(capabilities.get()) {
        Ok(value) => Cow::Owned(sorted(value).to_string()),
        // Deeper than this reader goes: then it is what it is.
        Err(_) => Cow::Borrowed(capabilities.get()),
    }
}
