//! Reading and writing one level of JSON, everything below left as the bytes it came in.

use std::borrow::Cow;

use bytes::Bytes;
use mpe_mcp_protocol::jsonrpc::encode::put_on_one_line;
use mpe_mcp_protocol::object::{Object, string_of};
use serde_json::value::RawValue;

/// The members of one JSON object in order; values are the sender's bytes. Of a repeated one the last counts, as most
/// parsers have it.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(Object<'a>);

/// Writes a JSON object member by member.
pub(crate) struct ObjectWriter {
    bytes: Vec<u8>,
}

impl<'a> Members<'a> {
    /// The members of `raw`; `None` when it is no object.
    pub(crate) fn of(raw: &'a RawValue) -> Option<Self> {
        if is_object(raw) { Object::parse_any(raw.get()).ok().map(Self) } else { None }
    }

    /// The members of `params`, where absent params are an empty object.
    pub(crate) fn of_params(params: Option<&'a RawValue>) -> Option<Self> {
        params.map_or_else(|| Some(Self::default()), Self::of)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter()
    }

    /// The value of a member.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.last(key)
    }

    /// The value of a string member; `None` also for another type.
    pub(crate) fn string(&self, key: &str) -> Option<String> {
        self.text(key).map(Cow::into_owned)
    }

    /// As [`Members::string`], borrowed where it holds no escape.
    pub(crate) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key).and_then(string_of)
    }

    /// The first name that stands there twice.
    pub(crate) fn repeated(&self) -> Option<&str> {
        self.0.repeated()
    }
}

impl ObjectWriter {
    pub(crate) fn new() -> Self {
        Self::with_capacity(256)
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes);
        buffer.push(b'{');
        Self { bytes: buffer }
    }

    /// Adds a member whose value is already JSON.
    pub(crate) fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        if self.bytes.len() > 1 {
            self.bytes.push(b',');
        }
        write_string(&mut self.bytes, key);
        self.bytes.push(b':');
        self.bytes.extend_from_slice(json.as_bytes());
        self
    }

    pub(crate) fn string(&mut self, key: &str, text: &str) -> &mut Self {
        let mut json = Vec::with_capacity(text.len() + 2);
        write_string(&mut json, text);
        self.raw(key, std::str::from_utf8(&json).expect("JSON of a str is UTF-8"))
    }

    /// Adds a member that serializes; what cannot is a bug of ours and becomes `null`.
    pub(crate) fn value<T: serde::Serialize + ?Sized>(&mut self, key: &str, value: &T) -> &mut Self {
        let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        self.raw(key, &json)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'}');
        self.bytes
    }

    pub(crate) fn finish_raw(self) -> Box<RawValue> {
        raw_value(self.finish())
    }
}

/// Whether `raw` is an object. A raw value is JSON already, so its first byte tells.
pub(crate) fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

/// `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a str to memory cannot fail");
}

/// JSON that this crate wrote, as a raw value.
pub(crate) fn raw_value(json: Vec<u8>) -> Box<RawValue> {
    let text = String::from_utf8(json).expect("our own JSON is UTF-8");
    RawValue::from_string(text).expect("our own JSON is well-formed")
}

/// Bytes of one line: JSON may hold raw line breaks only between tokens, where a blank says the same.
pub(crate) fn one_line(mut json: Vec<u8>) -> Vec<u8> {
    put_on_one_line(&mut json);
    json
}

/// The raw value's bytes, copied once.
pub(crate) fn bytes_of(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{Members, ObjectWriter, one_line};

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn members_keep_the_bytes_of_their_values() {
        let object = raw(r#"{"a":12345678901234567890123.50,"b\u0031":[ 1 ]}"#);
        let members = Members::of(&object).unwrap();
        assert_eq!(members.get("a").unwrap().get(), "12345678901234567890123.50");
        assert_eq!(members.get("b1").unwrap().get(), "[ 1 ]");
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        assert!(Members::of(&raw("[1]")).is_none());
        assert!(Members::of(&raw("null")).is_none());
    }

    #[test]
    fn a_repeated_member_is_named() {
        assert_eq!(Members::of(&raw(r#"{"a":1,"b":2,"a":3}"#)).unwrap().repeated(), Some("a"));
        assert_eq!(Members::of(&raw(r#"{"a":1,"b":2}"#)).unwrap().repeated(), None);
    }

    #[test]
    fn the_writer_escapes_names_and_texts() {
        let mut writer = ObjectWriter::new();
        writer.raw("a", "1").string("b\"", "c\n");
        assert_eq!(writer.finish(), br#"{"a":1,"b\"":"c\n"}"#);
    }

    #[test]
    fn one_line_replaces_line_breaks_between_tokens() {
        assert_eq!(one_line(b"{\r\n\"a\":1}".to_vec()), b"{  \"a\":1}");
    }
}
