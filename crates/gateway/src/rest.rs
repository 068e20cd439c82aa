//! The REST face: `POST /tools/{tool}`, and the paths the operator mapped.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Method, header};
use mpe_engine::{CallContext, ToolCall};
use mpe_mcp_protocol::header::{MCP_PARAM_PREFIX, decode_value};
use mpe_mcp_protocol::pointer::escape;
use mpe_schema::{Operation, SchemaViolation};
use serde_json::value::RawValue;

use crate::json::{Members, raw_value};
use crate::problem::{Problem, ProblemType, log_call_error};
use crate::seal::fingerprint;
use crate::service::{Inbound, method_not_allowed};
use crate::view::View;
use crate::{Body, Gateway, function_calls, render, rest_stream};

/// Answers `POST /tools/{tool}`: the body is the arguments.
pub(crate) async fn tool(mut inbound: Inbound, tool: String) -> http::Response<Body> {
    if tool == "call"
        && let Some(response) = function_calls::handle(&mut inbound).await
    {
        return response;
    }
    if let Some(problem) = refuse_query(&inbound) {
        return problem.into_response();
    }
    match body_object(&mut inbound).await {
        Ok(body) => match with_headers(&inbound, &tool, body) {
            Ok(arguments) => call(&inbound, tool, arguments).await,
            Err(problem) => problem.into_response(),
        },
        Err(problem) => problem.into_response(),
    }
}

/// Arguments are in the body alone; whoever puts one into the query must not find it ignored.
fn refuse_query(inbound: &Inbound) -> Option<Problem> {
    let pairs = match inbound.query() {
        Err(problem) => return Some(problem),
        Ok(pairs) => pairs,
    };
    let misplaced = |name: &str| SchemaViolation {
        pointer: format!("/{}", escape(name)),
        message: "this operation takes its arguments in the body, not in the query".to_owned(),
    };
    let violations: Vec<_> = pairs.iter().map(|(name, _)| misplaced(name)).collect();
    (!violations.is_empty()).then(|| invalid(&violations))
}

/// The body, and what headers give of a tool's arguments.
fn with_headers(
    inbound: &Inbound,
    tool: &str,
    body: Option<Box<RawValue>>,
) -> Result<Box<RawValue>, Problem> {
    let headers = match inbound.view.mirrored(tool) {
        Some(_) => header_arguments(inbound)?,
        None => Vec::new(),
    };
    let operations = &inbound.view.operations.operations;
    let own = operations.iter().find(|operation| !operation.mapped && operation.tool.name() == tool);
    match own.filter(|_| !headers.is_empty()) {
        Some(operation) => operation
            .arguments_with_headers(&[], &[], &headers, body.as_deref(), &|given| {
                checked(inbound, tool, given)
            })
            .map_err(|violations| invalid(&violations)),
        None => Ok(body.unwrap_or_else(|| raw_value(b"{}".to_vec()))),
    }
}

/// The headers that may be arguments, decoded.
fn header_arguments(inbound: &Inbound) -> Result<Vec<(String, String)>, Problem> {
    let mut headers = Vec::new();
    for (name, value) in &inbound.parts.headers {
        if !name.as_str().starts_with(MCP_PARAM_PREFIX) {
            continue;
        }
        let text = value.to_str().ok().and_then(|value| decode_value(value).ok());
        let text = text.ok_or_else(|| {
            Problem::new(ProblemType::BadRequest, format!("the header {name} cannot be read"))
        })?;
        headers.push((name.as_str().to_owned(), text.into_owned()));
    }
    Ok(headers)
}

/// Answers a mapped path; `None` when none fits.
pub(crate) async fn mapped(mut inbound: Inbound, path: &str) -> Option<http::Response<Body>> {
    let view = Arc::clone(&inbound.view);
    let found = view.routes.at(path)?;
    let operations: Vec<_> =
        found.operations.iter().map(|&index| &view.operations.operations[index]).collect();
    let method = inbound.parts.method.clone();
    let Some(operation) = operations.iter().find(|operation| method_of(operation) == method) else {
        let methods: Vec<_> = operations.iter().map(|operation| method_of(operation)).collect();
        return Some(method_not_allowed(&methods));
    };
    Some(match arguments(&mut inbound, operation, &found.variables).await {
        Ok(arguments) => call(&inbound, operation.tool.name().to_owned(), arguments).await,
        Err(problem) => problem.into_response(),
    })
}

/// The methods of a mapped path; none where nothing is mapped.
pub(crate) fn methods(view: &View, path: &str) -> Vec<Method> {
    let operations = view.routes.at(path).map(|found| found.operations).unwrap_or_default();
    operations.iter().map(|&index| method_of(&view.operations.operations[index])).collect()
}

fn method_of(operation: &Operation) -> Method {
    match operation.method {
        mpe_schema::Method::Get => Method::GET,
        mpe_schema::Method::Post => Method::POST,
    }
}

