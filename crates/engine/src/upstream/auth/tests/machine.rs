//! Grants that need nobody: a client's own, a workload's, an enterprise's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, join_all};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use mpe_transport::Sent;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::super::{Authorization, Client, Enterprise, Grant, SecretSource, SigningKey};
use super::world::{World, list};
use crate::CallErrorKind;

fn own(client: Client) -> Authorization {
    Authorization::new(Grant::ClientCredentials(client))
}

fn with_secret() -> Authorization {
    own(Client::with_secret("client:1", SecretString::from("s ecret")))
}

#[tokio::test]
async fn one_token_is_fetched_for_all_waiting_calls() {
    let world = World::new().await;
    world.laws().resource_scopes = Some(json!(["a", "b"]));
    let upstream = world.upstream(&with_secret());
    for reply in join_all((0..20).map(|_| list(&upstream))).await {
        assert_eq!(reply.unwrap().outcome.unwrap().get(), r#"{"ok":1}"#);
    }
    let asked = world.seen("/token");
    assert_eq!(asked.len(), 1);
    // client%3A1:s+ecret
    assert_eq!(asked[0].header("authorization"), Some("Basic Y2xpZW50JTNBMTpzK2VjcmV0"));
    assert_eq!(asked[0].form("grant_type").as_deref(), Some("client_credentials"));
    assert_eq!(asked[0].form("resource"), Some(format!("{}/mcp", world.base())));
    assert_eq!(asked[0].form("scope").as_deref(), Some("a b"));
    assert!(world.seen("/register").is_empty());
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_replaced_once() {
    let world = World::new().await;
    world.laws().rotates = false;
    world.laws().judge =
        Box::new(|token, _| (token.is_none() || token == Some("t1")).then(|| (401, "Bearer".to_owned())));
    let upstream = world.upstream(&with_secret());
    let error = list(&upstream).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamAuth, Sent::No));
    // The next call does not stubbornly show the refused token.
    list(&upstream).await.unwrap();
    assert_eq!(world.seen("/token").len(), 2);
}

#[tokio::test]
async fn a_failure_is_not_repeated_by_every_waiting_call() {
    let world = World::new().await;
    world.laws().refuses = Some(("client_credentials", "unauthorized_client"));
    let upstream = world.upstream(&with_secret());
    for reply in join_all((0..20).map(|_| list(&upstream))).await {
        let error = reply.unwrap_err();
        assert!(error.message.contains("unauthorized_client: because"), "{}", error.message);
    }
    assert_eq!(world.seen("/token").len(), 1);
}

/// What the assertion of a client says, once its signature is verified.
fn verified(assertion: &str, algorithm: Algorithm, public: &DecodingKey, audience: &str) -> Value {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[audience]);
    jsonwebtoken::decode::<Value>(assertion, public, &validation).unwrap().claims
}

#[tokio::test]
async fn a_client_with_a_key_signs_for_the_issuer_whichever_kind_of_key_it_is() {
    let elliptic = rcgen::KeyPair::generate().unwrap();
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    for (pair, algorithm) in [(elliptic, Algorithm::ES256), (rsa, Algorithm::RS256)] {
        let world = World::new().await;
        let issuer = format!("{}/as", world.base());
        let pem = pair.public_key_pem();
        let public = match algorithm {
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            _ => DecodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        };
        let key = |audience: Option<&str>| {
            let key = SigningKey::new(SecretString::from(pair.serialize_pem()), None).unwrap().with_id("k1");
            match audience {
                Some(audience) => key.for_audience(audience),
                None => key,
            }
        };
        list(&world.upstream(&own(Client::with_key("us", key(None))))).await.unwrap();
        let token = world.seen("/token").remove(0);
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        assert_eq!(token.form("client_assertion_type").as_deref(), Some(kind));
        let assertion = token.form("client_assertion").unwrap();
        assert_eq!(jsonwebtoken::decode_header(&assertion).unwrap().kid.as_deref(), Some("k1"));
        let claims = verified(&assertion, algorithm, &public, &issuer);
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("us"), &json!("us")));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
        // Some authorization servers want to be called by their token endpoint.
        list(&world.upstream(&own(Client::with_key("us", key(Some("elsewhere")))))).await.unwrap();
        let other = world.seen("/token").remove(1).form("client_assertion").unwrap();
        let other = verified(&other, algorithm, &public, "elsewhere");
        assert_ne!(other["jti"], claims["jti"]);
    }
}

