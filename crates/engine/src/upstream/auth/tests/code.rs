//! A person's grant: discovery, registration, the request and the answer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mpe_transport::Sent;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::{Authorization, Client, Grant, MemoryTokenStore};
use super::world::{Nobody, Someone, World, by, list, of_person};
use crate::CallErrorKind;

#[tokio::test]
async fn the_request_is_bound_to_its_answer_by_pkce_state_redirect_and_resource() {
    let world = World::new().await;
    let person = Someone::agreeable();
    list(&world.upstream(&of_person(person.clone()))).await.unwrap();
    let asked = person.asked().remove(0);
    assert_eq!(asked["response_type"], "code");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["redirect_uri"], "http://127.0.0.1:7777/callback");
    assert_eq!(asked["resource"], format!("{}/mcp", world.base()));
    assert!(asked["state"].len() >= 20, "{asked:?}");
    assert!(!asked.contains_key("scope"));
    let token = world.seen("/token").remove(0);
    let verifier = token.form("code_verifier").unwrap();
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier)), asked["code_challenge"]);
    assert_eq!(token.form("code").as_deref(), Some("c1"));
    for name in ["resource", "redirect_uri", "client_id"] {
        assert_eq!(token.form(name).as_ref(), Some(&asked[name]), "{name}");
    }
}

#[tokio::test]
async fn without_pkce_nobody_is_asked() {
    for methods in [Value::Null, json!(["plain"])] {
        let world = World::new().await;
        world.laws().metadata = json!({ "code_challenge_methods_supported": methods });
        let person = Someone::agreeable();
        let error = list(&world.upstream(&of_person(person.clone()))).await.unwrap_err();
        assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamAuth, Sent::No));
        assert!(error.message.contains("PKCE"), "{}", error.message);
        assert!(person.asked().is_empty() && world.seen("/register").is_empty());
    }
}

#[tokio::test]
async fn an_answer_is_believed_only_from_the_issuer_that_was_asked() {
    let ours = |world: &World| format!("{}/as", world.base());
    for (advertised, iss, is_believed) in [
        (true, Some(String::new()), true),
        (false, Some(String::new()), true),
        (false, None, true),
        (true, None, false),
        (true, Some("https://evil.example".to_owned()), false),
        (false, Some("https://evil.example".to_owned()), false),
        // Equal only after normalization.
        (true, Some("/".to_owned()), false),
    ] {
        let world = World::new().await;
        world.laws().metadata = json!({ "authorization_response_iss_parameter_supported": advertised });
        let iss = iss.map(|iss| match iss.as_str() {
            "" | "/" => format!("{}{iss}", ours(&world)),
            _ => iss,
        });
        let (case, sent) = (format!("{advertised} {iss:?}"), iss);
        let person = Someone::who(move |_, back| {
            back.extend(sent.clone().map(|iss| ("iss".to_owned(), iss)));
        });
        let outcome = list(&world.upstream(&of_person(person))).await;
        assert_eq!(outcome.is_ok(), is_believed, "{case}: {outcome:?}");
        assert_eq!(world.seen("/token").is_empty(), !is_believed, "{case}");
    }
}

#[tokio::test]
async fn an_answer_to_somebody_else_s_request_is_no_answer() {
    for (name, value) in [("state", "other"), ("state", "")] {
        let world = World::new().await;
        let person = Someone::who(move |_, back| drop(back.insert(name.to_owned(), value.to_owned())));
        let error = list(&world.upstream(&of_person(person))).await.unwrap_err();
        assert!(error.message.contains("`state`"), "{}", error.message);
        assert!(world.seen("/token").is_empty());
    }
}

#[tokio::test]
async fn a_refusal_is_believed_only_from_the_right_issuer_and_then_told() {
    let world = World::new().await;
    let refusing = |iss: String| {
        Someone::who(move |_, back| {
            back.remove("code");
            back.insert("error".to_owned(), "access_denied".to_owned());
            back.insert("error_description".to_owned(), "not you".to_owned());
            back.insert("iss".to_owned(), iss.clone());
        })
    };
    let error =
        list(&world.upstream(&of_person(refusing(format!("{}/as", world.base()))))).await.unwrap_err();
    assert!(error.message.contains("access_denied: not you"), "{}", error.message);
    let error = list(&world.upstream(&of_person(refusing("https://evil".to_owned())))).await.unwrap_err();
    assert!(error.message.contains("issuer") && !error.message.contains("not you"), "{}", error.message);
}

