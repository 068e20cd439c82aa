//! OpenAPI documents.

use serde_json::Value;

use crate::Operations;

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
pub fn document(info: &DocumentInfo, operations: &Operations, version: OpenApiVersion) -> Value {
    let _ = (info, operations, version);
    todo!()
}

/// A document as YAML.
pub fn to_yaml(document: &Value) -> String {
    let _ = document;
    todo!()
}
