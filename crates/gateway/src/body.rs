//! Bodies: reading a request's within its limit, and the few kinds a response has.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, ready};
use futures_util::{FutureExt, StreamExt, stream};
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, BodyStream, Full, LengthLimitError, Limited, StreamBody};

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

/// A body of several pieces that are already here, none of which is copied.
pub(crate) fn pieces(pieces: Vec<Bytes>) -> Body {
    Pieces(pieces.into()).map_err(never).boxed_unsync()
}

/// Whether pieces are sent as they are: small ones are joined, because each piece is a frame of its own on the wire and
/// costs more than its bytes.
pub(crate) fn is_worth_pieces(pieces: &[Bytes]) -> bool {
    pieces.iter().map(Bytes::len).sum::<usize>() > WORTH_JOINING
}

/// Bytes that are cheaper to copy than to send in several frames.
const WORTH_JOINING: usize = 8 << 10;

/// The whole request body.
///
/// # Errors
/// 413 over `limit` bytes, 408 when it takes longer than `patience`, 400 when the sender breaks off.
///
/// A small body is here with its head, as a rule: it is asked for once right here, and then costs no timer.
///
/// A plain function that boxes the rest: an `async fn` that holds `Limited` over an await is not `Send` enough for whoever
/// spawns it (rust-lang/rust#102211).
pub(crate) fn collect(
    mut body: Body,
    limit: usize,
    patience: Duration,
) -> impl Future<Output = Result<Bytes, Problem>> + Send {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Either::Left(ready(Err(too_large(limit))));
    }
    let first = match body.frame().now_or_never() {
        // What has ended is not asked again.
        Some(None) => return Either::Left(ready(Ok(Bytes::new()))),
        first => first.flatten(),
    };
    if let Some(Ok(frame)) = &first
        && let Some(whole) = frame.data_ref().filter(|data| data.len() <= limit && body.is_end_stream())
    {
        return Either::Left(ready(Ok(whole.clone())));
    }
    let body = StreamBody::new(stream::iter(first).chain(BodyStream::new(body)));
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
    Either::Right(read.boxed())
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::stream;
    use http::StatusCode;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    use super::{collect, full, never};
    use crate::problem::Problem;
    use crate::{Body, BoxError};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A body of pieces that come one by one; an empty one stands for a while.
    fn slowly(pieces: Vec<&'static str>) -> Body {
        let frames = stream::unfold(pieces.into_iter(), |mut pieces| async move {
            let piece = pieces.next()?;
            if piece.is_empty() {
                tokio::time::sleep(Duration::from_secs(6)).await;
            }
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(piece))), pieces))
        });
        StreamBody::new(frames).map_err(never).boxed_unsync()
    }

    fn broken() -> Body {
        let frames = stream::once(async { Err::<Frame<Bytes>, BoxError>("the cable is out".into()) });
        StreamBody::new(frames).boxed_unsync()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_whole_whether_it_is_here_or_still_comes() {
        assert_eq!(collect(full("here"), 4, PATIENCE).await.unwrap(), "here");
        assert_eq!(collect(slowly(vec!["a", "", "bc"]), 4, PATIENCE).await.unwrap(), "abc");
        assert_eq!(collect(slowly(vec!["", "abc"]), 4, PATIENCE).await.unwrap(), "abc");
        assert_eq!(collect(slowly(vec![]), 4, PATIENCE).await.unwrap(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_large_or_too_late_or_breaks_off_is_refused() {
        let refusal = |problem: Result<Bytes, Problem>| problem.unwrap_err().status;
        let too_large = [full("large"), slowly(vec!["large"]), slowly(vec!["lar", "ge"])];
        for body in too_large {
            assert_eq!(refusal(collect(body, 4, PATIENCE).await), StatusCode::PAYLOAD_TOO_LARGE);
        }
        let late = collect(slowly(vec!["a", "", "", "b"]), 4, PATIENCE).await;
        assert_eq!(refusal(late), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(refusal(collect(broken(), 4, PATIENCE).await), StatusCode::BAD_REQUEST);
    }
}
