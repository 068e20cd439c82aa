use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{FieldError, GraphqlSchema, MAX_CALLS, ToolCaller, ToolValue};

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

/// Answers a tool after as many seconds as the number at the end of its name says.
struct Patient;

impl ToolCaller for Patient {
    fn call<'a>(&'a self, tool: &'a str, _: Box<RawValue>) -> BoxFuture<'a, Result<ToolValue, FieldError>> {
        let seconds = tool.rsplit('_').next().and_then(|text| text.parse().ok()).expect("a number");
        async move {
            tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
            Ok(ToolValue { result: raw(OK) })
        }
        .boxed()
    }
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

#[tokio::test(start_paused = true)]
async fn fields_stand_in_the_order_of_the_query_whichever_tool_answers_first() {
    let tools = ["take_3", "take_1", "take_2"].map(|name| tool(name, &json!({}), true));
    let request =
        r#"{"query": "{ take_3 ...rest take_2 } fragment rest on Query { _tools ...{ again: take_1 } }"}"#;
    let began = tokio::time::Instant::now();
    let answer = build(&tools).execute(request.as_bytes(), Arc::new(Patient)).await;
    let answer = String::from_utf8(answer).expect("text");
    let at =
        |field: &str| answer.find(&format!("\"{field}\":")).unwrap_or_else(|| panic!("{field}: {answer}"));
    let order = ["take_3", "_tools", "again", "take_2"].map(at);
    assert!(order.is_sorted(), "{answer}");
    assert_eq!(began.elapsed().as_secs(), 3, "fields of a query run side by side");
}

#[tokio::test]
async fn a_query_whose_every_field_is_skipped_is_answered_with_nothing_in_it() {
    let schema = build(&[tool("look", &json!({}), true)]);
    let caller = Scripted::answering(OK);
    let answer = run(&schema, &caller, "{ look @skip(if: true) }", "null").await;
    assert_eq!(answer, json!({"data": {}}));
    assert!(caller.calls().is_empty());
}

#[tokio::test]
async fn fragments_that_use_one_another_over_and_over_are_read_once() {
    let schema = build(&[tool("look", &json!({}), true)]);
    let mut query = "{ ...f0 }".to_owned();
    for n in 0..30 {
        query.push_str(&format!(
            " fragment f{n} on Query {{ ...f{next} ...f{next} look }}",
            next = (n + 1) % 30
        ));
    }
    let answer = run(&schema, &Scripted::answering(OK), &query, "null").await;
    assert!(answer["errors"].is_array(), "a cycle is refused: {answer}");
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

fn typed(output: &Value) -> GraphqlSchema {
    let tool = json!({
        "name": "look", "inputSchema": {"type": "object"}, "outputSchema": output, "annotations": {"readOnlyHint": true}
    });
    build(&[Tool::parse(&raw(&tool.to_string())).expect("tool")])
}

fn structured(value: &str) -> Arc<Scripted> {
    Scripted::answering(&format!(r#"{{"content":[],"structuredContent":{value}}}"#))
}

fn a_result() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Who."},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "big": {"type": ["integer", "null"]},
            "score": {"type": "number"},
            "ok": {"type": "boolean"},
            "mode": {"enum": ["fast", "slow"]},
            "at-home": {"type": "object", "properties": {"city": {"type": "string"}}},
            "tags": {"type": "array", "items": {"type": ["string", "null"]}},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
            "odd": {"anyOf": [{"type": "string"}, {"type": "object"}]},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}
        },
        "required": ["name"],
        "$defs": {"Part": {"type": "object", "properties": {
            "id": {"type": "integer"}, "inner": {"type": "array", "items": {"$ref": "#/$defs/Part"}}
        }}}
    })
}

#[test]
fn a_result_has_the_type_that_its_output_schema_describes() {
    let sdl = typed(&a_result()).sdl();
    for expected in [
        "look(",
        "): LookResult",
        "_json: JSON",
        "\tname: String\n",
        "age: Int",
        "big: Long",
        "score: Float",
        "ok: Boolean",
        "mode: LookResultMode",
        "at_home: LookResultAtHome",
        "tags: [String]",
        "parts: [LookResultPart]",
        "inner: [LookResultPart]",
        "odd: JSON",
        "map: JSON",
        "Who.",
    ] {
        assert!(sdl.contains(expected), "{expected} in {sdl}");
    }
}

