//! One request on one stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use ::h2::client::ResponseFuture;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Request, Response, Uri};
use tokio::time::Instant;

use super::body::StreamBody;
use super::driver::Link;
use super::error;
use super::upload::Upload;
use crate::body::{Body, Limits};
use crate::deadline::Timer;
use crate::pool::Lease;
use crate::request::{Head, Kept, Outgoing, OutgoingBody};
use crate::{Error, ErrorKind, Origin, Sent};

/// Sends `request` and returns once the head of its response is here.
///
/// Dropping the future resets the stream (CANCEL) and gives the lease back.
pub(crate) async fn send(
    lease: Lease,
    link: &Link,
    origin: &Origin,
    request: Outgoing,
    mut timer: Timer,
    limits: Limits,
) -> Result<Response<Body>, Error> {
    let Opened { mut response, mut upload, kept } = open(link, origin, request)?;
    let started = Instant::now();
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(answered.map_err(|cause| {
                if error::is_http1_required(&cause) {
                    lease.http1_required(origin);
                }
                error::before_head(cause, origin)
            }));
        }
        if let Some(rest) = &mut upload
            && let Poll::Ready(sent) = rest.poll(cx)
        {
            upload = None;
            if let Err(error) = sent {
                return Poll::Ready(Err(error));
            }
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
    check_head_size(answer.headers(), limits.max_head_bytes)?;
    let info = lease.info();
    let (parts, stream) = answer.into_parts();
    let body = StreamBody::new(stream, lease, upload);
    let body = Body::limited(body.into(), info, &parts.headers, limits.max_body_bytes, timer, &link.meter)?;
    Ok(Response::from_parts(parts, body))
}

/// A request whose head is on its way.
struct Opened {
    response: ResponseFuture,
    /// What is still to come of its body.
    upload: Option<Upload>,
    kept: Kept,
}

fn open(link: &Link, origin: &Origin, request: Outgoing) -> Result<Opened, Error> {
    let Some(mut requests) = link.requests() else {
        let message = format!("the connection to {origin} closed before the request was sent");
        return Err(request.give_back(Error::unsent(ErrorKind::ConnectionLost, message)));
    };
    let length = request.body.len();
    let (head, body, kept) = request.split();
    let (response, mut sending) = match requests.send_request(link.head(head, length), length == Some(0)) {
        Ok(opened) => opened,
        Err(error) => return Err(kept.give_back(error::before_sending(error, origin))),
    };
    let upload = match body {
        OutgoingBody::Streamed(body) => Some(Upload::new(body, sending, Arc::clone(&link.meter))),
        OutgoingBody::Whole(body) => {
            if !body.is_empty() {
                link.meter.request_bytes(body.len());
                // The bytes are in memory already, so letting h2 hold them until the window opens costs nothing. If
                // the stream has ended meanwhile, the response future knows better why.
                let _ = sending.send_data(body, true);
            }
            None
        }
    };
    Ok(Opened { response, upload, kept })
}

/// The size as RFC 9113 §10.5.1 counts it: names, values, and 32 bytes for each header.
fn check_head_size(headers: &HeaderMap, max_head_bytes: u32) -> Result<(), Error> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if size > max_head_bytes as usize {
        let message =
            format!("the response head of {size} bytes is larger than the limit of {max_head_bytes}");
        return Err(Error::new(ErrorKind::TooLarge, Sent::Maybe, message));
    }
    Ok(())
}

/// As [`HeaderValue::from`], with one allocation instead of two.
fn content_length(n_bytes: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(n_bytes)).expect("digits are a header value")
}

// === impl Link ===

impl Link {
    /// The request head as HTTP/2 wants it: pseudo-headers from the origin (RFC 9113 §8.3.1).
    fn head(&self, head: Head, length: Option<u64>) -> Request<()> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(head.target);
        let mut request = Request::new(());
        *request.method_mut() = head.method;
        *request.uri_mut() = Uri::from_parts(uri).expect("scheme, authority and path make a URI");
        *request.headers_mut() = head.headers;
        if let Some(n_bytes @ 1..) = length {
            request.headers_mut().insert(CONTENT_LENGTH, content_length(n_bytes));
        }
        request
    }
}
