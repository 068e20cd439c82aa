//! `POST /mcp` as a client of 2026-07-28 uses it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::Fixture;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

fn code(answer: &crate::fixture::Answer) -> (u16, i64) {
    (answer.status, answer.json()["error"]["code"].as_i64().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn discover_answers_from_what_is_here() {
    let fixture = Fixture::new().await;
    let before = fixture.upstream.seen.lock().unwrap().len();
    let result = fixture.modern("server/discover", json!({})).await.json()["result"].clone();
    assert_eq!(result["supportedVersions"][0], "2026-07-28");
    assert_eq!(result["instructions"], "be kind");
    assert_eq!(result["resultType"], "complete");
    assert!(result["capabilities"]["tools"].is_object());
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "mcp-proxy-engine");
    assert_eq!(fixture.upstream.seen.lock().unwrap().len(), before);
}

#[tokio::test(start_paused = true)]
async fn tools_are_listed_as_the_server_wrote_them() {
    let answer = Fixture::new().await.modern("tools/list", json!({})).await;
    let expected = r#"{"name":"get_user","description":"A user","inputSchema":{"type":"object","properties":{"user_id":{"type":"integer"},"verbose":{"type":"boolean"}},"required":["user_id"]},"annotations":{"readOnlyHint":true}}"#;
    assert!(answer.body.contains(expected), "{}", answer.body);
    assert_eq!(answer.json()["result"]["ttlMs"], 0);
    assert_eq!(answer.json()["result"]["cacheScope"], "private");
}

#[tokio::test(start_paused = true)]
async fn pages_follow_a_sealed_cursor_to_the_end() {
    let fixture = Fixture::with(|config| config.page_size = 5).await;
    let mut names = Vec::new();
    let mut params = json!({});
    loop {
        let result = fixture.modern("tools/list", params).await.json()["result"].clone();
        let page: Vec<Value> =
            result["tools"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
        assert!(page.len() <= 5);
        names.extend(page);
        match result.get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    assert_eq!(names.len(), 15, "{names:?}");
    let forged = fixture.modern("tools/list", json!({"cursor": "forged"})).await;
    assert_eq!(code(&forged), (200, -32602));
}

#[tokio::test(start_paused = true)]
async fn a_result_keeps_its_bytes() {
    let fixture = Fixture::new().await;
    let body = r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"echo","arguments":{"n" : 1.50e0},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let request = http::Request::post("/mcp")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "echo");
    let answer = fixture.send(request.body(body).unwrap()).await;
    let head = r#"{"jsonrpc":"2.0","id":"x","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":"#;
    let tail = r#"},"content":[],"structuredContent":{"n" : 1.50e0},"x":1.50}}"#;
    assert!(answer.body.starts_with(head) && answer.body.ends_with(tail), "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_first_is_said_first() {
    let fixture = Fixture::new().await;
    let call = || json!({"name": "echo", "arguments": {}});
    let with_meta = |meta: Value| json!({"name": "echo", "arguments": {}, "_meta": meta});
    let unknown = || json!({VERSION: "v999.0.0"});
    let change = |name: &'static str, value: &'static str| {
        move |mut request: http::request::Builder| {
            let headers = request.headers_mut().unwrap();
            headers.remove(name);
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
            request
        }
    };
    // No _meta: before the headers are compared.
    let answer = fixture.modern_with("tools/call", with_meta(json!({VERSION: null})), |r| r).await;
    assert_eq!(code(&answer), (400, -32602));
    let capabilities = json!({"io.modelcontextprotocol/clientCapabilities": null});
    assert_eq!(code(&fixture.modern("tools/call", with_meta(capabilities)).await), (400, -32602));
    // The header and _meta differ: before the version is looked at.
    assert_eq!(code(&fixture.modern("tools/call", with_meta(unknown())).await), (400, -32020));
    // They agree on a version nobody speaks.
    let answer = fixture
        .modern_with("tools/call", with_meta(unknown()), change("mcp-protocol-version", "v999.0.0"))
        .await;
    assert_eq!(code(&answer), (400, -32022));
    assert_eq!(answer.json()["error"]["data"]["requested"], "v999.0.0");
    assert_eq!(answer.json()["error"]["data"]["supported"][0], "2026-07-28");
    // Headers that are missing or say something else.
    for (name, value) in [
        ("mcp-protocol-version", ""),
        ("mcp-method", ""),
        ("mcp-method", "tools/list"),
        ("mcp-name", ""),
        ("mcp-name", "Echo"),
    ] {
        let answer = fixture.modern_with("tools/call", call(), change(name, value)).await;
        assert_eq!(code(&answer), (400, -32020), "{name}: {value:?}");
        assert_eq!(answer.json()["id"], 7);
    }
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn methods_of_the_other_era_do_not_exist() {
    let fixture = Fixture::new().await;
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "no/such"] {
        let answer = fixture.modern(method, json!({})).await;
        assert_eq!(code(&answer), (404, -32601), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_messages_are_answered_by_the_rules_of_json_rpc() {
    let fixture = Fixture::new().await;
    assert_eq!(code(&fixture.post("/mcp", "{not json").await), (400, -32700));
    assert_eq!(code(&fixture.post("/mcp", r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#).await), (400, -32600));
    assert_eq!(code(&fixture.post("/mcp", "[]").await), (400, -32600));
    let answer = fixture.modern("tools/call", json!({"name": "nobody", "arguments": {}})).await;
    assert_eq!(code(&answer), (200, -32602), "{}", answer.body);
    let answer = fixture.modern("tools/call", json!({"name": "echo", "arguments": []})).await;
    assert_eq!(code(&answer), (200, -32602));
    let form = http::Request::post("/mcp").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(fixture.send(form.body("{}").unwrap()).await.status, 415);
}

#[tokio::test(start_paused = true)]
async fn arguments_go_to_the_upstream_unchecked_unless_the_operator_asks() {
    let fixture = Fixture::new().await;
    let call = json!({"name": "get_user", "arguments": {}});
    assert_eq!(
        fixture.modern("tools/call", call.clone()).await.json()["result"]["structuredContent"],
        json!({})
    );
    assert_eq!(fixture.upstream.calls().len(), 1);
    let strict = Fixture::with(|config| config.check_mcp_arguments = true).await;
    let answer = strict.modern("tools/call", call).await;
    assert_eq!(answer.json()["result"]["isError"], true, "{}", answer.body);
    assert!(strict.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn progress_opens_a_stream_under_the_callers_token() {
    let fixture = Fixture::new().await;
    let meta = json!({"progressToken": "t-1"});
    let answer =
        fixture.modern("tools/call", json!({"name": "progress", "arguments": {}, "_meta": meta})).await;
    let events = answer.events();
    assert_eq!(events.len(), 4, "{}", answer.body);
    assert_eq!(events[0]["params"], json!({"progressToken": "t-1", "progress": 1, "total": 3}));
    assert_eq!(events[3]["id"], 7);
    assert_eq!(answer.header("x-accel-buffering"), "no");
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_what_nobody_asked_for() {
    let fixture = Fixture::new().await;
    let answer = fixture.modern("tools/call", json!({"name": "progress", "arguments": {}})).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let context = &fixture.upstream.calls()[0].context;
    assert_eq!((context.wants_progress, context.log_level.as_deref()), (false, None));
    let level = json!({"io.modelcontextprotocol/logLevel": "info"});
    let answer =
        fixture.modern("tools/call", json!({"name": "progress", "arguments": {}, "_meta": level})).await;
    assert_eq!(answer.events().len(), 4, "{}", answer.body);
    let level = json!({"io.modelcontextprotocol/logLevel": "loud"});
    let answer =
        fixture.modern("tools/call", json!({"name": "progress", "arguments": {}, "_meta": level})).await;
    assert_eq!(code(&answer).1, -32602);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_declares_reaches_the_upstream_and_nothing_more() {
    let fixture = Fixture::new().await;
    let meta = json!({
        "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
        "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
        "traceparent": "00-1-2-3",
    });
    fixture.modern("tools/call", json!({"name": "echo", "arguments": {}, "_meta": meta})).await;
    let calls = fixture.upstream.calls();
    let context = &calls[0].context;
    assert_eq!(context.capabilities.as_ref().unwrap().get(), r#"{"sampling":{}}"#);
    assert_eq!(context.client_info.as_ref().unwrap().get(), r#"{"name":"c","version":"1"}"#);
    assert_eq!(context.meta.as_ref().unwrap().get(), r#"{"traceparent":"00-1-2-3"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_client_sees_the_list_that_its_own_capabilities_open() {
    let fixture =
        Fixture::over(crate::fixture::Scripted { is_shy: true.into(), ..Default::default() }, |_| {}).await;
    let declaring =
        |capabilities: Value| json!({"_meta": {"io.modelcontextprotocol/clientCapabilities": capabilities}});
    let none = fixture.modern("tools/list", declaring(json!({}))).await.json()["result"].clone();
    assert_eq!((&none["tools"], &none["ttlMs"]), (&json!([]), &json!(0)), "{none}");
    let all = fixture.modern("tools/list", declaring(json!({"sampling": {}}))).await;
    assert_eq!(all.json()["result"]["tools"].as_array().unwrap().len(), 15, "{}", all.body);
    // What one client is shown is nobody else's, whoever asked first.
    let again = fixture.modern("tools/list", declaring(json!({"elicitation": {}}))).await.json();
    assert_eq!(again["result"]["tools"], json!([]), "{again}");
    let declared: Vec<_> = {
        let seen = fixture.upstream.seen.lock().unwrap();
        let lists = seen.iter().filter(|request| request.method == "tools/list");
        lists
            .filter_map(|request| request.context.capabilities.as_ref())
            .map(|raw| raw.get().to_owned())
            .collect()
    };
    assert_eq!(declared, [r#"{"sampling":{}}"#, r#"{"elicitation":{}}"#], "what nobody declares is known");
    // Whoever sees a tool can call it; its headers are checked as those of any other.
    let call = json!({"name": "mirrored", "arguments": {"region": "eu"}, "_meta": {"io.modelcontextprotocol/clientCapabilities": {"sampling": {}}}});
    assert_eq!(code(&fixture.modern("tools/call", call.clone()).await), (400, -32020));
    let with_header = |request: http::request::Builder| request.header("mcp-param-region", "eu");
    assert_eq!(fixture.modern_with("tools/call", call, with_header).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_call_is_kept_alive() {
    let fixture = Fixture::with(|config| config.hold_head = Duration::from_secs(2)).await;
    let answer = fixture.modern("tools/call", json!({"name": "slow", "arguments": {}})).await;
    assert_eq!(answer.events()[0]["result"]["content"][0]["text"], "at last");
    assert!(answer.body.starts_with(": keep-alive\n\n"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn mirrored_arguments_are_compared() {
    let fixture = Fixture::new().await;
    let call = || json!({"name": "mirrored", "arguments": {"region": "eu"}});
    assert_eq!(code(&fixture.modern("tools/call", call()).await), (400, -32020));
    let with = |value: &'static str| move |r: http::request::Builder| r.header("mcp-param-region", value);
    assert_eq!(fixture.modern_with("tools/call", call(), with("eu")).await.status, 200);
    assert_eq!(fixture.modern_with("tools/call", call(), with("=?base64?ZXU=?=")).await.status, 200);
    assert_eq!(code(&fixture.modern_with("tools/call", call(), with("us")).await), (400, -32020));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_upstream_is_relayed_and_one_of_ours_says_so() {
    let fixture = Fixture::new().await;
    let answer = fixture.modern("tools/call", json!({"name": "reject", "arguments": {}})).await;
    assert_eq!(answer.json()["error"], json!({"code": -32050, "message": "refused", "data": {"why": [1.0]}}));
    let answer = fixture.modern("tools/call", json!({"name": "unreachable", "arguments": {}})).await;
    assert_eq!(code(&answer), (200, -32603));
    let data = &answer.json()["error"]["data"]["io.github.mcp-proxy-engine/gateway"];
    assert_eq!(data["upstream"], "up");
}

#[tokio::test(start_paused = true)]
async fn tasks_are_neither_declared_nor_served() {
    let fixture = Fixture::new().await;
    let discovered = fixture.modern("server/discover", json!({})).await.json();
    let declared = discovered["result"]["capabilities"].to_string();
    assert!(!declared.contains("task") && !declared.contains("extensions"), "{declared}");
    for method in ["tasks/get", "tasks/list", "tasks/cancel"] {
        let named = |request: http::request::Builder| request.header("mcp-name", "t");
        let answer = fixture.modern_with(method, json!({"taskId": "t"}), named).await;
        assert_eq!(code(&answer).1, -32601, "{method}");
    }
}
