//! Who we are at an authorization server: registered by hand, else by a document of our own, else by ourselves.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::super::UpstreamError;
use super::assertion::unix_now;
use super::config::{AuthorizationCode, Client, ClientAuthentication};
use super::discovery::Found;
use super::errand::Errand;
use super::outside::refused;
use super::store::{StoredClient, StoredLogin};
use super::token::{Method, Registered, shortened};

/// What a registration endpoint gives (RFC 7591 §3.2.1).
#[derive(Deserialize)]
struct Registration {
    client_id: String,
    client_secret: Option<SecretString>,
    token_endpoint_auth_method: Option<String>,
    #[serde(default)]
    client_secret_expires_at: u64,
}

/// The client that the operator has registered, at this issuer.
///
/// # Errors
/// It has been used at another issuer, and the operator did not say that it belongs to this one.
pub(super) fn by_hand(
    errand: &Errand<'_>,
    client: &Client,
    login: &mut StoredLogin,
) -> Result<Registered, UpstreamError> {
    let Errand { found, only, .. } = *errand;
    let elsewhere = login.clients.iter().find(|(issuer, known)| {
        **issuer != found.issuer && known.id == client.id && known.redirect_uri.is_none()
    });
    if let (Some((issuer, _)), None) = (elsewhere, only) {
        // A client's secret must not reach another authorization server because the MCP server says so.
        return Err(refused(format!(
            "the server now names the authorization server {:?}, where the client {:?} of {issuer:?} is not used; \
             if it is registered there too, give that `issuer`",
            found.issuer, client.id
        )));
    }
    let method = Method::settle(&client.authentication, None, found.methods.as_deref());
    let known =
        StoredClient { id: client.id.clone(), method: method.as_str().to_owned(), ..StoredClient::default() };
    login.clients.insert(found.issuer.clone(), known);
    Ok(Registered { id: client.id.clone(), authentication: client.authentication.clone(), method })
}

/// The redirect URI that our registration at this issuer knows, if we registered ourselves.
pub(super) fn registered_redirect<'a>(found: &Found, login: &'a StoredLogin) -> Option<&'a str> {
    login.clients.get(&found.issuer)?.redirect_uri.as_deref()
}

/// The client for a grant of a person.
///
/// # Errors
/// There is no way to become a client of this issuer, or it refuses.
pub(super) async fn for_person(
    errand: &Errand<'_>,
    code: &AuthorizationCode,
    login: &mut StoredLogin,
    redirect_uri: &str,
) -> Result<Registered, UpstreamError> {
    let found = errand.found;
    if let Some(client) = &code.client {
        return by_hand(errand, client, login);
    }
    if let Some(url) = code.metadata_url.as_ref().filter(|_| found.takes_metadata_urls) {
        let known = StoredClient {
            id: url.clone(),
            method: Method::None.as_str().to_owned(),
            ..StoredClient::default()
        };
        login.clients.insert(found.issuer.clone(), known);
        let authentication = ClientAuthentication::None;
        return Ok(Registered { id: url.clone(), authentication, method: Method::None });
    }
    let known = login.clients.get(&found.issuer);
    if let Some(known) = known.filter(|known| is_usable(known, redirect_uri)) {
        return Ok(registered(known));
    }
    register(errand, code, login, redirect_uri).await
}

fn is_usable(known: &StoredClient, redirect_uri: &str) -> bool {
    known.redirect_uri.as_deref() == Some(redirect_uri) && known.expires_at.is_none_or(|at| at > unix_now())
}

/// A client as it is kept.
pub(super) fn registered(known: &StoredClient) -> Registered {
    Registered {
        id: known.id.clone(),
        authentication: known.secret.clone().map_or(ClientAuthentication::None, ClientAuthentication::Secret),
        method: Method::parse(&known.method).unwrap_or(Method::None),
    }
}

/// Dynamic client registration (RFC 7591), with the `application_type` that MCP demands.
async fn register(
    errand: &Errand<'_>,
    code: &AuthorizationCode,
    login: &mut StoredLogin,
    redirect_uri: &str,
) -> Result<Registered, UpstreamError> {
    let Errand { outside, found, deadline, .. } = *errand;
    let Some(endpoint) = &found.registration_endpoint else {
        return Err(refused(format!(
            "the authorization server {:?} registers no clients by itself: register one there by hand and give its \
             `client_id`",
            found.issuer
        )));
    };
    let offers = |method: Method| {
        found.methods.as_ref().is_some_and(|all| all.iter().any(|one| one == method.as_str()))
    };
    // A program on somebody's machine keeps no secret well: it asks for none where it may.
    let wanted = match () {
        () if offers(Method::None) => Method::None,
        () if offers(Method::Basic) || !offers(Method::Post) => Method::Basic,
        () => Method::Post,
    };
    // A redirect to this machine is what makes a client native (OpenID Connect Registration §2).
    let is_native = redirect_uri.starts_with("http://");
    let wish = json!({
        "client_name": code.name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": wanted.as_str(),
        "application_type": if is_native { "native" } else { "web" },
    });
    let answer = outside.post_json(endpoint, &wish, deadline).await?;
    if !answer.status.is_success() {
        let why = shortened(&String::from_utf8_lossy(&answer.body));
        return Err(refused(format!(
            "the authorization server registers no client: HTTP status {}: {why}",
            answer.status.as_u16()
        )));
    }
    let given: Registration = serde_json::from_slice(&answer.body)
        .map_err(|_| refused("the registration endpoint's answer is not one"))?;
    let authentication =
        given.client_secret.clone().map_or(ClientAuthentication::None, ClientAuthentication::Secret);
    let method = given.token_endpoint_auth_method.as_deref().unwrap_or(wanted.as_str());
    let method = Method::settle(&authentication, Some(method), found.methods.as_deref());
    info!(issuer = %found.issuer, client = %given.client_id, "client registered");
    let known = StoredClient {
        id: given.client_id,
        secret: given.client_secret,
        method: method.as_str().to_owned(),
        redirect_uri: Some(redirect_uri.to_owned()),
        expires_at: Some(given.client_secret_expires_at).filter(|at| *at > 0),
    };
    let client = registered(&known);
    login.clients.insert(found.issuer.clone(), known);
    Ok(client)
}
