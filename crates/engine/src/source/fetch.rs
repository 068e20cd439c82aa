//! Asks a registry over HTTP: one request, one JSON document, bounded in bytes and time.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Method, Request, Uri};
use http_body_util::BodyExt;
use mpe_transport::{ExchangeOptions, Origin, Pool, Wire};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::SourceError;

/// Bytes of one answer, at most.
const MAX_ANSWER: u64 = 8 << 20;

/// Whoever asks.
#[derive(Clone)]
pub(super) struct Fetcher {
    pool: Pool,
}

impl Fetcher {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The document at `uri`.
    pub(super) async fn get(
        &self,
        uri: &Uri,
        headers: &[(HeaderName, SecretString)],
        deadline: Instant,
    ) -> Result<Value, SourceError> {
        self.ask(Method::GET, uri, headers, Bytes::new(), deadline).await
    }

    /// The answer to a JSON document.
    pub(super) async fn post(
        &self,
        uri: &Uri,
        headers: &[(HeaderName, SecretString)],
        body: &Value,
        deadline: Instant,
    ) -> Result<Value, SourceError> {
        self.ask(Method::POST, uri, headers, Bytes::from(body.to_string()), deadline).await
    }

    async fn ask(
        &self,
        method: Method,
        uri: &Uri,
        headers: &[(HeaderName, SecretString)],
        body: Bytes,
        deadline: Instant,
    ) -> Result<Value, SourceError> {
        let origin = Origin::of(uri, Wire::Auto).map_err(|error| SourceError(error.to_string()))?;
        let mut request = Request::new(body);
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value.expose_secret())
                .map_err(|_| SourceError(format!("the value of `{name}` cannot stand in a header")))?;
            value.set_sensitive(true);
            request.headers_mut().insert(name.clone(), value);
        }
        let mut options = ExchangeOptions::default();
        options.deadline = Some(deadline);
        options.max_response_bytes = Some(MAX_ANSWER);
        let lost = |error: mpe_transport::Error| SourceError(format!("it cannot be asked: {error}"));
        let response = self.pool.send_with(&origin, request, options).await.map_err(lost)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(lost)?.to_bytes();
        if !status.is_success() {
            return Err(SourceError(format!("it answered with HTTP status {}", status.as_u16())));
        }
        serde_json::from_slice(&body)
            .map_err(|error| SourceError(format!("its answer is no JSON document: {error}")))
    }
}
