//! `Idempotency-Key`: a request sent twice is run once, and both are answered alike.
//!
//! Answers are kept in memory for ten minutes, at most a thousand of them and only small ones: this shields a client
//! that tries again after a lost connection, on the replica it reached before. It is no ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::problem::{Problem, ProblemType};
use crate::{Body, body};

/// Keys remembered at a time.
const MAX_KEYS: usize = 1000;

/// Bytes of an answer that is kept.
const MAX_ANSWER: usize = 1 << 20;

/// How long a key is remembered.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The keys seen lately.
#[derive(Default)]
pub(crate) struct Idempotency {
    by_key: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone)]
struct Entry {
    /// What was asked under this key.
    fingerprint: String,
    expires: Instant,
    answer: Arc<OnceCell<Kept>>,
}

#[derive(Clone)]
struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Idempotency {
    /// Runs `request` unless `key` has been answered or is under way; in either case the answer is that one's.
    ///
    /// # Cancel safety
    /// Whoever waits with the same key takes over when the future is dropped, and runs the request again: whether the first
    /// run had happened is not known, as with any request whose connection was lost.
    pub(crate) async fn once<'a>(
        &self,
        key: &str,
        fingerprint: String,
        request: BoxFuture<'a, http::Response<Body>>,
    ) -> http::Response<Body> {
        let entry = match self.entry(key, fingerprint) {
            Ok(entry) => entry,
            Err(problem) => return problem.into_response(),
        };
        let mut first = false;
        let kept = entry
            .answer
            .get_or_init(|| {
                first = true;
                async { keep(request.await).await }
            })
            .await
            .clone();
        // A failure that a second try may mend is not held against it.
        if first && (kept.status.is_server_error() || kept.body.len() > MAX_ANSWER) {
            self.lock().remove(key);
        }
        let mut response = http::Response::new(body::full(kept.body));
        *response.status_mut() = kept.status;
        *response.headers_mut() = kept.headers;
        if !first {
            response.headers_mut().insert("idempotent-replayed", http::HeaderValue::from_static("true"));
        }
        response
    }

    fn entry(&self, key: &str, fingerprint: String) -> Result<Entry, Problem> {
        let now = Instant::now();
        let mut by_key = self.lock();
        if let Some(entry) = by_key.get(key).filter(|entry| entry.expires > now) {
            if entry.fingerprint != fingerprint {
                let detail = "the Idempotency-Key was used for another request";
                return Err(Problem::new(ProblemType::IdempotencyConflict, detail));
            }
            return Ok(entry.clone());
        }
        if by_key.len() >= MAX_KEYS {
            by_key.retain(|_, entry| entry.expires > now);
        }
        if by_key.len() >= MAX_KEYS {
            let detail = "too many idempotency keys are remembered; try later or without one";
            return Err(Problem::new(ProblemType::Overloaded, detail).retry_after(Duration::from_secs(60)));
        }
        let entry = Entry { fingerprint, expires: now + LIFETIME, answer: Arc::default() };
        by_key.insert(key.to_owned(), entry.clone());
        Ok(entry)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep(response: http::Response<Body>) -> Kept {
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(collected) => Kept { status: parts.status, headers: parts.headers, body: collected.to_bytes() },
        Err(error) => {
            let problem = Problem::new(ProblemType::UpstreamLost, format!("the answer broke off: {error}"));
            let json = Bytes::from(problem.to_json().get().to_owned());
            Kept { status: problem.status, headers: HeaderMap::new(), body: json }
        }
    }
}
