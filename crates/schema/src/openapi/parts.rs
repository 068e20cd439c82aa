//! The components of each operation: their names, and how a schema gets there.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::OpenApiVersion;
use super::components::placed;
use super::legacy::{component_name, lower};
use crate::names::pascal;
use crate::{Operation, Parameter};

/// The components that one operation refers to.
pub(super) struct Part<'a> {
    operation: &'a Operation,
    /// Component of the arguments. The operations of one tool share it.
    pub(super) arguments: String,
    /// Component of the response, where it is known.
    pub(super) response: Option<String>,
    owns_arguments: bool,
}

/// One part for each operation, in order.
pub(super) fn of(operations: &[Operation]) -> Vec<Part<'_>> {
    let mut taken: HashMap<String, ()> = RESERVED.iter().map(|name| ((*name).to_owned(), ())).collect();
    let mut of_tool: HashMap<&str, String> = HashMap::new();
    let mut parts = Vec::with_capacity(operations.len());
    for operation in operations {
        let mut owns_arguments = false;
        let arguments = of_tool
            .entry(operation.tool.name())
            .or_insert_with(|| {
                owns_arguments = true;
                free(&mut taken, &format!("{}Arguments", pascal(&operation.id)))
            })
            .clone();
        let response = operation
            .response
            .is_some()
            .then(|| free(&mut taken, &format!("{}Response", pascal(&operation.id))));
        parts.push(Part { operation, arguments, response, owns_arguments });
    }
    parts
}

impl Part<'_> {
    /// Puts this operation's components into the document.
    pub(super) fn insert(&self, version: OpenApiVersion, schemas: &mut Map<String, Value>) {
        if self.owns_arguments {
            let schema = self.operation.tool.input_schema();
            insert(schema, &self.arguments, version, schemas);
        }
        if let (Some(name), Some(schema)) = (&self.response, &self.operation.response) {
            insert(schema, name, version, schemas);
        }
    }

    /// The schema of a parameter as it stands in the document.
    pub(super) fn parameter(
        &self,
        parameter: &Parameter,
        version: OpenApiVersion,
        schemas: &mut Map<String, Value>,
    ) -> Value {
        let root = self.operation.tool.input_schema();
        let ready = match version {
            OpenApiVersion::V3_1 => hoist(root, &parameter.schema, &self.arguments, schemas),
            OpenApiVersion::V3_0 => lower(root, &parameter.schema, &self.arguments, schemas),
        };
        match ready {
            // Both mean what they say; readers of parameters want an object.
            Value::Bool(true) => json!({}),
            Value::Bool(false) => json!({"not": {}}),
            ready => ready,
        }
    }
}

/// `schema` for 3.1: as it is, its definitions components of their own, named after `component`.
fn hoist(root: &Value, schema: &Value, component: &str, schemas: &mut Map<String, Value>) -> Value {
    let mut waiting = Vec::new();
    let ready = with_definitions_elsewhere(root, schema, component, &mut waiting);
    while let Some((pointer, name)) = waiting.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        schemas.insert(name.clone(), Value::Null);
        let target = root.pointer(&pointer).unwrap_or(&Value::Bool(true));
        let definition = with_definitions_elsewhere(root, target, component, &mut waiting);
        schemas.insert(name, definition);
    }
    ready
}

/// `schema` with references into components; the targets they mean are added to `waiting`, pointer and name.
///
/// Every target is a component, be it a definition or any other part of the schema: pointers that go deeper than a component are
/// legal, and few client generators follow them.
fn with_definitions_elsewhere(
    root: &Value,
    schema: &Value,
    component: &str,
    waiting: &mut Vec<(String, String)>,
) -> Value {
    placed(root, schema, &mut |pointer| {
        if pointer.is_empty() {
            return place(component);
        }
        let name = format!("{component}_{}", component_name(pointer));
        let reference = place(&name);
        waiting.push((pointer.to_owned(), name));
        reference
    })
}

/// Where a component stands.
pub(super) fn place(component: &str) -> String {
    format!("#/components/schemas/{component}")
}

fn insert(schema: &Value, name: &str, version: OpenApiVersion, schemas: &mut Map<String, Value>) {
    // Taken first, so that the component stands before those it refers to.
    schemas.insert(name.to_owned(), Value::Null);
    let ready = match version {
        OpenApiVersion::V3_1 => hoist(schema, schema, name, schemas),
        OpenApiVersion::V3_0 => lower(schema, schema, name, schemas),
    };
    schemas.insert(name.to_owned(), ready);
}

fn free(taken: &mut HashMap<String, ()>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut n = 2_usize;
    while taken.insert(name.clone(), ()).is_some() {
        name = format!("{wanted}{n}");
        n += 1;
    }
    name
}

/// Components of the document itself.
const RESERVED: [&str; 2] = ["Content", "Problem"];
