//! Every command but `serve`.

use serde_json::Value;

use super::run;

#[test]
fn a_call_prints_the_tools_answer_and_nothing_else() {
    let (code, out, err) = run(&["call", "get_user", "user_id=123"], "");
    assert_eq!((code, err.as_str()), (0, ""));
    let user: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(user["name"], "Ada Lovelace");
}

#[test]
fn arguments_may_come_from_standard_input_or_as_json() {
    let (code, out, _) = run(&["call", "echo", "-"], "{\"message\": \"from a pipe\"}");
    assert_eq!((code, out.as_str()), (0, "from a pipe\n"));
    let (code, out, _) = run(&["call", "add", "a:=1.5", "b=2", "--json"], "");
    assert_eq!(code, 0);
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["structuredContent"]["sum"], 3.5);
}

#[test]
fn a_text_argument_stays_text_when_it_looks_like_a_number() {
    let (code, out, _) = run(&["call", "echo", "message=007"], "");
    assert_eq!((code, out.as_str()), (0, "007\n"));
}

#[test]
fn a_tool_that_fails_exits_with_1_and_says_why_on_standard_error() {
    let (code, out, err) = run(&["call", "fail", "message=out of luck"], "");
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "error: the tool failed: out of luck\n"));
}

#[test]
fn a_command_line_that_cannot_be_used_exits_with_2() {
    for args in [
        &["call"][..],
        &["call", "echo", "message"],
        &["call", "echo", "[1]"],
        &["call", "echo", "{\"message\": }"],
        &["call", "echo", "a=1", "a=2"],
        &["tools", "--format", "excel"],
        &["tools", "--h2c"],
        &["serve", "--config", "x.toml", "http://127.0.0.1:9/mcp"],
        &["tools", "--log", "mpe=loud"],
        &["tools", "--endpoint", "nobody"],
    ] {
        let (code, out, err) = run(args, "");
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains("error: "), "{args:?}: {err}");
    }
}

#[test]
fn a_bad_configuration_exits_with_3_and_names_every_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(
        &file,
        "titel = \"x\"\n[mcp_servers.a]\nurl = \"nowhere\"\ntimeout = \"${NO_SUCH_VARIABLE}\"\n",
    )
    .unwrap();
    let name = file.to_str().unwrap();
    for command in ["serve", "tools", "check"] {
        let (code, out, err) = run(&[command, "--config", name], "");
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 3, "{err}");
        assert_eq!(lines[0], format!("error: {name}:1:1: titel: unknown key; did you mean `title`?"));
        assert!(
            lines[1]
                .starts_with(&format!("error: {name}:3:1: mcp_servers.a.url: expected an absolute address"))
        );
        assert!(
            lines[2]
                .contains("mcp_servers.a.timeout: the environment variable `NO_SUCH_VARIABLE` is not set")
        );
    }
    let (code, _, err) = run(&["tools", "--config", "/nowhere/proxy.yaml"], "");
    assert_eq!(code, 3, "{err}");
    assert!(err.starts_with("error: /nowhere/proxy.yaml: cannot be read: "), "{err}");
}

#[test]
fn an_invalid_path_template_is_a_problem_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.json");
    std::fs::write(&file, "{\"response_mappings\": {\n  \"/get_user/{user_id\": {}}}").unwrap();
    let (code, _, err) = run(&["check", "--config", file.to_str().unwrap()], "");
    assert_eq!(code, 3, "{err}");
    assert!(
        err.contains("proxy.json:2:3: response_mappings.\"/get_user/{user_id\": not a path template"),
        "{err}"
    );
}

#[test]
fn a_mapping_that_leads_nowhere_is_named_and_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.json");
    std::fs::write(&file, r#"{"response_mappings": {"/nobody/{x}": {}}}"#).unwrap();
    let (code, out, err) = run(&["check", "--config", file.to_str().unwrap()], "");
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("mapping left out: /nobody/{x}: "), "{out}");
    let (code, out, _) = run(&["check", "--json", "--config", file.to_str().unwrap()], "");
    assert_eq!((code, out.contains("mappings_left_out")), (3, true), "{out}");
}

#[test]
fn a_server_that_does_not_answer_exits_with_4_and_is_named() {
    // Port 9 (discard) of the loopback address: nobody listens there.
    let (code, out, err) = run(&["tools", "--url", "http://127.0.0.1:9/mcp", "--wait", "5s"], "");
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert!(err.starts_with("error: the server `127-0-0-1-9` does not answer: "), "{err}");
    let (code, out, _) = run(&["check", "--url", "http://127.0.0.1:9/mcp", "--wait", "5s"], "");
    assert_eq!(code, 4);
    assert!(out.contains("127-0-0-1-9: down: "), "{out}");
}

#[test]
fn an_unknown_tool_exits_with_5_and_the_nearest_name_is_offered() {
    let (code, out, err) = run(&["call", "get_usr", "user_id=1"], "");
    assert_eq!((code, out.as_str()), (5, ""));
    assert!(err.contains("did you mean `get_user`?"), "{err}");
    let (code, _, err) = run(&["call", "echo"], "");
    assert_eq!(code, 5);
    assert!(err.contains("message"), "{err}");
}

