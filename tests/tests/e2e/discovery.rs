//! From several servers' lists to one catalogue.

use mpe_engine::{EndpointId, Naming, UpstreamState};
use mpe_tests::{Era, gateway, server, tool};

fn states(gateway: &mpe_tests::RunningGateway) -> Vec<UpstreamState> {
    let snapshot = gateway.gateway().engine().snapshot(&EndpointId::default()).unwrap();
    snapshot.catalogue.upstreams().iter().map(|upstream| upstream.state.clone()).collect()
}

#[tokio::test]
async fn a_server_with_250_tools_in_pages_of_50_loses_none() {
    let names: Vec<_> = (0..250).map(|n| format!("tool_{n:03}")).collect();
    for legacy in [false, true] {
        let mut builder = server().page_size(50);
        if legacy {
            builder = builder.legacy_only();
        }
        for name in &names {
            builder = builder.tool(tool(name));
        }
        let server = builder.start().await;
        let gateway = gateway().server("big", &server).start().await;
        assert_eq!(gateway.tools(), names, "legacy {legacy}");
        for era in Era::BOTH {
            let listed: Vec<_> = gateway.mcp(era).await.tools().await;
            let listed: Vec<_> = listed.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
            assert_eq!(listed, names, "{era:?}, legacy {legacy}");
        }
        let result = gateway.mcp(Era::Modern).await.call("tool_249", r#"{"last":true}"#).await.unwrap();
        assert_eq!(result["structuredContent"]["last"], true);
    }
}

#[tokio::test]
async fn a_server_that_is_down_at_start_stops_nobody_and_is_picked_up_when_it_appears() {
    let here = server().tool(tool("here")).start().await;
    let mut late = server().tool(tool("late")).stopped().await;
    let gateway = gateway().server("here", &here).server("late", &late).start().await;
    assert_eq!(gateway.tools(), ["here"]);
    assert!(matches!(states(&gateway)[1], UpstreamState::Down { .. }), "{:?}", states(&gateway));
    let client = gateway.mcp(Era::Modern).await;
    client.call("here", "{}").await.unwrap();

    late.start_again().await;
    gateway.until_tools("both servers' tools", |tools| tools == ["here", "late"]).await;
    client.call("late", "{}").await.unwrap();
}

#[tokio::test]
async fn the_tools_of_a_server_that_went_away_stay_listed_and_come_back_to_life() {
    let mut server = server().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    server.kill().await;
    gateway.gateway().engine().refresh(&EndpointId::default()).await.unwrap();
    assert_eq!(gateway.tools(), ["a"], "the last known good catalogue survives");
    assert!(matches!(states(&gateway)[0], UpstreamState::Stale { .. }), "{:?}", states(&gateway));

    server.start_again().await;
    let client = gateway.mcp(Era::Modern).await;
    gateway.gateway().engine().refresh(&EndpointId::default()).await.unwrap();
    client.call("a", "{}").await.unwrap();
    assert_eq!(states(&gateway), [UpstreamState::Up]);
}

#[tokio::test]
async fn a_changed_list_is_seen_within_the_refresh_interval() {
    let server = server().tool(tool("old")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    server.offer([tool("new"), tool("newer")]);
    gateway.until_tools("the new list", |tools| tools == ["new", "newer"]).await;
}

#[tokio::test]
async fn a_name_that_two_servers_claim_is_prefixed_with_the_operators_key_and_reported() {
    let first = server().tool(tool("shared").says("first")).tool(tool("mine")).start().await;
    let second = server().tool(tool("shared").says("second")).start().await;
    let gateway = gateway().server("one", &first).server("two", &second).start().await;
    assert_eq!(gateway.tools(), ["one_shared", "mine", "two_shared"]);

    let snapshot = gateway.gateway().engine().snapshot(&EndpointId::default()).unwrap();
    let [collision] = snapshot.catalogue.collisions() else { panic!("one collision") };
    assert_eq!(collision.name, "shared");
    assert_eq!(collision.resolved, ["one_shared", "two_shared"]);

    let client = gateway.mcp(Era::Modern).await;
    for (name, said) in [("one_shared", "first"), ("two_shared", "second")] {
        let result = client.call(name, "{}").await.unwrap();
        assert_eq!(result["content"][0]["text"], said, "{name}");
    }
    assert!(first.calls("shared").len() == 1 && second.calls("shared").len() == 1, "each under its own name");
}

#[tokio::test]
async fn names_can_always_or_never_be_prefixed() {
    let first = server().tool(tool("a")).tool(tool("b")).start().await;
    let second = server().tool(tool("b")).start().await;
    let always = gateway().naming(Naming::Prefix).server("one", &first).server("two", &second).start().await;
    assert_eq!(always.tools(), ["one_a", "one_b", "two_b"]);
    let never = gateway().naming(Naming::Plain).server("one", &first).server("two", &second).start().await;
    assert_eq!(never.tools(), ["a", "b"]);
    never.mcp(Era::Modern).await.call("b", "{}").await.unwrap();
    assert_eq!((first.calls("b").len(), second.calls("b").len()), (1, 0), "the first in the file wins");
}

#[tokio::test]
async fn one_endpoint_sees_nothing_of_another() {
    let first = server().tool(tool("shared").says("first")).tool(tool("mine")).start().await;
    let second = server().tool(tool("shared").says("second")).tool(tool("yours")).start().await;
    let gateway = gateway().server("s", &first).endpoint("other").server("s", &second).start().await;
    assert_eq!(gateway.tools(), ["shared", "mine"]);
    assert_eq!(gateway.tools_of(&EndpointId::new("other")), ["shared", "yours"]);

    let root = gateway.mcp(Era::Modern).await;
    let other = mpe_tests::McpClient::connect(gateway.http(), "/endpoints/other/mcp", Era::Modern).await;
    assert_eq!(root.call("shared", "{}").await.unwrap()["content"][0]["text"], "first");
    assert_eq!(other.call("shared", "{}").await.unwrap()["content"][0]["text"], "second");

    // One server alone is transparent, so an unknown name reaches it; it is that server's own answer, never the other's.
    assert_eq!(other.call("mine", "{}").await.unwrap_err().code, -32602);
    assert_eq!(root.call("yours", "{}").await.unwrap_err().code, -32602);
    assert_eq!((first.calls("mine").len(), second.calls("yours").len()), (0, 0));
    assert_eq!(gateway.http().post("/endpoints/nobody/tools/shared", "{}").await.status, 404);
}
