//! An operation: one tool as one REST request. Routing and documents read the same value.

use mpe_mcp_protocol::tool::Tool;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{PathTemplate, SchemaError, SchemaViolation, arguments};

/// The HTTP method of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET: every argument in path or query.
    Get,
    /// POST: arguments in the body.
    Post,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In a header: an argument that the tool annotates with `x-mcp-header`. It may stand elsewhere too, if it says the same there.
    Header,
    /// In the path.
    Path,
    /// In the query.
    Query,
}

/// One path, query or header parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The argument's name.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// The header's name, for a parameter in a header.
    pub header: Option<String>,
    /// Whether it must be there.
    pub required: bool,
    /// The argument's JSON Schema; its local references are relative to the tool's `inputSchema`.
    pub schema: Value,
}

/// What a request says beside its body: pairs of name and text, those of the path encoded as they stand there.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) path: &'a [(String, String)],
    pub(crate) query: &'a [(String, String)],
    pub(crate) headers: &'a [(String, String)],
}

/// One tool as one REST request.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Unique within the document, stable across revisions.
    pub id: String,
    /// The tool's exposed name.
    pub tool: Tool,
    /// The tag: the upstream's key.
    pub tag: String,
    /// GET or POST.
    pub method: Method,
    /// Where it is served.
    pub path: PathTemplate,
    /// Path, query and header parameters.
    pub parameters: Vec<Parameter>,
    /// The response's JSON Schema: `response_mappings`, else `outputSchema`, else `None`.
    pub response: Option<Value>,
    /// Whether the operator mapped it (else it is the tool's `POST /tools/{tool}`).
    pub mapped: bool,
}

/// One entry of `response_mappings`.
#[derive(Clone, Debug)]
pub struct ResponseMapping {
    /// Where the tool is served: a path with variables is a GET, one without is a POST.
    pub path: PathTemplate,
    /// JSON Schema of the response, or the Python product's `list`/`dict` spelling.
    pub response: Value,
}

/// Every operation of one catalogue, and what could not be made one.
#[derive(Clone, Debug, Default)]
pub struct Operations {
    /// `POST /tools/{tool}` of every tool in catalogue order, then the mapped ones in configuration order.
    pub operations: Vec<Operation>,
    /// Mappings that name no tool, variables that are no argument: each with its reason.
    pub problems: Vec<SchemaError>,
}

impl Operation {
    /// The arguments object of a request: path variables (percent-encoded, as they stand in the path) and query pairs
    /// (percent-decoded) coerced by schema, over the members of the JSON body. Body members keep their bytes.
    ///
    /// A scalar is read by its schema's type: `12` is a number for `integer`, a text for `string`; unions and type lists are
    /// tried in order; without any type it is JSON where it reads as JSON, else a text. Lists repeat their name (`tag=a&tag=b`,
    /// `tag[]=a`, `tag[0]=a`; in the path `a,b`). Objects spell `filter[name]=x` to any depth, or one JSON text.
    ///
    /// # Errors
    /// Every problem, by JSON Pointer into the arguments.
    pub fn arguments(
        &self,
        path: &[(String, String)],
        query: &[(String, String)],
        body: Option<&RawValue>,
    ) -> Result<Box<RawValue>, Vec<SchemaViolation>> {
        self.arguments_with_headers(path, query, &[], body, &|_| Vec::new())
    }

    /// As [`Operation::arguments`], with the headers of the request whose names begin with `Mcp-Param-`. A header is the argument where
    /// nothing else gives it; where something does, both must say the same.
    ///
    /// Where something is wrong, `check` is asked what else is, of arguments that have `null` in the place of what could not be
    /// read; otherwise it is not asked.
    ///
    /// # Errors
    /// As [`Operation::arguments`].
    pub fn arguments_with_headers(
        &self,
        path: &[(String, String)],
        query: &[(String, String)],
        headers: &[(String, String)],
        body: Option<&RawValue>,
        check: &dyn Fn(&RawValue) -> Vec<SchemaViolation>,
    ) -> Result<Box<RawValue>, Vec<SchemaViolation>> {
        arguments::assemble(self, &Given { path, query, headers }, body, check)
    }
}
