//! Lines in and out of a process.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::ChildStdout;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, ErrorKind, Sent};

/// Writes lines to the process. Clones write in turn, each line whole; when the last is dropped, the process sees the
/// end of its input.
#[derive(Clone, Debug)]
pub struct LineWriter {
    queue: mpsc::Sender<Outgoing>,
}

/// Reads lines from the process.
#[derive(Debug)]
pub struct LineReader {
    stdout: ChildStdout,
    splitter: Splitter,
}

/// A line in the queue. Dropped there, it tells its sender that nothing of it was written.
#[derive(Debug)]
struct Outgoing {
    line: Bytes,
    /// `None` once the line has been begun.
    written: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(written) = self.written.take() {
            // Nobody waiting is fine.
            let _ = written.send(Err(reads_no_more(Sent::No)));
        }
    }
}

/// Lines that may wait for a process that does not read. More callers than this wait themselves.
const QUEUED_LINES: usize = 16;

/// Bytes read at once, at least.
const READ_BYTES: usize = 16 << 10;

// === impl LineWriter ===

/// A writer and the task behind it: a line that has been begun is finished whatever becomes of its sender.
pub(super) fn writer(stdin: impl AsyncWrite + Unpin + Send) -> (LineWriter, impl Future<Output = ()> + Send) {
    let (queue, lines) = mpsc::channel(QUEUED_LINES);
    (LineWriter { queue }, write_all(lines, stdin))
}

impl LineWriter {
    /// Writes one line, given without its line feed, and returns once the process can read it.
    ///
    /// # Errors
    /// * [`ErrorKind::InvalidRequest`]: the line contains a line feed; nothing was written.
    /// * [`ErrorKind::ConnectionLost`]: the process reads no more. [`Error::sent`] tells whether a part of this line
    ///   may have reached it.
    ///
    /// # Cancel safety
    /// Never writes half a line. Dropped early, the line is not written if it had no place in the queue yet, and
    /// written all the same if it had.
    pub async fn write(&self, line: Bytes) -> Result<(), Error> {
        if let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            let message = format!("a line cannot contain a line feed; there is one at byte {at}");
            return Err(Error::unsent(ErrorKind::InvalidRequest, message));
        }
        let (written, is_written) = oneshot::channel();
        let outgoing = Outgoing { line, written: Some(written) };
        self.queue.send(outgoing).await.map_err(|_| reads_no_more(Sent::No))?;
        until_written(&self.queue, is_written).await
    }
}

async fn until_written(
    queue: &mpsc::Sender<Outgoing>,
    mut is_written: oneshot::Receiver<Result<(), Error>>,
) -> Result<(), Error> {
    tokio::select! {
        biased;
        answer = &mut is_written => answer.unwrap_or_else(|_| Err(half_written())),
        // Nobody takes lines out of the queue any more. A line that came in at that very moment stays in it, and whoever waits
        // for its answer would keep it there.
        () = queue.closed() => match is_written.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Closed) => Err(half_written()),
            Err(TryRecvError::Empty) => Err(reads_no_more(Sent::No)),
        },
    }
}

async fn write_all(mut lines: mpsc::Receiver<Outgoing>, mut stdin: impl AsyncWrite + Unpin) {
    while let Some(mut outgoing) = lines.recv().await {
        let (line, written) = (std::mem::take(&mut outgoing.line), outgoing.written.take());
        let mut rest = line.chain(&b"\n"[..]);
        let n_whole = rest.remaining();
        let result = stdin.write_all_buf(&mut rest).await;
        let result = match result {
            Ok(()) => stdin.flush().await,
            Err(error) => Err(error),
        };
        let result = result.map_err(|error| {
            let sent = if rest.remaining() == n_whole { Sent::No } else { Sent::Maybe };
            reads_no_more(sent).caused_by(error)
        });
        let is_over = result.is_err();
        if let Some(written) = written {
            // Nobody waiting for the answer is fine: the line is written.
            let _ = written.send(result);
        }
        if is_over {
            break;
        }
    }
    // Those still in the queue have had nothing written, and learn so as they are dropped.
}

/// Without an answer the process has been dropped in the middle of the line.
fn half_written() -> Error {
    reads_no_more(Sent::Maybe)
}