#[test]
fn tools_are_listed_for_people_and_for_programs() {
    let (code, out, _) = run(&["tools"], "");
    assert_eq!(code, 0);
    assert!(out.starts_with("TOOL"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("get_user ")), "{out}");
    for vendor in ["anthropic", "gemini", "mcp", "ollama", "openai"] {
        let (code, out, err) = run(&["tools", "--format", vendor], "");
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(serde_json::from_str::<Value>(&out).is_ok(), "{vendor}: {out}");
        assert!(out.contains("get_preferences"), "{vendor}");
    }
}

#[test]
fn a_batch_answers_in_order_with_errors_as_values() {
    let calls =
        "{\"tool\": \"get_user\", \"arguments\": {\"user_id\": \"124\"}}\n{\"function_name\": \"fail\"}\n";
    let (code, out, err) = run(&["batch"], calls);
    assert_eq!((code, err.as_str()), (1, ""));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["result"]["structuredContent"]["name"], "Grace Hopper");
    assert_eq!((&lines[1]["tool"], &lines[1]["result"]["isError"]), (&"fail".into(), &true.into()));

    let (code, out, _) =
        run(&["batch"], "[{\"tool\": \"nope\"}, {\"tool\": \"add\", \"arguments\": {\"a\": 1, \"b\": 1}}]");
    assert_eq!(code, 5);
    assert!(out.lines().next().unwrap().contains("\"error\""), "{out}");
    assert!(out.lines().nth(1).unwrap().contains("\"sum\":2"), "{out}");

    let (code, _, err) = run(&["batch"], "{\"tool\": \"echo\"}\n{\"tol\": 1}\n");
    assert_eq!(code, 2);
    assert!(err.starts_with("error: line 2: "), "{err}");
}

#[test]
fn documents_are_printed() {
    let (code, out, _) = run(&["openapi"], "");
    assert_eq!(code, 0);
    assert!(out.lines().next().unwrap().contains("3.1.1") && out.contains("/get_user/{user_id}"), "{out}");
    let (code, out, _) = run(&["openapi", "--format", "json", "--openapi", "3.0"], "");
    assert_eq!(code, 0);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["openapi"], "3.0.3");
    let (code, out, _) = run(&["graphql"], "");
    assert_eq!(code, 0);
    assert!(out.contains("get_orders("), "{out}");
}

#[test]
fn the_generated_pages_are_written_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&["codegen", "--out", folder.path().to_str().unwrap()], "");
    assert_eq!((code, err.as_str()), (0, ""));
    let schema = std::fs::read_to_string(folder.path().join("docs/config.schema.json")).unwrap();
    assert!(
        serde_json::from_str::<Value>(&schema).unwrap()["$comment"].as_str().unwrap().contains("generated")
    );
    for page in ["cli", "configuration", "errors", "metrics"] {
        let text = std::fs::read_to_string(folder.path().join(format!("docs/{page}.md"))).unwrap();
        assert!(text.starts_with("<!-- generated by `cargo xtask codegen`"), "{page}");
    }
}

#[test]
fn the_servers_of_desktop_clients_are_imported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mcp.json");
    let text = r#"{"inputs": [], "servers": {
        "docs": {"type": "http", "url": "https://docs.example.com/mcp", "headers": {"X-Key": "${DOCS_KEY}"}},
        "files": {"command": "npx", "args": ["-y", "files"], "env": {}, "alwaysAllow": ["read"]}}}"#;
    std::fs::write(&file, text).unwrap();
    let (code, out, err) = run(&["import", file.to_str().unwrap()], "");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("[mcp_servers.docs]") && out.contains("X-Key = \"${DOCS_KEY}\""), "{out}");
    assert!(err.contains("files: `alwaysAllow` is the client's own and left out"), "{err}");

    let imported = folder.path().join("proxy.toml");
    std::fs::write(&imported, out).unwrap();
    let source = mcp_proxy_engine::config::Source::parse(
        &std::fs::read_to_string(&imported).unwrap(),
        mcp_proxy_engine::config::Format::Toml,
        "proxy.toml",
        folder.path().to_owned(),
        &|_| Some("key".to_owned()),
    );
    assert_eq!(source.unwrap().settings().unwrap().endpoints[0].upstreams.len(), 2);

    std::fs::write(&file, "{\"tools\": {}}").unwrap();
    let (code, _, err) = run(&["import", file.to_str().unwrap()], "");
    assert_eq!(code, 3);
    assert!(err.contains("has no table of servers: expected one of `mcpServers`"), "{err}");
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, out, _) = run(&["completions", shell], "");
        assert_eq!(code, 0);
        assert!(out.contains("openapi"), "{shell}");
    }
}

#[cfg(feature = "lambda")]
#[test]
fn outside_of_lambda_the_lambda_command_names_the_missing_variable() {
    let (code, out, err) = run(&["lambda"], "");
    assert_eq!((code, out.as_str()), (6, ""));
    assert!(err.contains("AWS_LAMBDA_"), "{err}");
}

#[test]
fn the_engine_is_a_server_on_standard_input_and_output() {
    let lines = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":"list","method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"get_user","arguments":{"user_id":"124"}}}"#,
    ];
    let (code, out, err) = run(&["stdio"], &(lines.join("\n") + "\n"));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = |id: Value| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(answer(1.into())["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(answer("list".into())["result"]["tools"].as_array().unwrap().len(), 9);
    assert_eq!(answer(3.into())["result"]["structuredContent"]["name"], "Grace Hopper");
}
