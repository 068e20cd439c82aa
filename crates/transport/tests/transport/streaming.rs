//! Request bodies that come bit by bit, and answers that do not wait for them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use mpe_transport::{Body, Error, ErrorKind, ExchangeOptions, Origin, Pool, PoolConfig, Sent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::{
    DATA, END_STREAM, HEADERS, HTTP_1_1_REQUIRED, NO_ERROR, Network, RST_STREAM,
    SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_UPDATE, h2c, http1, nothing_leaked, of, post, read_http1_request,
    settle, soon, spawn_send, text,
};

/// A body that the test feeds.
struct Fed(mpsc::Receiver<Result<Frame<Bytes>, &'static str>>);

impl HttpBody for Fed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx)
    }
}

type Feeder = mpsc::Sender<Result<Frame<Bytes>, &'static str>>;

fn spawn_streaming(pool: &Pool, origin: Origin) -> (Feeder, JoinHandle<Result<http::Response<Body>, Error>>) {
    let (feeder, fed) = mpsc::channel(1);
    let pool = pool.clone();
    let request = Request::post("/upload").body(Fed(fed)).unwrap();
    let call =
        tokio::spawn(async move { pool.send_streaming(&origin, request, ExchangeOptions::default()).await });
    (feeder, call)
}

async fn feed(feeder: &Feeder, data: &'static [u8]) {
    soon(feeder.send(Ok(Frame::data(Bytes::from_static(data))))).await.expect("the body is still wanted");
}

#[tokio::test(start_paused = true)]
async fn frames_go_out_as_they_come() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let (feeder, call) = spawn_streaming(&pool, h2c());
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.next(&[HEADERS]).await.stream;
    feed(&feeder, b"one").await;
    assert_eq!(peer.next(&[DATA]).await.payload, b"one");
    feed(&feeder, b"two").await;
    assert_eq!(peer.next(&[DATA]).await.payload, b"two");
    drop(feeder);
    assert!(peer.next(&[DATA]).await.is_end());
    peer.answer(stream, b"thanks").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "thanks");
    nothing_leaked(&pool).await;
    assert_eq!((of(&pool, &h2c()).request_bytes, of(&pool, &h2c()).response_bytes), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn request_trailers_end_the_request() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let (feeder, call) = spawn_streaming(&pool, h2c());
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.next(&[HEADERS]).await.stream;
    feed(&feeder, b"data").await;
    assert_eq!(peer.next(&[DATA]).await.payload, b"data");
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "1".parse().unwrap());
    feeder.send(Ok(Frame::trailers(trailers))).await.unwrap();
    assert!(peer.next(&[HEADERS]).await.is_end());
    peer.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_taken_no_faster_than_the_peer_allows() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let warm_up = spawn_send(&pool, &h2c(), post(""));
    let mut peer = network.accept_h2(&[(SETTINGS_INITIAL_WINDOW_SIZE, 5)]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"").await;
    text(soon(warm_up).await.unwrap().unwrap()).await.unwrap();

    let (feeder, call) = spawn_streaming(&pool, h2c());
    let stream = peer.next(&[HEADERS]).await.stream;
    feed(&feeder, b"0123456789").await;
    assert_eq!(peer.next(&[DATA]).await.payload, b"01234");
    feed(&feeder, b"waits in the channel").await;
    settle().await;
    assert!(
        feeder.try_send(Ok(Frame::data(Bytes::new()))).is_err(),
        "nothing is taken while the window is shut"
    );
    peer.write(WINDOW_UPDATE, 0, stream, &100_u32.to_be_bytes()).await;
    assert_eq!(peer.next(&[DATA]).await.payload, b"56789");
    call.abort();
    assert_eq!(peer.next(&[RST_STREAM]).await.stream, stream);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_read_while_the_request_goes_on() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let (feeder, call) = spawn_streaming(&pool, h2c());
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.next(&[HEADERS]).await.stream;
    peer.head(stream, 0).await;
    let mut response = soon(call).await.unwrap().expect("the head comes first");
    peer.data(stream, b"echo?", 0).await;
    assert_eq!(soon(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap(), "echo?");
    let reading =
        tokio::spawn(async move { response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap() });
    feed(&feeder, b"echo!").await;
    assert_eq!(peer.next(&[DATA]).await.payload, b"echo!");
    peer.data(stream, b"done", END_STREAM).await;
    assert_eq!(soon(reading).await.unwrap(), "done");
    nothing_leaked(&pool).await;
    assert!(feeder.is_closed(), "the rest of the body is not wanted");
}