fn reads_no_more(sent: Sent) -> Error {
    Error::new(ErrorKind::ConnectionLost, sent, "the process reads no more input")
}

// === impl LineReader ===

impl LineReader {
    pub(super) fn new(stdout: ChildStdout, max_line_bytes: usize) -> Self {
        Self { stdout, splitter: Splitter::new(max_line_bytes) }
    }

    /// The next line without its line end (LF or CRLF); empty ones are skipped. `None` at the end of the output.
    ///
    /// # Errors
    /// * [`ErrorKind::TooLarge`]: a line over `max_line_bytes` was skipped; the next call reads on behind it.
    /// * [`ErrorKind::ConnectionLost`]: reading failed, or the output ended in the middle of a line.
    ///
    /// # Cancel safety
    /// Safe: nothing read is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        read_line(&mut self.stdout, &mut self.splitter).await
    }
}

/// Every line of an output that is read in these chunks, as [`LineReader::next`] would give them: for tests that have no
/// process.
pub fn lines_of<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    max_line_bytes: usize,
) -> Vec<Result<Bytes, Error>> {
    let mut splitter = Splitter::new(max_line_bytes);
    let mut lines = Vec::new();
    for chunk in chunks {
        splitter.buffer.extend_from_slice(chunk);
        lines.extend(std::iter::from_fn(|| splitter.next_line()));
    }
    lines.extend(splitter.finish().map(Err));
    lines
}

async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    splitter: &mut Splitter,
) -> Option<Result<Bytes, Error>> {
    loop {
        if let Some(line) = splitter.next_line() {
            return Some(line);
        }
        splitter.buffer.reserve(READ_BYTES);
        match stream.read_buf(&mut splitter.buffer).await {
            Ok(0) => return splitter.finish().map(Err),
            Ok(_) => {}
            Err(error) => {
                let message = format!("the process's output cannot be read: {error}");
                return Some(Err(
                    Error::new(ErrorKind::ConnectionLost, Sent::Maybe, message).caused_by(error)
                ));
            }
        }
    }
}

// === impl Splitter ===

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
struct Splitter {
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no line feed.
    n_searched: usize,
    /// In the middle of a line over the limit.
    is_skipping: bool,
    max_line_bytes: usize,
}

impl Splitter {
    fn new(max_line_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), n_searched: 0, is_skipping: false, max_line_bytes }
    }

    /// The next whole line in the buffer.
    fn next_line(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let found = self.buffer[self.n_searched..].iter().position(|byte| *byte == b'\n');
            let Some(found) = found else {
                return self.keep_rest();
            };
            let end = self.n_searched + found;
            self.n_searched = 0;
            let mut line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if line.len() > self.max_line_bytes {
                return Some(Err(self.too_long()));
            }
            if !line.is_empty() {
                return Some(Ok(line.freeze()));
            }
        }
    }

    /// No line feed in the buffer: keeps what there is, unless it is too much already.
    fn keep_rest(&mut self) -> Option<Result<Bytes, Error>> {
        if self.is_skipping {
            self.buffer.clear();
            self.n_searched = 0;
            return None;
        }
        self.n_searched = self.buffer.len();
        // One more byte may be the CR of the line end.
        if self.buffer.len() <= self.max_line_bytes.saturating_add(1) {
            return None;
        }
        // Gives the memory back as well.
        self.buffer = BytesMut::new();
        self.n_searched = 0;
        self.is_skipping = true;
        Some(Err(self.too_long()))
    }

    /// The stream has ended; an error if it did so in the middle of a line.
    fn finish(&mut self) -> Option<Error> {
        let n_left = std::mem::take(&mut self.buffer).len();
        let is_cut = n_left > 0 && !self.is_skipping;
        is_cut.then(|| {
            let message = format!("the process's output ended after {n_left} bytes of a line");
            Error::new(ErrorKind::ConnectionLost, Sent::Maybe, message)
        })
    }

    fn too_long(&self) -> Error {
        let message = format!("the process wrote a line over the limit of {} bytes", self.max_line_bytes);
        Error::new(ErrorKind::TooLarge, Sent::Maybe, message)
    }
}

#[cfg(test)]
mod tests;
