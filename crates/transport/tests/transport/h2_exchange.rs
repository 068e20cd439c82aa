//! Exchanges over HTTP/2 against a peer that speaks raw frames.

use std::time::Duration;

use crate::support::{
    CANCEL, DATA, END_STREAM, HEADERS, INTERNAL_ERROR, NO_ERROR, Network, REFUSED_STREAM, RST_STREAM,
    SETTINGS_INITIAL_WINDOW_SIZE, h2c, nothing_leaked, of, post, settle, soon, spawn_send, text,
};
use http_body_util::BodyExt;
use mpe_transport::{BodyDeadline, ErrorKind, ExchangeOptions, PoolConfig, Protocol, Sent};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_request_gets_its_response_and_learns_who_served_it() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let first = spawn_send(&pool, &h2c(), post("ping"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"pong").await;
    let response = soon(first).await.unwrap().expect("a response");
    let info = response.body().info();
    assert_eq!((info.protocol, info.reused), (Protocol::Http2, false));
    assert_eq!(text(response).await.unwrap(), "pong");

    let second = spawn_send(&pool, &h2c(), post("ping"));
    let stream = peer.request().await;
    peer.answer(stream, b"again").await;
    let response = soon(second).await.unwrap().expect("a response");
    let again = response.body().info();
    assert_eq!((again.connection, again.reused), (info.connection, true));
    drop(response);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_comes_back_unsent_with_its_request() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("refuse me"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.reset(stream, REFUSED_STREAM).await;
    let mut error = soon(call).await.unwrap().expect_err("refused");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Refused, Sent::No));
    let request = error.take_request().expect("the request comes back");
    assert_eq!(request.uri(), "/call");
    assert_eq!(request.headers()["x-call"], "refuse me");
    assert_eq!(request.body(), "refuse me");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_request_back_gets_the_same_error_without_one() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let mut options = ExchangeOptions::default();
    options.hands_back = false;
    let mut late = options.clone();
    late.deadline = Some(Instant::now());
    let mut error = soon(pool.send_with(&h2c(), post("too late"), late)).await.expect_err("no time");
    assert_eq!(error.sent(), Sent::No);
    assert!(error.take_request().is_none());

    let caller = pool.clone();
    let call = tokio::spawn(async move { caller.send_with(&h2c(), post("refuse me"), options).await });
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.reset(stream, REFUSED_STREAM).await;
    let mut error = soon(call).await.unwrap().expect_err("refused");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Refused, Sent::No));
    assert!(error.take_request().is_none());
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_for_any_other_reason_may_have_run() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.reset(stream, INTERNAL_ERROR).await;
    let mut error = soon(call).await.unwrap().expect_err("reset");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Reset, Sent::Maybe));
    assert!(error.take_request().is_none());
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn goaway_lets_lower_streams_finish_and_returns_higher_ones_unsent() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let lower = spawn_send(&pool, &h2c(), post("lower"));
    let mut peer = network.accept_h2(&[]).await;
    let first = peer.request().await;
    let higher = spawn_send(&pool, &h2c(), post("higher"));
    let second = peer.request().await;
    assert!(first < second);
    peer.goaway(first, NO_ERROR).await;
    let mut error = soon(higher).await.unwrap().expect_err("above the last stream");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Refused, Sent::No));
    assert!(error.take_request().is_some());

    peer.answer(first, b"done").await;
    assert_eq!(text(soon(lower).await.unwrap().expect("below the last stream")).await.unwrap(), "done");
    peer.closed().await;
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn after_goaway_on_an_idle_connection_the_next_exchange_opens_another() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"1").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "1");
    peer.goaway(stream, NO_ERROR).await;
    peer.closed().await;

    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"2").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "2");
    nothing_leaked(&pool).await;
    assert_eq!(of(&pool, &h2c()).opened, 2);
}

