//! A person's grant: the authorization request, and what the browser brings back (OAuth 2.1 §4.1, RFC 9207).

use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use tokio::time::timeout_at;
use url::Url;

use super::super::UpstreamError;
use super::challenge::Scopes;
use super::config::AuthorizationCode;
use super::discovery::{Found, OFFLINE_ACCESS};
use super::errand::Errand;
use super::outside::refused;
use super::registration;
use super::store::StoredLogin;
use super::token::{self, Registered, Rejection, shortened};

/// Has the person grant these scopes, and exchanges the code for tokens.
///
/// # Errors
/// The authorization server lacks what is demanded of it, nobody came back, or what came back is not its answer.
pub(super) async fn grant(
    errand: &Errand<'_>,
    code: &AuthorizationCode,
    login: &mut StoredLogin,
    scopes: &Scopes,
) -> Result<(Registered, BasicTokenResponse), Rejection> {
    let Errand { outside, found, resource, deadline, .. } = *errand;
    let Some(endpoint) = &found.authorization_endpoint else {
        return Err(refused("the authorization server has no authorization endpoint").into());
    };
    outside.check(endpoint)?;
    if !found.has_s256 {
        // 2026-07-28, security considerations: without the promise there may be no protection.
        return Err(refused("the authorization server does not offer PKCE with S256").into());
    }
    let registered = registration::registered_redirect(found, login).map(str::to_owned);
    let redirect_uri = code.person.redirect_uri(registered.as_deref()).await.map_err(refused)?;
    let client = registration::for_person(errand, code, login, &redirect_uri).await?;

    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state) = url_of(endpoint, &client, &redirect_uri, scopes, resource, challenge)?;
    let back = timeout_at(deadline, code.person.authorize(url.as_str())).await;
    let back = back.map_err(|_| UpstreamError::deadline(mpe_transport::Sent::No, "the login"))?;
    let back = back.map_err(refused)?;
    let granted = read(&back, &redirect_uri, state.secret(), found)?;

    let form = vec![
        ("grant_type", "authorization_code".to_owned()),
        ("code", granted),
        ("redirect_uri", redirect_uri),
        ("code_verifier", verifier.secret().clone()),
        ("resource", resource.to_owned()),
    ];
    let answer = token::ask(outside, found.desk(), &client, form, deadline).await?;
    Ok((client, answer))
}

fn url_of(
    endpoint: &http::Uri,
    client: &Registered,
    redirect_uri: &str,
    scopes: &Scopes,
    resource: &str,
    challenge: PkceCodeChallenge,
) -> Result<(Url, CsrfToken), UpstreamError> {
    let invalid = |error| refused(format!("no URL: {error}"));
    let asking = BasicClient::new(ClientId::new(client.id.clone()))
        .set_auth_uri(AuthUrl::new(endpoint.to_string()).map_err(invalid)?)
        .set_redirect_uri(RedirectUrl::new(redirect_uri.to_owned()).map_err(invalid)?);
    let mut request = asking
        .authorize_url(CsrfToken::new_random)
        .set_pkce_challenge(challenge)
        .add_extra_param("resource", resource);
    if let Some(scopes) = scopes.text() {
        request = request.add_scope(Scope::new(scopes));
    }
    if scopes.contains(OFFLINE_ACCESS) {
        // OpenID Connect Core §11: without it the scope may be ignored.
        request = request.add_extra_param("prompt", "consent");
    }
    Ok(request.url())
}

/// The code in what came back, once it is proven to be this authorization server's answer to this request.
fn read(back: &str, redirect_uri: &str, state: &str, found: &Found) -> Result<String, UpstreamError> {
    let no_url = |_| refused("the browser came back by something that is no URL");
    let (back, ours) = (Url::parse(back).map_err(no_url)?, Url::parse(redirect_uri).map_err(no_url)?);
    if back.origin() != ours.origin() || back.path() != ours.path() {
        return Err(refused("the browser came back to another address than the one given"));
    }
    let one = |name: &str| -> Result<Option<String>, UpstreamError> {
        let mut values =
            back.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            // RFC 6749 §3.1: no parameter twice.
            _ => Err(refused(format!("the browser came back with `{name}` twice"))),
        }
    };
    if one("state")?.as_deref() != Some(state) {
        return Err(refused("the browser came back with another `state`: this is no answer to our request"));
    }
    // RFC 9207 §2.4: compared as text, before anything else of the answer is believed, an error included.
    match one("iss")? {
        Some(issuer) if issuer != found.issuer => {
            return Err(refused(format!(
                "the answer to the login comes from the issuer {:?}, not from {:?}",
                shortened(&issuer),
                found.issuer
            )));
        }
        None if found.names_itself => {
            return Err(refused("the answer to the login does not say who gives it (`iss`), as it should"));
        }
        _ => {}
    }
    if let Some(error) = one("error")? {
        let about = one("error_description")?.map(|text| format!(": {}", shortened(&text)));
        let about = about.unwrap_or_default();
        return Err(refused(format!("the login was not granted: {}{about}", shortened(&error))));
    }
    one("code")?.ok_or_else(|| refused("the browser came back without a code"))
}
