//! What is kept, counted and logged from the head of a request to the end of its answer.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method};
use http_body::{Frame, SizeHint};
use metrics::{Counter, Histogram};
use tokio::time::Instant;

use crate::{Body, BoxError};

/// A request under way. Dropped before [`end`](Guarded::end), it says that its caller left.
pub(crate) struct Guarded {
    /// `None`: nobody reads the logs of requests.
    logged: Option<Logged>,
    began: Instant,
    is_open: bool,
}

/// What the logs say of a request.
struct Logged {
    method: Method,
    path: String,
    id: HeaderValue,
}

impl Guarded {
    pub(crate) fn begin(request: &Parts, id: &HeaderValue) -> Self {
        let logged = tracing::enabled!(tracing::Level::DEBUG).then(|| Logged {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            id: id.clone(),
        });
        Self { logged, began: Instant::now(), is_open: true }
    }

    /// Counts and logs the answer's head.
    pub(crate) fn end(
        mut self,
        meters: &Meters,
        face: &'static str,
        response: http::Response<Body>,
    ) -> http::Response<Body> {
        self.is_open = false;
        let elapsed = self.began.elapsed();
        let status = response.status().as_u16();
        meters.answered(face, status, elapsed);
        if let Some(Logged { method, path, id }) = &self.logged {
            tracing::debug!(
                id = id.to_str().unwrap_or_default(),
                %method,
                path,
                face,
                status,
                milliseconds = elapsed.as_millis(),
                "request answered"
            );
        }
        response
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        metrics::counter!("mpe_gateway_disconnects_total").increment(1);
        if let Some(Logged { method, path, id }) = &self.logged {
            tracing::debug!(
                id = id.to_str().unwrap_or_default(),
                %method,
                path,
                milliseconds = self.began.elapsed().as_millis(),
                "caller left before its answer"
            );
        }
    }
}

/// What is counted per face, looked up in the recorder once instead of with every request.
#[derive(Default)]
pub(crate) struct Meters {
    faces: [FaceMeters; FACES.len()],
}

#[derive(Default)]
struct FaceMeters {
    requests: [OnceLock<Counter>; CLASSES.len()],
    seconds: OnceLock<Histogram>,
}

/// Every value of the label `face`; the first stands for requests that reached none.
const FACES: [&str; 7] = ["none", "admin", "batch", "documents", "graphql", "mcp", "rest"];

/// Every value of the label `status`. Classes instead of every status keep the number of series small.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Meters {
    fn answered(&self, face: &'static str, status: u16, elapsed: Duration) {
        debug_assert!(FACES.contains(&face), "the face {face} has no meters");
        let slot = FACES.iter().position(|known| *known == face).unwrap_or(0);
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        let (face, meters) = (FACES[slot], &self.faces[slot]);
        let requests = meters.requests[class].get_or_init(
            || metrics::counter!("mpe_gateway_requests_total", "face" => face, "status" => CLASSES[class]),
        );
        requests.increment(1);
        let seconds =
            meters.seconds.get_or_init(|| metrics::histogram!("mpe_gateway_request_seconds", "face" => face));
        seconds.record(elapsed.as_secs_f64());
    }
}

/// `body`, with something that lives as long as it.
pub(crate) fn with<T: Send + Unpin + 'static>(
    body: Body,
    kept: T,
) -> impl http_body::Body<Data = Bytes, Error = BoxError> + Send {
    With { body, _kept: kept }
}

struct With<T> {
    body: Body,
    _kept: T,
}

impl<T: Unpin> http_body::Body for With<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
