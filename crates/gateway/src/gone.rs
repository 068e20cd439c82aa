//! Clients that are gone: noticed even behind bytes that nobody reads yet.
//!
//! While an answer is under way on HTTP/1.1, hyper looks for the end of the connection only as long as it holds no byte
//! of a next request. A client that sent one and left would keep its stream, and the call behind it, until the next
//! write fails; one that closed only its own direction would keep it for ever. [`Attended`] looks underneath.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket that fails to flush once its peer has closed its direction and everything it sent has been read.
///
/// hyper flushes at the end of each turn, so the turn that the peer's last word starts ends the connection. A client
/// that half-closes is gone, as it is for hyper without `half_close`.
pub(crate) struct Attended {
    socket: TcpStream,
}

impl Attended {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket }
    }

    /// Whether the peer has closed its direction and left nothing to read; wakes the task when that may have changed.
    fn poll_gone(&self, cx: &mut Context<'_>) -> bool {
        // Readiness is known without a system call; a connection at rest, or just read empty, is not ready.
        if !matches!(self.socket.poll_read_ready(cx), Poll::Ready(Ok(()))) {
            return false;
        }
        let mut byte = [0];
        matches!(self.socket.poll_peek(cx, &mut ReadBuf::new(&mut byte)), Poll::Ready(Ok(0)))
    }
}

impl AsyncRead for Attended {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Attended {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        if self.poll_gone(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client is gone")));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