async fn arguments(
    inbound: &mut Inbound,
    operation: &Operation,
    variables: &[(String, String)],
) -> Result<Box<RawValue>, Problem> {
    let query = inbound.query()?;
    let body = match operation.method {
        mpe_schema::Method::Get => None,
        mpe_schema::Method::Post => body_object(inbound).await?,
    };
    let headers = header_arguments(inbound)?;
    let tool = operation.tool.name();
    operation
        .arguments_with_headers(variables, &query, &headers, body.as_deref(), &|given| {
            checked(inbound, tool, given)
        })
        .map_err(|violations| invalid(&violations))
}

/// What the tool's schema says of arguments, where it is asked at all.
fn checked(inbound: &Inbound, tool: &str, given: &RawValue) -> Vec<SchemaViolation> {
    let entry = inbound.view.catalogue().tool(tool).filter(|_| inbound.gateway.config().checks.rest);
    let violations = entry.and_then(|entry| entry.checker.as_ref()).map(|checker| checker.check(given));
    let told = violations.into_iter().flatten();
    told.map(|violation| SchemaViolation { pointer: violation.pointer, message: violation.message }).collect()
}

fn invalid(violations: &[SchemaViolation]) -> Problem {
    let rows: Vec<_> = violations.iter().map(|v| (v.pointer.as_str(), v.message.as_str())).collect();
    Problem::new(ProblemType::InvalidArguments, "the arguments do not fit the operation").violations(&rows)
}

/// The body as a JSON object; `None` when it is empty.
pub(crate) async fn body_object(inbound: &mut Inbound) -> Result<Option<Box<RawValue>>, Problem> {
    let bytes = json_body(inbound).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let raw = parse(&bytes)?;
    match Members::of(&raw) {
        None => Err(Problem::new(ProblemType::BadRequest, "the body is no JSON object")),
        Some(members) => match members.repeated() {
            Some(name) => {
                Err(Problem::new(ProblemType::BadRequest, format!("the member `{name}` stands there twice")))
            }
            None => Ok(Some(raw)),
        },
    }
}

/// The body of a request that says it is JSON, or says nothing.
pub(crate) async fn json_body(inbound: &mut Inbound) -> Result<Bytes, Problem> {
    if let Some(value) = inbound.parts.headers.get(header::CONTENT_TYPE) {
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_json = essence.eq_ignore_ascii_case("application/json")
            || (essence.len() > 5 && essence.to_ascii_lowercase().ends_with("+json"));
        if !is_json {
            let detail = format!("the body is `{essence}`; application/json is read here");
            return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
        }
    }
    inbound.collect_body().await
}

/// The bytes as JSON.
///
/// # Errors
/// 400 with line and column.
pub(crate) fn parse(bytes: &[u8]) -> Result<Box<RawValue>, Problem> {
    serde_json::from_slice::<&RawValue>(bytes)
        .map(ToOwned::to_owned)
        .map_err(|error| Problem::new(ProblemType::BadRequest, format!("the body is no JSON: {error}")))
}

/// The problem of a tool that is not in the catalogue. An MCP client may know more than its list says; whoever reads
/// our documents does not, so nothing unlisted reaches an upstream from here.
pub(crate) fn unlisted(inbound: &Inbound, tool: &str) -> Option<Problem> {
    let is_listed = inbound.view.catalogue().tool(tool).is_some();
    (!is_listed).then(|| Problem::new(ProblemType::UnknownTool, format!("there is no tool `{tool}`")))
}

async fn call(inbound: &Inbound, tool: String, arguments: Box<RawValue>) -> http::Response<Body> {
    if let Some(problem) = unlisted(inbound, &tool) {
        return problem.into_response();
    }
    let key = match idempotency_key(&inbound.parts.headers) {
        Ok(key) => key,
        Err(problem) => return problem.into_response(),
    };
    let call = ToolCall {
        endpoint: inbound.endpoint.clone(),
        tool,
        arguments,
        deadline: inbound.deadline,
        check_arguments: inbound.gateway.config().checks.rest,
        context: Arc::new(CallContext::default()),
    };
    match key {
        Some(key) => {
            let asked = fingerprint(&[inbound.endpoint.as_str(), &call.tool, call.arguments.get()]);
            let scoped = fingerprint(&[inbound.endpoint.as_str(), &key]);
            let run = run(inbound.gateway.clone(), call).boxed();
            inbound.gateway.idempotency().once(&scoped, asked, inbound.deadline, run).await
        }
        None if rest_stream::is_wanted(&inbound.parts.headers) => rest_stream::stream(inbound, call),
        None => run(inbound.gateway.clone(), call).await,
    }
}

async fn run(gateway: Gateway, call: ToolCall) -> http::Response<Body> {
    let tool = call.tool.clone();
    match gateway.engine().call(call).await {
        Ok(outcome) => render::response(&outcome),
        Err(error) => {
            log_call_error(&error, &tool);
            Problem::of_call(&error).into_response()
        }
    }
}

/// The `Idempotency-Key` of a request.
///
/// # Errors
/// 400 for one that is empty, longer than 255 characters, or not visible.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if (1..=255).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    Err(Problem::new(
        ProblemType::BadRequest,
        "the header Idempotency-Key is not 1 to 255 visible characters",
    ))
}
