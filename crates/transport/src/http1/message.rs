//! A request body as hyper takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::metrics::Meter;
use crate::request::{BoxError, OutgoingBody};

/// Counts what is taken out of it.
#[derive(Debug)]
pub(super) struct MessageOut {
    body: OutgoingBody,
    meter: Arc<Meter>,
}

impl MessageOut {
    pub(super) fn new(body: OutgoingBody, meter: Arc<Meter>) -> Self {
        Self { body, meter }
    }
}

impl Body for MessageOut {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.body {
            OutgoingBody::Whole(body) if body.is_empty() => None,
            OutgoingBody::Whole(body) => Some(Ok(Frame::data(std::mem::take(body)))),
            OutgoingBody::Streamed(body) => std::task::ready!(body.as_mut().poll_frame(cx)),
        };
        if let Some(Ok(frame)) = &frame {
            self.meter.request_bytes(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            OutgoingBody::Whole(body) => body.is_empty(),
            OutgoingBody::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            OutgoingBody::Whole(body) => SizeHint::with_exact(body.len() as u64),
            OutgoingBody::Streamed(body) => body.size_hint(),
        }
    }
}
