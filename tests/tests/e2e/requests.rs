//! Requests that cannot be served: each gets its own clear answer, and none reaches a server.

use bytes::Bytes;
use http::{Method, Request};
use mpe_tests::{Answer, Era, gateway, server, tool};
use serde_json::{Value, json};

/// A schema with one required string.
fn city() -> Value {
    json!({
        "type": "object",
        "properties": { "city": { "type": "string" }, "days": { "type": "integer", "minimum": 1 } },
        "required": ["city"],
    })
}

/// Checks that it is a problem document with this status, and gives it.
fn problem(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{problem}");
    for member in ["type", "title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {problem}");
    }
    problem
}

#[tokio::test]
async fn each_bad_rest_request_gets_a_problem_document_and_none_reaches_the_server() {
    let server = server().tool(tool("forecast").input(city())).start().await;
    let gateway =
        gateway().configure(|config| config.max_body_bytes = 1000).server("s", &server).start().await;
    let big = format!(r#"{{"city":"{}"}}"#, "x".repeat(2000));
    let table: &[(&str, &str, u16, &str)] = &[
        ("/tools/forecast", r#"{"city":"#, 400, "JSON"),
        ("/tools/forecast", "[1]", 400, "object"),
        ("/tools/forecast", "{}", 400, "city"),
        ("/tools/forecast", r#"{"city":7}"#, 400, "/city"),
        ("/tools/forecast", r#"{"city":"Bern","days":0}"#, 400, "/days"),
        ("/tools/forecast", &big, 413, "1000"),
        ("/tools/nowhere", "{}", 404, "nowhere"),
        ("/no/such/path", "{}", 404, "/no/such/path"),
        ("/batch", r#"{"not":"a list"}"#, 400, ""),
    ];
    let mut seen = Vec::new();
    for (path, body, status, named) in table {
        let answer = gateway.http().post(path, body.to_string()).await;
        let problem = problem(&answer, *status);
        assert!(problem.to_string().contains(named), "{path} {body}: does not name {named}: {problem}");
        seen.push(problem["type"].as_str().unwrap().to_owned());
    }
    seen.dedup();
    assert!(seen.len() >= 5, "different mistakes have different types: {seen:?}");
    assert!(server.calls("forecast").is_empty() && server.calls("nowhere").is_empty());
}

#[tokio::test]
async fn a_method_that_a_path_does_not_serve_is_refused_with_the_ones_it_does() {
    let server = server().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    for (method, path, allowed) in [
        (Method::GET, "/tools/a", "POST"),
        (Method::DELETE, "/openapi.json", "GET"),
        (Method::PUT, "/mcp", "POST"),
    ] {
        let request = Request::builder().method(method.clone()).uri(path).body(Bytes::new()).unwrap();
        let answer = gateway.http().send(request).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").contains(allowed), "{method} {path}: {:?}", answer.headers);
    }
    assert!(server.calls("a").is_empty());
}

#[tokio::test]
async fn a_request_from_a_foreign_page_is_refused() {
    let server = server().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    for (header, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/tools/a")
            .header(header, value)
            .header("content-type", "application/json")
            .body(Bytes::from_static(b"{}"))
            .unwrap();
        let answer = gateway.http().send(request).await;
        assert!(answer.status.is_client_error(), "{header}: {answer:?}");
    }
    assert!(server.calls("a").is_empty());
}

/// The JSON-RPC error of a raw body posted to `/mcp` with these headers, and the status.
async fn rpc_error(
    gateway: &mpe_tests::RunningGateway,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, Value) {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = gateway.http().send(request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn each_bad_message_gets_the_code_and_status_of_the_specification() {
    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let server = server().tool(tool("a")).start().await;
    let second = mpe_tests::server().tool(tool("b")).start().await;
    let gateway = gateway().server("s", &server).server("t", &second).start().await;
    let modern = |method: &'static str| [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    let call = modern("tools/call");
    let named = [call[0], call[1], ("mcp-name", "nowhere")];

    /// Headers, body, and the status and code that they get.
    type Row<'a> = (&'a [(&'a str, &'a str)], String, u16, i64);
    let table: Vec<Row<'_>> = vec![
        (&call, "{".to_owned(), 400, -32700),
        (&call, "[]".to_owned(), 400, -32600),
        (&call, r#"{"jsonrpc":"2.0","id":1}"#.to_owned(), 400, -32600),
        (&call, r#"{"jsonrpc":"2.0","id":null,"method":"tools/list"}"#.to_owned(), 400, -32600),
        (&call, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#.to_owned(), 400, -32602),
        (
            &call,
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{META}}}}}"#),
            400,
            -32020,
        ),
        (
            &[("mcp-protocol-version", "2026-07-28"), ("mcp-method", "no/such")],
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"no/such","params":{{{META}}}}}"#),
            404,
            -32601,
        ),
        (
            &named,
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"nowhere",{META}}}}}"#
            ),
            200,
            -32602,
        ),
    ];
    for (headers, body, status, code) in table {
        let (got, message) = rpc_error(&gateway, headers, &body).await;
        assert_eq!((got, message["error"]["code"].as_i64()), (status, Some(code)), "{body}: {message}");
    }
    assert!(server.calls("nowhere").is_empty() && second.calls("nowhere").is_empty());
}

#[tokio::test]
async fn over_mcp_the_arguments_of_a_known_tool_go_to_the_server_unchecked_unless_asked() {
    let server = server().tool(tool("forecast").input(city())).start().await;
    let plain = gateway().server("s", &server).start().await;
    plain.mcp(Era::Modern).await.call("forecast", r#"{"city":7}"#).await.unwrap();
    assert_eq!(server.calls("forecast").len(), 1, "its own answer is what an MCP client expects");

    let strict =
        gateway().configure(|config| config.check_mcp_arguments = true).server("s", &server).start().await;
    let result = strict.mcp(Era::Modern).await.call("forecast", r#"{"city":7}"#).await.unwrap();
    assert_eq!(result["isError"], true, "{result}");
    assert!(result.to_string().contains("/city"), "{result}");
    assert_eq!(server.calls("forecast").len(), 1, "the server is not asked");
}
