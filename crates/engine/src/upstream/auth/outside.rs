//! Requests to addresses that a server named: over the pool, small, quick, and not into our own house.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use mpe_transport::{ExchangeOptions, Origin, Pool, Sent, Wire};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::debug;

use super::super::UpstreamError;
use super::address::{self, Reach};
use crate::CallErrorKind;

/// One request to an authorization server may take this long.
const STEP: Duration = Duration::from_secs(10);
/// Bytes of a metadata document or token answer, at most.
const MAX_ANSWER: u64 = 256 << 10;

/// The way to whatever a server names.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) pool: Pool,
    /// The MCP server, as the operator gave it.
    pub(super) server: Uri,
    pub(super) private_networks: bool,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Outside {
    /// A JSON document; `None` when there is none at that address. A redirect is none: it is not followed.
    ///
    /// # Errors
    /// The address is not asked, nobody answers there, or what is there is no such document.
    pub(super) async fn document<T: DeserializeOwned>(
        &self,
        uri: &Uri,
        what: &str,
        deadline: Instant,
    ) -> Result<Option<T>, UpstreamError> {
        let answer = self.send(request(Method::GET, uri, Bytes::new()), deadline).await?;
        debug!(%uri, status = answer.status.as_u16(), "metadata asked for");
        if !answer.status.is_success() {
            return Ok(None);
        }
        let document = serde_json::from_slice(&answer.body);
        document.map(Some).map_err(|error| refused(format!("{what}: {error}")))
    }

    /// A POST of JSON.
    ///
    /// # Errors
    /// The address is not asked, or nobody answers there.
    pub(super) async fn post_json(
        &self,
        uri: &Uri,
        body: &serde_json::Value,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let mut request = request(Method::POST, uri, body.to_string().into());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(request, deadline).await
    }

    /// A POST of a form.
    ///
    /// # Errors
    /// The address is not asked, or nobody answers there.
    pub(super) async fn post_form(
        &self,
        uri: &Uri,
        form: &[(&str, String)],
        headers: HeaderMap,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = request(Method::POST, uri, body.into());
        request.headers_mut().extend(headers);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        self.send(request, deadline).await
    }

    async fn send(&self, request: Request<Bytes>, deadline: Instant) -> Result<Answer, UpstreamError> {
        let reach = self.check(request.uri())?;
        let mut origin = Origin::of(request.uri(), Wire::Auto)?;
        if reach == Reach::Public {
            origin = origin.public_only();
        }
        let mut options = ExchangeOptions::default();
        options.deadline = Some(deadline.min(Instant::now() + STEP));
        options.max_response_bytes = Some(MAX_ANSWER);
        // Whatever fails here, the call itself was never sent.
        let unsent = |error| UpstreamError::from(error).before_sending();
        let response = self.pool.send_with(&origin, request, options).await.map_err(unsent)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(unsent)?.to_bytes();
        Ok(Answer { status, body })
    }

    /// Whether an address that the server named is used at all, by us or by a person's browser.
    ///
    /// # Errors
    /// One sentence why not.
    pub(super) fn check(&self, uri: &Uri) -> Result<Reach, UpstreamError> {
        address::reach(uri, &self.server, self.private_networks).map_err(refused)
    }
}

fn request(method: Method, uri: &Uri, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

/// No token: nothing was sent to the server itself.
pub(super) fn refused(why: impl Into<String>) -> UpstreamError {
    UpstreamError::new(CallErrorKind::UpstreamAuth, Sent::No, why)
}

/// An absolute URL that somebody named.
///
/// # Errors
/// It is none.
pub(super) fn parse(text: &str) -> Result<Uri, UpstreamError> {
    text.parse().map_err(|_| refused(format!("no URL: {text:?}")))
}
