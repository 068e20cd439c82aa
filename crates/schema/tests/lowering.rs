//! What the documents say of random schemas, against the schemas themselves: 3.1 says the same, 3.0 never refuses more.

mod random;

use mpe_mcp_protocol::tool::Tool;
use mpe_schema::openapi::{DocumentInfo, OpenApiVersion, document};
use mpe_schema::{Operations, Validator};
use random::Random;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Random schemas tried, with ten instances each.
const SEEDS: u64 = 400;

/// `SEEDS` in the environment asks for more than the usual.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS)
}

fn describe(input: &Value, version: OpenApiVersion) -> Validator {
    let raw = RawValue::from_string(json!({"name": "t", "inputSchema": input}).to_string()).expect("JSON");
    let tool = Tool::parse(&raw).expect("tool");
    let info = DocumentInfo::new("T", "1");
    let mut document = document(&info, &Operations::of([(&tool, "t")], &[]), version);
    if version == OpenApiVersion::V3_0 {
        document["components"]["schemas"] = as_json_schema(&document["components"]["schemas"]);
    }
    let schema = json!({"$ref": "#/components/schemas/TArguments", "components": document["components"]});
    Validator::compile(&schema).unwrap_or_else(|error| panic!("{version:?} {error}: {schema}"))
}

/// 3.0's words in those of 2020-12: `nullable` adds `null` to the type, flags turn bounds into exclusive ones.
fn as_json_schema(schema: &Value) -> Value {
    let members = match schema {
        Value::Array(items) => return items.iter().map(as_json_schema).collect::<Vec<_>>().into(),
        Value::Object(members) => members,
        other => return other.clone(),
    };
    let mut out: serde_json::Map<String, Value> =
        members.iter().map(|(name, value)| (name.clone(), as_json_schema(value))).collect();
    if out.shift_remove("nullable") == Some(Value::Bool(true)) {
        let name = out["type"].clone();
        out.insert("type".to_owned(), json!([name, "null"]));
    }
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if out.get(flag) == Some(&Value::Bool(true)) {
            let value = out.shift_remove(bound).expect("a bound beside its flag");
            out.insert(flag.to_owned(), value);
        }
    }
    Value::Object(out)
}

#[test]
fn a_document_of_3_1_allows_what_the_schema_allows_and_nothing_else() {
    let (mut valid, mut invalid) = (0_u64, 0_u64);
    for seed in 0..seeds() {
        let mut random = Random::new(seed);
        let input = random.tool_schema();
        let original = Validator::compile(&input).expect("schema");
        let described = describe(&input, OpenApiVersion::V3_1);
        for _ in 0..10 {
            let instance = random.instance(&input, &input, 0);
            let is_valid = original.check(&instance).is_empty();
            assert_eq!(described.check(&instance).is_empty(), is_valid, "{seed}: {instance}\n{input}");
            if is_valid { valid += 1 } else { invalid += 1 }
        }
    }
    assert!(valid > SEEDS && invalid > SEEDS / 4, "{valid} valid, {invalid} invalid");
}

#[test]
fn a_document_of_3_0_allows_whatever_the_schema_allows() {
    let mut valid = 0_u64;
    for seed in 0..seeds() {
        let mut random = Random::new(seed);
        let input = random.tool_schema();
        let original = Validator::compile(&input).expect("schema");
        let described = describe(&input, OpenApiVersion::V3_0);
        for _ in 0..10 {
            let instance = random.instance(&input, &input, 0);
            if original.check(&instance).is_empty() {
                let violations = described.check(&instance);
                assert!(violations.is_empty(), "{seed}: {violations:?} {instance}\n{input}");
                valid += 1;
            }
        }
    }
    assert!(valid > SEEDS, "{valid} valid");
}
