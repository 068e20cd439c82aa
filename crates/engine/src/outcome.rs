//! Reads off a result what kind of outcome it is, and leaves its bytes alone.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::OutcomeKind;

/// The members of a `CallToolResult` that an intermediary reads.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "resultType", borrow, default)]
    result_type: Option<Cow<'a, str>>,
    #[serde(rename = "isError", default)]
    is_error: Option<bool>,
}

/// The kind of a `tools/call` result. An absent `resultType` reads as `complete` (MCP 2026-07-28, basic/index).
///
/// # Errors
/// One sentence saying why it is no such result.
pub(crate) fn kind_of(result: &RawValue) -> Result<OutcomeKind, String> {
    if !result.get().starts_with('{') {
        return Err("the result is not an object".to_owned());
    }
    let head: Head<'_> =
        serde_json::from_str(result.get()).map_err(|error| format!("the result is malformed: {error}"))?;
    Ok(match head.result_type.as_deref() {
        None | Some("complete") if head.is_error == Some(true) => OutcomeKind::Failed,
        None | Some("complete") => OutcomeKind::Complete,
        Some("input_required") => OutcomeKind::InputRequired,
        Some(other) => OutcomeKind::Other(other.to_owned()),
    })
}

/// How an outcome is labelled in metrics.
pub(crate) fn label(kind: &OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Complete => "complete",
        OutcomeKind::Failed => "failed",
        OutcomeKind::InputRequired => "input_required",
        OutcomeKind::Other(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::kind_of;
    use crate::OutcomeKind;

    fn kind(json: &str) -> Result<OutcomeKind, String> {
        kind_of(&RawValue::from_string(json.to_owned()).expect("JSON"))
    }

    #[test]
    fn results_tell_their_kind() {
        assert_eq!(kind(r#"{"content":[]}"#), Ok(OutcomeKind::Complete));
        assert_eq!(kind(r#"{"content":[],"isError":true}"#), Ok(OutcomeKind::Failed));
        assert_eq!(kind(r#"{"isError":false,"resultType":"complete"}"#), Ok(OutcomeKind::Complete));
        assert_eq!(kind(r#"{"resultType":"input_required"}"#), Ok(OutcomeKind::InputRequired));
        assert_eq!(kind(r#"{"resultType":"t\u0061sk"}"#), Ok(OutcomeKind::Other("task".to_owned())));
    }

    #[test]
    fn what_is_no_result_is_refused_with_a_reason() {
        assert_eq!(kind("[1]"), Err("the result is not an object".to_owned()));
        let reason = kind(r#"{"isError":"yes"}"#).expect_err("a string is no boolean");
        assert!(reason.contains("boolean"), "{reason}");
    }
}
