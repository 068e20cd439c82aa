//! Small writes of one turn as one write.
//!
//! h2 hands every DATA frame of more than 256 bytes to the socket on its own, so sixty requests that are ready at once
//! would be sixty system calls and as many packets. [`gather`] puts a buffer below the protocol, and whoever polls the
//! connection empties it when the turn is over.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A write of more bytes than this goes to the stream at once, behind what was gathered before it: from about here on
/// copying them costs more than the system call it saves.
const LARGEST_PIECE: usize = 4 << 10;

/// Bytes that may wait for the end of a turn: what one write hands to a socket well, and all that a stalled peer costs.
const LIMIT: usize = 32 << 10;

/// Pieces of one vectored write, the gathered bytes among them; h2 writes two.
const MOST_PIECES: usize = 8;

/// Splits `stream` into what a protocol reads and writes, and the handle that ends its turns.
///
/// What is written in pieces of at most 4 KiB waits, up to 32 KiB of it, until [`Turns`] says that the turn is over.
/// Flushing what is given to the protocol does nothing until then, so a connection must be polled through
/// [`Turns::drive`] or [`Turns::poll`], or its last words stay here.
pub fn gather<S>(stream: S) -> (Gathered<S>, Turns<S>) {
    let gathering = Gathering { stream, waiting: BytesMut::new(), failed: None };
    let shared = Arc::new(Mutex::new(gathering));
    (Gathered { shared: Arc::clone(&shared) }, Turns { shared })
}

/// The stream as the protocol sees it; see [`gather`].
pub struct Gathered<S> {
    shared: Arc<Mutex<Gathering<S>>>,
}

/// Ends the turns of a [`Gathered`] stream.
pub struct Turns<S> {
    shared: Arc<Mutex<Gathering<S>>>,
}

struct Gathering<S> {
    stream: S,
    waiting: BytesMut,
    /// Why nothing can be written any more; the protocol learns it at its next write.
    failed: Option<Arc<io::Error>>,
}

fn lock<S>(shared: &Mutex<Gathering<S>>) -> MutexGuard<'_, Gathering<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Turns ===

impl<S: AsyncWrite + Unpin> Turns<S> {
    /// Polls `connection` once, then writes what it gathered.
    ///
    /// A write that fails ends the turn early: `connection` is polled again, and learns it when it writes or flushes.
    pub fn poll<F: Future>(&self, mut connection: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let ended = connection.as_mut().poll(cx);
        // Pending means that the stream wakes this task when it takes more.
        let written = lock(&self.shared).poll_write_out(cx);
        match (ended, written) {
            (Poll::Pending, Poll::Ready(Err(_))) => connection.poll(cx),
            (ended, _) => ended,
        }
    }

    /// Runs `connection` to its end, and writes what it leaves behind.
    ///
    /// # Cancel safety
    /// As safe as `connection`; what was gathered in a turn is written before the turn returns, as far as the stream
    /// takes it.
    pub async fn drive<F: Future>(&self, connection: F) -> F::Output {
        let mut connection = pin!(connection);
        let ended = poll_fn(|cx| self.poll(connection.as_mut(), cx)).await;
        // A stream that fails now has no one left to tell: the protocol is done with it.
        let _ = self.finish().await;
        ended
    }

    /// Writes what was gathered, outside of any turn.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rest gathered.
    pub async fn finish(&self) -> io::Result<()> {
        poll_fn(|cx| lock(&self.shared).poll_write_out(cx)).await
    }
}

// === impl Gathering ===

impl<S: AsyncWrite + Unpin> Gathering<S> {
    /// Writes everything that waits, and flushes the stream.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let written = self.poll_drain(cx);
        self.remember(written)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let n_written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting))?;
            self.written(n_written)?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Gathers `pieces` if they are small, otherwise writes them behind what waits.
    fn poll_take(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check()?;
        let n_bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if n_bytes <= LARGEST_PIECE && self.waiting.len() + n_bytes <= LIMIT {
            for piece in pieces {
                self.waiting.extend_from_slice(piece);
            }
            return Poll::Ready(Ok(n_bytes));
        }
        let written = self.poll_behind(cx, pieces);
        self.remember(written)
    }

    /// Writes what waits and then as much of `pieces` as the stream takes with it; says how much of `pieces`.
    fn poll_behind(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while !self.waiting.is_empty() {
            let n_waiting = self.waiting.len();
            let mut all = [IoSlice::new(&[]); MOST_PIECES];
            all[0] = IoSlice::new(&self.waiting);
            let n_pieces = pieces.len().min(MOST_PIECES - 1);
            all[1..=n_pieces].copy_from_slice(&pieces[..n_pieces]);
            let stream = Pin::new(&mut self.stream);
            let n_written = ready!(stream.poll_write_vectored(cx, &all[..=n_pieces]))?;
            self.written(n_written.min(n_waiting))?;
            if n_written > n_waiting {
                return Poll::Ready(Ok(n_written - n_waiting));
            }
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn written(&mut self, n_bytes: usize) -> io::Result<()> {
        if n_bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.waiting.advance(n_bytes);
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(again(error)))
    }

    fn remember<T>(&mut self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        outcome.map_err(|error| again(self.failed.insert(Arc::new(error))))
    }
}

/// An error that is told more than once.
fn again(error: &Arc<io::Error>) -> io::Error {
    io::Error::new(error.kind(), Arc::clone(error))
}

