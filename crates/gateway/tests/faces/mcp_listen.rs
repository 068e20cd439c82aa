//! Streams that tell of changes.

use std::time::Duration;

use http_body_util::BodyExt;
use mpe_engine::upstream::Change;
use serde_json::{Value, json};

use crate::fixture::{Fixture, body, next_event};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

async fn listen(fixture: &Fixture, notifications: Value) -> http::Response<mpe_gateway::Body> {
    let message = json!({"jsonrpc": "2.0", "id": "l-1", "method": "subscriptions/listen", "params": {
        "notifications": notifications,
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    let request = http::Request::post("/mcp")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen");
    fixture.gateway.handle(request.body(body(&message.to_string())).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_listener_is_told_what_is_armed_and_then_what_changes() {
    let fixture = Fixture::new().await;
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["test://a"]});
    let mut stream = listen(&fixture, wanted.clone()).await.into_body();
    let acknowledged = next_event(&mut stream).await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(acknowledged["params"]["notifications"], wanted);
    assert_eq!(acknowledged["params"]["_meta"][SUBSCRIPTION], "l-1");
    assert_eq!(fixture.upstream.watched(), ["test://a"]);

    fixture.upstream.announce(Change::Prompts);
    fixture.upstream.announce(Change::Resource("test://a".to_owned()));
    let updated = next_event(&mut stream).await;
    assert_eq!(updated["method"], "notifications/resources/updated");
    assert_eq!(updated["params"], json!({"_meta": {SUBSCRIPTION: "l-1"}, "uri": "test://a"}));

    fixture.upstream.add_a_tool();
    assert_eq!(next_event(&mut stream).await["method"], "notifications/tools/list_changed");
    let tools = fixture.modern("tools/list", json!({})).await;
    assert!(tools.body.contains(r#""name":"added""#), "who hears of a change finds it in the list");
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_of_what_it_named_and_what_lies_below_and_of_nothing_else() {
    let fixture = Fixture::new().await;
    let wanted = json!({"resourceSubscriptions": ["test://a/1", "", "test://d/"]});
    let mut stream = listen(&fixture, wanted).await.into_body();
    next_event(&mut stream).await;
    for uri in ["test://a/10", "test://b", "test://a/1/part", "test://a/1?v=2", "test://d/x", "test://a/1"] {
        fixture.upstream.announce(Change::Resource(uri.to_owned()));
    }
    for expected in ["test://a/1/part", "test://a/1?v=2", "test://d/x", "test://a/1"] {
        assert_eq!(next_event(&mut stream).await["params"]["uri"], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_subscription_with_its_result() {
    let fixture = Fixture::new().await;
    let mut stream = listen(&fixture, json!({"toolsListChanged": true})).await.into_body();
    next_event(&mut stream).await;
    fixture.gateway.begin_drain();
    let end = next_event(&mut stream).await;
    assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("l-1"), &json!("complete")));
    assert!(stream.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn listeners_are_bounded_and_a_place_comes_back() {
    let fixture = Fixture::with(|config| config.max_listeners = 1).await;
    let first = listen(&fixture, json!({"toolsListChanged": true})).await;
    assert_eq!(listen(&fixture, json!({"toolsListChanged": true})).await.status(), 503);
    drop(first);
    assert_eq!(listen(&fixture, json!({"toolsListChanged": true})).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_listen_of_the_wrong_shape_is_refused() {
    let fixture = Fixture::new().await;
    for wrong in [json!({"toolsListChanged": 1}), json!({"resourceSubscriptions": [1]}), json!([])] {
        let response = listen(&fixture, wrong.clone()).await;
        let answer = crate::fixture::Answer::of(response).await;
        assert_eq!(answer.json()["error"]["code"], -32602, "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_session_hears_on_its_get_stream_what_it_subscribed_to() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize("2025-11-25", json!({})).await;
    let get = || {
        let request = http::Request::get("/mcp").header("mcp-session-id", &session);
        request.header("accept", "text/event-stream").body(body("")).unwrap()
    };
    let mut stream = fixture.gateway.handle(get()).await.into_body();
    let subscribed = fixture.legacy(Some(&session), "resources/subscribe", json!({"uri": "test://a"})).await;
    assert_eq!(subscribed.body, r#"{"jsonrpc":"2.0","id":"a","result":{}}"#);
    let hearing = async {
        let event = next_event(&mut stream).await;
        assert_eq!(event["method"], "notifications/resources/updated");
        assert_eq!(event["params"], json!({"uri": "test://a"}));
    };
    let changing = async {
        while fixture.upstream.watched().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        fixture.upstream.announce(Change::Resource("test://a".to_owned()));
    };
    tokio::join!(hearing, changing);
    // A second GET takes over from the first.
    let _second = fixture.gateway.handle(get()).await;
    assert!(stream.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_survives_that_the_stream_is_kept_alive_meanwhile() {
    let slow = crate::fixture::Scripted { is_slow_to_watch: true.into(), ..Default::default() };
    let fixture = Fixture::over(slow, |config| config.keep_alive = Duration::from_millis(100)).await;
    let session = fixture.initialize("2025-11-25", json!({})).await;
    let request = http::Request::get("/mcp").header("mcp-session-id", &session);
    let request = request.header("accept", "text/event-stream").body(body("")).unwrap();
    let mut stream = fixture.gateway.handle(request).await.into_body();
    fixture.legacy(Some(&session), "resources/subscribe", json!({"uri": "test://a"})).await;
    let changing = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        fixture.upstream.announce(Change::Resource("test://a".to_owned()));
    };
    let hearing = tokio::time::timeout(Duration::from_secs(10), next_event(&mut stream));
    let (event, ()) = tokio::join!(hearing, changing);
    assert_eq!(event.expect("it hears of it")["params"], json!({"uri": "test://a"}));
}

#[tokio::test(start_paused = true)]
async fn without_a_session_there_is_no_stream() {
    let fixture = Fixture::new().await;
    let answer = fixture.get("/mcp").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_deleted_is_unknown_from_then_on() {
    let fixture = Fixture::new().await;
    let session = fixture.initialize("2025-11-25", json!({})).await;
    let delete = || http::Request::delete("/mcp").header("mcp-session-id", &session).body("").unwrap();
    assert_eq!(fixture.send(delete()).await.status, 204);
    assert_eq!(fixture.legacy(Some(&session), "ping", json!({})).await.status, 404);
    assert_eq!(fixture.send(delete()).await.status, 404);
    let shared =
        Fixture::with(|config| config.secret = Some(std::sync::Arc::from(&b"0123456789abcdef"[..]))).await;
    let session = shared.initialize("2025-11-25", json!({})).await;
    let delete = http::Request::delete("/mcp").header("mcp-session-id", &session).body("").unwrap();
    assert_eq!(shared.send(delete).await.status, 405);
}
