//! The task of one HTTP/1.1 connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::message::MessageOut;
use crate::connect::ByteStream;
use crate::control::Control;
use crate::metrics::Meter;
use crate::pool::{self, Registration};
use crate::{Error, ErrorKind, Protocol};

pub(super) type Sender = SendRequest<MessageOut>;

/// An open HTTP/1.1 connection, as exchanges see it.
#[derive(Debug)]
pub(crate) struct Link {
    place: Mutex<Place>,
    pub(super) host: http::HeaderValue,
    pub(super) meter: Arc<Meter>,
    control: Control,
}

/// Where the one handle is.
#[derive(Debug)]
enum Place {
    /// An exchange holds it, or it is gone.
    Away,
    /// It came back; the task waits until the connection is ready for another exchange.
    Returned(Sender),
    /// It can be taken.
    Ready(Sender),
}

/// How long a closing connection may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Speaks HTTP/1.1 on `stream` until the connection ends.
///
/// # Errors
/// [`ErrorKind::Connect`] when it did not even start. How an established connection ends is told to its exchange.
pub(crate) async fn drive(registration: &Registration, stream: Box<dyn ByteStream>) -> Result<(), Error> {
    let origin = registration.origin();
    let max_head_bytes = registration.config().max_head_bytes as usize;
    let (sender, mut connection) =
        Builder::new().max_header_size(max_head_bytes).handshake(TokioIo::new(stream)).await.map_err(
            |error| {
                Error::unsent(ErrorKind::Connect, format!("HTTP/1.1 with {origin} did not start"))
                    .caused_by(error)
            },
        )?;
    let host = origin.authority().as_str().parse().expect("an authority is a header value");
    let link = Arc::new(Link {
        place: Mutex::new(Place::Ready(sender)),
        host,
        meter: registration.meter(Protocol::Http1),
        control: Control::default(),
    });
    registration.connected(pool::Link::Http1(Arc::clone(&link)), Protocol::Http1, 1);

    let mut returned = None;
    let ended = poll_fn(|cx| {
        if link.control.is_closing(cx.waker()) {
            return Poll::Ready(false);
        }
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        returned = returned.take().or_else(|| link.take_returned());
        match returned.as_mut().map(|sender: &mut Sender| sender.poll_ready(cx)) {
            None | Some(Poll::Pending) => {}
            Some(Poll::Ready(Ok(()))) => {
                let sender = returned.take().expect("it was just ready");
                *link.place() = Place::Ready(sender);
                registration.released();
            }
            // The connection has seen its end and will say so; until then nobody else is to get it.
            Some(Poll::Ready(Err(_))) => return Poll::Ready(true),
        }
        Poll::Pending
    });
    if !ended.await {
        let idle = std::mem::replace(&mut *link.place(), Place::Away);
        if let Place::Ready(sender) = idle {
            drop(sender);
            // Nothing is left to do with how it ends.
            let _ = timeout(FAREWELL, connection).await;
        }
    }
    Ok(())
}

// === impl Link ===

impl Link {
    /// The one handle, for whoever holds the lease.
    pub(super) fn take(&self) -> Option<Sender> {
        let mut place = self.place();
        match std::mem::replace(&mut *place, Place::Away) {
            Place::Ready(sender) => Some(sender),
            elsewhere => {
                *place = elsewhere;
                None
            }
        }
    }

    /// Brings the handle back after a whole exchange.
    pub(super) fn put_back(&self, sender: Sender) {
        *self.place() = Place::Returned(sender);
        self.control.wake();
    }

    /// Closes the connection: politely if idle, at once if an exchange was cut short.
    pub(crate) fn close(&self) {
        self.control.close();
    }

    fn take_returned(&self) -> Option<Sender> {
        let mut place = self.place();
        match std::mem::replace(&mut *place, Place::Away) {
            Place::Returned(sender) => Some(sender),
            elsewhere => {
                *place = elsewhere;
                None
            }
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
