use serde_json::value::RawValue;

use super::{CallToolResult, ContentBlock, ContentKind, InputRequired, ResultType};

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_result_type_that_is_null_is_written_all_the_same() {
    let result = CallToolResult::peek(raw(r#"{"resultType":null}"#)).unwrap();
    assert_eq!(result.result_type, ResultType::Complete);
    assert!(result.names_its_type, "whoever adds the member would write it twice");
}

#[test]
fn a_peek_reads_the_verdict_and_leaves_the_rest() {
    let text = r#"{"content":[{"type":"text","text":"x"}],"isError":true,"structuredContent":[1.0]}"#;
    let result = CallToolResult::peek(raw(text)).unwrap();
    assert!(result.is_error);
    assert!(!result.names_its_type);
    assert_eq!(result.result_type, ResultType::Complete);
    assert_eq!(result.structured_content.unwrap().get(), "[1.0]");
}

#[test]
fn an_extension_names_its_own_type() {
    let result = CallToolResult::peek(raw(r#"{"resultType":"task","taskId":"t"}"#)).unwrap();
    assert_eq!(result.result_type, ResultType::Other("task".to_owned()));
}

#[test]
fn input_required_keeps_the_order_of_its_requests() {
    let text = r#"{"resultType":"input_required","requestState":"s\u0020t",
        "inputRequests":{"b":{"method":"roots/list"},"a":{"method":"elicitation/create","params":{"message":"?"}}}}"#;
    let input = InputRequired::parse(raw(text)).unwrap();
    let keys: Vec<_> = input.requests.iter().map(|request| request.key.as_str()).collect();
    assert_eq!(keys, ["b", "a"]);
    assert_eq!(input.request_state.as_deref(), Some("s t"));
    assert!(InputRequired::parse(raw(r#"{"resultType":"input_required"}"#)).is_err());
}

#[test]
fn blocks_of_unknown_or_broken_type_stay_raw() {
    let text = r#"[{"type":"text","text":"hi"},{"type":"hologram"},{"type":"image"},7,
        {"type":"resource_link","uri":"x://y","name":"n"}]"#;
    let blocks = ContentBlock::all(raw(text)).unwrap();
    assert!(matches!(&blocks[0].kind, ContentKind::Text { text } if text == "hi"));
    assert!(matches!(blocks[1].kind, ContentKind::Unknown));
    assert!(matches!(blocks[2].kind, ContentKind::Unknown));
    assert_eq!(blocks[3].raw.get(), "7");
    assert!(matches!(&blocks[4].kind, ContentKind::ResourceLink { uri } if uri == "x://y"));
}
