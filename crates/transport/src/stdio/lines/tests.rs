use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};

use super::{Splitter, read_line, writer};
use crate::{ErrorKind, Sent};

/// All lines of chunks as they come; errors by their text.
fn split(limit: usize, chunks: &[&[u8]]) -> Vec<String> {
    let mut splitter = Splitter::new(limit);
    let mut lines = Vec::new();
    for chunk in chunks {
        splitter.buffer.extend_from_slice(chunk);
        while let Some(line) = splitter.next_line() {
            lines.push(
                line.map_or_else(|error| error.to_string(), |line| String::from_utf8(line.to_vec()).unwrap()),
            );
        }
    }
    lines.extend(splitter.finish().map(|error| error.to_string()));
    lines
}

#[test]
fn lines_are_cut_wherever_the_chunks_end() {
    let text = b"{\"a\":1}\n{\"b\":2}\r\n\n\r\nlast\n";
    for size in 1..=text.len() {
        let chunks: Vec<&[u8]> = text.chunks(size).collect();
        assert_eq!(split(100, &chunks), ["{\"a\":1}", "{\"b\":2}", "last"], "chunks of {size}");
    }
}

#[test]
fn a_line_over_the_limit_is_reported_once_and_the_next_one_is_read() {
    let text = b"12345\n123456\n1234567890123456789\n54321\r\n";
    for size in 1..=text.len() {
        let chunks: Vec<&[u8]> = text.chunks(size).collect();
        let over = "the process wrote a line over the limit of 5 bytes";
        assert_eq!(split(5, &chunks), ["12345", over, over, "54321"], "chunks of {size}");
    }
}

#[test]
fn an_endless_line_never_costs_more_than_the_limit() {
    let mut splitter = Splitter::new(1000);
    for _ in 0..1000 {
        splitter.buffer.extend_from_slice(&[b'x'; 100]);
        let _ = splitter.next_line();
        assert!(splitter.buffer.len() <= 1001);
    }
}

#[test]
fn output_that_ends_within_a_line_is_an_error() {
    assert_eq!(
        split(100, &[b"whole\nhalf"]),
        ["whole", "the process's output ended after 4 bytes of a line"]
    );
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let (mut near, mut far) = duplex(64);
    let mut splitter = Splitter::new(100);
    far.write_all(b"first ha").await.unwrap();
    {
        let mut reading = pin!(read_line(&mut near, &mut splitter));
        assert!(reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    far.write_all(b"lf\n").await.unwrap();
    let line = read_line(&mut near, &mut splitter).await.unwrap().unwrap();
    assert_eq!(line, "first half");
}

#[tokio::test]
async fn a_line_whose_writer_gives_up_is_still_written_whole() {
    let (near, mut far) = duplex(4);
    let (writer, task) = writer(near);
    let task = tokio::spawn(task);
    {
        let mut writing = pin!(writer.write(Bytes::from_static(b"longer than the pipe")));
        assert!(writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn(async move { writer.write(Bytes::from_static(b"second")).await });
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "longer than the pipe\nsecond\n");
    second.await.unwrap().unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn a_line_feed_inside_a_line_is_refused() {
    let (near, _far) = duplex(64);
    let (writer, _task) = writer(near);
    let error = writer.write(Bytes::from_static(b"two\nlines")).await.unwrap_err();
    assert_eq!((error.kind(), error.sent()), (ErrorKind::InvalidRequest, Sent::No));
    assert_eq!(error.to_string(), "a line cannot contain a line feed; there is one at byte 3");
}

/// Takes so many bytes, then breaks.
struct Breaking(usize);

impl AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Poll::Ready(if taken == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(taken) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_broken_pipe_says_whether_anything_of_the_line_went_through() {
    for (taken, sent) in [(0, Sent::No), (3, Sent::Maybe)] {
        let (writer, task) = writer(Breaking(taken));
        let task = tokio::spawn(task);
        let error = writer.write(Bytes::from_static(b"12345")).await.unwrap_err();
        assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, sent));
        let after = writer.write(Bytes::from_static(b"12345")).await.unwrap_err();
        assert_eq!(after.sent(), Sent::No, "nothing is written after that");
        task.await.unwrap();
    }
}

#[tokio::test]
async fn when_the_writing_ends_only_the_line_that_was_begun_may_have_been_seen() {
    let (near, _far) = duplex(4);
    let (writer, task) = writer(near);
    let task = tokio::spawn(task);
    let lines = ["longer than the pipe", "second", "third"].map(|line| {
        let writer = writer.clone();
        tokio::spawn(async move { writer.write(Bytes::from_static(line.as_bytes())).await })
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    task.abort();
    let mut sent = Vec::new();
    for line in lines {
        sent.push(line.await.unwrap().unwrap_err().sent());
    }
    assert_eq!(sent, [Sent::Maybe, Sent::No, Sent::No]);
}

#[tokio::test]
async fn a_line_that_came_in_as_the_writing_ended_is_provably_unsent_at_once() {
    // A place in the queue that was taken before its end, and used after it: nobody will ever look there.
    let (queue, lines) = tokio::sync::mpsc::channel(1);
    let place = queue.clone().reserve_owned().await.unwrap();
    drop(lines);
    let (written, is_written) = tokio::sync::oneshot::channel();
    place.send(super::Outgoing { line: Bytes::from_static(b"late"), written: Some(written) });
    let waiting = super::until_written(&queue, is_written);
    let error = tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::No));
}