#[test]
fn what_is_no_such_key_is_refused_and_not_shown() {
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    for pem in ["-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n".to_owned(), p384] {
        let error = SigningKey::new(SecretString::from(pem.clone()), None).unwrap_err();
        assert!(error.contains("key") && !error.contains("c2VjcmV0"), "{error}");
    }
}

/// Gives another secret each time.
#[derive(Default)]
struct Rotating(AtomicUsize);

impl SecretSource for Rotating {
    fn name(&self) -> String {
        "rotating".to_owned()
    }

    fn read(&self) -> BoxFuture<'_, Result<SecretString, String>> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move { Ok(SecretString::from(format!("assertion-{number}"))) })
    }
}

#[tokio::test]
async fn a_workload_shows_the_assertion_of_the_moment_and_takes_no_for_an_answer() {
    let world = World::new().await;
    world.laws().rotates = false;
    world.laws().judge = Box::new(|token, _| (token != Some("t2")).then(|| (401, "Bearer".to_owned())));
    let grant =
        Grant::JwtBearer { client: Client::public("workload"), assertion: Arc::<Rotating>::default() };
    let upstream = world.upstream(&Authorization::new(grant));
    let _ = list(&upstream).await;
    list(&upstream).await.unwrap();
    let asked = world.seen("/token");
    let assertions: Vec<_> = asked.iter().filter_map(|seen| seen.form("assertion")).collect();
    assert_eq!(assertions, ["assertion-1", "assertion-2"]);
    let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(asked[0].form("grant_type").as_deref(), Some(kind));
    assert_eq!(asked[0].form("client_id").as_deref(), Some("workload"));

    let world = World::new().await;
    world.laws().refuses = Some(("jwt-bearer", "invalid_scope"));
    let grant =
        Grant::JwtBearer { client: Client::public("workload"), assertion: Arc::<Rotating>::default() };
    let error = list(&world.upstream(&Authorization::new(grant))).await.unwrap_err();
    assert!(error.message.contains("invalid_scope"), "{}", error.message);
    assert_eq!(world.seen("/token").len(), 1);
}

#[tokio::test]
async fn an_identity_provider_s_word_becomes_a_token_of_the_server_s_issuer() {
    let (world, provider) = (World::new().await, World::new().await);
    let enterprise = Enterprise {
        client: Client::with_secret("us", SecretString::from("secret")),
        provider: format!("{}/idp/token", provider.base()).parse().unwrap(),
        provider_client: Client::public("us-at-idp"),
        id_token: Arc::<Rotating>::default(),
    };
    list(&world.upstream(&Authorization::new(Grant::Enterprise(enterprise)))).await.unwrap();
    let exchanged = provider.seen("/idp/token").remove(0);
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".to_owned()),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:id-jag".to_owned()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token".to_owned()),
        ("subject_token", "assertion-1".to_owned()),
        ("audience", format!("{}/as", world.base())),
        ("resource", format!("{}/mcp", world.base())),
        ("client_id", "us-at-idp".to_owned()),
    ] {
        assert_eq!(exchanged.form(name), Some(value), "{name}");
    }
    let granted = world.seen("/as/token").remove(0);
    assert_eq!(granted.form("assertion").as_deref(), Some("t1"));
    assert!(granted.header("authorization").unwrap().starts_with("Basic "));
    // The ID token went to nobody but the provider.
    assert!(world.peer.seen().iter().all(|seen| !seen.text.contains("assertion-1")));
}
