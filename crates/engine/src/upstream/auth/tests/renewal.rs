//! Keeping, renewing and losing a login.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::super::{Authorization, Grant, MemoryTokenStore, StoredLogin, TokenStore};
use super::world::{Nobody, Someone, World, by, list};

fn of_nobody(store: &Arc<MemoryTokenStore>) -> Authorization {
    Authorization::new(Grant::AuthorizationCode(by(Arc::new(Nobody), store)))
}

async fn kept(world: &World, store: &MemoryTokenStore) -> StoredLogin {
    store.load(&format!("{}/mcp", world.base())).await.unwrap().unwrap()
}

async fn refresh_token(world: &World, store: &MemoryTokenStore) -> Option<String> {
    let kept = serde_json::to_value(kept(world, store).await).unwrap();
    kept["tokens"]["refresh_token"].as_str().map(str::to_owned)
}

/// A world, and the login of somebody who has left since. Its access token has expired if `life` is 0.
async fn left_behind(life: u64) -> (World, Arc<MemoryTokenStore>) {
    let world = World::new().await;
    world.laws().life = Some(life);
    let store = Arc::<MemoryTokenStore>::default();
    let how = Authorization::new(Grant::AuthorizationCode(by(Someone::agreeable(), &store)));
    world.upstream(&how).login(Instant::now() + Duration::from_secs(20)).await.unwrap();
    world.laws().life = Some(3600);
    (world, store)
}

#[tokio::test]
async fn a_kept_login_is_used_without_anybody() {
    let (world, store) = left_behind(3600).await;
    list(&world.upstream(&of_nobody(&store))).await.unwrap();
    assert_eq!(world.seen("/token").len(), 1);
    // Nor is it shown before it is asked whether there is one: the first request has it already.
    assert!(world.served().iter().skip(1).all(|seen| seen.header("authorization") == Some("Bearer t1")));
}

