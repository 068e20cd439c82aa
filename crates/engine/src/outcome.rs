//! Reads off a result what kind of outcome it is, and leaves its bytes alone.

use mpe_mcp_protocol::result::{CallToolResult, ResultType};

use crate::OutcomeKind;

/// The kind of a `tools/call` result.
pub(crate) fn kind_of(result: &CallToolResult<'_>) -> OutcomeKind {
    match &result.result_type {
        ResultType::Complete if result.is_error => OutcomeKind::Failed,
        ResultType::Complete => OutcomeKind::Complete,
        ResultType::InputRequired => OutcomeKind::InputRequired,
        ResultType::Other(other) => OutcomeKind::Other(other.clone()),
    }
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
    use mpe_mcp_protocol::result::CallToolResult;
    use serde_json::value::RawValue;

    use super::kind_of;
    use crate::OutcomeKind;

    fn kind(json: &str) -> Option<OutcomeKind> {
        let result = RawValue::from_string(json.to_owned()).expect("JSON");
        CallToolResult::peek(&result).ok().map(|head| kind_of(&head))
    }

    #[test]
    fn results_tell_their_kind() {
        assert_eq!(kind(r#"{"content":[]}"#), Some(OutcomeKind::Complete));
        assert_eq!(kind(r#"{"content":[],"isError":true}"#), Some(OutcomeKind::Failed));
        assert_eq!(kind(r#"{"isError":false,"resultType":"complete"}"#), Some(OutcomeKind::Complete));
        assert_eq!(kind(r#"{"resultType":"input_required"}"#), Some(OutcomeKind::InputRequired));
        assert_eq!(kind(r#"{"resultType":"t\u0061sk"}"#), Some(OutcomeKind::Other("task".to_owned())));
    }

    #[test]
    fn what_is_no_result_is_refused() {
        assert_eq!(kind("[1]"), None);
        assert_eq!(kind(r#"{"isError":"yes"}"#), None);
    }
}
