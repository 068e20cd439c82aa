//! Closed lists of values for vendors that list texts alone.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde_json::Value;

/// A text for each value, and the value's JSON: a string is itself, unless that is what another value is said as.
pub(super) fn texts_of(values: &[&Value]) -> IndexMap<String, String> {
    let claimed: HashSet<String> =
        values.iter().filter(|value| !value.is_string()).map(ToString::to_string).collect();
    let mut texts = IndexMap::new();
    let mut said = HashSet::new();
    for value in values {
        let json = value.to_string();
        // Said again it would need a text of twice the length, each time.
        if !said.insert(json.clone()) {
            continue;
        }
        let plain = value.as_str().filter(|text| !text.is_empty() && !claimed.contains(*text));
        let mut text = plain.map_or_else(|| json.clone(), str::to_owned);
        while texts.contains_key(&text) {
            text = Value::from(text).to_string();
        }
        texts.insert(text, json);
    }
    texts
}
