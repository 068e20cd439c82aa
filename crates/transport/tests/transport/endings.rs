//! Every way in which a connection, an exchange or its caller can end too early.

use std::time::Duration;

use http_body_util::BodyExt;
use mpe_transport::{ErrorKind, PoolConfig, Sent};
use tokio::io::AsyncWriteExt;

use crate::support::{
    CANCEL, INTERNAL_ERROR, Network, RST_STREAM, WINDOW_UPDATE, h2c, http1, nothing_leaked, of, post,
    read_http1_request, settle, soon, spawn_send, text,
};

#[tokio::test(start_paused = true)]
async fn goaway_with_an_error_and_a_close_splits_seen_from_unseen() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let lower = spawn_send(&pool, &h2c(), post("lower"));
    let mut peer = network.accept_h2(&[]).await;
    let first = peer.request().await;
    let higher = spawn_send(&pool, &h2c(), post("higher"));
    peer.request().await;
    peer.goaway(first, INTERNAL_ERROR).await;
    drop(peer);
    let error = soon(lower).await.unwrap().expect_err("it may have run");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::Maybe));
    let mut error = soon(higher).await.unwrap().expect_err("it has not run");
    assert_eq!(error.sent(), Sent::No);
    assert!(error.take_request().is_some());
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn goaway_behind_the_last_stream_lets_all_of_them_finish() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    // The first of the two GOAWAYs of a graceful shutdown names no stream at all (RFC 9113 §6.8).
    peer.goaway(0x7fff_ffff, 0).await;
    settle().await;
    peer.goaway(stream, 0).await;
    peer.answer(stream, b"finished").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "finished");
    peer.closed().await;
    drop(peer);
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_http2_loses_every_stream() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let calls = [spawn_send(&pool, &h2c(), post("x")), spawn_send(&pool, &h2c(), post("x"))];
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    peer.request().await;
    // DATA on a stream nobody has opened.
    peer.data(101, b"what?", 0).await;
    for call in calls {
        let error = soon(call).await.unwrap().expect_err("broken");
        assert_eq!((error.kind(), error.sent()), (ErrorKind::Protocol, Sent::Maybe), "{error}");
    }
    peer.closed().await;
    drop(peer);
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_half_closes_ends_its_connection() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    peer.io.shutdown().await.unwrap();
    let error = soon(call).await.unwrap().expect_err("it will never answer");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::Maybe));
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_closed_as_a_request_is_written_may_have_seen_it() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    drop(peer);
    // The connection's task has had no chance to notice.
    let error = soon(pool.send(&h2c(), post("x"), None)).await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::Maybe));
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn an_http1_connection_closed_as_a_request_is_written_hands_it_back() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &http1(), post("x"));
    let mut peer = network.accept().await;
    read_http1_request(&mut peer).await;
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    settle().await;
    drop(peer);
    // The connection's task sees the end before it has written anything.
    let mut error = soon(pool.send(&http1(), post("again"), None)).await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::No));
    assert_eq!(error.take_request().expect("it comes back").body(), "again");
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_leaves_the_queue() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    (config.max_connections, config.max_streams) = (1, 1);
    let pool = network.pool(config);
    let holder = spawn_send(&pool, &h2c(), post("holder"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    let dropped = spawn_send(&pool, &h2c(), post("dropped"));
    settle().await;
    let patient = spawn_send(&pool, &h2c(), post("patient"));
    settle().await;
    assert_eq!(of(&pool, &h2c()).waiting, 2);
    dropped.abort();
    settle().await;
    assert_eq!(of(&pool, &h2c()).waiting, 1);
    peer.answer(stream, b"ok").await;
    text(soon(holder).await.unwrap().unwrap()).await.unwrap();
    let stream = peer.request().await;
    peer.answer(stream, b"served").await;
    assert_eq!(text(soon(patient).await.unwrap().unwrap()).await.unwrap(), "served");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_granted_to_a_caller_that_is_gone_goes_to_the_next() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    (config.max_connections, config.max_streams) = (1, 1);
    let pool = network.pool(config);
    let holder = spawn_send(&pool, &h2c(), post("holder"));
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    let gone = spawn_send(&pool, &h2c(), post("gone"));
    settle().await;
    let next = spawn_send(&pool, &h2c(), post("next"));
    settle().await;
    // Both in one breath: the place is granted to a task that will never run again.
    holder.abort();
    gone.abort();
    assert_eq!(peer.next(&[RST_STREAM]).await.reason(), CANCEL);
    let stream = peer.request().await;
    peer.answer(stream, b"next").await;
    assert_eq!(text(soon(next).await.unwrap().unwrap()).await.unwrap(), "next");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_window_of_dropped_bodies_is_given_back() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let warm_up = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"").await;
    text(soon(warm_up).await.unwrap().unwrap()).await.unwrap();
    // Three times the connection's window, in bodies of half a MiB that nobody reads.
    for _ in 0..48 {
        let call = spawn_send(&pool, &h2c(), post("x"));
        let stream = peer.request().await;
        peer.head(stream, 0).await;
        let response = soon(call).await.unwrap().expect("a head");
        for _ in 0..32 {
            while peer.window < 16_384 {
                peer.next(&[WINDOW_UPDATE]).await;
            }
            peer.data(stream, &[0; 16_384], 0).await;
        }
        settle().await;
        drop(response);
    }
    nothing_leaked(&pool).await;
    assert_eq!(of(&pool, &h2c()).opened, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_and_a_fast_peer_stay_within_the_window() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.head(stream, 0).await;
    let mut response = soon(call).await.unwrap().expect("a head");
    // The whole stream window, unread; one byte more would be the peer's fault.
    for _ in 0..64 {
        peer.data(stream, &[7; 16_384], 0).await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut n_read = 0;
    while n_read < 1 << 20 {
        n_read += soon(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap().len();
    }
    let update = peer.next(&[WINDOW_UPDATE]).await;
    assert!(u32::from_be_bytes(update.payload[..4].try_into().unwrap()) > 0);
    drop(response);
    nothing_leaked(&pool).await;
}
