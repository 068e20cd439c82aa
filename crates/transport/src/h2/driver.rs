//! The task of one HTTP/2 connection: moves its frames and tells the pool what the peer allows.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ::h2::client::{Builder, SendRequest};
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use tokio::time::timeout;
use tracing::debug;

use super::keep_alive::KeepAlive;
use crate::connect::ByteStream;
use crate::control::Control;
use crate::gather::gather;
use crate::metrics::Meter;
use crate::pool::{self, Registration};
use crate::{Error, ErrorKind, Origin, Protocol};

/// An open HTTP/2 connection, as exchanges see it.
#[derive(Debug)]
pub(crate) struct Link {
    /// `None` once the connection closes. h2 sends its farewell when the last handle is gone.
    requests: Mutex<Option<SendRequest<Bytes>>>,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) meter: Arc<Meter>,
    control: Control,
}

/// Bytes a peer may send on one stream before we have read them. 64 KiB, HTTP's default, caps a stream at 64 KiB a
/// round trip; 1 MiB fills 100 Mbit/s over 80 ms.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same over all streams of a connection: what one connection may cost in memory.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Streams opened before the peer's SETTINGS are here: what RFC 9113 §6.5.2 recommends a peer to allow at least.
const STREAMS_BEFORE_SETTINGS: usize = 100;

/// A head this many times over the limit is dropped unread, which h2 reports like any broken head; below it, the
/// exchange sees the head and can say what is wrong with it.
const HEAD_MARGIN: u32 = 2;

/// How long a closing connection may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Speaks HTTP/2 on `stream` until the connection ends.
///
/// # Errors
/// [`ErrorKind::Connect`] when not even the preface could be written. How an established connection ends is told
/// to its exchanges instead.
pub(crate) async fn drive(registration: &Registration, stream: Box<dyn ByteStream>) -> Result<(), Error> {
    let config = registration.config();
    let origin = registration.origin();
    let (stream, turns) = gather(stream);
    let (requests, mut connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
        .max_header_list_size(config.max_head_bytes.saturating_mul(HEAD_MARGIN))
        .enable_push(false)
        .max_concurrent_streams(0)
        .handshake(stream)
        .await
        .map_err(|error| not_started(origin, error))?;
    turns.finish().await.map_err(|error| not_started(origin, error))?;
    let mut keep_alive = config
        .ping_interval
        .and_then(|interval| Some(KeepAlive::new(connection.ping_pong()?, interval, config.ping_timeout)));
    let mut probe = Some(requests.clone());
    let link = Arc::new(Link {
        requests: Mutex::new(Some(requests)),
        scheme: origin.scheme().as_str().parse().expect("http and https are schemes"),
        authority: origin.authority(),
        meter: registration.meter(Protocol::Http2),
        control: Control::default(),
    });
    let mut capacity = connection.max_concurrent_send_streams();
    registration.connected(pool::Link::Http2(Arc::clone(&link)), Protocol::Http2, capacity);

    let ended = poll_fn(|cx| {
        if link.control.is_closing(cx.waker()) {
            return Poll::Ready(false);
        }
        if turns.poll(Pin::new(&mut connection), cx).is_ready() {
            return Poll::Ready(true);
        }
        let allowed = connection.max_concurrent_send_streams();
        if allowed != capacity {
            capacity = allowed;
            registration.capacity_changed(capacity);
        }
        // A handle that is no longer ready is how h2 tells that a GOAWAY came.
        if let Some(handle) = &mut probe
            && let Poll::Ready(Err(_)) = handle.poll_ready(cx)
        {
            probe = None;
            link.forget_requests();
            registration.going_away();
        }
        if keep_alive.as_mut().is_some_and(|it| it.poll_dead(cx).is_ready()) {
            debug!(%origin, "no answer to PING");
            return Poll::Ready(true);
        }
        Poll::Pending
    });
    if !ended.await {
        link.forget_requests();
        drop(probe);
        // Nothing is left to do with how it ends.
        let _ = timeout(FAREWELL, turns.drive(connection)).await;
    }
    Ok(())
}

fn not_started(origin: &Origin, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unsent(ErrorKind::Connect, format!("HTTP/2 with {origin} did not start")).caused_by(cause)
}

// === impl Link ===

impl Link {
    /// A handle to open a stream with; `None` when the connection takes no more.
    pub(super) fn requests(&self) -> Option<SendRequest<Bytes>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the connection. The pool does this when no stream is left.
    pub(crate) fn close(&self) {
        self.control.close();
    }

    fn forget_requests(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
