//! Resources, prompts and completion, in both eras.

use serde_json::json;

use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn lists_stand_as_the_server_wrote_them() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize("2025-11-25", json!({})).await;
    for (method, list) in [
        ("prompts/list", r#""prompts":[{"name":"greet","x":1.0}]"#),
        ("resources/list", r#""resources":[{"uri":"test://a","name":"a"}]"#),
        ("resources/templates/list", r#""resourceTemplates":[{"uriTemplate":"test://t/{id}","name":"t"}]"#),
    ] {
        let modern = fixture.modern(method, json!({})).await;
        assert!(modern.body.contains(list), "{}", modern.body);
        assert_eq!(modern.json()["result"]["cacheScope"], "private");
        let legacy = fixture.legacy(Some(&session), method, json!({})).await;
        assert_eq!(legacy.body, format!(r#"{{"jsonrpc":"2.0","id":"a","result":{{{list}}}}}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_is_what_the_upstreams_declare() {
    let fixture = Fixture::new().await;
    let result = fixture.modern("server/discover", json!({})).await.json()["result"].clone();
    assert_eq!(
        result["capabilities"],
        json!({
            "tools": {"listChanged": true}, "prompts": {"listChanged": true},
            "resources": {"listChanged": true, "subscribe": true}, "completions": {},
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_read_says_how_long_it_may_be_kept() {
    let answer = Fixture::new().await.modern("resources/read", json!({"uri": "test://t/7"})).await;
    let result = &answer.json()["result"];
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("private")), "{}", answer.body);
    assert_eq!(result["echo"], json!({"uri": "test://t/7"}));
}

#[tokio::test(start_paused = true)]
async fn a_missing_resource_has_the_code_of_the_clients_era() {
    let fixture = Fixture::new().await;
    let modern = fixture.modern("resources/read", json!({"uri": "test://missing"})).await;
    assert_eq!(modern.json()["error"]["code"], -32602);
    assert_eq!(modern.json()["error"]["data"]["uri"], "test://missing");
    let session = fixture.initialize("2025-11-25", json!({})).await;
    let legacy = fixture.legacy(Some(&session), "resources/read", json!({"uri": "test://missing"})).await;
    assert_eq!(legacy.json()["error"]["code"], -32002);
}

#[tokio::test(start_paused = true)]
async fn prompts_and_completions_reach_their_upstream_unchanged() {
    let fixture = Fixture::new().await;
    let prompt = json!({"name": "greet", "arguments": {"who": "you"}});
    let answer = fixture.modern("prompts/get", prompt.clone()).await;
    assert_eq!(answer.json()["result"]["echo"], prompt);
    let completion =
        json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "y"}});
    let answer = fixture.modern("completion/complete", completion.clone()).await;
    assert_eq!(answer.json()["result"]["echo"], completion);
    let answer = fixture.modern("completion/complete", json!({"ref": {"type": "other"}})).await;
    assert_eq!(answer.json()["error"]["code"], -32602);
}

#[tokio::test(start_paused = true)]
async fn a_result_names_resources_by_the_uris_under_which_they_are_shown() {
    let fixture = Fixture::twins().await;
    let ours = "mcp-proxy://twin/test://a";
    let says = json!({"big": 1.50, "content": [
        {"type": "text", "text": "test://a"},
        {"type": "resource_link", "uri": "test://a", "name": "a"},
        {"type": "resource", "resource": {"uri": "test://a", "text": "x"}},
        {"type": "resource_link", "uri": "test://elsewhere", "name": "b"},
    ]});
    for (tool, expected) in [("up_input", "test://a"), ("twin_input", ours)] {
        let call = json!({"name": tool, "arguments": {"says": says}});
        let modern = fixture.modern("tools/call", call.clone()).await;
        let session = fixture.initialize("2025-11-25", json!({})).await;
        let legacy = fixture.legacy(Some(&session), "tools/call", call).await;
        for answer in [modern, legacy] {
            let content = &answer.json()["result"]["content"];
            assert_eq!(content[0]["text"], "test://a", "{}", answer.body);
            assert_eq!(content[1]["uri"], expected, "{}", answer.body);
            assert_eq!(content[2]["resource"]["uri"], expected, "{}", answer.body);
            assert_eq!(content[3]["uri"], "test://elsewhere");
            assert!(answer.body.contains(r#""big":1.5"#), "{}", answer.body);
        }
    }
    for uri in ["test://a", ours] {
        let read = fixture.modern("resources/read", json!({"uri": uri})).await.json()["result"].clone();
        assert_eq!(read["contents"][0]["uri"], uri, "{read}");
    }
}
