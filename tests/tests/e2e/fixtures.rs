//! The fixtures themselves, judged by somebody else: what `rmcp` makes of a scripted server without anything between.

use mpe_tests::{Era, Fate, server, tool};
use rmcp::model::CallToolRequestParams;

use crate::interop::{client, object};

#[tokio::test]
async fn a_scripted_server_is_a_server_to_an_independent_client_in_both_eras() {
    let server = server().http1().page_size(2).tool(tool("a")).tool(tool("b")).tool(tool("c")).start().await;
    for era in Era::BOTH {
        let client = client(&server.url(), era).await;
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, ["a", "b", "c"], "{era:?}");
        let call = CallToolRequestParams::new("b").with_arguments(object(r#"{"n": 1}"#));
        let result = client.call_tool(call).await.unwrap();
        assert_eq!(result.structured_content.unwrap()["n"], 1, "{era:?}");
        client.cancel().await.unwrap();
    }
    assert!(server.calls("b").iter().all(|call| call.fate == Fate::Answered));
}

#[tokio::test]
async fn a_server_of_one_era_refuses_the_other() {
    let modern = server().http1().modern_only().tool(tool("a")).start().await;
    let legacy = server().http1().legacy_only().tool(tool("a")).start().await;
    assert!(crate::interop::try_client(&modern.url(), Era::Legacy).await.is_err());
    assert!(crate::interop::try_client(&legacy.url(), Era::Modern).await.is_err());
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_and_forgets_its_sessions() {
    let mut server = server().http1().legacy_only().tool(tool("a")).start().await;
    let first = client(&server.url(), Era::Legacy).await;
    first.list_all_tools().await.unwrap();
    let url = server.url();
    server.kill().await;
    assert_eq!(server.open_connections(), 0);
    assert!(crate::interop::try_client(&url, Era::Legacy).await.is_err());
    server.start_again().await;
    assert_eq!(server.url(), url);
    client(&url, Era::Legacy).await.list_all_tools().await.unwrap();
}