#[tokio::test(start_paused = true)]
async fn while_a_connection_drains_new_exchanges_go_to_another() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let old = spawn_send(&pool, &h2c(), post("old"));
    let mut draining = network.accept_h2(&[]).await;
    let stream = draining.request().await;
    draining.goaway(stream, NO_ERROR).await;
    settle().await;

    let new = spawn_send(&pool, &h2c(), post("new"));
    let mut fresh = network.accept_h2(&[]).await;
    let its_stream = fresh.request().await;
    fresh.answer(its_stream, b"new").await;
    assert_eq!(text(soon(new).await.unwrap().unwrap()).await.unwrap(), "new");
    draining.answer(stream, b"old").await;
    assert_eq!(text(soon(old).await.unwrap().unwrap()).await.unwrap(), "old");
    draining.closed().await;
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_under_a_stream_may_have_run_it() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    drop(peer);
    let error = soon(call).await.unwrap().expect_err("cut");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::Maybe));
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_resets_the_stream_and_frees_the_place() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    call.abort();
    let reset = peer.next(&[RST_STREAM]).await;
    assert_eq!((reset.stream, reset.reason()), (stream, CANCEL));
    nothing_leaked(&pool).await;
    assert_eq!(of(&pool, &h2c()).idle, 1, "the connection itself lives on");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_body_resets_the_stream_and_frees_the_place() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    peer.data(stream, b"partial", 0).await;
    let mut response = soon(call).await.unwrap().expect("a head");
    let frame = soon(response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "partial");
    assert_eq!(of(&pool, &h2c()).streams, 1);
    drop(response);
    let reset = peer.next(&[RST_STREAM]).await;
    assert_eq!((reset.stream, reset.reason()), (stream, CANCEL));
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_in_the_body_is_an_error_after_what_came_before() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    peer.data(stream, b"partial", 0).await;
    let mut response = soon(call).await.unwrap().expect("a head");
    assert_eq!(soon(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap(), "partial");
    peer.reset(stream, INTERNAL_ERROR).await;
    let error = soon(response.body_mut().frame()).await.unwrap().expect_err("cut short");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Reset, Sent::Maybe));
    assert!(soon(response.body_mut().frame()).await.is_none(), "an error is the end");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn trailers_follow_the_data() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    peer.data(stream, b"body", 0).await;
    // Literal without indexing, new name: `grpc-status: 0`.
    let trailer = [&[0x00, 11][..], b"grpc-status", &[1], b"0"].concat();
    peer.write(HEADERS, crate::support::END_HEADERS | END_STREAM, stream, &trailer).await;
    let collected = soon(soon(call).await.unwrap().unwrap().into_body().collect()).await.unwrap();
    assert_eq!(collected.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "body");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn informational_heads_are_passed_over() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    // Literal without indexing, name from the static table's entry 8: `:status: 103`.
    peer.write(HEADERS, crate::support::END_HEADERS, stream, &[0x08, 3, b'1', b'0', b'3']).await;
    settle().await;
    peer.answer(stream, b"final").await;
    let response = soon(call).await.unwrap().expect("the final head");
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await.unwrap(), "final");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_window_opens_as_the_body_is_read() {
    const BODY: usize = 20 << 20; // More than both windows, so it only arrives if both are given back.
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    let response = soon(call).await.unwrap().expect("a head");
    let reader = tokio::spawn(response.into_body().collect());
    // 1 MiB of stream window and 8 MiB of connection window are ours from the start.
    let (mut stream_window, mut connection_window, mut left) = (1_i64 << 20, 8_i64 << 20, BODY as i64);
    while left > 0 {
        let n = left.min(stream_window).min(connection_window).min(16_384);
        if n > 0 {
            let end = if n == left { END_STREAM } else { 0 };
            peer.data(stream, &vec![7; n as usize], end).await;
            (stream_window, connection_window, left) = (stream_window - n, connection_window - n, left - n);
            continue;
        }
        let update = peer.next(&[crate::support::WINDOW_UPDATE]).await;
        let increment = i64::from(u32::from_be_bytes(update.payload[..4].try_into().unwrap()));
        match update.stream {
            0 => connection_window += increment,
            _ => stream_window += increment,
        }
    }
    assert_eq!(soon(reader).await.unwrap().unwrap().to_bytes().len(), BODY);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_unread_body_stalls_its_own_stream_and_no_other() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let stalled = spawn_send(&pool, &h2c(), post("stalled"));
    let mut peer = network.accept_h2(&[]).await;
    let first = peer.request().await;
    peer.head(first, 0).await;
    let held = soon(stalled).await.unwrap().expect("a head");
    for _ in 0..64 {
        peer.data(first, &[0; 16_384], 0).await;
    }
    let other = spawn_send(&pool, &h2c(), post("other"));
    let second = peer.request().await;
    peer.answer(second, b"through").await;
    assert_eq!(text(soon(other).await.unwrap().unwrap()).await.unwrap(), "through");
    drop(held);
    assert_eq!(peer.next(&[RST_STREAM]).await.stream, first);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_body_waits_for_the_peers_window() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let body: &'static str = "0123456789";
    let warm_up = spawn_send(&pool, &h2c(), post("warm up"));
    let mut peer = network.accept_h2(&[(SETTINGS_INITIAL_WINDOW_SIZE, 4)]).await;
    let mut frame = peer.next(&[HEADERS]).await;
    peer.answer(frame.stream, b"early").await;
    assert_eq!(
        text(soon(warm_up).await.unwrap().unwrap()).await.unwrap(),
        "early",
        "answered before it was all sent"
    );

    let call = spawn_send(&pool, &h2c(), post(body));
    while frame.stream == 1 || frame.kind != DATA {
        frame = peer.next(&[HEADERS, DATA]).await;
    }
    assert_eq!(frame.payload, b"0123");
    let stream = frame.stream;
    peer.write(crate::support::WINDOW_UPDATE, 0, stream, &6_u32.to_be_bytes()).await;
    let mut received = std::mem::take(&mut frame.payload);
    while !frame.is_end() || frame.stream != stream {
        frame = peer.next(&[DATA]).await;
        received.extend_from_slice(&frame.payload);
    }
    assert_eq!(received, body.as_bytes());
    peer.answer(stream, b"all").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "all");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_head() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let started = Instant::now();
    let (sender, origin) = (pool.clone(), h2c());
    let call =
        tokio::spawn(
            async move { sender.send(&origin, post("x"), Some(started + Duration::from_secs(3))).await },
        );
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    let error = soon(call).await.unwrap().expect_err("no answer");
    assert_eq!(started.elapsed().as_secs(), 3);
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Deadline, Sent::Maybe));
    assert_eq!(peer.next(&[RST_STREAM]).await.stream, stream);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_body() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let started = Instant::now();
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    let error = text(soon(call).await.unwrap().expect("a head")).await.expect_err("a slow body");
    assert_eq!(started.elapsed().as_secs(), 30, "the default request_timeout");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(peer.next(&[RST_STREAM]).await.stream, stream);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_lives_as_long_as_something_comes() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.ping_interval = None;
    let pool = network.pool(config);
    let (sender, origin) = (pool.clone(), h2c());
    let call = tokio::spawn(async move {
        let mut options = ExchangeOptions::default();
        options.body_deadline = BodyDeadline::Idle(Duration::from_secs(50));
        sender.send_with(&origin, post("listen"), options).await
    });
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    let mut response = soon(call).await.unwrap().expect("a head");
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(40)).await;
        peer.data(stream, b"event", 0).await;
        assert_eq!(soon(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap(), "event");
    }
    let silent_since = Instant::now();
    let error = response.body_mut().frame().await.unwrap().expect_err("silence");
    assert_eq!(silent_since.elapsed().as_secs(), 50);
    assert_eq!(error.to_string(), "nothing of the response body came for 50s");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_cut_and_its_stream_reset() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_response_bytes = 10;
    let pool = network.pool(config);
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    peer.data(stream, b"0123456789", 0).await;
    peer.data(stream, b"!", 0).await;
    let error = text(soon(call).await.unwrap().expect("a head")).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.to_string(), "the response body is larger than the limit of 10 bytes");
    assert_eq!(peer.next(&[RST_STREAM]).await.stream, stream);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_over_the_limit_is_refused() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_head_bytes = 1000;
    let pool = network.pool(config);
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    let mut head = crate::support::STATUS_200.to_vec();
    // Literal without indexing: a header `x` of 120 bytes, ten times.
    for _ in 0..10 {
        head.extend_from_slice(&[0x00, 1, b'x', 120]);
        head.extend_from_slice(&[b'v'; 120]);
    }
    peer.write(HEADERS, crate::support::END_HEADERS | END_STREAM, stream, &head).await;
    let error = soon(call).await.unwrap().expect_err("too large");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::TooLarge, Sent::Maybe), "{error}");
    nothing_leaked(&pool).await;
}
