use serde_json::value::RawValue;

use super::RequestMeta;
use crate::jsonrpc::Id;

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_protocols_members_are_told_from_the_rest() {
    let text = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","x/y":[1.0],
        "io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"progressToken":"p1","traceparent":"00-a"}"#;
    let meta = RequestMeta::parse(raw(text)).unwrap();
    assert_eq!(meta.protocol_version.as_deref(), Some("2026-07-28"));
    assert_eq!(meta.client_capabilities.as_deref().unwrap().get(), r#"{"sampling":{}}"#);
    assert_eq!(meta.progress_token, Some(Id::String("p1".to_owned())));
    assert_eq!(meta.rest.as_deref().unwrap().get(), r#"{"x/y":[1.0],"traceparent":"00-a"}"#);
}

#[test]
fn parts_go_together_again() {
    let meta = RequestMeta {
        protocol_version: Some("2026-07-28".to_owned()),
        progress_token: Some(Id::Integer(3)),
        rest: Some(raw(r#"{"a":1}"#).to_owned()),
        ..RequestMeta::default()
    };
    assert_eq!(
        meta.to_raw().get(),
        r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":3,"a":1}"#
    );
    assert_eq!(RequestMeta::default().to_raw().get(), "{}");
    assert!(RequestMeta::default().is_empty());
}

#[test]
fn a_member_of_the_wrong_type_is_named() {
    let refusal = |text| RequestMeta::parse(raw(text)).unwrap_err().to_string();
    assert_eq!(refusal("3"), "_meta: expected an object, found a number");
    assert_eq!(
        refusal(r#"{"progressToken":1.5}"#),
        "_meta: \"progressToken\" must be a string or an integer"
    );
    assert!(refusal(r#"{"io.modelcontextprotocol/clientCapabilities":[]}"#).contains("must be an object"));
}