#[tokio::test]
async fn fifty_waiting_calls_renew_an_expired_login_once_and_the_new_refresh_token_is_kept() {
    let (world, store) = left_behind(0).await;
    let upstream = world.upstream(&of_nobody(&store));
    for reply in join_all((0..50).map(|_| list(&upstream))).await {
        reply.unwrap();
    }
    let asked = world.seen("/token");
    let refreshed: Vec<_> =
        asked.iter().filter(|seen| seen.form("grant_type").as_deref() == Some("refresh_token")).collect();
    assert_eq!(refreshed.len(), 1);
    assert_eq!(refreshed[0].form("refresh_token").as_deref(), Some("r1"));
    assert_eq!(refreshed[0].form("resource"), Some(format!("{}/mcp", world.base())));
    assert_eq!(refresh_token(&world, &store).await.as_deref(), Some("r2"));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all_and_so_on_with_the_refresh_token_of_the_day() {
    let (world, store) = left_behind(3600).await;
    let upstream = world.upstream(&of_nobody(&store));
    for (bad, used) in [("t1", "r1"), ("t2", "r2")] {
        world.laws().judge = Box::new(move |token, _| {
            (token.is_none() || token == Some(bad)).then(|| (401, "Bearer".to_owned()))
        });
        for reply in join_all((0..50).map(|_| list(&upstream))).await {
            reply.unwrap();
        }
        let last = world.seen("/token").pop().unwrap();
        assert_eq!(last.form("refresh_token").as_deref(), Some(used));
    }
    assert_eq!(world.seen("/token").len(), 3);
    assert_eq!(refresh_token(&world, &store).await.as_deref(), Some("r3"));
}

#[tokio::test]
async fn a_refresh_token_that_is_not_replaced_goes_on() {
    let (world, store) = left_behind(0).await;
    world.laws().rotates = false;
    list(&world.upstream(&of_nobody(&store))).await.unwrap();
    assert_eq!(refresh_token(&world, &store).await.as_deref(), Some("r1"));
}

#[tokio::test]
async fn a_call_that_goes_away_does_not_take_the_renewal_with_it() {
    let (world, store) = left_behind(0).await;
    let upstream = world.upstream(&of_nobody(&store));
    // Dropped at its first pause, which comes before the answer of the token endpoint.
    let _ = timeout(Duration::ZERO, list(&upstream)).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while refresh_token(&world, &store).await.as_deref() != Some("r2") {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    list(&upstream).await.unwrap();
    assert_eq!(world.seen("/token").len(), 2);
}

#[tokio::test]
async fn a_login_that_was_taken_back_is_not_tried_again_and_the_error_names_the_way() {
    let (world, store) = left_behind(0).await;
    world.laws().refresh_token = "revoked".to_owned();
    let upstream = world.upstream(&of_nobody(&store));
    for _ in 0..2 {
        let error = list(&upstream).await.unwrap_err();
        assert!(error.message.contains("run `login`"), "{}", error.message);
    }
    assert_eq!(world.seen("/token").len(), 2);
    assert_eq!(refresh_token(&world, &store).await, None);
    // The client stays registered for the next login.
    assert_eq!(kept(&world, &store).await.clients.len(), 1);
}

#[tokio::test]
async fn a_login_is_never_shown_to_another_server_or_to_another_client_s_issuer() {
    let (world, store) = left_behind(3600).await;
    // Somebody put one server's login where another one's belongs.
    let mut login = kept(&world, &store).await;
    login.server = "https://other.example/mcp".to_owned();
    store.save(&format!("{}/mcp", world.base()), &login).await.unwrap();
    let seen_before = world.peer.seen().len();
    list(&world.upstream(&of_nobody(&store))).await.unwrap_err();
    assert!(world.peer.seen()[seen_before..].iter().all(|seen| seen.header("authorization").is_none()));
    // The operator accepts another issuer only.
    let (world, store) = left_behind(3600).await;
    let mut how = of_nobody(&store);
    how.issuer = Some("https://only.example".to_owned());
    let seen_before = world.peer.seen().len();
    list(&world.upstream(&how)).await.unwrap_err();
    assert!(world.peer.seen()[seen_before..].iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn tokens_go_to_the_server_alone() {
    let (server, elsewhere) = (World::new().await, World::new().await);
    // Metadata and authorization server lie on another address than the server.
    let place = format!("{}/.well-known/oauth-protected-resource/mcp", elsewhere.base());
    elsewhere.laws().resource = "";
    let challenge = format!("Bearer resource_metadata=\"{place}\"");
    server.laws().judge = Box::new(move |token, _| (token != Some("t2")).then(|| (401, challenge.clone())));
    let store = Arc::<MemoryTokenStore>::default();
    let how = Authorization::new(Grant::AuthorizationCode(by(Someone::agreeable(), &store)));
    let error = list(&server.upstream(&how)).await.unwrap_err();
    // The document at the other address is about the other address.
    assert!(error.message.contains("another resource"), "{}", error.message);
    assert!(elsewhere.seen("/token").is_empty());

    let issuer = format!("{}/as", elsewhere.base());
    let server = World::new().await;
    let base = server.base();
    elsewhere.laws().metadata = json!({ "resource": "ignored" });
    let document = json!({ "resource": format!("{base}/mcp"), "authorization_servers": [issuer] });
    server.laws().document = Some(document);
    server.laws().judge = Box::new(|token, _| (token != Some("t2")).then(|| (401, "Bearer".to_owned())));
    let upstream = server.upstream(&how);
    let _ = list(&upstream).await;
    list(&upstream).await.unwrap();
    assert_eq!(elsewhere.seen("/token").len(), 2);
    for seen in elsewhere.peer.seen() {
        assert!(seen.header("authorization").is_none() && !seen.text.contains("t1"), "{seen:?}");
    }
    assert!(server.served().iter().any(|seen| seen.header("authorization") == Some("Bearer t2")));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_by_one_call_while_the_others_go_on() {
    let (world, store) = left_behind(100).await;
    let upstream = world.upstream(&of_nobody(&store));
    list(&upstream).await.unwrap();
    assert_eq!(world.seen("/token").len(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    for reply in join_all((0..10).map(|_| list(&upstream))).await {
        reply.unwrap();
    }
    assert_eq!(world.seen("/token").len(), 2);
    // Nobody was refused on the way.
    let unauthorized = world.served().iter().filter(|seen| seen.header("authorization").is_none()).count();
    assert_eq!(unauthorized, 1, "only the login's own look at the server");
}
