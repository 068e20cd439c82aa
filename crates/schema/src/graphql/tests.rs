use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{FieldError, GraphqlSchema, MAX_CALLS, ToolCaller, ToolValue, result_value};

/// Answers every call with one result and remembers what it was asked.
struct Scripted {
    answer: Result<String, FieldError>,
    calls: Mutex<Vec<(String, String)>>,
}

impl Scripted {
    fn answering(result: &str) -> Arc<Self> {
        Arc::new(Self { answer: Ok(result.to_owned()), calls: Mutex::default() })
    }

    fn calls(&self) -> Vec<(String, String)> {
        self.calls.lock().expect("lock").clone()
    }
}

impl ToolCaller for Scripted {
    fn call<'a>(
        &'a self,
        tool: &'a str,
        arguments: Box<RawValue>,
    ) -> BoxFuture<'a, Result<ToolValue, FieldError>> {
        self.calls.lock().expect("lock").push((tool.to_owned(), arguments.get().to_owned()));
        let answer = self.answer.clone().map(|result| ToolValue { result: raw(&result) });
        async move { answer }.boxed()
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

fn tool(name: &str, input: &Value, read_only: bool) -> Tool {
    let tool = json!({
        "name": name, "description": format!("Does {name}."), "inputSchema": input,
        "annotations": {"readOnlyHint": read_only}
    });
    Tool::parse(&raw(&tool.to_string())).expect("tool")
}

fn build(tools: &[Tool]) -> GraphqlSchema {
    GraphqlSchema::build(tools).expect("schema")
}