#[tokio::test]
async fn metadata_of_another_resource_or_issuer_are_not_used() {
    for (resource, metadata, word) in [
        ("/other", json!({}), "another resource"),
        ("/mcp", json!({ "issuer": "https://attacker.example" }), "calls itself"),
    ] {
        let world = World::new().await;
        world.laws().resource = resource;
        world.laws().metadata = metadata;
        let person = Someone::agreeable();
        let error = list(&world.upstream(&of_person(person.clone()))).await.unwrap_err();
        assert!(error.message.contains(word), "{}", error.message);
        assert!(person.asked().is_empty() && world.seen("/register").is_empty());
        assert!(world.seen("/token").is_empty());
    }
}

#[tokio::test]
async fn a_server_without_metadata_is_taken_for_its_own_authorization_server() {
    let world = World::new().await;
    world.laws().issuers.clear();
    let person = Someone::agreeable();
    list(&world.upstream(&of_person(person.clone()))).await.unwrap();
    assert_eq!(world.seen("/register")[0].path, "/register");
    assert_eq!(person.asked()[0]["resource"], format!("{}/mcp", world.base()));
    // What the server does name must be there.
    world.laws().judge = Box::new(|token, _| {
        token.is_none().then(|| (401, "Bearer resource_metadata=\"http://127.0.0.1:9/x\"".to_owned()))
    });
    let person = Someone::agreeable();
    list(&world.upstream(&of_person(person.clone()))).await.unwrap_err();
    assert!(person.asked().is_empty());
}

#[tokio::test]
async fn a_refusal_with_the_status_of_success_is_a_refusal() {
    let world = World::new().await;
    world.laws().metadata = json!({ "token_endpoint": format!("{}/odd", world.base()) });
    let error = list(&world.upstream(&of_person(Someone::agreeable()))).await.unwrap_err();
    assert!(error.message.contains("bad_verification_code"), "{}", error.message);
}

#[tokio::test]
async fn addresses_of_other_networks_and_redirects_are_not_followed() {
    let world = World::new().await;
    world.laws().metadata = json!({ "token_endpoint": "http://10.255.255.1/token" });
    let person = Someone::agreeable();
    let error = list(&world.upstream(&of_person(person))).await.unwrap_err();
    assert!(error.message.contains("is not asked"), "{}", error.message);
    // A browser is not sent there either.
    world.laws().metadata = json!({ "authorization_endpoint": "http://example.com/authorize" });
    let person = Someone::agreeable();
    let error = list(&world.upstream(&of_person(person.clone()))).await.unwrap_err();
    assert!(error.message.contains("is not asked") && person.asked().is_empty(), "{}", error.message);
}

#[tokio::test]
async fn a_client_registered_by_hand_comes_before_a_document_before_registration() {
    const DOCUMENT: &str = "https://us.example/client.json";
    for (has_client, has_document, takes_documents, expected) in [
        (true, true, true, "by-hand"),
        (false, true, true, DOCUMENT),
        (false, true, false, "client-of-as-1"),
        (false, false, true, "client-of-as-1"),
    ] {
        let world = World::new().await;
        world.laws().metadata = json!({ "client_id_metadata_document_supported": takes_documents });
        let person = Someone::agreeable();
        let mut code = by(person.clone(), &Arc::default());
        code.client = has_client.then(|| Client::public("by-hand"));
        code.metadata_url = has_document.then(|| DOCUMENT.to_owned());
        list(&world.upstream(&Authorization::new(Grant::AuthorizationCode(code)))).await.unwrap();
        assert_eq!(person.asked()[0]["client_id"], expected);
        assert_eq!(world.seen("/register").len(), usize::from(expected == "client-of-as-1"));
    }
}

