//! Reading requests and refusing them.

use async_graphql::Request;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::arguments::variables;

/// GraphQL over HTTP §5.4: the members of a request; others are ignored.
#[derive(Deserialize)]
struct Envelope<'a> {
    query: Option<String>,
    #[serde(borrow, default)]
    variables: Option<&'a RawValue>,
    #[serde(default, rename = "operationName")]
    operation_name: Option<String>,
}

/// Reads a request; numbers of its variables keep their digits.
pub(super) fn parse(bytes: &[u8]) -> Result<Request, String> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| {
        format!("expected a JSON object with `query` and perhaps `variables`, `operationName`: {error}")
    })?;
    let Some(query) = envelope.query else {
        return Err("`query` is missing: expected a GraphQL document as a string".to_owned());
    };
    if query.len() > MAX_QUERY_BYTES {
        return Err(format!("`query` is over {MAX_QUERY_BYTES} bytes; send large values as variables"));
    }
    let mut request = Request::new(query);
    if let Some(raw) = envelope.variables {
        request = request.variables(variables(raw).map_err(|error| format!("`variables`: {error}"))?);
    }
    if let Some(name) = envelope.operation_name.filter(|name| !name.is_empty()) {
        request = request.operation_name(name);
    }
    Ok(request)
}

/// An answer that says only why the request was not read.
pub(super) fn refused(message: &str) -> Vec<u8> {
    let answer = serde_json::json!({"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST"}}]});
    answer.to_string().into_bytes()
}

/// Longest document in bytes: values belong into variables, which have the body's limit alone.
const MAX_QUERY_BYTES: usize = 256 << 10;
