//! Random schemas and instances, the same for the same seed.

use serde_json::{Map, Value, json};

/// A small generator (xorshift64*): good enough to wander through schemas, and free of crates.
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).expect("small")]
    }

    /// The schema of a tool's arguments.
    pub(crate) fn tool_schema(&mut self) -> Value {
        let mut schema = if self.chance(10) {
            json!({"type": "object", "anyOf": [self.object(2), self.object(2)]})
        } else {
            self.object(0)
        };
        let definition = self.schema(2);
        schema["$defs"] = json!({"d": definition, "r": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/r"}},
            "required": ["v"], "additionalProperties": false
        }});
        schema
    }

    fn schema(&mut self, depth: u64) -> Value {
        let leaf = depth >= 4;
        match self.below(if leaf { 11 } else { 23 }) {
            0 => json!({"type": "string"}),
            1 => json!({"type": "integer", "minimum": 0, "maximum": self.below(5) + 1}),
            2 => json!({"type": "number"}),
            3 => json!({"type": "boolean"}),
            4 => json!({"enum": ["a", "b", "1"]}),
            5 => json!({"enum": ["a", 1, true, null, [1], {"k": 2}]}),
            6 => json!({"const": self.pick(&[json!("c"), json!(7), json!(null)])}),
            7 => {
                json!({"type": self.pick(&[json!(["string", "null"]), json!(["integer", "boolean"]), json!("null")])})
            }
            8 => json!({"type": "integer", "exclusiveMinimum": 0, "minimum": -1}),
            9 => json!({"not": {"type": self.pick(&["string", "integer", "boolean"])}}),
            10 => json!({"type": ["string", "number", "null"], "enum": ["a", 1, 0.5, null, true]}),
            11 => json!({"type": "array", "items": self.schema(depth + 1), "maxItems": 3}),
            12 => {
                json!({"type": "array", "items": self.schema(depth + 1), "uniqueItems": true, "contains": {"const": "a"}})
            }
            13 | 14 => self.object(depth + 1),
            15 => json!({
                "type": "object", "properties": {"a": self.schema(depth + 1)},
                "patternProperties": {"^b": self.schema(depth + 1)}, "additionalProperties": false
            }),
            16 => json!({
                "properties": {"a": self.schema(depth + 1), "f": {"type": "string"}},
                "if": {"required": ["a"]}, "then": {"required": ["f"]}, "else": {"maxProperties": 1}
            }),
            17 => json!({"type": "object", "additionalProperties": self.schema(depth + 1)}),
            18 => json!({
                "type": "array", "prefixItems": [self.schema(depth + 1), self.schema(depth + 1)], "items": false, "minItems": 2
            }),
            19 => json!({"anyOf": [self.schema(depth + 1), self.schema(depth + 1)]}),
            20 => {
                json!({"oneOf": [{"type": "string"}, {"type": "array", "items": self.schema(depth + 1)}, {"type": "null"}]})
            }
            21 => json!({"$ref": self.pick(&["#/$defs/d", "#/$defs/r"])}),
            _ => json!({"allOf": [self.object(depth + 1), self.object(depth + 1)]}),
        }
    }

    fn object(&mut self, depth: u64) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for name in ["a", "b-c", "d e", "f"] {
            if self.chance(50) {
                // Names that both parts of an `allOf` may have get one schema, so that the parts do not contradict each other.
                let schema = if name == "f" { json!({"type": "string"}) } else { self.schema(depth + 1) };
                properties.insert(name.to_owned(), schema);
                if self.chance(50) {
                    required.push(name);
                }
            }
        }
        let mut schema = json!({"type": "object", "properties": properties, "required": required});
        if self.chance(30) && depth == 0 {
            schema["additionalProperties"] = false.into();
        }
        schema
    }

    /// A value that may well be valid for `schema`.
    pub(crate) fn instance(&mut self, root: &Value, schema: &Value, depth: u64) -> Value {
        if depth > 12 {
            return Value::Null;
        }
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
            let target = root.pointer(&pointer[1..]).cloned().unwrap_or_default();
            return self.instance(root, &target, depth + 1);
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty())
        {
            return self.pick(values).clone();
        }
        for keyword in ["anyOf", "oneOf", "allOf"] {
            if let Some(parts) =
                schema.get(keyword).and_then(Value::as_array).filter(|parts| !parts.is_empty())
            {
                let part = if depth > 6 {
                    parts.last().expect("not empty").clone()
                } else {
                    self.pick(parts).clone()
                };
                return self.instance(root, &part, depth + 1);
            }
        }
        let name = match schema.get("type") {
            Some(Value::Array(names)) => self.pick(names).clone(),
            Some(name) => name.clone(),
            None => self.pick(&["string", "integer", "null"].map(Value::from)).clone(),
        };
        match name.as_str().unwrap_or_default() {
            "array" => {
                if let Some(prefix) = schema.get("prefixItems").and_then(Value::as_array) {
                    return prefix
                        .iter()
                        .map(|item| self.instance(root, item, depth + 1))
                        .collect::<Vec<_>>()
                        .into();
                }
                let items = schema.get("items").cloned().unwrap_or_default();
                let n = if depth > 6 { 0 } else { self.below(3) };
                (0..n).map(|_| self.instance(root, &items, depth + 1)).collect::<Vec<_>>().into()
            }
            "boolean" => self.chance(50).into(),
            "integer" => {
                let least = schema.get("minimum").and_then(Value::as_i64).unwrap_or(-3);
                (least + i64::try_from(self.below(6)).expect("small")).into()
            }
            "number" => json!(f64::from(u32::try_from(self.below(100)).expect("small")) / 8.0),
            "object" => {
                let mut members = Map::new();
                let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
                let properties =
                    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
                for (name, schema) in properties {
                    if required.contains(&Value::from(name.as_str())) || self.chance(40) {
                        members.insert(name, self.instance(root, &schema, depth + 1));
                    }
                }
                Value::Object(members)
            }
            "string" => (*self.pick(&["a", "c", "", "x y", "1"])).into(),
            _ => Value::Null,
        }
    }
}
