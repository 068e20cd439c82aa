//! A response body, whichever protocol it comes over: limited in bytes and in time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::deadline::Timer;
use crate::metrics::Meter;
use crate::{Error, ErrorKind, ExchangeInfo, Sent, h2, http1};

/// A response body. Dropping it before its end cancels the exchange and frees its place.
#[derive(Debug)]
pub struct Body {
    inner: Inner,
    info: ExchangeInfo,
    timer: Option<Timer>,
    /// Bytes that may still come.
    allowance: u64,
    limit: u64,
    /// Bytes still to come, if the head said how many.
    announced: Option<u64>,
    /// The turn of a pool that sends one call at a time.
    turn: Option<OwnedSemaphorePermit>,
    /// `None` once what was read is counted.
    meter: Option<Arc<Meter>>,
}

/// What a response may weigh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_head_bytes: u32,
    pub(crate) max_body_bytes: u64,
}

#[derive(Debug)]
pub(crate) enum Inner {
    /// Read to its end, or failed.
    Done,
    Http1(http1::MessageBody),
    Http2(h2::StreamBody),
}

impl From<http1::MessageBody> for Inner {
    fn from(body: http1::MessageBody) -> Self {
        Self::Http1(body)
    }
}

impl From<h2::StreamBody> for Inner {
    fn from(body: h2::StreamBody) -> Self {
        Self::Http2(body)
    }
}

// === impl Body ===

impl Body {
    /// # Errors
    /// [`ErrorKind::TooLarge`] when the head already announces more than `limit`.
    pub(crate) fn limited(
        inner: Inner,
        info: ExchangeInfo,
        headers: &HeaderMap,
        limit: u64,
        timer: Timer,
        meter: &Arc<Meter>,
    ) -> Result<Self, Error> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // The answer to a HEAD announces what a GET would bring.
        if !inner.is_end_stream() && announced.is_some_and(|length: u64| length > limit) {
            return Err(too_large(limit));
        }
        let mut body = Self {
            inner,
            info,
            timer: Some(timer),
            allowance: limit,
            limit,
            announced,
            turn: None,
            meter: Some(Arc::clone(meter)),
        };
        if body.inner.is_end_stream() {
            body.finish();
        }
        Ok(body)
    }

    /// Which connection serves the exchange.
    pub fn info(&self) -> ExchangeInfo {
        self.info
    }

    /// Keeps the turn until the body has ended.
    pub(crate) fn hold_turn(&mut self, turn: Option<OwnedSemaphorePermit>) {
        if !matches!(self.inner, Inner::Done) {
            self.turn = turn;
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.inner {
            Inner::Done => Poll::Ready(None),
            Inner::Http1(body) => body.poll_frame(cx),
            Inner::Http2(body) => body.poll_frame(cx),
        }
    }

    fn count(&mut self, frame: &Frame<Bytes>) -> Result<(), Error> {
        let n_bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.allowance = self.allowance.checked_sub(n_bytes).ok_or_else(|| too_large(self.limit))?;
        self.announced = self.announced.map(|left| left.saturating_sub(n_bytes));
        Ok(())
    }

    fn finish(&mut self) {
        self.inner = Inner::Done;
        self.timer = None;
        self.turn = None;
        if let Some(meter) = self.meter.take() {
            meter.response_bytes(self.limit - self.allowance);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = self.get_mut();
        let frame = match body.poll_inner(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let timer = body.timer.as_mut().expect("a body that is not done has a timer");
                std::task::ready!(timer.poll_expired(cx));
                Some(Err(timer.body_error()))
            }
        };
        let frame = frame.map(|frame| frame.and_then(|frame| body.count(&frame).map(|()| frame)));
        match &frame {
            Some(Ok(_)) if !body.inner.is_end_stream() => {
                if let Some(timer) = &mut body.timer {
                    timer.progressed();
                }
            }
            // Ended, well or not: the place is free now, not when the caller lets go of the body.
            _ => body.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.inner, Inner::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, self.announced) {
            (Inner::Done, _) => SizeHint::with_exact(0),
            (_, Some(length)) => SizeHint::with_exact(length),
            (_, None) => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.finish();
    }
}

// === impl Inner ===

impl Inner {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }
}

fn too_large(limit: u64) -> Error {
    let message = format!("the response body is larger than the limit of {limit} bytes");
    Error::new(ErrorKind::TooLarge, Sent::Maybe, message)
}
