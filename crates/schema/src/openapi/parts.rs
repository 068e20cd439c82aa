//! The components of each operation: their names, and how a schema gets there.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::OpenApiVersion;
use super::components::placed;
use super::legacy::lower;
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
        match version {
            OpenApiVersion::V3_1 => placed(root, &parameter.schema, &place(&self.arguments)),
            OpenApiVersion::V3_0 => lower(root, &parameter.schema, &self.arguments, schemas),
        }
    }
}

/// Where a component stands.
pub(super) fn place(component: &str) -> String {
    format!("#/components/schemas/{component}")
}

fn insert(schema: &Value, name: &str, version: OpenApiVersion, schemas: &mut Map<String, Value>) {
    let ready = match version {
        OpenApiVersion::V3_1 => placed(schema, schema, &place(name)),
        OpenApiVersion::V3_0 => {
            // Taken first, so that a schema that refers to itself refers to this component.
            schemas.insert(name.to_owned(), Value::Null);
            lower(schema, schema, name, schemas)
        }
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
