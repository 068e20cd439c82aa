//! Clients and servers of either era, one gateway between them.

use mpe_tests::{Era, Fault, McpClient, ServerBuilder, gateway, server, tool};
use serde_json::json;

#[tokio::test]
async fn a_server_of_both_eras_hears_each_client_in_the_clients_own() {
    // One that does not even say that it speaks the older one.
    let server = server().modest().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let is_modern = |headers: &http::HeaderMap| headers.get("mcp-protocol-version").unwrap() == "2026-07-28";
    for (era, expected) in [(Era::Modern, true), (Era::Legacy, false), (Era::Modern, true)] {
        gateway.mcp(era).await.call("a", r#"{"n":1}"#).await.unwrap();
        let calls = server.calls("a");
        assert_eq!(is_modern(&calls.last().unwrap().headers), expected, "{era:?}");
    }
    let sessions = server.exchanges().iter().filter(|exchange| exchange.method == "initialize").count();
    assert_eq!(sessions, 1);
}

#[tokio::test]
async fn modern_clients_and_rest_callers_cost_a_server_of_both_eras_no_session() {
    let server = server().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    gateway.mcp(Era::Modern).await.call("a", "{}").await.unwrap();
    assert_eq!(gateway.http().post("/tools/a", "{}").await.status, 200);
    assert!(server.exchanges().iter().all(|exchange| exchange.method != "initialize"));
}

#[tokio::test]
async fn a_pinned_server_hears_every_client_in_the_pinned_era() {
    for (pin, expected) in [("2026-07-28", "2026-07-28"), ("2025-11-25", "2025-11-25")] {
        let server = server().tool(tool("a")).start().await;
        let pinned = mpe_mcp_protocol::version::ProtocolVersion::parse(pin).unwrap();
        let gateway = gateway()
            .server_with("s", &server, |upstream| upstream.era = mpe_engine::Era::Pinned(pinned))
            .start()
            .await;
        for era in Era::BOTH {
            gateway.mcp(era).await.call("a", "{}").await.unwrap();
            let calls = server.calls("a");
            let spoken = calls.last().unwrap().headers.get("mcp-protocol-version").unwrap().clone();
            assert_eq!(spoken, expected, "{era:?}");
        }
    }
}

#[tokio::test]
async fn a_legacy_server_lists_to_each_client_what_its_capabilities_open() {
    lists_to_each_client_what_its_capabilities_open(server().legacy_only()).await;
}

#[tokio::test]
async fn a_modern_server_lists_to_each_client_what_its_capabilities_open() {
    lists_to_each_client_what_its_capabilities_open(server().modern_only()).await;
}

async fn lists_to_each_client_what_its_capabilities_open(picky: ServerBuilder) {
    let picky = picky
        .tool(tool("same"))
        .tool(tool("sampler").shown_to("sampling"))
        .tool(tool("rooted").shown_to("roots"))
        .start()
        .await;
    let other = server().tool(tool("same")).start().await;
    let gateway = gateway().server("a", &picky).server("b", &other).start().await;
    let names = async |client: &McpClient| -> Vec<String> {
        client.tools().await.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    for era in Era::BOTH {
        let sampling = gateway.mcp_declaring(era, json!({ "sampling": {} })).await;
        let roots = gateway.mcp_declaring(era, json!({ "roots": { "listChanged": true } })).await;
        let nothing = gateway.mcp(era).await;
        for _ in 0..2 {
            assert_eq!(names(&sampling).await, ["a_same", "sampler", "b_same"], "{era:?}");
            assert_eq!(names(&roots).await, ["a_same", "rooted", "b_same"], "{era:?}");
            assert_eq!(names(&nothing).await, ["a_same", "b_same"], "{era:?}");
        }
        sampling.call("sampler", "{}").await.unwrap();
        assert_eq!(roots.call("sampler", "{}").await.unwrap_err().code, -32602, "{era:?}");
        assert_eq!(nothing.call("sampler", "{}").await.unwrap_err().code, -32602, "{era:?}");
        assert_eq!(gateway.http().post("/tools/sampler", "{}").await.status, 404, "{era:?}");
    }
    assert_eq!(picky.calls("sampler").len(), 2);
    assert_eq!(gateway.tools(), ["a_same", "b_same"]);
}

#[tokio::test]
async fn a_header_that_has_become_wrong_is_built_anew_and_the_call_sent_once_more() {
    let region = |header: &str| {
        let properties =
            json!({ "where": { "properties": { "region": { "type": "string", "x-mcp-header": header } } } });
        tool("a").input(json!({ "type": "object", "properties": properties }))
    };
    let server = server().modern_only().tool(region("Region")).start().await;
    let gateway = gateway()
        // Nothing but the refusal makes the gateway look again.
        .server_with("s", &server, |upstream| upstream.refresh = std::time::Duration::from_secs(3600))
        .start()
        .await;
    server.offer([region("Area")]);
    server.fail_next([Fault::RefuseHeaders]);
    let arguments = r#"{"where":{"region":"eu"}}"#;
    let answer = gateway.http().post("/tools/a", arguments).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, serde_json::from_str(arguments).unwrap()));
    let calls = server.calls("a");
    let sent =
        |n: usize, name: &str| calls[n].headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(calls.len(), 2);
    assert_eq!((sent(0, "mcp-param-region").as_deref(), sent(0, "mcp-param-area")), (Some("eu"), None));
    assert_eq!((sent(1, "mcp-param-region"), sent(1, "mcp-param-area").as_deref()), (None, Some("eu")));
}

#[tokio::test]
async fn headers_that_are_refused_again_are_one_error_of_the_gateways_own() {
    let server = server().modern_only().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    server.fail_next([Fault::RefuseHeaders, Fault::RefuseHeaders, Fault::RefuseHeaders]);
    let error = gateway.mcp(Era::Modern).await.call("a", "{}").await.unwrap_err();
    assert_eq!(error.code, -32603, "{error:?}");
    assert_eq!(server.calls("a").len(), 2);
}

#[tokio::test]
async fn a_tool_over_http_whose_annotation_breaks_a_rule_is_left_out_and_reported() {
    let bad = json!({ "type": "object", "properties": { "n": { "type": "number", "x-mcp-header": "N" } } });
    let server = server().tool(tool("sound")).tool(tool("broken").input(bad)).start().await;
    let gateway = gateway().server("s", &server).start().await;
    assert_eq!(gateway.tools(), ["sound"]);
    let snapshot = gateway.gateway().engine().snapshot(&mpe_engine::EndpointId::default()).unwrap();
    let (name, reason) = &snapshot.catalogue.upstreams()[0].rejected[0];
    assert_eq!(name, "broken");
    assert!(reason.contains("/properties/n") && reason.contains("string, integer or boolean"), "{reason}");
    // Nor is it called by a client that knows its name.
    gateway.mcp(Era::Modern).await.call("broken", "{}").await.unwrap_err();
    assert!(server.calls("broken").is_empty());
}
