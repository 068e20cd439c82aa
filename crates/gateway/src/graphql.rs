//! The GraphQL face: the schema crate executes, the engine calls.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};
use mpe_engine::{CallContext, EndpointId, OutcomeKind, ToolCall};
use mpe_schema::graphql::{FieldError, ToolCaller, ToolValue};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::json::{Members, ObjectWriter};
use crate::problem::{Problem, ProblemType, log_call_error};
use crate::service::Inbound;
use crate::{Body, Gateway, body, graphql_page, render};

/// Calls tools for the fields of one request.
struct Caller {
    gateway: Gateway,
    endpoint: EndpointId,
    deadline: Option<Instant>,
}

/// `POST /graphql`, `GET /graphql?query=…` for queries, and the page for browsers.
pub(crate) async fn handle(mut inbound: Inbound) -> http::Response<Body> {
    let is_page = inbound.parts.method == Method::GET
        && inbound.query_value("query").is_none()
        && graphql_page::is_wanted(&inbound.parts.headers);
    if is_page {
        return graphql_page::page();
    }
    let request = match request_of(&mut inbound).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let schema = match inbound.view.graphql() {
        Ok(schema) => schema.clone(),
        Err(reason) => {
            let detail = format!("these tools have no GraphQL schema: {reason}");
            return Problem::new(ProblemType::NotFound, detail).into_response();
        }
    };
    let caller = Caller {
        gateway: inbound.gateway.clone(),
        endpoint: inbound.endpoint.clone(),
        deadline: inbound.deadline,
    };
    let answer = schema.execute(&request, Arc::new(caller)).await;
    body::response(StatusCode::OK, "application/json", answer)
}

/// `GET /schema.graphql`: the schema in its own language.
pub(crate) fn sdl(inbound: &Inbound) -> http::Response<Body> {
    match inbound.view.sdl() {
        Ok(document) => document.response(&inbound.parts.headers),
        Err(reason) => {
            let detail = format!("these tools have no GraphQL schema: {reason}");
            Problem::new(ProblemType::NotFound, detail).into_response()
        }
    }
}

/// The `{query, variables, operationName}` of a request.
async fn request_of(inbound: &mut Inbound) -> Result<Vec<u8>, Problem> {
    if inbound.parts.method == Method::GET {
        return get_request(inbound);
    }
    let bytes = inbound.collect_body().await?;
    let media_type = inbound.parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if media_type.is_some_and(|media_type| media_type.starts_with(b"application/graphql")) {
        let query = std::str::from_utf8(&bytes)
            .map_err(|_| Problem::new(ProblemType::BadRequest, "the query is no UTF-8"))?;
        let mut request = ObjectWriter::new();
        request.string("query", query);
        return Ok(request.finish());
    }
    let raw = serde_json::from_slice::<&RawValue>(&bytes)
        .map_err(|error| Problem::new(ProblemType::BadRequest, format!("the body is no JSON: {error}")))?;
    match Members::of(raw).and_then(|members| members.string("query")) {
        Some(_) => Ok(bytes.to_vec()),
        None => Err(Problem::new(ProblemType::BadRequest, "the body has no string member `query`")),
    }
}

fn get_request(inbound: &Inbound) -> Result<Vec<u8>, Problem> {
    let pairs = inbound.query()?;
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let query = value("query").ok_or_else(|| {
        Problem::new(ProblemType::BadRequest, "the query string has no `query`; send one, or POST")
    })?;
    // What changes something never follows from a link (GraphQL over HTTP, GET).
    if is_mutation(query) {
        return Err(Problem::new(ProblemType::MethodNotAllowed, "mutations are served by POST alone")
            .with_header(header::ALLOW, HeaderValue::from_static("POST")));
    }
    let mut request = ObjectWriter::new();
    request.string("query", query);
    if let Some(name) = value("operationName") {
        request.string("operationName", name);
    }
    if let Some(variables) = value("variables") {
        let variables = serde_json::from_str::<&RawValue>(variables).map_err(|error| {
            Problem::new(ProblemType::BadRequest, format!("`variables` is no JSON: {error}"))
        })?;
        request.raw("variables", variables.get());
    }
    Ok(request.finish())
}