#[tokio::test]
async fn a_registration_says_what_kind_of_client_it_is_and_is_used_again() {
    let world = World::new().await;
    let (person, store) = (Someone::agreeable(), Arc::<MemoryTokenStore>::default());
    let how = Authorization::new(Grant::AuthorizationCode(by(person.clone(), &store)));
    let upstream = world.upstream(&how);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    upstream.login(deadline).await.unwrap();
    let login = upstream.login(deadline).await.unwrap();
    assert_eq!(login.issuer, format!("{}/as", world.base()));
    assert!(login.is_renewable);
    assert_eq!(person.asked().len(), 2);
    let registered = world.seen("/register");
    assert_eq!(registered.len(), 1);
    let wish = &registered[0].body;
    assert_eq!(wish["application_type"], "native");
    assert_eq!(wish["redirect_uris"], json!(["http://127.0.0.1:7777/callback"]));
    assert_eq!(wish["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(wish["token_endpoint_auth_method"], "none");
}

#[tokio::test]
async fn an_issuer_that_registers_nobody_says_so() {
    let world = World::new().await;
    world.laws().metadata = json!({ "registration_endpoint": null });
    let error = list(&world.upstream(&of_person(Someone::agreeable()))).await.unwrap_err();
    assert!(error.message.contains("`client_id`"), "{}", error.message);
}

#[tokio::test]
async fn a_client_proves_itself_as_the_issuer_wants_it() {
    let basic = Some(format!("Basic {}", STANDARD.encode("client-of-as-1:s+e%3Acret")));
    for (methods, header, secret) in [
        (json!(["client_secret_basic"]), basic.clone(), None),
        (json!(["client_secret_post"]), None, Some("s e:cret".to_owned())),
        (json!(["none"]), None, None),
        // RFC 8414: without a list it is the header.
        (Value::Null, basic, None),
    ] {
        let world = World::new().await;
        world.laws().metadata = json!({ "token_endpoint_auth_methods_supported": methods });
        world.laws().registration = json!({ "client_secret": "s e:cret" });
        list(&world.upstream(&of_person(Someone::agreeable()))).await.unwrap();
        let token = world.seen("/token").remove(0);
        assert_eq!(token.header("authorization"), header.as_deref(), "{methods}");
        assert_eq!(token.form("client_secret"), secret, "{methods}");
        assert_eq!(token.form("client_id").is_some(), header.is_none(), "{methods}");
    }
}

#[tokio::test]
async fn another_issuer_means_another_registration_and_sees_nothing_of_the_first() {
    let world = World::new().await;
    let person = Someone::agreeable();
    let upstream = world.upstream(&of_person(person.clone()));
    list(&upstream).await.unwrap();
    {
        let mut laws = world.laws();
        laws.issuers = vec!["/as2"];
        laws.judge =
            Box::new(|token, _| (token != Some("t2")).then(|| (401, "Bearer scope=\"new\"".to_owned())));
    }
    list(&upstream).await.unwrap();
    let asked = person.asked();
    assert_eq!(asked[0]["client_id"], "client-of-as-1");
    assert_eq!(asked[1]["client_id"], "client-of-as2-2");
    assert_eq!(asked[1]["scope"], "new");
    for seen in world.peer.seen().iter().filter(|seen| seen.path.starts_with("/as2")) {
        for secret in ["client-of-as-1", "r1", "t1"] {
            assert!(!seen.text.contains(secret) && !seen.path.contains(secret), "{seen:?}");
        }
        assert!(seen.header("authorization").is_none());
    }
}

#[tokio::test]
async fn a_client_registered_by_hand_is_not_shown_to_another_issuer() {
    let world = World::new().await;
    let person = Someone::agreeable();
    let mut code = by(person.clone(), &Arc::default());
    code.client = Some(Client::with_secret("by-hand", SecretString::from("s3cret")));
    let mut how = Authorization::new(Grant::AuthorizationCode(code));
    let upstream = world.upstream(&how);
    list(&upstream).await.unwrap();
    {
        let mut laws = world.laws();
        laws.issuers = vec!["/as2"];
        laws.judge = Box::new(|token, _| (token != Some("t2")).then(|| (401, "Bearer".to_owned())));
    }
    let error = list(&upstream).await.unwrap_err();
    assert!(error.message.contains("by-hand") && !error.message.contains("s3cret"), "{}", error.message);
    assert!(world.peer.seen().iter().all(|seen| !seen.path.starts_with("/as2/token")));
    // The operator says that it belongs there.
    how.issuer = Some(format!("{}/as2", world.base()));
    list(&world.upstream(&how)).await.unwrap();
    // And an issuer that the operator did not name is not asked at all.
    how.issuer = Some("https://only.example".to_owned());
    let error = list(&world.upstream(&how)).await.unwrap_err();
    assert!(error.message.contains("only.example"), "{}", error.message);
}

#[tokio::test]
async fn where_nobody_can_log_in_the_error_says_what_to_do_and_nobody_is_troubled() {
    let world = World::new().await;
    let error = list(&world.upstream(&of_person(Arc::new(Nobody)))).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamAuth, Sent::No));
    assert!(error.message.contains("run `login`"), "{}", error.message);
    assert!(world.peer.seen().iter().all(|seen| seen.path == "/mcp"));
}
