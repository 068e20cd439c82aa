//! A request body that is still coming, sent as fast as the peer's window and the body itself allow.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http_body::Body;

use crate::metrics::Meter;
use crate::request::BoxError;
use crate::{Error, ErrorKind, Sent};

/// Polled by whoever waits for the response: first for its head, then for its body.
pub(super) struct Upload {
    body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
    sending: SendStream<Bytes>,
    /// Taken from the body and not yet allowed out.
    pending: Bytes,
    meter: Arc<Meter>,
}

impl Upload {
    pub(super) fn new(
        body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
        sending: SendStream<Bytes>,
        meter: Arc<Meter>,
    ) -> Self {
        Self { body, sending, pending: Bytes::new(), meter }
    }

    /// Ready once there is nothing more to send, also because the peer has ended the stream: the response knows why.
    ///
    /// # Errors
    /// The body's own; the stream is reset then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if !self.pending.is_empty() {
                if ready!(self.poll_pending(cx)).is_none() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            // Asks only, so that a stream the peer has ended is not fed for ever.
            if self.sending.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.body.as_mut().poll_frame(cx)) {
                None => {
                    // Fails only on a stream that has ended; then there is nobody to tell.
                    let _ = self.sending.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.pending = data,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let _ = self.sending.send_trailers(trailers);
                        return Poll::Ready(Ok(()));
                    }
                },
                Some(Err(cause)) => {
                    self.sending.send_reset(Reason::CANCEL);
                    let message = format!("the request body failed: {cause}");
                    let error = Error::new(ErrorKind::RequestBody, Sent::Maybe, message);
                    return Poll::Ready(Err(error.caused_by(cause)));
                }
            }
        }
    }

    /// Sends a part of what is pending; `None` when the stream has ended.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.sending.reserve_capacity(self.pending.len());
        let Some(Ok(capacity)) = ready!(self.sending.poll_capacity(cx)) else {
            return Poll::Ready(None);
        };
        let part = self.pending.split_to(capacity.min(self.pending.len()));
        self.meter.request_bytes(part.len());
        Poll::Ready(self.sending.send_data(part, false).ok())
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}
