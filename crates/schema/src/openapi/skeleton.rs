//! Everything of a document but the tools' schemas, in the types of `openapiv3`.

use indexmap::IndexMap;
use openapiv3::{
    Components, Info, MediaType, OpenAPI, Operation as Method, Parameter as Documented, ParameterData,
    ParameterSchemaOrContent, PathItem, PathStyle, Paths, QueryStyle, ReferenceOr, RequestBody, Response,
    Responses, Schema, Server, StatusCode, Tag,
};
use serde_json::{Map, Value, json};

use super::parts::{Part, place};
use super::{DocumentInfo, OpenApiVersion};
use crate::coerce::may_be_object;
use crate::local::follow;
use crate::operations::{properties, required};
use crate::{Location, Operation, Parameter};

/// The document without the schemas of tools; each parameter's schema is a placeholder.
pub(super) fn of(
    info: &DocumentInfo,
    operations: &[Operation],
    parts: &[Part<'_>],
    version: OpenApiVersion,
) -> Value {
    let document = OpenAPI {
        openapi: match version {
            OpenApiVersion::V3_0 => "3.0.3".to_owned(),
            OpenApiVersion::V3_1 => "3.1.1".to_owned(),
        },
        info: Info {
            title: info.title.clone(),
            version: info.version.clone(),
            description: info.description.clone(),
            ..Info::default()
        },
        servers: servers(info),
        paths: paths(operations, parts),
        components: Some(Components { responses: problems(), ..Components::default() }),
        tags: tags(operations),
        ..OpenAPI::default()
    };
    serde_json::to_value(document).expect("the document's types hold only strings as keys")
}

/// The key of an operation in its path item.
pub(super) fn method(operation: &Operation) -> &'static str {
    match operation.method {
        crate::Method::Get => "get",
        crate::Method::Post => "post",
    }
}