// === impl Gathered ===

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.shared).stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_take(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        // Pieces are gathered whatever the stream below can do.
        true
    }

    /// Does nothing: the end of the turn flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.shared).check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = lock(&self.shared);
        ready!(gathering.poll_write_out(cx))?;
        Pin::new(&mut gathering.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{self, IoSlice};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

    use super::{LARGEST_PIECE, LIMIT, Turns, gather, lock};

    /// A stream that keeps every write apart, takes at most `room` bytes more, and then fails if it is told to.
    #[derive(Debug)]
    struct Recorder {
        writes: Vec<Vec<u8>>,
        room: usize,
        fails_when_full: bool,
        is_shut: bool,
    }

    impl Recorder {
        fn with_room(room: usize) -> Self {
            Self { writes: Vec::new(), room, fails_when_full: false, is_shut: false }
        }

        fn take(&mut self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let n_bytes = all.len().min(self.room);
            if n_bytes == 0 && self.fails_when_full {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the pipe is broken")));
            }
            if n_bytes == 0 {
                return Poll::Pending;
            }
            self.room -= n_bytes;
            self.writes.push(all[..n_bytes].to_vec());
            Poll::Ready(Ok(n_bytes))
        }
    }

    impl AsyncRead for Recorder {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(&[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.take(pieces)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn writes(turns: &Turns<Recorder>) -> Vec<Vec<u8>> {
        lock(&turns.shared).stream.writes.clone()
    }

    #[tokio::test]
    async fn what_one_turn_writes_in_small_pieces_is_one_write() {
        let (mut stream, turns) = gather(Recorder::with_room(usize::MAX));
        let mut turn = pin!(async {
            for piece in ["one ", "two ", "three"] {
                stream.write_all(piece.as_bytes()).await?;
                stream.flush().await?;
            }
            std::future::pending::<io::Result<()>>().await
        });
        let mut context = Context::from_waker(Waker::noop());
        assert!(turns.poll(turn.as_mut(), &mut context).is_pending());
        assert_eq!(writes(&turns), [b"one two three".to_vec()]);
        assert!(turns.poll(turn.as_mut(), &mut context).is_pending());
        assert_eq!(writes(&turns).len(), 1, "a turn that wrote nothing writes nothing");
    }

    #[tokio::test]
    async fn a_large_piece_takes_along_what_was_gathered_before_it() {
        let (mut stream, turns) = gather(Recorder::with_room(usize::MAX));
        let large = vec![b'x'; LARGEST_PIECE + 1];
        stream.write_all(b"head").await.expect("gathered");
        assert!(writes(&turns).is_empty());
        assert_eq!(stream.write(&large).await.expect("written"), large.len());
        assert_eq!(writes(&turns), [[b"head".to_vec(), large].concat()]);
    }

    #[tokio::test]
    async fn a_stream_that_takes_a_few_bytes_at_a_time_gets_them_in_order_and_once() {
        let (mut stream, turns) = gather(Recorder::with_room(6));
        let mut context = Context::from_waker(Waker::noop());
        stream.write_all(b"0123456789").await.expect("gathered");
        let large = vec![b'x'; LARGEST_PIECE + 1];
        assert!(Pin::new(&mut stream).poll_write(&mut context, &large).is_pending(), "the socket is full");
        lock(&turns.shared).stream.room = 10;
        let taken = Pin::new(&mut stream).poll_write(&mut context, &large);
        assert!(matches!(taken, Poll::Ready(Ok(6))), "four bytes were owed: {taken:?}");
        assert_eq!(writes(&turns).concat(), b"0123456789xxxxxx");
    }

    #[tokio::test]
    async fn no_more_than_the_limit_waits_for_a_stalled_stream() {
        let (mut stream, turns) = gather(Recorder::with_room(0));
        let mut context = Context::from_waker(Waker::noop());
        let piece = [b'x'; 1024];
        let taken = (0..).take_while(|_| Pin::new(&mut stream).poll_write(&mut context, &piece).is_ready());
        assert_eq!(taken.count() * piece.len(), LIMIT);
        lock(&turns.shared).stream.room = usize::MAX;
        turns.finish().await.expect("room again");
        assert_eq!(writes(&turns).concat().len(), LIMIT);
    }

    #[tokio::test]
    async fn a_write_that_fails_at_the_end_of_a_turn_is_told_to_the_protocol() {
        let (mut stream, turns) = gather(Recorder { fails_when_full: true, ..Recorder::with_room(0) });
        let ended = turns
            .drive(async {
                stream.write_all(b"never seen").await.expect("gathered");
                poll_fn(|cx| match Pin::new(&mut stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => Poll::Pending,
                    failed => failed,
                })
                .await
            })
            .await;
        let error = ended.expect_err("the stream is broken");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::BrokenPipe, "the pipe is broken")
        );
        assert!(stream.write_all(b"more").await.is_err(), "it stays broken");
    }

    #[tokio::test]
    async fn shutting_down_and_ending_write_what_is_left() {
        let (mut stream, turns) = gather(Recorder::with_room(usize::MAX));
        stream.write_all(b"farewell").await.expect("gathered");
        stream.shutdown().await.expect("shut");
        assert!(lock(&turns.shared).stream.is_shut);
        assert_eq!(writes(&turns), [b"farewell".to_vec()]);

        let (mut stream, turns) = gather(Recorder::with_room(usize::MAX));
        turns.drive(async { stream.write_all(b"last words").await.expect("gathered") }).await;
        assert_eq!(writes(&turns), [b"last words".to_vec()]);
    }
}
