//! Two replicas that share a secret, and requests that reach the wrong one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use mpe_engine::upstream::Change;
use mpe_gateway::{Body, BoxError, Forward, Gateway, GatewayConfig, Replicas};
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, body, legacy_request, next_event};

/// The wire between the replicas: their own `handle`, by the host of the URL.
#[derive(Default)]
struct Wire {
    gateways: OnceLock<HashMap<String, Gateway>>,
    /// Every request that crossed, as `HOST METHOD`.
    crossed: Mutex<Vec<String>>,
    down: Mutex<Option<String>>,
}

struct Across(Arc<Wire>);

impl Forward for Across {
    fn forward(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, BoxError>> {
        let host = request.uri().host().unwrap().to_owned();
        self.0.crossed.lock().unwrap().push(format!("{host} {}", request.method()));
        let is_down = self.0.down.lock().unwrap().as_ref() == Some(&host);
        let gateway = self.0.gateways.get().unwrap()[&host].clone();
        Box::pin(async move {
            if is_down {
                return Err("connection refused".into());
            }
            let request = request.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync());
            Ok(gateway.handle(request).await)
        })
    }
}

struct Pair {
    one: Fixture,
    other: Fixture,
    wire: Arc<Wire>,
}

async fn pair() -> Pair {
    let wire = Arc::new(Wire::default());
    let replica = |name: &str| {
        let peers = ["one", "other"].map(|name| (name.to_owned(), format!("http://{name}").parse().unwrap()));
        let replicas = Replicas {
            name: name.to_owned(),
            peers: peers.into(),
            forward: Arc::new(Across(Arc::clone(&wire))),
        };
        move |config: &mut GatewayConfig| {
            config.secret = Some(Arc::from(&b"a secret of sixteen bytes"[..]));
            config.replicas = Some(replicas);
        }
    };
    let one = Fixture::with(replica("one")).await;
    let other = Fixture::with(replica("other")).await;
    let gateways =
        [("one", &one), ("other", &other)].map(|(name, fixture)| (name.to_owned(), fixture.gateway.clone()));
    assert!(wire.gateways.set(gateways.into()).is_ok());
    Pair { one, other, wire }
}

