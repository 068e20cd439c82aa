use serde_json::value::RawValue;

use super::{Progress, RequestParams};

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_is_passed_on_lacks_the_hops_own_members() {
    let text =
        r#"{"name":"a","_meta":{"x":1},"arguments":{"n":1.50},"requestState":"s","inputResponses":{"k":{}}}"#;
    let params = RequestParams::parse(Some(raw(text))).unwrap();
    assert_eq!(params.passed_on().get(), r#"{"name":"a","arguments":{"n":1.50}}"#);
    assert_eq!(params.request_state.as_deref(), Some("s"));
    assert_eq!(params.input_responses.unwrap().get(), r#"{"k":{}}"#);
    assert_eq!(params.required("name").unwrap(), "a");
    assert_eq!(params.required("uri").unwrap_err().to_string(), "params: \"uri\" is missing");
}

#[test]
fn a_name_given_twice_is_refused() {
    let error = RequestParams::parse(Some(raw(r#"{"name":"a","name":"b"}"#))).unwrap_err();
    assert_eq!(error.to_string(), "params: member \"name\" stands there twice");
}

#[test]
fn absent_params_are_empty() {
    let params = RequestParams::parse(None).unwrap();
    assert_eq!(params.passed_on().get(), "{}");
    assert!(!params.has_meta);
}

#[test]
fn progress_without_a_token_or_a_value_is_none() {
    assert!(Progress::parse(Some(raw(r#"{"progressToken":"token-abc"}"#))).is_none());
    assert!(Progress::parse(Some(raw(r#"{"progress":1}"#))).is_none());
    let text = r#"{"progressToken":4,"progress":0.50,"total":1,"message":"half"}"#;
    let progress = Progress::parse(Some(raw(text))).unwrap();
    assert_eq!(progress.without_token().get(), r#"{"progress":0.50,"total":1,"message":"half"}"#);
}
