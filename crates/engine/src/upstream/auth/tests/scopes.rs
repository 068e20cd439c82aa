//! Which scopes are asked for, and how often.

use std::sync::Arc;

use serde_json::json;

use super::super::{Authorization, Grant, MemoryTokenStore, TokenStore};
use super::world::{Nobody, Someone, World, by, list, of_person};

#[tokio::test]
async fn the_challenge_comes_before_the_metadata_and_the_operator_before_both() {
    for (operator, challenge, metadata, expected) in [
        (Some("mine"), Some("one two"), Some(json!(["a"])), Some("mine")),
        (None, Some("two one"), Some(json!(["a"])), Some("one two")),
        (None, None, Some(json!(["b", "a"])), Some("a b")),
        (None, None, Some(json!([])), None),
        (None, None, None, None),
    ] {
        let world = World::new().await;
        world.laws().resource_scopes = metadata;
        let header =
            challenge.map(|scope| format!("Bearer scope=\"{scope}\"")).unwrap_or("Bearer".to_owned());
        world.laws().judge = Box::new(move |token, _| token.is_none().then(|| (401, header.clone())));
        let person = Someone::agreeable();
        let mut how = of_person(person.clone());
        how.scope = operator.map(str::to_owned);
        list(&world.upstream(&how)).await.unwrap();
        assert_eq!(person.asked()[0].get("scope").map(String::as_str), expected);
    }
}

#[tokio::test]
async fn a_refresh_token_s_scope_is_asked_for_only_where_the_issuer_lists_it() {
    for (listed, expected) in [(json!(["a", "offline_access"]), "a offline_access"), (json!(["a"]), "a")] {
        let world = World::new().await;
        world.laws().resource_scopes = Some(json!(["a"]));
        world.laws().metadata = json!({ "scopes_supported": listed });
        let person = Someone::agreeable();
        list(&world.upstream(&of_person(person.clone()))).await.unwrap();
        assert_eq!(person.asked()[0]["scope"], expected);
    }
}

/// A server that wants one more scope for each token that it is shown.
async fn insatiable() -> World {
    let world = World::new().await;
    world.laws().judge = Box::new(|token, _| {
        Some(match token.and_then(|token| token.strip_prefix('t')) {
            None => (401, "Bearer scope=\"s0\"".to_owned()),
            Some(number) => (403, format!("Bearer error=\"insufficient_scope\", scope=\"s{number}\"")),
        })
    });
    world
}

#[tokio::test]
async fn a_wider_scope_is_asked_for_beside_the_earlier_ones_at_most_three_times() {
    let world = insatiable().await;
    let person = Someone::agreeable();
    list(&world.upstream(&of_person(person.clone()))).await.unwrap_err();
    let asked: Vec<String> = person.asked().iter().map(|asked| asked["scope"].clone()).collect();
    assert_eq!(asked, ["s0", "s0 s1", "s0 s1 s2"]);
    assert_eq!(world.seen("/register").len(), 1);
}

#[tokio::test]
async fn a_scope_that_was_asked_for_in_vain_is_not_asked_for_again() {
    let world = World::new().await;
    world.laws().judge = Box::new(|token, _| {
        Some(match token {
            None => (401, "Bearer scope=\"all\"".to_owned()),
            Some(_) => (403, "Bearer scope=\"all\", error=\"insufficient_scope\"".to_owned()),
        })
    });
    let person = Someone::agreeable();
    let error = list(&world.upstream(&of_person(person.clone()))).await.unwrap_err();
    assert!(error.message.contains("\"all\""), "{}", error.message);
    assert_eq!(person.asked().len(), 1);
}

#[tokio::test]
async fn a_refusal_that_is_not_about_scope_is_not_cured_by_tokens() {
    let world = World::new().await;
    world.laws().judge = Box::new(|token, _| {
        Some(if token.is_some() { (403, "Bearer".to_owned()) } else { (401, "Bearer".to_owned()) })
    });
    let person = Someone::agreeable();
    let error = list(&world.upstream(&of_person(person.clone()))).await.unwrap_err();
    assert!(error.message.contains("403"), "{}", error.message);
    assert_eq!(person.asked().len(), 1);
}

#[tokio::test]
async fn a_scope_that_nobody_could_grant_is_asked_for_at_the_next_login() {
    let world = World::new().await;
    world.laws().judge = Box::new(|token, _| match token {
        None => Some((401, "Bearer scope=\"read\"".to_owned())),
        Some("t1") => Some((403, "Bearer scope=\"write\", error=\"insufficient_scope\"".to_owned())),
        Some(_) => None,
    });
    let store = Arc::<MemoryTokenStore>::default();
    let person = Someone::agreeable();
    let how = |code| Authorization::new(Grant::AuthorizationCode(code));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let attended = world.upstream(&how(by(person.clone(), &store)));
    attended.login(deadline).await.unwrap();
    let alone = world.upstream(&how(by(Arc::new(Nobody), &store)));
    let error = list(&alone).await.unwrap_err();
    assert!(
        error.message.contains("\"write\"") && error.message.contains("run `login`"),
        "{}",
        error.message
    );
    let server = format!("{}/mcp", world.base());
    let kept = store.load(&server).await.unwrap().unwrap();
    assert_eq!(kept.wanted_scope.as_deref(), Some("write"));
    attended.login(deadline).await.unwrap();
    assert_eq!(person.asked()[1]["scope"], "read write");
    assert_eq!(store.load(&server).await.unwrap().unwrap().wanted_scope, None);
    // The process that was alone all the time finds the new login by itself.
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    tokio::time::resume();
    list(&alone).await.unwrap();
}