async fn run(schema: &GraphqlSchema, caller: &Arc<Scripted>, query: &str, variables: &str) -> Value {
    let request = format!(r#"{{"query": {}, "variables": {variables}}}"#, Value::from(query));
    let caller = Arc::clone(caller);
    serde_json::from_slice(&schema.execute(request.as_bytes(), caller).await).expect("JSON")
}

const OK: &str = r#"{"content":[{"type":"text","text":"fine"}]}"#;

#[tokio::test]
async fn a_read_only_tool_is_a_query_and_any_other_a_mutation() {
    let schema = build(&[tool("look", &json!({}), true), tool("write", &json!({}), false)]);
    let caller = Scripted::answering(OK);
    assert_eq!(run(&schema, &caller, "{ look }", "null").await, json!({"data": {"look": "fine"}}));
    assert_eq!(run(&schema, &caller, "mutation { write }", "null").await, json!({"data": {"write": "fine"}}));
    assert!(run(&schema, &caller, "{ write }", "null").await["errors"].is_array());
    assert_eq!(caller.calls().len(), 2);
}

#[tokio::test]
async fn without_tools_the_query_still_lists_them() {
    let schema = build(&[]);
    let answer = run(&schema, &Scripted::answering(OK), "{ _tools }", "null").await;
    assert_eq!(answer, json!({"data": {"_tools": []}}));
}

#[tokio::test]
async fn arguments_arrive_under_their_own_names_and_as_their_own_values() {
    let input = json!({
        "type": "object",
        "properties": {
            "user-id": {"type": "string"},
            "small": {"type": "integer", "minimum": 0, "maximum": 9},
            "large": {"type": "integer"},
            "ratio": {"type": "number"},
            "mode": {"enum": ["fast", "slow"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "where": {"type": "object", "properties": {"max-age": {"type": ["integer", "null"]}, "deep": {"type": "object"}}},
            "free": {}
        },
        "required": ["user-id"]
    });
    let schema = build(&[tool("find.user", &input, true)]);
    let caller = Scripted::answering(OK);
    let query = r#"query($v: JSON, $big: Long) { find_user(user_id: "a\"b", small: 3, large: $big, ratio: 0.5, mode: fast,
        tags: ["x"], where: {max_age: null, deep: $v}, free: $v) }"#;
    let variables = r#"{"v": {"z": 12345678901234567890123, "a": [1.0, true]}, "big": 98765432109876543210}"#;
    let answer = run(&schema, &caller, query, variables).await;
    assert_eq!(answer, json!({"data": {"find_user": "fine"}}));
    let (name, arguments) = caller.calls().remove(0);
    assert_eq!(name, "find.user");
    assert_eq!(
        arguments,
        r#"{"user-id":"a\"b","small":3,"large":98765432109876543210,"ratio":0.5,"mode":"fast","tags":["x"],"where":{"max-age":null,"deep":{"z":12345678901234567890123,"a":[1.0,true]}},"free":{"z":12345678901234567890123,"a":[1.0,true]}}"#
    );
}

#[tokio::test]
async fn a_long_may_come_as_digits_and_nothing_else_may() {
    let input = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let schema = build(&[tool("f", &input, true)]);
    let caller = Scripted::answering(OK);
    run(&schema, &caller, r#"{ f(n: "9007199254740993") }"#, "null").await;
    assert_eq!(caller.calls()[0].1, r#"{"n":9007199254740993}"#);
    for bad in ["1.5", r#""x""#, "true", r#""01""#] {
        let answer = run(&schema, &caller, &format!("{{ f(n: {bad}) }}"), "null").await;
        assert!(answer["errors"].is_array(), "{bad}: {answer}");
    }
    assert_eq!(caller.calls().len(), 1);
}

#[tokio::test]
async fn a_null_for_an_argument_that_has_no_null_means_left_out() {
    let input =
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": ["string", "null"]}}});
    let schema = build(&[tool("f", &input, true)]);
    let caller = Scripted::answering(OK);
    run(&schema, &caller, "{ f(a: null, b: null) }", "null").await;
    assert_eq!(caller.calls()[0].1, r#"{"b":null}"#);
}

#[tokio::test]
async fn further_members_are_passed_on_where_the_tool_takes_them() {
    let input = json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}});
    let schema = build(&[tool("f", &input, true), tool("g", &json!({"type": "object"}), true)]);
    let caller = Scripted::answering(OK);
    run(&schema, &caller, r#"{ f(a: "x", _arguments: {b: 1}) g(_arguments: {c: 2}) }"#, "null").await;
    let arguments: Vec<String> = caller.calls().into_iter().map(|(_, arguments)| arguments).collect();
    assert_eq!(arguments, [r#"{"a":"x","b":1}"#, r#"{"c":2}"#]);
}

#[tokio::test]
async fn structured_content_is_the_value_digit_for_digit() {
    let schema = build(&[tool("f", &json!({}), true)]);
    let caller =
        Scripted::answering(r#"{"content":[],"structuredContent":{"z":1.10,"a":12345678901234567890123}}"#);
    let bytes = schema.execute(br#"{"query":"{f}"}"#, caller).await;
    assert_eq!(
        String::from_utf8(bytes).expect("UTF-8"),
        r#"{"data":{"f":{"z":1.10,"a":12345678901234567890123}}}"#
    );
}

#[test]
fn a_result_is_one_value() {
    let cases = [
        (r#"{"content":[{"type":"text","text":" {\"a\": 1} "}]}"#, Some(r#"{"a": 1}"#)),
        (r#"{"content":[{"type":"text","text":"{broken"}]}"#, Some(r#""{broken""#)),
        (r#"{"content":[{"type":"text","text":"12"}]}"#, Some("12")),
        (r#"{"content":[]}"#, Some(r#"{"content":[]}"#)),
        (
            r#"{"content":[{"type":"image","data":"aa","mimeType":"image/png"}]}"#,
            Some(r#"{"content":[{"type":"image","data":"aa","mimeType":"image/png"}]}"#),
        ),
        (r#"{"content":[],"structuredContent":null}"#, Some(r#"{"content":[]}"#)),
        (r#"{"content":[{"type":"resource","resource":{"uri":"a:b","text":"x"}}]}"#, Some(r#""x""#)),
        (r"{}", None),
        ("[]", None),
    ];
    for (result, expected) in cases {
        assert_eq!(result_value(&raw(result)).as_deref().map(RawValue::get), expected, "{result}");
    }
}

#[tokio::test]
async fn a_tool_that_reports_an_error_is_a_field_error_with_its_content() {
    let schema = build(&[tool("f", &json!({}), true)]);
    let caller = Scripted::answering(r#"{"content":[{"type":"text","text":"no such user"}],"isError":true}"#);
    let answer = run(&schema, &caller, "{ f }", "null").await;
    assert_eq!(answer["data"], json!({"f": null}));
    assert_eq!(answer["errors"][0]["message"], "no such user");
    assert_eq!(answer["errors"][0]["path"], json!(["f"]));
    assert_eq!(
        answer["errors"][0]["extensions"],
        json!({"code": "TOOL_FAILED", "content": [{"type": "text", "text": "no such user"}]})
    );
}

#[tokio::test]
async fn one_failing_field_leaves_the_others_their_values() {
    let schema = build(&[tool("f", &json!({}), true), tool("g", &json!({}), true)]);
    let caller = Scripted::answering(OK);
    let answer = run(&schema, &caller, "{ f(_arguments: [1]) g }", "null").await;
    assert_eq!(answer["data"], json!({"f": null, "g": "fine"}));
    assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_ARGUMENTS");
}

#[tokio::test]
async fn a_callers_error_keeps_its_code_and_extensions() {
    let schema = build(&[tool("f", &json!({}), true)]);
    let error = FieldError {
        message: "no answer in time".to_owned(),
        code: "DEADLINE".to_owned(),
        extensions: json!({"attempts": 2}).as_object().expect("object").clone(),
    };
    let caller = Arc::new(Scripted { answer: Err(error), calls: Mutex::default() });
    let answer = run(&schema, &caller, "{ f }", "null").await;
    assert_eq!(answer["errors"][0]["extensions"], json!({"attempts": 2, "code": "DEADLINE"}));
}

#[tokio::test]
async fn garbage_gets_an_answer_and_never_a_panic() {
    let schema = build(&[tool("f", &json!({}), true)]);
    let deep = format!(r#"{{"query":"{{f}}","variables":{{"a":{}1{}}}}}"#, "[".repeat(200), "]".repeat(200));
    let nested = json!({"query": format!("{}{}", "{f".repeat(500), "}".repeat(500))}).to_string();
    let requests: [&[u8]; 9] = [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        br#"{"query":1}"#,
        br#"{"query":"{"}"#,
        br#"{"query":"{f}","variables":[1]}"#,
        deep.as_bytes(),
        nested.as_bytes(),
    ];
    for request in requests {
        let answer = schema.execute(request, Scripted::answering(OK)).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert!(answer["errors"][0]["message"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn a_request_calls_at_most_so_many_tools() {
    let schema = build(&[tool("f", &json!({}), true)]);
    let caller = Scripted::answering(OK);
    let aliases: Vec<String> = (0..=MAX_CALLS).map(|i| format!("a{i}: f")).collect();
    let answer = run(&schema, &caller, &format!("{{ {} }}", aliases.join(" ")), "null").await;
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["errors"][0]["extensions"]["code"], "TOO_MANY_CALLS");
    assert_eq!(caller.calls().len(), MAX_CALLS);
}

#[test]
fn names_that_graphql_refuses_are_rewritten_and_kept_apart() {
    let names = ["a-b", "a.b", "a_b", "__type", "_tools", "2fa", "größe"];
    let tools: Vec<Tool> = names.iter().map(|name| tool(name, &json!({}), true)).collect();
    let sdl = build(&tools).sdl();
    for expected in ["\ta_b(", "\t_type(", "\t_2fa(", "\tgr__e(", "\t_tools:", "\t_tools_("] {
        assert!(sdl.contains(expected), "{expected} in {sdl}");
    }
}

#[test]
fn what_is_required_is_not_null_and_descriptions_are_carried() {
    let input = json!({
        "type": "object",
        "properties": {"a": {"type": "string", "description": "The a."}, "b": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "required": ["a", "b"]
    });
    let sdl = build(&[tool("f", &input, true)]).sdl();
    assert!(sdl.contains("a: String!") && sdl.contains("b: Long") && !sdl.contains("b: Long!"), "{sdl}");
    assert!(sdl.contains("The a.") && sdl.contains("Does f."), "{sdl}");
}

#[test]
fn a_recursive_schema_ends_in_json() {
    let input = json!({
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/node"}},
        "$defs": {"node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}}}}
    });
    let sdl = build(&[tool("f", &input, true)]).sdl();
    assert!(sdl.contains("left: JSON"), "{sdl}");
}
