//! Percent-decoding of paths and queries (RFC 3986 §2.1, and `+` in queries as forms write it).

use std::fmt::Write as _;

/// A path segment decoded; `None` for a broken escape or what is no UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (escape, tail) = tail.split_at_checked(2)?;
        // `from_str_radix` alone would let a sign through.
        if !escape.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// A text as one path segment.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// The pairs of a query, decoded, in order; the first pair that cannot be decoded is the error.
pub(crate) fn query_pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(&name.replace('+', " ")).zip(decode(&value.replace('+', " ")));
            decoded.ok_or_else(|| format!("the query's `{pair}` is not percent-encoded UTF-8"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, query_pairs};

    #[test]
    fn escapes_are_decoded_as_utf8() {
        assert_eq!(decode("a%20b%C3%A9%2F").as_deref(), Some("a bé/"));
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        assert_eq!(encode("a b/é~"), "a%20b%2F%C3%A9~");
        assert_eq!(decode(&encode("a b/é~%")).as_deref(), Some("a b/é~%"));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for broken in ["%", "%4", "%zz", "%+1", "%FF"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_query_keeps_order_repeats_and_empty_values() {
        let pairs = query_pairs("a=1&b&a=x+y%26&&c=").unwrap();
        let expected = [("a", "1"), ("b", ""), ("a", "x y&"), ("c", "")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
