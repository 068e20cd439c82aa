//! One event in, one reply out, without the Runtime API.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};
use mpe_gateway::{Body, BoxError, Deadline, Gateway};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::direct::{DirectEvent, DirectReply};
use crate::event::{Event, HttpShape};
use crate::reply::{self, MAX_PAYLOAD_BYTES};
use crate::{InvocationError, InvocationErrorKind};

/// How replies are given.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Stream replies to Function URL events. The function URL's invoke mode must be `RESPONSE_STREAM`: an event does
    /// not tell, and in the other mode the reply would arrive as gibberish. Default: off.
    pub streaming: bool,
}

impl Options {
    /// Turns [`Options::streaming`] on or off.
    #[must_use]
    pub fn streaming(mut self, streaming: bool) -> Self {
        self.streaming = streaming;
        self
    }
}

/// A reply to an event.
#[derive(Debug)]
pub enum Answer {
    /// The whole reply, in the event's own shape; at most [`MAX_PAYLOAD_BYTES`].
    Buffered(Box<RawValue>),
    /// Head and body of an HTTP response, for response streaming.
    Streaming {
        /// The status.
        status: StatusCode,
        /// The headers, cookies left out.
        headers: HeaderMap,
        /// Every `Set-Cookie`.
        cookies: Vec<String>,
        /// The body. Dropping it cancels the call behind it.
        body: ResponseStream,
    },
}

/// A response body as a stream of chunks.
pub struct ResponseStream {
    body: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>,
}

impl Stream for ResponseStream {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseStream")
    }
}

/// A gateway that answers Lambda events. Cheap to clone.
#[derive(Clone)]
pub struct Handler {
    gateway: Gateway,
    options: Options,
}

impl Handler {
    /// Answers with `gateway`.
    pub fn new(gateway: Gateway, options: Options) -> Self {
        Self { gateway, options }
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Answers one event. `deadline` becomes the call's; the reply is complete by then or an error says that it is not.
    ///
    /// # Errors
    /// Every [`InvocationErrorKind`]. An event that describes an HTTP request is always answered once it could be read:
    /// its failures are HTTP responses.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call behind it; the call may have run.
    pub async fn handle(
        &self,
        payload: &RawValue,
        deadline: Option<Instant>,
    ) -> Result<Answer, InvocationError> {
        match Event::parse(payload)? {
            Event::Direct(event) => self.direct(*event, deadline).await.map(Answer::Buffered),
            Event::Http { request, shape: HttpShape::PayloadV2 } if self.options.streaming => {
                Ok(stream(self.send(*request, deadline).await))
            }
            Event::Http { request, shape } => {
                let response = self.send(*request, deadline).await;
                let response =
                    collect(response, deadline).await.unwrap_or_else(|broken| broken.into_response());
                Ok(Answer::Buffered(reply::http(shape, &response)))
            }
        }
    }

    async fn direct(
        &self,
        event: DirectEvent,
        deadline: Option<Instant>,
    ) -> Result<Box<RawValue>, InvocationError> {
        let mut response = self.send(event.request, deadline).await;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && let Some(otherwise) = event.otherwise
        {
            response = self.send(otherwise, deadline).await;
        }
        let response = collect(response, deadline).await.map_err(Broken::into_error)?;
        match event.reply {
            DirectReply::Json => reply::json(&response),
            DirectReply::Message => reply::message(&response),
        }
    }

    async fn send(&self, request: Request<Bytes>, deadline: Option<Instant>) -> Response<Body> {
        let mut request =
            request.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(Deadline(deadline));
        }
        self.gateway.handle(request).await
    }
}

fn stream(response: Response<Body>) -> Answer {
    let (mut parts, body) = response.into_parts();
    let cookies = reply::cookies(&parts.headers);
    parts.headers.remove(http::header::SET_COOKIE);
    let body = ResponseStream { body: Box::pin(body.into_data_stream().map_err(std::io::Error::other)) };
    Answer::Streaming { status: parts.status, headers: parts.headers, cookies, body }
}

/// Why a response did not arrive whole.
enum Broken {
    /// The deadline passed.
    Deadline,
    /// The body broke off.
    Failed(String),
    /// The body has more bytes than Lambda carries.
    TooLarge,
}

impl Broken {
    fn into_response(self) -> Response<Bytes> {
        let detail = self.detail();
        match self {
            Self::Deadline => {
                reply::problem(StatusCode::GATEWAY_TIMEOUT, "deadline", "deadline passed", &detail)
            }
            Self::Failed(_) => {
                reply::problem(StatusCode::BAD_GATEWAY, "reply-broken", "answer broke off", &detail)
            }
            Self::TooLarge => reply::problem(
                StatusCode::BAD_GATEWAY,
                "reply-too-large",
                "reply too large for Lambda",
                &detail,
            ),
        }
    }

    fn into_error(self) -> InvocationError {
        let kind = match self {
            Self::Deadline => InvocationErrorKind::Deadline,
            Self::Failed(_) | Self::TooLarge => InvocationErrorKind::Reply,
        };
        InvocationError::new(kind, self.detail())
    }

    fn detail(&self) -> String {
        match self {
            Self::Deadline => {
                "the invocation's time ran out before the answer was complete; whether the call ran is unknown. Raise \
                 the function's timeout, or use response streaming for streams that do not end"
                    .to_owned()
            }
            Self::Failed(cause) => format!("the answer broke off: {cause}"),
            Self::TooLarge => format!(
                "the answer has more than {MAX_PAYLOAD_BYTES} bytes, the most Lambda carries. Ask for less, or use \
                 response streaming"
            ),
        }
    }
}

async fn collect(response: Response<Body>, deadline: Option<Instant>) -> Result<Response<Bytes>, Broken> {
    let (parts, body) = response.into_parts();
    let whole = whole(body);
    let collected = match deadline {
        None => whole.await,
        Some(deadline) => timeout_at(deadline, whole).await.map_err(|_| Broken::Deadline)?,
    };
    match collected {
        Ok(collected) => Ok(Response::from_parts(parts, collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Broken::TooLarge),
        Err(error) => Err(Broken::Failed(error.to_string())),
    }
}

/// The whole body. Boxed here because the compiler cannot see inside an `async fn` that a body with a boxed error is
/// `Send` (rust-lang/rust#102211).
fn whole(body: Body) -> BoxFuture<'static, Result<Collected<Bytes>, BoxError>> {
    Box::pin(Limited::new(body, MAX_PAYLOAD_BYTES).collect())
}
