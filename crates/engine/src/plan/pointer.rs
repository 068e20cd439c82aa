//! JSON Pointer (RFC 6901) into raw JSON.

use mpe_mcp_protocol::object::{Object, array_of};
use mpe_mcp_protocol::pointer::unescape;
use serde_json::value::RawValue;

/// Whether `pointer` is one: empty, or tokens that each begin with a slash, `~` only as `~0` and `~1`.
pub(crate) fn is_valid(pointer: &str) -> bool {
    let is_escaped = |token: &str| {
        let mut rest = token.split('~').skip(1);
        rest.all(|after| after.starts_with('0') || after.starts_with('1'))
    };
    pointer.is_empty() || (pointer.starts_with('/') && pointer.split('/').all(is_escaped))
}

/// The part of `root` that `pointer` names.
pub(crate) fn find<'a>(root: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut at = root;
    for token in pointer.split('/').skip(1) {
        at = match at.get().as_bytes().first()? {
            b'{' => Object::parse(at).ok()?.get(&unescape(token))?,
            b'[' => *array_of(at)?.get(index(token)?)?,
            _ => return None,
        };
    }
    Some(at)
}

/// Without leading zeros, as RFC 6901 §4 has it.
fn index(token: &str) -> Option<usize> {
    let is_index =
        token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    is_index.then(|| token.parse().ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{find, is_valid};

    #[test]
    fn the_examples_of_the_rfc_hold() {
        let text =
            r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        let raw = RawValue::from_string(text.to_owned()).expect("JSON");
        let at = |pointer| find(&raw, pointer).map(RawValue::get);
        assert_eq!(at(""), Some(text));
        assert_eq!(at("/foo/0"), Some("\"bar\""));
        for (pointer, expected) in [
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(at(pointer), Some(expected), "{pointer}");
        }
        for missing in ["/foo/2", "/foo/01", "/foo/-", "/foo/+1", "/x", "/foo/0/x"] {
            assert_eq!(at(missing), None, "{missing}");
        }
    }

    #[test]
    fn malformed_pointers_are_told_apart() {
        assert!(is_valid("") && is_valid("/a~0b/~1"));
        assert!(!is_valid("a") && !is_valid("/a~2") && !is_valid("/~"));
    }
}