#[tokio::test]
async fn the_members_of_a_result_are_fields_and_keep_their_digits() {
    let schema = typed(&a_result());
    let result = concat!(
        r#"{"name":"Ada","age":36,"big":12345678901234567890123,"score":1.50,"ok":true,"mode":"slow","at-home":{"city":"London"},"#,
        r#""tags":["a",null],"parts":[{"id":1.0,"inner":[{"id":2}]}],"odd":{"x":1.0},"map":{"k":"v"},"more":7}"#
    );
    let query = "{ look { name age big score ok mode at_home { city } tags parts { id inner { id inner { id } } } odd map } }";
    let request = json!({ "query": query }).to_string();
    let answer = schema.execute(request.as_bytes(), structured(result)).await;
    assert_eq!(
        String::from_utf8(answer).expect("UTF-8"),
        concat!(
            r#"{"data":{"look":{"name":"Ada","age":36,"big":12345678901234567890123,"score":1.50,"ok":true,"mode":"slow","#,
            r#""at_home":{"city":"London"},"tags":["a",null],"parts":[{"id":1,"inner":[{"id":2,"inner":null}]}],"#,
            r#""odd":{"x":1.0},"map":{"k":"v"}}}}"#
        )
    );
    let whole = schema.execute(br#"{"query":"{ look { _json } }"}"#, structured(result)).await;
    assert_eq!(
        String::from_utf8(whole).expect("UTF-8"),
        format!(r#"{{"data":{{"look":{{"_json":{result}}}}}}}"#)
    );
}

#[tokio::test]
async fn a_member_that_breaks_its_schema_costs_itself_and_nothing_else() {
    let schema = typed(&a_result());
    let result = r#"{"age":"old","mode":"odd","parts":[{"id":1},2],"tags":"a","big":1.5,"score":2}"#;
    let query = "{ look { name age mode parts { id } tags big score _json } }";
    let answer = run(&schema, &structured(result), query, "null").await;
    let expected: Value = serde_json::from_str(result).expect("JSON");
    assert_eq!(
        answer["data"]["look"],
        json!({
            "name": null, "age": null, "mode": null, "parts": null, "tags": null, "big": null, "score": 2, "_json": expected
        })
    );
    let errors = answer["errors"].as_array().expect("errors");
    let mut paths: Vec<&str> = errors.iter().filter_map(|error| error["path"][1].as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["age", "big", "mode", "parts", "tags"], "what is left out is no error: {answer}");
    assert_eq!(errors[0]["extensions"]["code"], "UPSTREAM_PROTOCOL_ERROR");
}

#[tokio::test]
async fn a_result_that_is_no_object_is_still_there() {
    let schema = typed(&a_result());
    let answer = run(&schema, &Scripted::answering(OK), "{ look { name _json } }", "null").await;
    assert_eq!(answer["data"]["look"], json!({"name": null, "_json": "fine"}));
    assert_eq!(answer["errors"][0]["path"], json!(["look"]));
}

#[tokio::test]
async fn a_failed_tool_of_a_typed_result_is_null() {
    let schema = typed(&a_result());
    let caller = Scripted::answering(r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#);
    let answer = run(&schema, &caller, "{ look { name } }", "null").await;
    assert_eq!(answer["data"], json!({"look": null}));
    assert_eq!(answer["errors"][0]["extensions"]["code"], "TOOL_FAILED");
}

#[test]
fn an_output_schema_without_members_stays_json() {
    for output in [json!({"type": "object"}), json!({"oneOf": [{"type": "object"}]}), json!(true), json!({})]
    {
        assert!(typed(&output).sdl().contains("): JSON"), "{output}");
    }
}

#[test]
fn members_whose_names_graphql_cannot_have_are_kept_apart() {
    let output = json!({"type": "object", "properties": {"_json": {"type": "string"}, "a-b": {}, "a.b": {}, "__x": {}}});
    let sdl = typed(&output).sdl();
    assert!(
        sdl.contains("_json_: JSON") && sdl.contains("\t_json: String") && sdl.contains("\t_x: JSON"),
        "{sdl}"
    );
}
