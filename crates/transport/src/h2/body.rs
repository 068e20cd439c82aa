//! The response body of one stream. Reading it opens the peer's window again.

use std::task::{Context, Poll, ready};

use ::h2::RecvStream;
use bytes::Bytes;
use http_body::Frame;

use super::error;
use super::upload::Upload;
use crate::Error;
use crate::pool::Lease;

/// Dropping it before its end resets the stream (CANCEL) and gives the lease back.
#[derive(Debug)]
pub(crate) struct StreamBody {
    // Dropped before the lease: the reset is queued before somebody else gets the place.
    stream: RecvStream,
    /// Given back as soon as the stream has ended, whether or not the body is dropped then.
    lease: Option<Lease>,
    is_data_done: bool,
    /// The rest of the request, if the response came early.
    upload: Option<Upload>,
}

impl StreamBody {
    pub(super) fn new(stream: RecvStream, lease: Lease, upload: Option<Upload>) -> Self {
        let mut body = Self { stream, lease: Some(lease), is_data_done: false, upload };
        body.release_if_ended();
        body
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            self.upload = None;
            if let Err(error) = sent {
                return Poll::Ready(Some(Err(error)));
            }
        }
        while !self.is_data_done {
            match ready!(self.stream.poll_data(cx)) {
                None => self.is_data_done = true,
                Some(Err(cause)) => return Poll::Ready(Some(Err(error::in_body(cause)))),
                // Peers end streams with an empty frame.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // The caller holds the bytes now, so the peer may send as many again. It fails only on a stream
                    // that has ended, whose window interests nobody.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.release_if_ended();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.upload = None;
        self.lease = None;
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(cause) => Some(Err(error::in_body(cause))),
        })
    }

    fn release_if_ended(&mut self) {
        if self.stream.is_end_stream() {
            // The peer has said all it had to say; what is left of the request interests nobody (RFC 9113 §8.1).
            self.upload = None;
            self.lease = None;
        }
    }
}
