//! Credentials that the engine gets for itself: OAuth 2.1 client credentials, found out from the server's challenge.
//!
//! A 401 names the protected-resource metadata (RFC 9728), that names the authorization server, and its metadata
//! (RFC 8414) name the token endpoint. A token is fetched once for all waiting calls, is bound to this server (RFC 8707
//! `resource`) and goes nowhere else.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use mpe_transport::{ExchangeOptions, Origin, Pool, Sent, Wire};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::UpstreamError;
use crate::CallErrorKind;

mod discovery;
mod url;

/// How the engine authorizes itself at an upstream (OAuth 2.1 client credentials).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientCredentials {
    /// The client's id at the authorization server.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// The scope to ask for. `None`: what the server's challenge names, else what its metadata list.
    pub scope: Option<String>,
}

impl ClientCredentials {
    /// Credentials that ask for whatever scope the server wants.
    pub fn new(client_id: impl Into<String>, client_secret: SecretString) -> Self {
        Self { client_id: client_id.into(), client_secret, scope: None }
    }
}

impl PartialEq for ClientCredentials {
    fn eq(&self, other: &Self) -> bool {
        self.client_id == other.client_id
            && self.scope == other.scope
            && self.client_secret.expose_secret() == other.client_secret.expose_secret()
    }
}

/// Gets, keeps and renews the token for one server.
pub(super) struct Authorizer {
    pool: Pool,
    resource: Uri,
    credentials: ClientCredentials,
    current: ArcSwapOption<Token>,
    /// Held while a token is fetched: everybody else waits for that one.
    fetching: tokio::sync::Mutex<()>,
}

struct Token {
    header: HeaderValue,
    /// When it is fetched anew: before it expires.
    renew_at: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// A token is fetched anew this long before it expires, or after half of its life if that is shorter.
const MARGIN: Duration = Duration::from_secs(60);
/// One request to an authorization server may take this long.
const STEP: Duration = Duration::from_secs(10);
/// Bytes of a metadata document or token answer, at most.
const MAX_ANSWER: u64 = 256 << 10;

impl Authorizer {
    pub(super) fn new(pool: Pool, resource: Uri, credentials: ClientCredentials) -> Self {
        let (current, fetching) = (ArcSwapOption::empty(), tokio::sync::Mutex::default());
        Self { pool, resource, credentials, current, fetching }
    }

    /// The token in hand; `None` when there is none yet, or when it is about to expire.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let token = self.current.load_full()?;
        let is_fresh = token.renew_at.is_none_or(|at| Instant::now() < at);
        is_fresh.then(|| token.header.clone())
    }

    /// The server wants credentials, or others than `used`: fetches a token, by one call for all.
    ///
    /// # Errors
    /// [`CallErrorKind::UpstreamAuth`], saying which step failed; nothing was executed.
    pub(super) async fn renew(
        &self,
        used: Option<&HeaderValue>,
        challenge: &HeaderMap,
        deadline: Instant,
    ) -> Result<HeaderValue, UpstreamError> {
        let fetching = timeout_at(deadline, self.fetching.lock()).await;
        let _fetching = fetching.map_err(|_| UpstreamError::deadline(Sent::No, "a token"))?;
        if let Some(header) = self.header().filter(|header| Some(header) != used) {
            return Ok(header);
        }
        let challenge =
            challenge.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = Arc::new(self.fetch(challenge, deadline).await?);
        let header = token.header.clone();
        self.current.store(Some(token));
        Ok(header)
    }

    async fn fetch(&self, challenge: &str, deadline: Instant) -> Result<Token, UpstreamError> {
        let found = discovery::discover(self, challenge, deadline).await?;
        let scope =
            self.credentials.scope.clone().or_else(|| url::parameter(challenge, "scope")).or(found.scope);
        let resource = url::canonical(&self.resource);
        let mut form = vec![("grant_type", "client_credentials"), ("resource", resource.as_str())];
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let (id, secret) =
            (self.credentials.client_id.as_str(), self.credentials.client_secret.expose_secret());
        if !found.basic {
            form.extend([("client_id", id), ("client_secret", secret)]);
        }
        let mut request = Request::new(Bytes::from(url::form(&form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = found.token_endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if found.basic {
            // RFC 6749 §2.3.1: both parts are form-encoded first.
            let pair = format!("{}:{}", url::encode(id), url::encode(secret));
            headers.insert(AUTHORIZATION, secret_header(&format!("Basic {}", STANDARD.encode(pair)))?);
        }
        let (status, body) = self.exchange(request, deadline).await?;
        if !status.is_success() {
            return Err(refused(format!("the token endpoint answered with HTTP status {}", status.as_u16())));
        }
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| refused("the token endpoint's answer is not one".to_owned()))?;
        if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(refused("the token endpoint gave a token that is no bearer token".to_owned()));
        }
        info!(server = %self.resource, issuer = %found.issuer, "token fetched");
        let life = answer.expires_in.map(Duration::from_secs);
        Ok(Token {
            header: secret_header(&format!("Bearer {}", answer.access_token))?,
            renew_at: life.map(|life| Instant::now() + life.saturating_sub(MARGIN).max(life / 2)),
        })
    }

    /// A document; `None` when there is none at that address.
    async fn document(&self, uri: &Uri, deadline: Instant) -> Result<Option<Bytes>, UpstreamError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let (status, body) = self.exchange(request, deadline).await?;
        debug!(%uri, status = status.as_u16(), "metadata asked for");
        Ok(status.is_success().then_some(body))
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<(StatusCode, Bytes), UpstreamError> {
        let uri = request.uri().clone();
        url::permitted(&uri, &self.resource).map_err(refused)?;
        let origin = Origin::of(&uri, Wire::Auto)?;
        let mut options = ExchangeOptions::default();
        options.deadline = Some(deadline.min(Instant::now() + STEP));
        options.max_response_bytes = Some(MAX_ANSWER);
        // Whatever fails here, the call itself was never sent.
        let unsent = |error| UpstreamError::from(error).before_sending();
        let response = self.pool.send_with(&origin, request, options).await.map_err(unsent)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(unsent)?.to_bytes();
        Ok((status, body))
    }
}

fn secret_header(text: &str) -> Result<HeaderValue, UpstreamError> {
    let mut header = HeaderValue::from_str(text)
        .map_err(|_| refused("the credentials hold bytes that no header may hold".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn refused(why: String) -> UpstreamError {
    UpstreamError::new(CallErrorKind::UpstreamAuth, Sent::No, why)
}

#[cfg(test)]
mod tests;
