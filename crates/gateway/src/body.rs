//! Bodies: reading a request's within its limit, and the few kinds a response has.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

use crate::problem::{Problem, ProblemType};
use crate::{Body, BoxError};

/// A body of one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// A body of several pieces that are already here. Large ones are not copied; small ones are joined, because each piece
/// is a frame of its own on the wire and costs more than its bytes.
pub(crate) fn pieces(pieces: Vec<Bytes>) -> Body {
    if pieces.iter().map(Bytes::len).sum::<usize>() <= WORTH_JOINING {
        return full(pieces.concat());
    }
    Pieces(pieces.into()).map_err(never).boxed_unsync()
}

/// Bytes that are cheaper to copy than to send in several frames.
const WORTH_JOINING: usize = 8 << 10;

/// The whole request body.
///
/// # Errors
/// 413 over `limit` bytes, 408 when it takes longer than `patience`, 400 when the sender breaks off.
///
/// Boxed by a plain function: an `async fn` that holds `Limited` over an await is not `Send` enough for whoever spawns
/// it (rust-lang/rust#102211).
pub(crate) fn collect(
    body: Body,
    limit: usize,
    patience: Duration,
) -> BoxFuture<'static, Result<Bytes, Problem>> {
    let announced = http_body::Body::size_hint(&body).lower();
    if announced > limit as u64 {
        return std::future::ready(Err(too_large(limit))).boxed();
    }
    let whole = Limited::new(body, limit).collect();
    let read = tokio::time::timeout(patience, whole).map(move |read| match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large(limit)),
        Ok(Err(error)) => Err(Problem::new(ProblemType::BadRequest, format!("the body broke off: {error}"))),
        Err(_) => {
            let seconds = patience.as_secs();
            let detail = format!("the body did not arrive within {seconds} s");
            Err(Problem::new(ProblemType::RequestTimeout, detail))
        }
    });
    read.boxed()
}

/// A response with a media type and a whole body.
pub(crate) fn response(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> http::Response<Body> {
    let mut response = http::Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    response
}

/// A response without body.
pub(crate) fn status_only(status: StatusCode) -> http::Response<Body> {
    let mut response = http::Response::new(empty());
    *response.status_mut() = status;
    response
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ProblemType::BodyTooLarge, format!("the body is larger than {limit} bytes"))
}

fn never(error: Infallible) -> BoxError {
    match error {}
}

struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}