fn get(session: &str) -> http::Request<Body> {
    let request = http::Request::get("/mcp").header("mcp-session-id", session);
    request.header("accept", "text/event-stream").body(body("")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_plain_call_crosses_nothing() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-11-25", json!({})).await;
    let answer = pair.other.legacy(Some(&session), "tools/call", json!({"name": "plain"})).await;
    assert_eq!(answer.json()["result"]["content"][0]["text"], "plain words");
    assert_eq!(pair.other.upstream.calls().len(), 1);
    assert!(pair.wire.crossed.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_listening_stream_and_what_is_subscribed_on_it_are_at_the_sessions_home() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-11-25", json!({})).await;
    let mut stream = pair.other.gateway.handle(get(&session)).await.into_body();
    let uri = json!({"uri": "test://a"});
    let subscribed = pair.other.legacy(Some(&session), "resources/subscribe", uri).await;
    assert_eq!(subscribed.body, r#"{"jsonrpc":"2.0","id":"a","result":{}}"#);
    let hearing = next_event(&mut stream);
    let changing = async {
        while pair.one.upstream.watched().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pair.one.upstream.announce(Change::Resource("test://a".to_owned()));
    };
    let (event, ()) = tokio::join!(hearing, changing);
    assert_eq!(event["params"], json!({"uri": "test://a"}));
    assert!(pair.other.upstream.watched().is_empty());
    assert_eq!(*pair.wire.crossed.lock().unwrap(), ["one GET", "one POST"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_home_is_gone_is_told_to_begin_anew() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-11-25", json!({})).await;
    *pair.wire.down.lock().unwrap() = Some("one".to_owned());
    assert_eq!(pair.other.gateway.handle(get(&session)).await.status(), 404);
    let uri = json!({"uri": "test://a"});
    assert_eq!(pair.other.legacy(Some(&session), "resources/subscribe", uri).await.status, 404);
    assert_eq!(pair.other.legacy(Some(&session), "tools/list", json!({})).await.status, 200);
    let anew = pair.other.initialize("2025-11-25", json!({})).await;
    assert_eq!(pair.other.gateway.handle(get(&anew)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_log_level_holds_at_every_replica() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-11-25", json!({})).await;
    pair.one.legacy(Some(&session), "logging/setLevel", json!({"level": "info"})).await;
    for fixture in [&pair.one, &pair.other] {
        let answer = fixture.legacy(Some(&session), "tools/call", json!({"name": "progress"})).await;
        assert_eq!(answer.body.matches("notifications/message").count(), 3, "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_an_array_holds_at_every_replica_too() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-03-26", json!({})).await;
    let mut stream = pair.other.gateway.handle(get(&session)).await.into_body();
    let array = r#"[{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}},{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"test://a"}}]"#;
    let answer = pair.other.legacy_post(Some(&session), array).await;
    assert_eq!(answer.json()[1], json!({"jsonrpc": "2.0", "id": 2, "result": {}}), "{}", answer.body);
    // The stream arms what is subscribed to while it is read.
    let _ = tokio::time::timeout(Duration::from_secs(1), next_event(&mut stream)).await;
    assert_eq!(pair.one.upstream.watched(), ["test://a"]);
    for fixture in [&pair.one, &pair.other] {
        let answer = fixture.legacy(Some(&session), "tools/call", json!({"name": "progress"})).await;
        assert_eq!(answer.body.matches("notifications/message").count(), 3, "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_finds_its_call_wherever_it_runs() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-11-25", json!({})).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#;
    let (answer, ()) =
        tokio::join!(pair.other.legacy(Some(&session), "tools/call", json!({"name": "hang"})), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(pair.one.legacy_post(Some(&session), cancel).await.status, 202);
        });
    assert!(answer.body.contains("cancelled"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn an_answer_finds_the_replica_that_asked() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-11-25", json!({"elicitation": {}})).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask"}});
    let request = legacy_request(Some(&session)).body(body(&call.to_string())).unwrap();
    let mut stream = pair.other.gateway.handle(request).await.into_body();
    let question = next_event(&mut stream).await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    assert_eq!(pair.one.legacy_post(Some(&session), &answer.to_string()).await.status, 202);
    let end = next_event(&mut stream).await;
    assert_eq!(end["result"]["content"][0]["text"], r#"answered {"action":"accept"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_held_call_goes_on_where_it_is_held_or_is_lost_with_it() {
    let pair = pair().await;
    let ask = |extra: Value| {
        let meta = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
        let mut params = json!({"name": "ask", "arguments": {}, "_meta": meta});
        params.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        params
    };
    let retry = |first: &Value| {
        let key = first["inputRequests"].as_object().unwrap().keys().next().unwrap();
        ask(json!({"requestState": first["requestState"], "inputResponses": {key: {"action": "accept"}}}))
    };
    let first = pair.one.modern("tools/call", ask(json!({}))).await.json()["result"].clone();
    let answer = pair.other.modern("tools/call", retry(&first)).await.json();
    assert_eq!(answer["result"]["content"][0]["text"], r#"answered {"action":"accept"}"#, "{answer}");
    assert_eq!((pair.one.upstream.calls().len(), pair.other.upstream.calls().len()), (1, 0));

    let second = pair.one.modern("tools/call", ask(json!({}))).await.json()["result"].clone();
    *pair.wire.down.lock().unwrap() = Some("one".to_owned());
    let answer = pair.other.modern("tools/call", retry(&second)).await.json();
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert_eq!(pair.other.upstream.calls().len(), 0, "a call that may have run is not run again");
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_oldest_transport_find_their_stream() {
    let pair = pair().await;
    let open = http::Request::get("/sse").header("accept", "text/event-stream").body(body("")).unwrap();
    let mut stream = pair.one.gateway.handle(open).await.into_body();
    let path = format!("/{}", next_event(&mut stream).await.as_str().unwrap());
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{}}}"#;
    assert_eq!(pair.other.post(&path, ping).await.status, 202);
    assert_eq!(next_event(&mut stream).await["id"], 1);
    assert_eq!(pair.other.post(&format!("{path}x"), ping).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn nobody_but_a_replica_is_taken_for_one() {
    let pair = pair().await;
    let session = pair.one.initialize("2025-11-25", json!({})).await;
    // A forged voucher changes nothing: the request is looked at as any other, and forwarded.
    let mut request = get(&session);
    request.headers_mut().insert("mpe-forwarded", "AAAA".parse().unwrap());
    assert_eq!(pair.other.gateway.handle(request).await.status(), 200);
    assert_eq!(*pair.wire.crossed.lock().unwrap(), ["one GET"]);
    // Nor does it open a door that Origin keeps shut.
    let request = http::Request::post("/mcp").header("origin", "https://evil.example.com");
    let request = request.header("mpe-forwarded", "AAAA").body(body("{}")).unwrap();
    assert_eq!(Answer::of(pair.other.gateway.handle(request).await).await.status, 403);
}
