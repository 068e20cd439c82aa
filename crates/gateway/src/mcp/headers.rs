//! The headers that repeat parts of the body (2026-07-28, Streamable HTTP), compared before anything is done.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use mpe_mcp_protocol::jsonrpc::code;
use serde_json::Value;
use serde_json::value::RawValue;

use super::rpc::Refusal;

/// The revision a request is written in.
pub(crate) const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// An argument that the tool's schema wants repeated in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored {
    /// Where the argument stands: property names from the root.
    path: Vec<String>,
    /// The header's whole name.
    header: String,
}

/// Schemas are the upstream's: how deep and how many we follow is bounded.
const MAX_DEPTH: usize = 16;
const MAX_MIRRORED: usize = 64;

/// Every argument that `schema` annotates with `x-mcp-header`, reached by `properties` steps only.
pub(crate) fn mirrored(schema: &Value) -> Vec<Mirrored> {
    fn walk(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Mirrored>) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        for (name, property) in properties {
            if path.len() >= MAX_DEPTH || found.len() >= MAX_MIRRORED {
                return;
            }
            path.push(name.clone());
            if let Some(annotation) = property.get("x-mcp-header").and_then(Value::as_str)
                && !annotation.is_empty()
                && http::HeaderName::from_bytes(annotation.as_bytes()).is_ok()
            {
                found.push(Mirrored {
                    path: path.clone(),
                    header: format!("mcp-param-{}", annotation.to_lowercase()),
                });
            }
            walk(property, path, found);
            path.pop();
        }
    }
    let mut found = Vec::new();
    walk(schema, &mut Vec::new(), &mut found);
    found
}

/// Checks `Mcp-Method`, and `Mcp-Name` where the method has a name.
///
/// # Errors
/// -32020 naming the header.
pub(crate) fn check_standard(headers: &HeaderMap, method: &str, name: Option<&str>) -> Result<(), Refusal> {
    let said = single(headers, "mcp-method")?.ok_or_else(|| missing("Mcp-Method"))?;
    if said != method {
        return Err(differs("Mcp-Method"));
    }
    let Some(name) = name else { return Ok(()) };
    let said = single(headers, "mcp-name")?.ok_or_else(|| missing("Mcp-Name"))?;
    match decoded(&said) {
        Some(said) if said == name => Ok(()),
        _ => Err(differs("Mcp-Name")),
    }
}

/// Checks `Mcp-Param-*` against the arguments.
///
/// # Errors
/// -32020 naming the header.
pub(crate) fn check_params(
    headers: &HeaderMap,
    mirrored: &[Mirrored],
    arguments: &RawValue,
) -> Result<(), Refusal> {
    if mirrored.is_empty() {
        return Ok(());
    }
    let arguments: Value = serde_json::from_str(arguments.get()).unwrap_or(Value::Null);
    for Mirrored { path, header } in mirrored {
        let value = path.iter().try_fold(&arguments, |value, name| value.get(name));
        let value = value.filter(|value| !value.is_null());
        let said = single(headers, header)?;
        match (value, said) {
            (None, None) => {}
            (Some(value), Some(said)) if agrees(value, &said) => {}
            (Some(_), None) => return Err(missing(header)),
            _ => return Err(differs(header)),
        }
    }
    Ok(())
}

/// The value of a header that may stand there once. Surrounding blanks do not count (RFC 9110 §5.5).
pub(crate) fn single(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::new(
            code::HEADER_MISMATCH,
            format!("the header {name} stands there more than once"),
        ));
    }
    // Bytes beyond ASCII are no field value MCP allows; they are encoded there.
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.trim_matches([' ', '\t']).to_owned())),
        Err(_) => Err(Refusal::new(code::HEADER_MISMATCH, format!("the header {name} is malformed"))),
    }
}

/// A value out of its `=?base64?…?=`, or as it is without one; `None` for a broken encoding.
fn decoded(value: &str) -> Option<String> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(value.to_owned());
    };
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

fn agrees(value: &Value, said: &str) -> bool {
    let Some(said) = decoded(said) else { return false };
    match value {
        Value::String(text) => *text == said,
        Value::Bool(flag) => said == flag.to_string(),
        // Integers are compared by value: `42.0` is `42`.
        Value::Number(number) => {
            number.to_string() == said
                || said.parse::<f64>().is_ok_and(|said| number.as_f64().is_some_and(|number| number == said))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
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

    use super::{check_params, check_standard, mirrored};

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
    fn annotated_arguments_are_found_through_properties_only() {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "list": {"items": {"properties": {"x": {"x-mcp-header": "X"}}}},
        }});
        let found: Vec<_> = mirrored(&schema).into_iter().map(|m| (m.path.join("."), m.header)).collect();
        assert_eq!(
            found,
            [("region".into(), "mcp-param-region".into()), ("deep.n".into(), "mcp-param-n".into())]
        );
    }

    #[test]
    fn mirrored_arguments_have_to_agree_with_their_headers() {
        let mirrored = mirrored(&json!({"properties": {
            "s": {"x-mcp-header": "S"}, "n": {"x-mcp-header": "N"}, "b": {"x-mcp-header": "B"},
        }}));
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