/// Components of the document itself, as far as something refers to them.
pub(super) fn schemas(parts: &[Part<'_>]) -> Map<String, Value> {
    let mut schemas = Map::new();
    if parts.iter().any(|part| part.response.is_none()) {
        schemas.insert("Content".to_owned(), content());
    }
    schemas.insert("Problem".to_owned(), problem());
    schemas
}

fn servers(info: &DocumentInfo) -> Vec<Server> {
    let server = |url: &str, description: Option<String>| Server {
        url: url.to_owned(),
        description,
        ..Server::default()
    };
    if info.servers.is_empty() {
        return vec![server("/", None)];
    }
    info.servers.iter().map(|(url, description)| server(url, description.clone())).collect()
}

fn tags(operations: &[Operation]) -> Vec<Tag> {
    let mut names: Vec<&str> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for operation in operations {
        if !operation.tag.is_empty() && seen.insert(operation.tag.as_str()) {
            names.push(&operation.tag);
        }
    }
    names
        .into_iter()
        .map(|name| Tag {
            name: name.to_owned(),
            description: Some(format!("Tools of the server `{name}`.")),
            ..Tag::default()
        })
        .collect()
}

fn paths(operations: &[Operation], parts: &[Part<'_>]) -> Paths {
    let mut paths: IndexMap<String, ReferenceOr<PathItem>> = IndexMap::new();
    for (operation, part) in operations.iter().zip(parts) {
        let entry =
            paths.entry(operation.path.to_string()).or_insert_with(|| ReferenceOr::Item(PathItem::default()));
        let ReferenceOr::Item(item) = entry else { continue };
        let documented = Some(documented(operation, part));
        match operation.method {
            crate::Method::Get => item.get = documented,
            crate::Method::Post => item.post = documented,
        }
    }
    Paths { paths, ..Paths::default() }
}

fn documented(operation: &Operation, part: &Part<'_>) -> Method {
    let tool = &operation.tool;
    let mut extensions = IndexMap::new();
    extensions.insert("x-mcp-tool".to_owned(), Value::from(tool.name()));
    let hints = tool.annotations();
    extensions.insert(
        "x-mcp-annotations".to_owned(),
        json!({
            "readOnlyHint": hints.read_only,
            "destructiveHint": hints.destructive,
            "idempotentHint": hints.idempotent,
            "openWorldHint": hints.open_world,
        }),
    );
    let has_body = operation.method == crate::Method::Post;
    Method {
        tags: if operation.tag.is_empty() { Vec::new() } else { vec![operation.tag.clone()] },
        summary: Some(tool.title().unwrap_or(tool.name()).to_owned()),
        description: tool.description().map(str::to_owned),
        operation_id: Some(operation.id.clone()),
        parameters: operation.parameters.iter().map(|p| ReferenceOr::Item(parameter(operation, p))).collect(),
        request_body: has_body.then(|| ReferenceOr::Item(request_body(operation, part))),
        responses: responses(operation, part),
        extensions,
        ..Method::default()
    }
}

fn parameter(operation: &Operation, parameter: &Parameter) -> Documented {
    let root = operation.tool.input_schema();
    let target = follow(root, &parameter.schema);
    let description = parameter.schema.get("description").or_else(|| target.get("description"));
    let is_object = may_be_object(root, &parameter.schema) || !properties(root, target).is_empty();
    let data = ParameterData {
        name: parameter.header.as_ref().unwrap_or(&parameter.name).clone(),
        description: description.and_then(Value::as_str).map(str::to_owned),
        required: parameter.required,
        deprecated: (target.get("deprecated") == Some(&Value::Bool(true))).then_some(true),
        format: ParameterSchemaOrContent::Schema(ReferenceOr::Item(Schema {
            schema_data: openapiv3::SchemaData::default(),
            schema_kind: openapiv3::SchemaKind::Any(openapiv3::AnySchema::default()),
        })),
        example: None,
        examples: IndexMap::new(),
        // Without it, OpenAPI leaves open what `deepObject` means.
        explode: (parameter.location == Location::Query && is_object).then_some(true),
        extensions: IndexMap::new(),
    };
    match parameter.location {
        Location::Header => {
            Documented::Header { parameter_data: data, style: openapiv3::HeaderStyle::Simple }
        }
        Location::Path => Documented::Path { parameter_data: data, style: PathStyle::Simple },
        Location::Query => Documented::Query {
            parameter_data: data,
            allow_reserved: false,
            style: if is_object { QueryStyle::DeepObject } else { QueryStyle::Form },
            allow_empty_value: None,
        },
    }
}

fn request_body(operation: &Operation, part: &Part<'_>) -> RequestBody {
    let root = operation.tool.input_schema();
    RequestBody {
        description: None,
        content: json_of(&part.arguments),
        required: !required(root, root).is_empty(),
        extensions: IndexMap::new(),
    }
}

fn responses(operation: &Operation, part: &Part<'_>) -> Responses {
    let has_body = operation.method == crate::Method::Post;
    let mut responses = Responses::default();
    let content = match &part.response {
        Some(component) if operation.tool.output_schema().is_some() => json_of(component),
        // What the operator expects need not be what the tool says: its texts and images come as themselves.
        Some(component) => {
            let mut content = json_of(component);
            content
                .extend(undescribed().into_iter().filter(|(media_type, _)| media_type != "application/json"));
            content
        }
        None => undescribed(),
    };
    let success = Response { description: "The tool's result.".to_owned(), content, ..Response::default() };
    responses.responses.insert(StatusCode::Code(200), ReferenceOr::Item(success));
    let other = "#/components/responses/Problem".to_owned();
    responses.default = Some(ReferenceOr::Reference { reference: other });
    for (status, name, _) in PROBLEMS {
        if !has_body && BODY_ONLY.contains(&status) {
            continue;
        }
        let reference = format!("#/components/responses/{name}");
        responses.responses.insert(StatusCode::Code(status), ReferenceOr::Reference { reference });
    }
    responses
}

fn problems() -> IndexMap<String, ReferenceOr<Response>> {
    let mut problems = IndexMap::new();
    let listed = PROBLEMS.iter().map(|(_, name, description)| (*name, *description));
    for (name, description) in listed.chain([("Problem", "Any other problem.")]) {
        let mut content = IndexMap::new();
        content.insert("application/problem+json".to_owned(), media("Problem"));
        let response = Response { description: description.to_owned(), content, ..Response::default() };
        problems.insert(name.to_owned(), ReferenceOr::Item(response));
    }
    problems
}

fn json_of(component: &str) -> IndexMap<String, MediaType> {
    let mut content = IndexMap::new();
    content.insert("application/json".to_owned(), media(component));
    content
}

/// Text that is no JSON, and images and other blobs, come as themselves.
fn undescribed() -> IndexMap<String, MediaType> {
    let mut content = json_of("Content");
    for (media_type, format) in [("text/plain", None), ("*/*", Some("binary"))] {
        let mut text = openapiv3::StringType::default();
        if let Some(format) = format {
            text.format = openapiv3::VariantOrUnknownOrEmpty::Unknown(format.to_owned());
        }
        let schema = ReferenceOr::Item(Schema {
            schema_data: openapiv3::SchemaData::default(),
            schema_kind: openapiv3::SchemaKind::Type(openapiv3::Type::String(text)),
        });
        content.insert(media_type.to_owned(), MediaType { schema: Some(schema), ..MediaType::default() });
    }
    content
}

fn media(component: &str) -> MediaType {
    MediaType { schema: Some(ReferenceOr::Reference { reference: place(component) }), ..MediaType::default() }
}

/// RFC 9457 §3, as the gateway writes it.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "The kind of problem; stable."},
            "title": {"type": "string", "description": "The kind of problem, for people."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What was wrong with this request."},
            "violations": {
                "type": "array",
                "description": "Every way in which the arguments break the tool's schema.",
                "items": {
                    "type": "object",
                    "required": ["pointer", "message"],
                    "properties": {
                        "pointer": {"type": "string", "description": "JSON Pointer into the arguments."},
                        "message": {"type": "string", "description": "What is wrong there and what was expected."}
                    }
                }
            },
            "upstream": {"type": "string", "description": "The server whose tool it is."},
            "executed": {"type": "string", "description": "`unknown` when nobody can say whether the tool ran."},
            "content": {"type": "array", "items": {"type": "object"}, "description": "What the failing tool said."}
        },
        "additionalProperties": true
    })
}

