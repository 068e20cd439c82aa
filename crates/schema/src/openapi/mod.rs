//! OpenAPI documents.
//!
//! `openapiv3` models the document; schemas it cannot carry without loss are put in as they are (3.1) or lowered first (3.0).

mod components;
mod legacy;
mod parts;
mod security;
mod skeleton;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub(crate) use self::components::placed;
pub(crate) use self::legacy::component_name;
pub use self::security::Security;
use crate::{Operation, Operations};

/// What the operator says of the API.
#[derive(Clone, Debug)]
pub struct DocumentInfo {
    /// `info.title`.
    pub title: String,
    /// `info.version`.
    pub version: String,
    /// `info.description`.
    pub description: Option<String>,
    /// `servers`, each with its URL and description. Empty: `/`.
    pub servers: Vec<(String, Option<String>)>,
    /// How callers prove who they are.
    pub security: Security,
}

impl DocumentInfo {
    /// An API of that title and version, at `/`, about which nothing more is said.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            version: version.into(),
            description: None,
            servers: Vec::new(),
            security: Security::default(),
        }
    }
}

/// The OpenAPI version of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenApiVersion {
    /// 3.0.3, for tools that do not read 3.1.
    V3_0,
    /// 3.1.1.
    #[default]
    V3_1,
}

/// The document of these operations.
///
/// Each tool brings two components, `{Id}Arguments` and, where the response is known, `{Id}Response`; references inside a
/// tool's schemas point into its components. In 3.1 the schemas are the tool's own; in 3.0 they are lowered, which
/// loses what 3.0 cannot say (`if`, `not` beside a type, patterns of names …) and never refuses an instance that the original allows.
pub fn document(info: &DocumentInfo, operations: &Operations, version: OpenApiVersion) -> Value {
    let parts = parts::of(&operations.operations);
    let mut document = skeleton::of(info, &operations.operations, &parts, version);
    let mut schemas = Map::new();
    for part in &parts {
        part.insert(version, &mut schemas);
    }
    schemas.extend(skeleton::schemas(&parts));
    for (operation, part) in operations.operations.iter().zip(&parts) {
        put_parameters(&mut document, operation, part, version, &mut schemas);
    }
    document["components"]["schemas"] = Value::Object(schemas);
    info.security.put(&mut document);
    // No `jsonSchemaDialect`: the default one is 2020-12 with OpenAPI's own annotations, and viewers warn of any other.
    document
}

/// A document as YAML 1.2, which 1.1 readers understand alike: whatever either would take for something else is quoted.
pub fn to_yaml(document: &Value) -> String {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.prefer_block_scalars = false;
    serde_saphyr::to_string_with_options(document, options)
        .expect("a JSON value has only string keys, which every YAML mapping can hold")
}

/// Replaces the placeholder schemas of an operation's parameters.
fn put_parameters(
    document: &mut Value,
    operation: &Operation,
    part: &parts::Part<'_>,
    version: OpenApiVersion,
    schemas: &mut Map<String, Value>,
) {
    let path = operation.path.to_string();
    let method = skeleton::method(operation);
    for (i, parameter) in operation.parameters.iter().enumerate() {
        let schema = part.parameter(parameter, version, schemas);
        document["paths"][&path][method]["parameters"][i]["schema"] = schema;
    }
}
