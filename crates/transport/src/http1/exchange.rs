//! One request on an HTTP/1.1 connection.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::driver::{Link, Sender};
use super::message::MessageOut;
use crate::body::{Body, Limits};
use crate::deadline::Timer;
use crate::pool::Lease;
use crate::request::{Kept, Outgoing};
use crate::{Error, ErrorKind, Origin, Sent};

/// Sends `request` and returns once the head of its response is here.
///
/// Dropping the future closes the connection: HTTP/1.1 knows no other way to cancel.
pub(crate) async fn send(
    mut lease: Lease,
    link: &Arc<Link>,
    origin: &Origin,
    request: Outgoing,
    mut timer: Timer,
    limits: Limits,
) -> Result<Response<Body>, Error> {
    // Until the whole exchange is done.
    lease.spend();
    let Some(mut sender) = link.take() else {
        let message = format!("the connection to {origin} closed before the request was sent");
        return Err(request.give_back(Error::unsent(ErrorKind::ConnectionLost, message)));
    };
    let started = Instant::now();
    let (message, kept) = link.message(request);
    let mut answering = pin!(sender.try_send_request(message));
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = answering.as_mut().poll(cx) {
            return Poll::Ready(answered.map_err(|mut failure| {
                let is_unsent = failure.take_message().is_some();
                before_head(failure.into_error(), is_unsent, origin)
            }));
        }
        timer.poll_expired(cx).map(|()| {
            let message = format!("the deadline passed before {origin} answered");
            Err(Error::new(ErrorKind::Deadline, Sent::Maybe, message))
        })
    })
    .await;
    let answer = match answered {
        Ok(answer) => answer,
        Err(error) => return Err(kept.give_back(error)),
    };
    link.meter.answered(started.elapsed());
    timer.enter_body();
    let info = lease.info();
    let (parts, incoming) = answer.into_parts();
    let body = MessageBody::new(incoming, Held { sender, lease, link: Arc::clone(link) });
    let body = Body::limited(body.into(), info, &parts.headers, limits.max_body_bytes, timer, &link.meter)?;
    Ok(Response::from_parts(parts, body))
}

// === impl Link ===

impl Link {
    /// The request as HTTP/1.1 wants it: origin-form target, `Host` from the origin (RFC 9112 §3.2).
    fn message(&self, request: Outgoing) -> (Request<MessageOut>, Kept) {
        let (head, body, kept) = request.split();
        let mut message = Request::new(MessageOut::new(body, Arc::clone(&self.meter)));
        *message.method_mut() = head.method;
        *message.uri_mut() = Uri::from(head.target);
        *message.headers_mut() = head.headers;
        message.headers_mut().insert(HOST, HeaderValue::clone(&self.host));
        (message, kept)
    }
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct MessageBody {
    incoming: Incoming,
    held: Option<Held>,
}

/// The connection, until the body has been read to its end. Dropping it earlier closes the connection.
#[derive(Debug)]
struct Held {
    sender: Sender,
    lease: Lease,
    link: Arc<Link>,
}

// === impl MessageBody ===

impl MessageBody {
    fn new(incoming: Incoming, held: Held) -> Self {
        let mut body = Self { incoming, held: Some(held) };
        body.release_if_ended();
        body
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.release();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                self.release_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(cause)) => Poll::Ready(Some(Err(in_body(cause)))),
        }
    }

    fn release_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(Held { sender, lease, link }) = self.held.take() {
            lease.hand_over();
            link.put_back(sender);
        }
    }
}

fn before_head(error: hyper::Error, is_unsent: bool, origin: &Origin) -> Error {
    if is_unsent {
        let message = format!("the request to {origin} was not sent: {error}");
        return Error::unsent(ErrorKind::ConnectionLost, message).caused_by(error);
    }
    let message = format!("{origin} did not answer: {error}");
    Error::new(kind(&error), Sent::Maybe, message).caused_by(error)
}

fn in_body(error: hyper::Error) -> Error {
    Error::new(kind(&error), Sent::Maybe, format!("the response body was cut short: {error}"))
        .caused_by(error)
}

fn kind(error: &hyper::Error) -> ErrorKind {
    if error.is_user() {
        // Of all a user can do wrong only the body is left: the message itself was made here.
        ErrorKind::RequestBody
    } else if error.is_parse_too_large() {
        ErrorKind::TooLarge
    } else if error.is_parse() {
        ErrorKind::Protocol
    } else {
        ErrorKind::ConnectionLost
    }
}
