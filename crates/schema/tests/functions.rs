//! Function-calling arrays: what each vendor is told, and the way back from what a model emits.

mod random;

use mpe_mcp_protocol::tool::Tool;
use mpe_schema::Validator;
use mpe_schema::functions::{Loss, LossKind, Lowered, Vendor, lower};
use random::Random;
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

fn tool(name: &str, input: &Value) -> Tool {
    let tool = json!({"name": name, "description": "Does it.", "inputSchema": input});
    Tool::parse(&raw(&tool.to_string())).expect("tool")
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn lowered(input: &Value, vendor: Vendor) -> Lowered {
    lower([&tool("t", input)], vendor)
}

/// The parameters of the only function of an array.
fn parameters(array: &Value, vendor: Vendor) -> Value {
    let pointer = match vendor {
        Vendor::Anthropic => "/0/input_schema",
        Vendor::Bedrock => "/0/toolSpec/inputSchema/json",
        Vendor::Gemini => "/0/functionDeclarations/0/parameters",
        Vendor::Mcp => "/0/inputSchema",
        Vendor::Ollama | Vendor::OpenAi | Vendor::OpenAiStrict => "/0/function/parameters",
    };
    array.pointer(pointer).cloned().unwrap_or_else(|| json!({"type": "object", "properties": {}}))
}

fn back(lowered: &Lowered, arguments: &str) -> String {
    lowered.call("t", &raw(arguments)).expect("turns back").arguments.get().to_owned()
}

fn kinds(report: &[Loss]) -> Vec<(&str, LossKind)> {
    report.iter().map(|loss| (loss.pointer.as_str(), loss.kind)).collect()
}

#[test]
fn each_vendor_has_its_own_envelope() {
    let input = object(&json!({"a": {"type": "string"}}), &["a"]);
    let array = |vendor| lowered(&input, vendor).array;
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let plain = json!({"name": "t", "description": "Does it.", "parameters": schema});
    assert_eq!(array(Vendor::OpenAi), json!([{"type": "function", "function": plain}]));
    assert_eq!(array(Vendor::Ollama), json!([{"type": "function", "function": plain}]));
    assert_eq!(array(Vendor::Gemini), json!([{"functionDeclarations": [plain]}]));
    assert_eq!(
        array(Vendor::Anthropic),
        json!([{"name": "t", "description": "Does it.", "input_schema": schema}])
    );
    assert_eq!(
        array(Vendor::Bedrock),
        json!([{"toolSpec": {"name": "t", "description": "Does it.", "inputSchema": {"json": schema}}}])
    );
    assert_eq!(array(Vendor::Mcp), json!([{"name": "t", "description": "Does it.", "inputSchema": input}]));
    let strict = &array(Vendor::OpenAiStrict)[0]["function"];
    assert_eq!(
        (&strict["strict"], &strict["parameters"]["additionalProperties"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn names_fit_the_vendors_alphabet_and_lead_back_to_the_tool() {
    let names = ["files/read.text", "files_read.text", "9lives", &"x".repeat(90)];
    let tools: Vec<Tool> = names.iter().map(|name| tool(name, &json!({"type": "object"}))).collect();
    for vendor in Vendor::ALL.into_iter().filter(|vendor| *vendor != Vendor::Mcp) {
        let lowered = lower(&tools, vendor);
        let text = lowered.array.to_string();
        let mut seen = std::collections::HashSet::new();
        for part in text.split("\"name\":\"").skip(1) {
            let name = part.split('"').next().expect("name");
            assert!(name.len() <= 64 && seen.insert(name.to_owned()), "{vendor:?} {name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
                "{vendor:?} {name}"
            );
            let call = lowered.call(name, &raw("{}")).expect("known");
            assert!(names.contains(&call.tool.as_str()));
        }
        assert_eq!(seen.len(), names.len(), "{vendor:?}");
    }
}

#[test]
fn strict_schemas_are_closed_and_what_is_optional_may_be_null() {
    let input = object(
        &json!({"a": {"type": "string"}, "b": {"type": "integer", "minimum": 1}, "c": {"enum": ["x", "y"]}}),
        &["a"],
    );
    let lowered = lowered(&input, Vendor::OpenAiStrict);
    assert_eq!(
        parameters(&lowered.array, Vendor::OpenAiStrict),
        json!({
            "type": "object",
            "properties": {
                "a": {"type": "string"},
                "b": {"type": ["integer", "null"], "minimum": 1},
                "c": {"type": ["string", "null"], "enum": ["x", "y", null]}
            },
            "required": ["a", "b", "c"],
            "additionalProperties": false
        })
    );
    assert_eq!(lowered.report, []);
    assert_eq!(back(&lowered, r#"{"a":"1","b":null,"c":"x"}"#), r#"{"a":"1","c":"x"}"#);
}

#[test]
fn a_null_that_the_tool_knows_stays() {
    let input = object(&json!({"a": {"type": ["string", "null"]}}), &[]);
    assert_eq!(back(&lowered(&input, Vendor::OpenAiStrict), r#"{"a":null}"#), r#"{"a":null}"#);
}

#[test]
fn maps_tuples_and_free_values_take_another_shape_and_come_back() {
    let input = object(
        &json!({
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
            "point": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}], "items": false, "minItems": 2},
            "free": {},
            "level": {"enum": [1, "1", {"deep": [true]}]}
        }),
        &["counts", "point", "free", "level"],
    );
    for vendor in [Vendor::OpenAiStrict, Vendor::Gemini, Vendor::Ollama] {
        let lowered = lowered(&input, vendor);
        let emitted = r#"{"counts":[{"name":"x","value":12345678901234567890123}],"point":{"item_1":"b","item_0":1.50},"free":"{\"z\": [1.0]}","level":"{\"deep\":[true]}"}"#;
        assert_eq!(
            back(&lowered, emitted),
            r#"{"counts":{"x":12345678901234567890123},"point":[1.50,"b"],"free":{"z": [1.0]},"level":{"deep":[true]}}"#,
            "{vendor:?}"
        );
        assert_eq!(
            kinds(&lowered.report),
            [
                ("/properties/counts", LossKind::Reshaped),
                ("/properties/point", LossKind::Reshaped),
                ("/properties/free", LossKind::Text),
                ("/properties/level", LossKind::Reshaped)
            ],
            "{vendor:?}"
        );
    }
}

#[test]
fn a_top_that_is_no_plain_object_becomes_a_member() {
    let input = json!({"type": "object", "anyOf": [object(&json!({"a": {"type": "string"}}), &["a"]), object(&json!({"b": {"type": "integer"}}), &["b"])]});
    for vendor in [
        Vendor::OpenAi,
        Vendor::Anthropic,
        Vendor::Bedrock,
        Vendor::OpenAiStrict,
        Vendor::Gemini,
        Vendor::Ollama,
    ] {
        let lowered = lowered(&input, vendor);
        let schema = parameters(&lowered.array, vendor);
        assert_eq!(schema["required"], json!(["arguments"]), "{vendor:?} {schema}");
        assert!(schema["properties"]["arguments"]["anyOf"].is_array(), "{vendor:?} {schema}");
        assert_eq!(back(&lowered, r#"{"arguments":{"b":1}}"#), r#"{"b":1}"#, "{vendor:?}");
    }
}

#[test]
fn recursion_is_a_reference_where_it_can_be_said_and_text_where_not() {
    let input = json!({
        "type": "object", "properties": {"tree": {"$ref": "#/$defs/node"}}, "required": ["tree"],
        "$defs": {"node": object(&json!({"v": {"type": "string"}, "next": {"$ref": "#/$defs/node"}}), &["v"])}
    });
    let strict = lowered(&input, Vendor::OpenAiStrict);
    let schema = parameters(&strict.array, Vendor::OpenAiStrict);
    assert_eq!(schema["properties"]["tree"], json!({"$ref": "#/$defs/node"}));
    assert_eq!(
        schema["$defs"]["node"]["properties"]["next"],
        json!({"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
    );
    assert_eq!(strict.report, []);
    assert_eq!(
        back(&strict, r#"{"tree":{"v":"a","next":{"v":"b","next":null}}}"#),
        r#"{"tree":{"v":"a","next":{"v":"b"}}}"#
    );
    let gemini = lowered(&input, Vendor::Gemini);
    assert_eq!(kinds(&gemini.report), [("/properties/tree/properties/next", LossKind::Text)]);
    assert_eq!(
        back(&gemini, r#"{"tree":{"v":"a","next":"{\"v\":\"b\"}"}}"#),
        r#"{"tree":{"v":"a","next":{"v":"b"}}}"#
    );
}

#[test]
fn rules_that_a_vendor_does_not_read_are_reported() {
    let input = object(
        &json!({"a": {"type": "string", "minLength": 2, "pattern": "^a"}, "b": {"type": "array", "items": {"type": "integer"}, "uniqueItems": true}}),
        &["a"],
    );
    let strict = lowered(&input, Vendor::OpenAiStrict);
    assert_eq!(
        kinds(&strict.report),
        [("/properties/a/minLength", LossKind::Dropped), ("/properties/b/uniqueItems", LossKind::Dropped)]
    );
    let ollama = lowered(&input, Vendor::Ollama);
    assert_eq!(ollama.report.len(), 3);
}

#[test]
fn awkward_argument_names_are_renamed_for_vendors_that_refuse_them() {
    let input = object(
        &json!({"a b": {"type": "string"}, "ü": {"type": "array", "items": object(&json!({"$x": {}}), &[])}}),
        &["a b"],
    );
    let lowered = lowered(&input, Vendor::Anthropic);
    let schema = parameters(&lowered.array, Vendor::Anthropic);
    assert_eq!(schema["required"], json!(["a_b"]));
    assert_eq!(
        back(&lowered, r#"{"a_b":"1","_":[{"_x":2}],"other":3}"#).replace(' ', ""),
        r#"{"ab":"1","ü":[{"$x":2}],"other":3}"#
    );
}

#[test]
fn what_a_model_may_not_emit_is_refused_by_pointer() {
    let input =
        object(&json!({"a": {"type": "object", "additionalProperties": {"type": "integer"}}, "f": {}}), &[]);
    let lowered = lowered(&input, Vendor::OpenAiStrict);
    let cases = [
        ("[]", ""),
        (r#"{"z":1}"#, "/z"),
        (r#"{"a":3}"#, "/a"),
        (r#"{"a":[{"name":"x","value":1},{"name":"x","value":2}]}"#, "/a/1/name"),
        (r#"{"f":"{"}"#, "/f"),
    ];
    for (arguments, pointer) in cases {
        let violations = lowered.call("t", &raw(arguments)).expect_err(arguments);
        assert_eq!(violations[0].pointer, pointer, "{arguments}");
    }
    assert!(lowered.call("u", &raw("{}")).is_err());
}

/// A lowered schema as JSON Schema: `nullable` is a word of Gemini's.
fn as_json_schema(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(as_json_schema).collect::<Vec<_>>().into(),
        Value::Object(members) => {
            let mut out: serde_json::Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), as_json_schema(value))).collect();
            if out.get("nullable") == Some(&Value::Bool(true)) {
                out.shift_remove("nullable");
                return json!({"anyOf": [out, {"type": "null"}]});
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// Random schemas tried. Ten times as many have been, once.
const SEEDS: u64 = 400;

/// What no schema here can keep a model from doing.
const REFUSALS: [&str; 3] = ["fits no alternative", "given twice", "there is no such argument"];

/// An instance valid for a lowered schema is, after the inverse, valid for the original, unless the report says why not.
#[test]
fn what_is_valid_for_a_faithfully_lowered_schema_is_valid_for_the_original_after_the_way_back() {
    let (mut faithful, mut valid) = (0_u64, 0_u64);
    for seed in 0..std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS) {
        let mut random = Random::new(seed);
        let input = random.tool_schema();
        let original = Validator::compile(&input).expect("schema");
        for vendor in Vendor::ALL {
            let lowered = lowered(&input, vendor);
            let is_lossy =
                lowered.report.iter().any(|loss| matches!(loss.kind, LossKind::Dropped | LossKind::Text));
            if is_lossy {
                continue;
            }
            faithful += 1;
            let schema = as_json_schema(&parameters(&lowered.array, vendor));
            let validator =
                Validator::compile(&schema).unwrap_or_else(|e| panic!("{vendor:?} {e}: {schema}"));
            for _ in 0..8 {
                let instance = random.instance(&schema, &schema, 0);
                if !validator.check(&instance).is_empty() {
                    continue;
                }
                let call = match lowered.call("t", &raw(&instance.to_string())) {
                    Ok(call) => call,
                    // Refused: no wrong call is made.
                    Err(violations) if violations.iter().all(|v| REFUSALS.contains(&v.message.as_str())) => {
                        continue;
                    }
                    Err(violations) => {
                        panic!("{seed} {vendor:?} {violations:?}\n{instance}\n{schema}\n{input}")
                    }
                };
                let arguments: Value = serde_json::from_str(call.arguments.get()).expect("JSON");
                let violations = original.check(&arguments);
                assert!(
                    violations.is_empty(),
                    "{seed} {vendor:?} {violations:?}\nemitted {instance}\nmeans {arguments}\nlowered {schema}\noriginal {input}"
                );
                valid += 1;
            }
        }
    }
    // Enough of each for the test to mean something.
    assert!(faithful > 2 * SEEDS && valid > 5 * SEEDS, "{faithful} faithful, {valid} valid");
}

#[test]
fn every_listed_value_can_be_meant_whatever_others_are_said_as() {
    for values in
        [json!(["1", 1]), json!([1, "1"]), json!(["\"1\"", "1", 1]), json!(["true", true, "null", ""])]
    {
        let lowered = lowered(&object(&json!({"e": {"enum": values}}), &["e"]), Vendor::Gemini);
        let listed = parameters(&lowered.array, Vendor::Gemini)["properties"]["e"]["enum"].clone();
        let meant: Vec<Value> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|text| {
                serde_json::from_str::<Value>(&back(&lowered, &json!({"e": text}).to_string())).unwrap()["e"]
                    .clone()
            })
            .collect();
        assert_eq!(Value::Array(meant), values, "{listed}");
    }
}

#[test]
fn what_breaks_json_schema_is_left_out_and_reported() {
    let input = object(
        &json!({"a": {"type": "strin", "title": "A"}, "b": {"type": "string", "minLength": -1}, "c": {"anyOf": []}}),
        &["a"],
    );
    for vendor in Vendor::ALL.into_iter().filter(|vendor| *vendor != Vendor::Mcp) {
        let lowered = lowered(&input, vendor);
        let text = lowered.array.to_string();
        assert!(
            !text.contains("strin\"") && !text.contains("-1") && !text.contains("anyOf\":[]"),
            "{vendor:?}: {text}"
        );
        for pointer in ["/properties/a/type", "/properties/b/minLength", "/properties/c/anyOf"] {
            assert!(
                kinds(&lowered.report).contains(&(pointer, LossKind::Dropped)),
                "{vendor:?}: {:?}",
                lowered.report
            );
        }
    }
}

#[test]
fn a_text_beside_what_is_said_as_a_text_is_said_as_one_too() {
    let object = json!({"type": "object"});
    for schema in [
        json!({"anyOf": [object, {"type": "string"}]}),
        json!({"anyOf": [{"type": "string"}, object]}),
        json!({"type": ["string", "object"]}),
    ] {
        for vendor in [Vendor::Gemini, Vendor::Ollama, Vendor::OpenAiStrict] {
            let lowered = lowered(&object_of(&schema), vendor);
            for value in [json!("hello"), json!({"a": 1}), json!("1")] {
                let said = json!({"v": value.to_string()}).to_string();
                let meant: Value = serde_json::from_str(&back(&lowered, &said)).unwrap();
                assert_eq!(meant["v"], value, "{vendor:?} {schema}");
            }
            assert_eq!(kinds(&lowered.report), [("/properties/v", LossKind::Text)], "{vendor:?} {schema}");
        }
    }
    let mixed = json!({"anyOf": [{"enum": [1, 2]}, {"type": "string"}]});
    let lowered = lowered(&object_of(&mixed), Vendor::Gemini);
    for value in [json!(1), json!("1")] {
        let meant: Value =
            serde_json::from_str(&back(&lowered, &json!({"v": value.to_string()}).to_string())).unwrap();
        assert_eq!(meant["v"], value);
    }
}

fn object_of(schema: &Value) -> Value {
    object(&json!({"v": schema}), &["v"])
}

#[test]
fn alternatives_are_distinct_by_what_they_are_turned_back_to() {
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let closed =
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false});
    let lowered = lowered(&object_of(&json!({"oneOf": [map, closed]})), Vendor::OpenAiStrict);
    assert!(
        kinds(&lowered.report).contains(&("/properties/v/oneOf", LossKind::Dropped)),
        "{:?}",
        lowered.report
    );
}

#[test]
fn a_value_that_is_listed_over_and_over_is_said_once() {
    for value in [json!(1), json!(""), json!("a")] {
        let mut values = vec![value.clone(); 64];
        values.push(json!(2));
        let lowered = lowered(&object_of(&json!({"enum": values})), Vendor::Gemini);
        let listed = parameters(&lowered.array, Vendor::Gemini)["properties"]["v"]["enum"].clone();
        assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    }
}
