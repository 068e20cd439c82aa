//! Peers that fall silent.

use std::time::Duration;

use mpe_transport::{BodyDeadline, ErrorKind, ExchangeOptions, PoolConfig, Sent};
use tokio::time::Instant;

use crate::support::{ACK, HEADERS, Network, PING, h2c, nothing_leaked, of, post, settle, soon};

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up_within_the_stated_time() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let started = Instant::now();
    let mut options = ExchangeOptions::default();
    options.deadline = Some(started + Duration::from_secs(1000));
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.send_with(&h2c(), post("x"), options).await }
    });
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    let ping = peer.next(&[PING]).await;
    assert_eq!((ping.flags, started.elapsed().as_secs()), (0, 20));
    let error = soon(call).await.unwrap().expect_err("dead");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::Maybe));
    assert_eq!(started.elapsed().as_secs(), 30, "interval and timeout together");
    peer.closed().await;
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_may_think_as_long_as_it_likes() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let mut options = ExchangeOptions::default();
    options.deadline = Some(Instant::now() + Duration::from_secs(1000));
    options.body_deadline = BodyDeadline::Unbounded;
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.send_with(&h2c(), post("x"), options).await }
    });
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    for _ in 0..10 {
        let ping = peer.next(&[PING]).await;
        peer.write(PING, ACK, 0, &ping.payload).await;
    }
    peer.answer(stream, b"at last").await;
    drop(soon(call).await.unwrap().expect("an answer"));
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn pings_can_be_switched_off() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.ping_interval = None;
    let pool = network.pool(config);
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.send(&h2c(), post("x"), Some(Instant::now() + Duration::from_secs(500))).await }
    });
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    tokio::time::advance(Duration::from_secs(400)).await;
    settle().await;
    assert_eq!(of(&pool, &h2c()).streams, 1);
    call.abort();
    // Nothing but the reset follows.
    assert_eq!(
        peer.next(&[PING, HEADERS, crate::support::RST_STREAM]).await.kind,
        crate::support::RST_STREAM
    );
}
