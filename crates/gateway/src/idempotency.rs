//! `Idempotency-Key`: a request sent twice is run once, and both are answered alike.
//!
//! The run belongs to the key, not to the connection that brought it: it goes on when its caller leaves, so that a
//! client that tries again after a lost connection gets the answer of the first run. An answer that says that nothing
//! ran is forgotten, and the next try runs; one whose fate is unknown is kept like a good one.
//!
//! Answers are kept in memory for ten minutes, at most a thousand of them and only small ones, on the replica that ran
//! the request. It is no ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::json::Members;
use crate::problem::{Problem, ProblemType};
use crate::{Body, body};

/// Keys remembered at a time.
const MAX_KEYS: usize = 1000;

/// Bytes of an answer that is kept: with [`MAX_KEYS`] of them a quarter of a gigabyte.
const MAX_ANSWER: usize = 256 << 10;

/// How long a key is remembered.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The keys seen lately.
#[derive(Default)]
pub(crate) struct Idempotency {
    by_key: Arc<Mutex<HashMap<String, Entry>>>,
}

#[derive(Clone)]
struct Entry {
    /// What was asked under this key.
    fingerprint: String,
    expires: Instant,
    answer: watch::Receiver<Option<Kept>>,
}

/// Whether a request is the first of its key.
enum Turn {
    /// It is: the answer goes in here.
    First(watch::Sender<Option<Kept>>),
    /// It waits for the first one's answer.
    Later(watch::Receiver<Option<Kept>>),
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
    /// Dropping the future of the first caller leaves the request running until its own deadline; whoever comes with the
    /// same key hears how it ended.
    pub(crate) async fn once(
        &self,
        key: &str,
        fingerprint: String,
        deadline: Option<Instant>,
        request: BoxFuture<'static, http::Response<Body>>,
    ) -> http::Response<Body> {
        match self.turn(key, fingerprint) {
            Ok(Turn::First(answer)) => match self.run(key, request, answer).await {
                Some(kept) => kept.into_response(),
                None => lost().into_response(),
            },
            Ok(Turn::Later(mut answer)) => {
                let answered =
                    async { answer.wait_for(Option::is_some).await.ok().and_then(|kept| kept.clone()) };
                let kept = match deadline {
                    None => answered.await,
                    Some(deadline) => match timeout_at(deadline, answered).await {
                        Ok(kept) => kept,
                        Err(_) => return late().into_response(),
                    },
                };
                let mut response = kept.map_or_else(|| lost().into_response(), Kept::into_response);
                response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
                response
            }
            Err(problem) => problem.into_response(),
        }
    }

    /// The answer, whole even where it is too large to be kept; `None` when the request ended without one.
    async fn run(
        &self,
        key: &str,
        request: BoxFuture<'static, http::Response<Body>>,
        answer: watch::Sender<Option<Kept>>,
    ) -> Option<Kept> {
        let by_key = Arc::clone(&self.by_key);
        let key = key.to_owned();
        // Not aborted with its caller: that is what the key is for. The call's own deadline ends it, and there are no
        // more of them than keys.
        let running = tokio::spawn(async move {
            let kept = collect(request.await).await;
            if kept.has_not_run() {
                lock(&by_key).remove(&key);
            }
            answer.send_replace(Some(kept.small()));
            kept
        });
        running.await.ok()
    }

    fn turn(&self, key: &str, fingerprint: String) -> Result<Turn, Problem> {
        let now = Instant::now();
        let mut by_key = lock(&self.by_key);
        if let Some(entry) = by_key.get(key).filter(|entry| entry.expires > now) {
            if entry.fingerprint != fingerprint {
                let detail = "the Idempotency-Key was used for another request";
                return Err(Problem::new(ProblemType::IdempotencyConflict, detail));
            }
            return Ok(Turn::Later(entry.answer.clone()));
        }
        if by_key.len() >= MAX_KEYS {
            by_key.retain(|_, entry| entry.expires > now);
        }
        if by_key.len() >= MAX_KEYS {
            let detail = "too many idempotency keys are remembered; try later or without one";
            return Err(Problem::new(ProblemType::Overloaded, detail).retry_after(Duration::from_secs(60)));
        }
        let (sender, answer) = watch::channel(None);
        by_key.insert(key.to_owned(), Entry { fingerprint, expires: now + LIFETIME, answer });
        Ok(Turn::First(sender))
    }
}

impl Kept {
    /// Whether the answer proves that nothing ran, so that a second try may mend it.
    fn has_not_run(&self) -> bool {
        let executed = || {
            let problem = serde_json::from_slice::<&RawValue>(&self.body).ok()?;
            Members::of(problem)?.string("executed")
        };
        // A tool that ran and failed is 422.
        let is_ours = self.status.is_client_error() && self.status != StatusCode::UNPROCESSABLE_ENTITY;
        (is_ours || self.status.is_server_error()) && executed().is_none()
    }

    /// What is kept of it: all, or that it was too large.
    fn small(&self) -> Self {
        if self.body.len() <= MAX_ANSWER {
            return self.clone();
        }
        let detail = format!(
            "the request of this Idempotency-Key has run, and its answer of {} bytes was too large to be kept",
            self.body.len()
        );
        Self::of(&Problem::new(ProblemType::IdempotencyConflict, detail))
    }

    fn of(problem: &Problem) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(crate::problem::PROBLEM_JSON));
        Self { status: problem.status, headers, body: Bytes::from(problem.to_json().get().to_owned()) }
    }

    fn into_response(self) -> http::Response<Body> {
        let mut response = http::Response::new(body::full(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

async fn collect(response: http::Response<Body>) -> Kept {
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(collected) => Kept { status: parts.status, headers: parts.headers, body: collected.to_bytes() },
        Err(error) => {
            let problem = Problem::new(ProblemType::UpstreamLost, format!("the answer broke off: {error}"));
            Kept::of(&problem.with_value("executed", "unknown"))
        }
    }
}

/// The first request of the key takes longer than this one may.
fn late() -> Problem {
    let detail = "the first request of this Idempotency-Key is still under way";
    Problem::new(ProblemType::DeadlineExceeded, detail).with_value("executed", "unknown")
}

fn lost() -> Problem {
    let detail = "the request of this Idempotency-Key ended without an answer";
    Problem::new(ProblemType::UpstreamLost, detail).with_value("executed", "unknown")
}

fn lock(by_key: &Mutex<HashMap<String, Entry>>) -> MutexGuard<'_, HashMap<String, Entry>> {
    by_key.lock().unwrap_or_else(PoisonError::into_inner)
}