/// What a tool without a described response answers.
fn content() -> Value {
    json!({
        "description": "The tool does not describe its result: its structured content, or its text as JSON where it is JSON, or `{\"content\": […]}` with several content blocks."
    })
}

/// Statuses of problems that only a request with a body has.
const BODY_ONLY: [u16; 3] = [408, 413, 415];

/// The statuses of problems, with the name of the component and what it means.
const PROBLEMS: [(u16, &str, &str); 12] = [
    (400, "BadRequest", "The arguments break the tool's schema, or the request is not JSON."),
    (403, "Forbidden", "`Host` or `Origin` is not one that is served."),
    (404, "NotFound", "There is no such tool any more."),
    (408, "RequestTimeout", "The body did not arrive in time."),
    (413, "ContentTooLarge", "The body is over the gateway's limit."),
    (415, "UnsupportedMediaType", "The body is not JSON."),
    (422, "ToolFailed", "The tool ran and reported an error; its content is in the problem."),
    (429, "TooManyRequests", "A limit is reached; `Retry-After` says when to come back."),
    (500, "InternalError", "The gateway failed."),
    (502, "BadGateway", "The tool's server failed, refused the call or broke its protocol."),
    (503, "ServiceUnavailable", "The tool's server is known to be down, or the gateway is full or stopping."),
    (504, "GatewayTimeout", "The tool did not answer before the deadline."),
];
