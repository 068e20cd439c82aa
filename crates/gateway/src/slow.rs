//! Clients that do not read: what is ready for them waits for a while, then it is taken back.
//!
//! Two places can stall. The socket, when its buffers are full: [`Written`] gives a write that makes no progress the
//! configured time, then the connection ends. And a single HTTP/2 stream, when the client leaves its window shut while the
//! connection goes on: [`Streams`] watches each stream's task, and resets the stream whose next piece nobody fetches.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Instant, Sleep};

use crate::{Body, BoxError};

tokio::task_local! {
    /// Whose turn it is in the stream that this task serves.
    static TURN: Arc<Turn>;
}

// === Sockets ===

/// A socket whose writes make progress within a time, or fail.
pub(crate) struct Written<S> {
    socket: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Written<S> {
    pub(crate) fn new(socket: S, patience: Duration) -> Self {
        Self { socket, patience, stalled: None }
    }

    /// Passes `outcome` on, unless nothing has moved for too long.
    fn within<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        std::task::ready!(stalled.as_mut().poll(cx));
        metrics::counter!("mpe_gateway_slow_clients_total").increment(1);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Written<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Written<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.within(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.within(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.within(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.within(cx, shut)
    }
}

// === Streams ===

/// Whose turn it is in one HTTP/2 stream.
#[derive(Debug, Default)]
struct Turn {
    /// A piece of the answer is there, or may be asked for, and the client's window has no room for it.
    is_clients: AtomicBool,
    /// Counts how often the body was asked for more.
    polls: AtomicU64,
}

/// Runs the tasks of HTTP/2 streams, each no longer than its client takes to fetch the next piece.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    pub(crate) patience: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let turn = Arc::<Turn>::default();
        let stream = TURN.scope(Arc::clone(&turn), stream);
        // Owned by the connection: hyper ends its streams with it.
        tokio::spawn(Watch { stream, turn, patience: self.patience, stalled: None, polls_then: 0 });
    }
}

pin_project_lite::pin_project! {
    /// The task of one stream. Ends early, which resets the stream, when its client lets it wait too long.
    ///
    /// No `async fn`, which would hold the stream twice: as its argument, and where it is pinned.
    struct Watch<F> {
        #[pin]
        stream: TaskLocalFuture<Arc<Turn>, F>,
        turn: Arc<Turn>,
        patience: Duration,
        // Made when something stalls, which hardly ever happens.
        stalled: Option<Pin<Box<Sleep>>>,
        polls_then: u64,
    }
}

impl<F: Future> Future for Watch<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !this.turn.is_clients.load(Ordering::Relaxed) {
            *this.stalled = None;
            return Poll::Pending;
        }
        let polls = this.turn.polls.load(Ordering::Relaxed);
        let patience = *this.patience;
        let waiting = this.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if *this.polls_then != polls {
            *this.polls_then = polls;
            waiting.as_mut().reset(Instant::now() + patience);
        }
        std::task::ready!(waiting.as_mut().poll(cx));
        metrics::counter!("mpe_gateway_slow_clients_total").increment(1);
        tracing::debug!("a client left its stream's window shut; the stream is reset");
        Poll::Ready(())
    }
}

/// The body of an answer that says whose turn it is.
pub(crate) struct Fetched {
    body: Body,
    turn: Option<Arc<Turn>>,
}

impl Fetched {
    /// A body that is about to be sent; watched when this is the task of an HTTP/2 stream.
    pub(crate) fn new(body: Body) -> Self {
        let turn = TURN.try_with(Arc::clone).ok().filter(|_| !http_body::Body::is_end_stream(&body));
        if let Some(turn) = &turn {
            turn.is_clients.store(true, Ordering::Relaxed);
        }
        Self { body, turn }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            turn.is_clients.store(false, Ordering::Relaxed);
        }
    }
}

impl http_body::Body for Fetched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(turn) = &self.turn {
            turn.polls.fetch_add(1, Ordering::Relaxed);
            // While there is nothing to send the turn is ours, however long that takes.
            turn.is_clients.store(matches!(frame, Poll::Ready(Some(Ok(_)))), Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
