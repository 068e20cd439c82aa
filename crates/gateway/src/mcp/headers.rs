//! The headers that repeat parts of the body (2026-07-28, Streamable HTTP), compared before anything is done.

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName};
use mpe_mcp_protocol::header::{
    MCP_METHOD, MCP_NAME, MCP_PARAM_PREFIX, MCP_PROTOCOL_VERSION, MirroredParams, decode_value,
};
use mpe_mcp_protocol::jsonrpc::code;
use serde_json::value::RawValue;

use super::rpc::Refusal;

/// The revision of a request, read once for all requests as a name.
pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static(MCP_PROTOCOL_VERSION);
const METHOD: HeaderName = HeaderName::from_static(MCP_METHOD);
const NAME: HeaderName = HeaderName::from_static(MCP_NAME);

/// Checks `Mcp-Method`, and `Mcp-Name` where the method has a name.
///
/// # Errors
/// -32020 naming the header.
pub(crate) fn check_standard(headers: &HeaderMap, method: &str, name: Option<&str>) -> Result<(), Refusal> {
    let said = single(headers, METHOD)?.ok_or_else(|| missing("Mcp-Method"))?;
    if said != method {
        return Err(differs("Mcp-Method"));
    }
    let Some(name) = name else { return Ok(()) };
    let said = single(headers, NAME)?.ok_or_else(|| missing("Mcp-Name"))?;
    match decode_value(said) {
        Ok(said) if said == name => Ok(()),
        _ => Err(differs("Mcp-Name")),
    }
}

/// Checks `Mcp-Param-*` against the arguments.
///
/// # Errors
/// -32020 naming the header; -32602 for arguments that name a member twice.
pub(crate) fn check_params(
    headers: &HeaderMap,
    mirrored: &MirroredParams,
    arguments: &RawValue,
) -> Result<(), Refusal> {
    for param in mirrored.iter() {
        let header = format!("{MCP_PARAM_PREFIX}{}", param.header.to_ascii_lowercase());
        let value =
            param.find(arguments).map_err(|error| Refusal::new(code::INVALID_PARAMS, error.message))?;
        match (value, single(headers, header.as_str())?) {
            (None, None) => {}
            (Some(_), None) => return Err(missing(&header)),
            (Some(value), Some(said)) if decode_value(said).is_ok_and(|said| param.agrees(&said, value)) => {}
            _ => return Err(differs(&header)),
        }
    }
    Ok(())
}

/// The value of a header that may stand there once. Surrounding blanks do not count (RFC 9110 §5.5).
pub(crate) fn single(
    headers: &HeaderMap,
    name: impl AsHeaderName + AsRef<str> + Clone,
) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(name.clone()).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refuse = |what: &str| {
        let message = format!("the header {} {what}", name.as_ref());
        Err(Refusal::new(code::HEADER_MISMATCH, message))
    };
    if values.next().is_some() {
        return refuse("stands there more than once");
    }
    // Bytes beyond ASCII are no field value MCP allows; they are encoded there.
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.trim_matches([' ', '\t']))),
        Err(_) => refuse("is malformed"),
    }
}

fn missing(header: &str) -> Refusal {
    Refusal::new(code::HEADER_MISMATCH, format!("the header {header} is missing"))
}

fn differs(header: &str) -> Refusal {
    Refusal::new(code::HEADER_MISMATCH, format!("the header {header} and the body differ"))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;
    use serde_json::value::RawValue;

    use mpe_mcp_protocol::header::MirroredParams;

    use super::{check_params, check_standard};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_name_header_may_be_encoded_and_padded() {
        for name in ["añb", " =?base64?YcOxYg==?= "] {
            let ok = check_standard(
                &headers(&[("mcp-method", "tools/call"), ("mcp-name", name)]),
                "tools/call",
                Some("añb"),
            );
            assert!(ok.is_ok(), "{name}");
        }
    }

    #[test]
    fn a_missing_differing_or_badly_encoded_name_is_refused() {
        for pairs in [
            &[("mcp-method", "tools/call")][..],
            &[("mcp-method", "tools/call"), ("mcp-name", "A")],
            &[("mcp-method", "tools/call"), ("mcp-name", "=?base64?*?=")],
            &[("mcp-method", "TOOLS/CALL"), ("mcp-name", "a")],
            &[("mcp-name", "a")],
        ] {
            let refusal = check_standard(&headers(pairs), "tools/call", Some("a")).unwrap_err();
            assert_eq!((refusal.error.code, refusal.status.as_u16()), (-32020, 400), "{pairs:?}");
        }
    }

    #[test]
    fn mirrored_arguments_have_to_agree_with_their_headers() {
        let mirrored = MirroredParams::of(&json!({"properties": {
            "s": {"type": "string", "x-mcp-header": "S"},
            "n": {"type": "integer", "x-mcp-header": "N"},
            "b": {"type": "boolean", "x-mcp-header": "B"},
        }}))
        .unwrap();
        let arguments = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let check = |pairs: &[(&'static str, &str)], json: &str| {
            check_params(&headers(pairs), &mirrored, &arguments(json)).is_ok()
        };
        assert!(check(
            &[("mcp-param-s", "a"), ("mcp-param-n", "42.0"), ("mcp-param-b", "true")],
            r#"{"s":"a","n":42,"b":true}"#
        ));
        assert!(check(&[("mcp-param-s", "")], r#"{"s":"","n":null}"#));
        assert!(!check(&[], r#"{"s":"a"}"#));
        assert!(!check(&[("mcp-param-s", "b")], r#"{"s":"a"}"#));
        assert!(!check(&[("mcp-param-s", "a")], "{}"));
        assert!(!check(&[("mcp-param-s", "a"), ("mcp-param-s", "a")], r#"{"s":"a"}"#));
        assert!(!check(&[("mcp-param-s", "=?base64?!?=")], r#"{"s":"a"}"#));
    }
}
