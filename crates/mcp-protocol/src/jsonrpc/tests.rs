use serde_json::value::RawValue;

use super::{DecodeErrorKind, ErrorObject, Id, Message};
use crate::object::MAX_DEPTH;

fn refusal(text: &str) -> (DecodeErrorKind, Option<Id>) {
    let error = Message::parse(text.as_bytes()).unwrap_err();
    (error.kind, error.id)
}

#[test]
fn a_request_keeps_its_id_type_and_the_bytes_of_its_params() {
    let text = r#"{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"n":1.50,"a":[ ]}}"#;
    let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!("a request") };
    assert_eq!(request.id, Id::String("7".to_owned()));
    assert_eq!(request.params.as_ref().unwrap().get(), r#"{"n":1.50,"a":[ ]}"#);
    assert_eq!(request.to_bytes(), text.as_bytes());
}

#[test]
fn a_message_becomes_one_line_however_it_was_written() {
    let text = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\n  \"a\": \"x\\ny\",\r\n \"b\": 1}}";
    let message = Message::parse(text.as_bytes()).unwrap();
    assert_eq!(message.to_bytes(), br#"{"jsonrpc":"2.0","id":1,"result":{   "a": "x\ny",   "b": 1}}"#);
}

#[test]
fn an_id_is_a_string_or_an_integer_and_nothing_else() {
    for id in ["null", "1.0", "1e3", "true", "{}", "18446744073709551616"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        assert_eq!(refusal(&text), (DecodeErrorKind::InvalidRequest, None), "{id}");
    }
}

#[test]
fn a_repeated_member_is_refused_however_it_is_spelled() {
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}"#;
    assert_eq!(refusal(twice), (DecodeErrorKind::InvalidRequest, Some(Id::Integer(1))));
    let ids = r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#;
    assert_eq!(refusal(ids), (DecodeErrorKind::InvalidRequest, None));
}

#[test]
fn the_id_is_echoed_wherever_it_can_be_read() {
    let one = Some(Id::Integer(1));
    assert_eq!(refusal(r#"{"id":1,"method":"a"}"#), (DecodeErrorKind::InvalidRequest, one.clone()));
    assert_eq!(
        refusal(r#"{"jsonrpc":"2.0","id":1,"method":4}"#),
        (DecodeErrorKind::InvalidRequest, one.clone())
    );
    assert_eq!(
        refusal(r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}"#),
        (DecodeErrorKind::InvalidRequest, one.clone())
    );
    assert_eq!(refusal(r#"{"jsonrpc":"2.0","id":1}"#), (DecodeErrorKind::InvalidRequest, one));
    assert_eq!(refusal(r#"{"jsonrpc":"2.0","id":1,"#), (DecodeErrorKind::Parse, None));
}

#[test]
fn arrays_and_scalars_are_json_but_no_message() {
    assert_eq!(refusal("[]").0, DecodeErrorKind::InvalidRequest);
    assert_eq!(refusal("3").0, DecodeErrorKind::InvalidRequest);
    assert_eq!(refusal("[1").0, DecodeErrorKind::Parse);
    assert_eq!(refusal("").0, DecodeErrorKind::Parse);
    assert_eq!(
        Message::parse(b"{\"jsonrpc\":\"2.0\",\"x\":\"\xff\"}").unwrap_err().kind,
        DecodeErrorKind::Parse
    );
}

#[test]
fn nesting_has_a_limit_and_brackets_in_strings_do_not_count() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","method":"a","params":{{"a":{}{}}}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(refusal(&deep).0, DecodeErrorKind::TooLarge);
    let text = format!(r#"{{"jsonrpc":"2.0","method":"a","params":{{"a":"\"{}"}}}}"#, "[".repeat(10_000));
    assert!(Message::parse(text.as_bytes()).is_ok());
}

#[test]
fn the_limit_of_nesting_is_met_to_the_level_with_either_bracket() {
    let message = |value: &str| format!(r#"{{"jsonrpc":"2.0","method":"a","params":{{"a":{value}}}}}"#);
    for (open, close) in [("[", "]"), ("{\"a\":[", "]}")] {
        let n_levels = open.matches(['[', '{']).count();
        let nested = |n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
        let most = (MAX_DEPTH - 2) / n_levels;
        assert!(Message::parse(message(&nested(most)).as_bytes()).is_ok(), "{open}");
        assert_eq!(refusal(&message(&nested(most + 1))).0, DecodeErrorKind::TooLarge, "{open}");
    }
    // Many beside one another are not deep.
    assert!(Message::parse(message(&format!("[{}0]", "{},[],".repeat(500))).as_bytes()).is_ok());
}

#[test]
fn a_response_has_a_result_or_an_error() {
    let both = r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#;
    assert_eq!(refusal(both).0, DecodeErrorKind::InvalidRequest);
    assert_eq!(refusal(r#"{"jsonrpc":"2.0","result":{}}"#).0, DecodeErrorKind::InvalidRequest);
    let anonymous = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no","data":null}}"#;
    let Message::Response(response) = Message::parse(anonymous).unwrap() else { panic!("a response") };
    assert_eq!(response.id, None);
    let error = response.outcome.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (-32700, "no"));
    assert_eq!(error.data.as_deref().map(RawValue::get), Some("null"));
}

#[test]
fn null_params_read_as_none() {
    let text = br#"{"jsonrpc":"2.0","method":"a","params":null}"#;
    let Message::Notification(notification) = Message::parse(text).unwrap() else { panic!("a notification") };
    assert!(notification.params.is_none());
}

#[test]
fn errors_carry_their_data_as_it_was() {
    let text = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"a \"b\"","data":{"n":1.0}}}"#;
    assert_eq!(Message::parse(text).unwrap().to_bytes(), text);
    let made = ErrorObject::new(1, "x").with_data(&serde_json::json!({"a": 1}));
    assert_eq!(made.data.unwrap().get(), r#"{"a":1}"#);
}

#[test]
fn extra_members_go_in_front_of_the_params() {
    let params = RawValue::from_string(r#"{ "name": "a" }"#.to_owned()).unwrap();
    let meta = RawValue::from_string("{}".to_owned()).unwrap();
    let bytes = super::encode::request_with(&Id::Integer(1), "m", Some(&params), &[("_meta", &meta)]);
    assert_eq!(bytes, br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{},"name": "a"}}"#);
    let empty = RawValue::from_string("{ }".to_owned()).unwrap();
    let bytes = super::encode::request_with(&Id::Integer(1), "m", Some(&empty), &[("_meta", &meta)]);
    assert_eq!(bytes, br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{}}}"#);
}

#[test]
fn a_stranger_that_stands_there_twice_hides_no_repeated_member_of_ours() {
    let text = br#"{"jsonrpc":"2.0","x":1,"method":"tools/call","x":1,"method":"tools/list"}"#;
    let error = Message::parse(text).unwrap_err();
    assert!(error.to_string().contains("\"method\" stands there twice"), "{error}");
}