#[tokio::test(start_paused = true)]
async fn a_complete_answer_followed_by_a_reset_is_an_answer() {
    // RFC 9113 §8.1: a server may answer early and then ask the client to stop with RST_STREAM(NO_ERROR).
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let (feeder, call) = spawn_streaming(&pool, h2c());
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.next(&[HEADERS]).await.stream;
    peer.answer(stream, b"too much, stop").await;
    peer.reset(stream, NO_ERROR).await;
    assert_eq!(text(soon(call).await.unwrap().expect("an answer")).await.unwrap(), "too much, stop");
    assert!(feeder.is_closed());
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_resets_the_stream() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let (feeder, call) = spawn_streaming(&pool, h2c());
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.next(&[HEADERS]).await.stream;
    feeder.send(Err("the disk is gone")).await.unwrap();
    let error = soon(call).await.unwrap().expect_err("no body");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::RequestBody, Sent::Maybe));
    assert_eq!(error.to_string(), "the request body failed: the disk is gone");
    assert_eq!(peer.next(&[RST_STREAM]).await.stream, stream);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn http1_streams_in_chunks() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let (feeder, call) = spawn_streaming(&pool, http1());
    feed(&feeder, b"chunk").await;
    let mut peer = network.accept().await;
    let head = read_http1_request(&mut peer).await;
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    let mut chunk = [0; 10];
    soon(peer.read_exact(&mut chunk)).await.unwrap();
    assert_eq!(&chunk, b"5\r\nchunk\r\n");
    drop(feeder);
    let mut end = [0; 5];
    soon(peer.read_exact(&mut end)).await.unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn http1_passes_over_100_continue() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &http1(), post("x"));
    let mut peer = network.accept().await;
    read_http1_request(&mut peer).await;
    peer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    settle().await;
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn http1_heads_are_limited_and_broken_ones_are_an_error() {
    for (answer, kind) in [
        ([&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'v'; 100_000], b"\r\n\r\n"].concat(), ErrorKind::TooLarge),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), ErrorKind::Protocol),
    ] {
        let mut network = Network::new();
        let pool = network.pool(PoolConfig::default());
        let call = spawn_send(&pool, &http1(), post("x"));
        let mut peer = network.accept().await;
        read_http1_request(&mut peer).await;
        peer.write_all(&answer).await.unwrap();
        let error = soon(call).await.unwrap().expect_err("no answer");
        assert_eq!((error.kind(), error.sent()), (kind, Sent::Maybe), "{error}");
        nothing_leaked(&pool).await;
        assert_eq!(pool.snapshot().connections, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drip_of_bytes_does_not_outlast_the_deadline() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &http1(), post("x"));
    let mut peer = network.accept().await;
    read_http1_request(&mut peer).await;
    let started = tokio::time::Instant::now();
    let dripping = tokio::spawn(async move {
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".iter().chain(std::iter::repeat(&b'.'))
        {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            if peer.write_u8(*byte).await.is_err() {
                return;
            }
        }
    });
    let error = match soon(call).await.unwrap() {
        Ok(response) => text(response).await.expect_err("it drips for ever"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(started.elapsed().as_secs(), 30);
    soon(dripping).await.unwrap();
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_needs_no_infallible_error() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let body =
        http_body_util::Full::new(Bytes::from_static(b"whole")).map_err(|never: Infallible| match never {});
    let request = Request::post("/").body(body).unwrap();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.send_streaming(&h2c(), request, ExchangeOptions::default()).await }
    });
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_requires_http1_gets_it_the_next_time() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.reset(stream, HTTP_1_1_REQUIRED).await;
    let mut error = soon(call).await.unwrap().expect_err("not over HTTP/2");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Refused, Sent::No));
    let again = spawn_send(&pool, &h2c(), error.take_request().expect("it comes back"));
    let mut peer = network.accept().await;
    assert!(read_http1_request(&mut peer).await.starts_with("POST /call HTTP/1.1\r\n"));
    peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert_eq!(soon(again).await.unwrap().unwrap().status(), 204);
    nothing_leaked(&pool).await;
}
