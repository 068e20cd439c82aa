//! The same server over every wire.

use mpe_tests::{Authority, Era, ServerBuilder, gateway, server, tool};
use mpe_transport::Protocol;

/// Lists and calls through the gateway; gives the protocol that carried the call.
async fn protocol_of(builder: ServerBuilder, authority: &Authority) -> Protocol {
    let server = builder.tool(tool("echo")).start().await;
    let gateway = gateway().trust(authority).server("s", &server).start().await;
    assert_eq!(gateway.tools(), ["echo"]);
    let result = gateway.mcp(Era::Modern).await.call("echo", r#"{"n":1}"#).await.unwrap();
    assert_eq!(result["structuredContent"]["n"], 1);
    let performance = gateway.gateway().engine().performance();
    let record = performance.values().next().expect("one origin");
    assert_eq!(record.failed_requests, 0, "{record:?}");
    if record.http2_requests > 0 {
        assert_eq!(record.http1_requests, 0, "{record:?}");
        Protocol::Http2
    } else {
        Protocol::Http1
    }
}

#[tokio::test]
async fn plaintext_http2_by_prior_knowledge() {
    assert_eq!(protocol_of(server().h2c(), &Authority::new()).await, Protocol::Http2);
}

#[tokio::test]
async fn tls_with_http2_by_alpn() {
    let authority = Authority::new();
    assert_eq!(protocol_of(server().tls(&authority), &authority).await, Protocol::Http2);
}

#[tokio::test]
async fn tls_falls_back_to_http1_where_the_peer_knows_nothing_else() {
    let authority = Authority::new();
    assert_eq!(protocol_of(server().tls_http1(&authority), &authority).await, Protocol::Http1);
}

#[tokio::test]
async fn plaintext_http1() {
    assert_eq!(protocol_of(server().http1(), &Authority::new()).await, Protocol::Http1);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_and_says_so() {
    let server = server().tls(&Authority::new()).tool(tool("echo")).start().await;
    let gateway = gateway().trust(&Authority::new()).server("s", &server).start().await;
    assert!(gateway.tools().is_empty());
    let snapshot = gateway.gateway().engine().snapshot(&mpe_engine::EndpointId::default()).unwrap();
    let mpe_engine::UpstreamState::Down { error } = &snapshot.catalogue.upstreams()[0].state else {
        panic!("it must be down: {:?}", snapshot.catalogue.upstreams()[0].state);
    };
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    assert!(server.exchanges().is_empty(), "not a byte of a request may reach it");
}