/// Whether a document defines a mutation or a subscription, read as tokens: strings and comments do not count, and
/// neither does a field of that name, which stands inside braces.
fn is_mutation(document: &str) -> bool {
    let mut depth = 0_usize;
    let mut chars = document.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '#' => while chars.next_if(|&(_, c)| c != '\n').is_some() {},
            '"' => {
                let is_block = document[at..].starts_with("\"\"\"");
                let body = &document[at + if is_block { 3 } else { 1 }..];
                let length = end_of_string(body, is_block);
                let end = document.len() - body.len() + length;
                while chars.next_if(|&(at, _)| at < end).is_some() {}
            }
            '{' | '(' => depth += 1,
            '}' | ')' => depth = depth.saturating_sub(1),
            c if depth == 0 && c.is_ascii_alphabetic() => {
                let end = document[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let word = &document[at..end.map_or(document.len(), |end| at + end)];
                if matches!(word, "mutation" | "subscription") {
                    return true;
                }
                while chars.next_if(|&(next, _)| next < at + word.len()).is_some() {}
                // An operation's or fragment's own name may be any word.
                if matches!(word, "query" | "fragment" | "on") {
                    skip_name(&mut chars);
                }
            }
            _ => {}
        }
    }
    false
}

fn end_of_string(body: &str, is_block: bool) -> usize {
    let closing = if is_block { "\"\"\"" } else { "\"" };
    let mut from = 0;
    while let Some(found) = body[from..].find(closing) {
        let at = from + found;
        let backslashes = body[..at].bytes().rev().take_while(|&byte| byte == b'\\').count();
        if backslashes % 2 == 0 {
            return at + closing.len();
        }
        from = at + 1;
    }
    body.len()
}

fn skip_name(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>) {
    while chars.next_if(|&(_, c)| c.is_whitespace() || c == ',').is_some() {}
    while chars.next_if(|&(_, c)| c.is_ascii_alphanumeric() || c == '_').is_some() {}
}

impl ToolCaller for Caller {
    fn call<'a>(
        &'a self,
        tool: &'a str,
        arguments: Box<RawValue>,
    ) -> BoxFuture<'a, Result<ToolValue, FieldError>> {
        async move {
            let call = ToolCall {
                endpoint: self.endpoint.clone(),
                tool: tool.to_owned(),
                arguments,
                deadline: self.deadline,
                check_arguments: self.gateway.config().checks.graphql,
                context: Arc::new(CallContext::default()),
            };
            let outcome = self.gateway.engine().call(call).await.map_err(|error| {
                log_call_error(&error, tool);
                field_error(&Problem::of_call(&error))
            })?;
            match outcome.kind {
                OutcomeKind::Complete => Ok(ToolValue { result: outcome.result }),
                OutcomeKind::Failed | OutcomeKind::InputRequired | OutcomeKind::Other(_) => {
                    Err(field_error(&render::failure(&outcome)))
                }
            }
        }
        .boxed()
    }
}

/// A problem as a field's error: the table's code, and everything else the problem says as extensions.
fn field_error(problem: &Problem) -> FieldError {
    let mut extensions = match serde_json::from_str(problem.to_json().get()) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    extensions.remove("title");
    extensions.remove("detail");
    FieldError { message: problem.detail.clone(), code: problem.kind.row().graphql.to_owned(), extensions }
}

#[cfg(test)]
mod tests {
    use super::is_mutation;

    #[test]
    fn mutations_are_told_from_fields_strings_and_comments() {
        for yes in [
            "mutation { a }",
            "query A { a } mutation B { b }",
            "# c\nsubscription{a}",
            "fragment F on Q { a } mutation { b }",
        ] {
            assert!(is_mutation(yes), "{yes}");
        }
        for no in [
            "{ mutation }",
            "query mutation { a }",
            "{ a(x: \"\\\" } mutation {\") }",
            "# mutation { a }\n{ a }",
            "{ a(x: \"\"\"} mutation { b \"\"\") }",
            "query A($mutation: Int) { a }",
        ] {
            assert!(!is_mutation(no), "{no}");
        }
    }
}
