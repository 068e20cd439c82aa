use serde_json::value::RawValue;

use super::{Tool, ToolAnnotations};

fn tool(text: &str) -> Tool {
    Tool::parse(serde_json::from_str::<&RawValue>(text).unwrap()).unwrap()
}

fn refusal(text: &str) -> String {
    Tool::parse(serde_json::from_str::<&RawValue>(text).unwrap()).unwrap_err().to_string()
}

#[test]
fn bytes_are_kept_as_the_server_wrote_them() {
    let text = r#"{ "inputSchema" : {"type":"object","x":1.50} , "name":"a", "_meta":{"b":[1]} }"#;
    assert_eq!(tool(text).raw().get(), text);
    assert_eq!(tool(text).name(), "a");
}

#[test]
fn renaming_changes_the_bytes_of_the_name_alone() {
    let text = r#"{"description":"\"name\": x", "name" : "o\u006ee" ,"inputSchema":{"type":"object","properties":{"name":{}}}}"#;
    let renamed = tool(text).renamed("srv_\"one\"");
    assert_eq!(
        renamed.raw().get(),
        r#"{"description":"\"name\": x", "name" : "srv_\"one\"" ,"inputSchema":{"type":"object","properties":{"name":{}}}}"#
    );
    assert_eq!(renamed.name(), "srv_\"one\"");
    assert_eq!(tool(text).name(), "one");
}

#[test]
fn absent_hints_read_as_the_careful_defaults() {
    let careful =
        ToolAnnotations { read_only: false, destructive: true, idempotent: false, open_world: true };
    assert_eq!(tool(r#"{"name":"a","inputSchema":{}}"#).annotations(), careful);
    let odd = r#"{"name":"a","inputSchema":{},"annotations":{"readOnlyHint":"yes","idempotentHint":true}}"#;
    assert_eq!(tool(odd).annotations(), ToolAnnotations { idempotent: true, ..careful });
}

#[test]
fn title_falls_back_to_the_annotation() {
    let text = r#"{"name":"a","inputSchema":{},"annotations":{"title":"A thing"}}"#;
    assert_eq!(tool(text).title(), Some("A thing"));
}

#[test]
fn refusals_name_the_tool_and_the_member() {
    assert_eq!(refusal("[]"), "tool: expected an object, found an array");
    assert_eq!(refusal(r#"{"inputSchema":{}}"#), "tool: no \"name\"");
    assert_eq!(refusal(r#"{"name":"a"}"#), "tool \"a\": no \"inputSchema\"");
    assert_eq!(refusal(r#"{"name":"a","inputSchema":[]}"#), "tool \"a\": \"inputSchema\" must be an object");
    assert_eq!(
        refusal(r#"{"name":"a","name":"b","inputSchema":{}}"#),
        "tool: member \"name\" stands there twice"
    );
}
