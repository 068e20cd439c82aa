//! Requests of several rounds to a server at several addresses.

use std::collections::HashSet;

use mpe_engine::{Target, UpstreamConfig};
use mpe_tests::{Era, McpClient, RunningGateway, Server, gateway, server, tool};
use serde_json::{Value, json};

/// One of the addresses: it knows its own states and nobody else's.
async fn address(name: &str) -> Server {
    server().modern_only().tool(tool("chat").asks(&format!("state of {name}")).says(name)).start().await
}

async fn in_front_of(addresses: [&Server; 2]) -> RunningGateway {
    let urls = addresses.iter().map(|server| server.url().parse().unwrap()).collect();
    let target = Target::Balanced { urls, headers: Vec::new(), wire: addresses[0].wire() };
    gateway().upstream(UpstreamConfig::new("s", target)).start().await
}

/// The first round: what it leaves for the next one.
async fn begin(client: &McpClient) -> Value {
    let asks = client.call("chat", "{}").await.unwrap();
    assert_eq!(asks["resultType"], "input_required", "{asks}");
    json!({ "name": "chat", "arguments": {}, "requestState": asks["requestState"] })
}

#[tokio::test]
async fn every_round_of_a_request_reaches_the_address_that_knows_its_state() {
    let (one, two) = (address("one").await, address("two").await);
    let gateway = in_front_of([&one, &two]).await;
    let client = gateway.mcp(Era::Modern).await;
    // Begun one after the other, so that a later round finds the load as it may be.
    let mut begun = Vec::new();
    for _ in 0..30 {
        begun.push(begin(&client).await);
    }
    let mut answered = HashSet::new();
    for next in begun {
        let answer = client.request("tools/call", &next.to_string()).await.expect("its own address");
        answered.insert(answer["content"][0]["text"].as_str().unwrap().to_owned());
    }
    assert_eq!(answered.len(), 2, "both addresses took part");
}

#[tokio::test]
async fn the_rounds_that_are_played_for_a_legacy_client_stay_at_their_address_too() {
    let (one, two) = (address("one").await, address("two").await);
    let gateway = in_front_of([&one, &two]).await;
    let client = gateway.mcp(Era::Legacy).await;
    for _ in 0..30 {
        let answer = client.call("chat", "{}").await.expect("its own address");
        assert!(["one", "two"].contains(&answer["content"][0]["text"].as_str().unwrap()), "{answer}");
    }
}

#[tokio::test]
async fn a_round_whose_address_is_gone_reaches_another_one_which_has_the_last_word() {
    let (mut one, mut two) = (address("one").await, address("two").await);
    let gateway = in_front_of([&one, &two]).await;
    let client = gateway.mcp(Era::Modern).await;
    let next = begin(&client).await;
    let (gone, other) = if one.calls("chat").is_empty() { (&mut two, &one) } else { (&mut one, &two) };
    gone.kill().await;
    let error = client.request("tools/call", &next.to_string()).await.unwrap_err();
    assert_eq!(error.code, -32602, "{error:?}");
    assert!(error.object.to_string().contains("somebody else's state"), "{error:?}");
    assert_eq!(other.calls("chat").len(), 1);
}
