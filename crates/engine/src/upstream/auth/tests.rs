use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use mpe_transport::{Pool, PoolConfig, Sent, TlsConfig, Wire};
use secrecy::SecretString;
use serde_json::json;
use tokio::time::Instant;

use super::super::testing::{Peer, answer, json_answer, request};
use super::super::{HttpTarget, HttpUpstream, Upstream};
use super::{ClientCredentials, url};
use crate::CallErrorKind;

/// A server and its authorization server in one; `accepts` says from which token on it is satisfied.
async fn guarded(accepts: usize, resource: &'static str) -> Peer {
    let handed_out = Arc::new(AtomicUsize::new(0));
    Peer::start(move |seen| {
        let base = format!("http://{}", seen.header("host").unwrap());
        let reply = match seen.path.as_str() {
            "/.well-known/oauth-protected-resource/mcp" => json_answer(
                200,
                &json!({
                "resource": format!("{base}{resource}"), "authorization_servers": [format!("{base}/as")],
                "scopes_supported": ["a", "b"]}),
            ),
            "/.well-known/oauth-authorization-server/as" => json_answer(
                200,
                &json!({
                "issuer": format!("{base}/as"), "token_endpoint": format!("{base}/token")}),
            ),
            "/token" => {
                let number = handed_out.fetch_add(1, Ordering::SeqCst) + 1;
                json_answer(
                    200,
                    &json!({"access_token": format!("t{number}"), "token_type": "Bearer",
                    "expires_in": 3600}),
                )
            }
            "/mcp" => {
                let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer t"));
                match token.and_then(|number| number.parse::<usize>().ok()) {
                    Some(number) if number >= accepts => match seen.method() {
                        "server/discover" => json_answer(
                            200,
                            &seen.result(&json!({
                            "supportedVersions": ["2026-07-28"], "capabilities": {}})),
                        ),
                        _ => json_answer(200, &seen.result(&json!({"ok": 1}))),
                    },
                    _ => answer(401, &[("www-authenticate", "Bearer realm=\"x, y\", scope=\"read\"")], ""),
                }
            }
            _ => answer(404, &[], ""),
        };
        async move { reply }.boxed()
    })
    .await
}

fn upstream(peer: &Peer) -> HttpUpstream {
    let pool = Pool::new(PoolConfig::default(), TlsConfig::default()).unwrap();
    let credentials = ClientCredentials::new("client:1", SecretString::from("s ecret".to_owned()));
    let target = HttpTarget {
        url: &peer.url(),
        headers: &[],
        wire: Wire::Auto,
        pinned: None,
        credentials: Some(&credentials),
    };
    HttpUpstream::new(&pool, &target).unwrap()
}

#[tokio::test]
async fn one_token_is_fetched_for_all_waiting_calls() {
    let peer = guarded(1, "/mcp").await;
    let upstream = upstream(&peer);
    let calls = (0..20).map(|_| upstream.request(request("tools/list", None)));
    for reply in join_all(calls).await {
        assert_eq!(reply.unwrap().outcome.unwrap().get(), r#"{"ok":1}"#);
    }
    let asked: Vec<_> = peer.seen().into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(asked.len(), 1);
    // client%3A1:s+ecret
    assert_eq!(asked[0].header("authorization"), Some("Basic Y2xpZW50JTNBMTpzK2VjcmV0"));
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_replaced_once() {
    let peer = guarded(2, "/mcp").await;
    let error = upstream(&peer).request(request("tools/list", None)).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamAuth, Sent::No));
    // The next call does not stubbornly show the refused token.
    let peer = guarded(2, "/mcp").await;
    let upstream = upstream(&peer);
    let _ = upstream.request(request("tools/list", None)).await;
    upstream.request(request("tools/list", None)).await.unwrap();
}

#[tokio::test]
async fn metadata_of_another_resource_are_not_used() {
    let peer = guarded(1, "/other").await;
    let error = upstream(&peer).introduce(Instant::now() + Duration::from_secs(10)).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamAuth, Sent::No));
    assert!(error.message.contains("another resource"), "{}", error.message);
    assert!(peer.seen().iter().all(|seen| seen.path != "/token"));
}

#[test]
fn a_remote_server_cannot_send_us_into_our_own_house() {
    let remote = "https://example.com/mcp".parse().unwrap();
    for inside in [
        "http://127.0.0.1/t",
        "https://localhost/t",
        "https://[::1]/t",
        "https://169.254.169.254/t",
        "https://10.0.0.1/t",
        "http://example.com/t",
    ] {
        assert!(url::permitted(&inside.parse().unwrap(), &remote).is_err(), "{inside}");
    }
    url::permitted(&"https://login.example.com/t".parse().unwrap(), &remote).unwrap();
}

#[test]
fn challenges_are_read_by_parameter() {
    let challenge =
        r#"Bearer realm="a, b", resource_metadata="https://x/y?z=1", scope="one two", error=invalid"#;
    assert_eq!(url::parameter(challenge, "resource_metadata").as_deref(), Some("https://x/y?z=1"));
    assert_eq!(url::parameter(challenge, "scope").as_deref(), Some("one two"));
    assert_eq!(url::parameter(challenge, "error").as_deref(), Some("invalid"));
    assert_eq!(url::parameter(challenge, "nonce"), None);
}
