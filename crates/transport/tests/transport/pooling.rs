//! Who gets a connection, who waits, and when connections end.

use std::time::Duration;

use crate::support::{
    NO_ERROR, Network, SETTINGS_MAX_CONCURRENT_STREAMS, h2c, http1, nothing_leaked, of, other_h2c, post,
    read_http1_request, settle, soon, spawn_send, text,
};
use bytes::Bytes;
use http::Request;
use mpe_transport::{ErrorKind, PoolConfig, Preset, Sent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_cause_one_connect() {
    let mut network = Network::new();
    network.delay(Duration::from_millis(50));
    let pool = network.pool(PoolConfig::default());
    let calls: Vec<_> = (0..100).map(|_| spawn_send(&pool, &h2c(), post("x"))).collect();
    let mut peer = network.accept_h2(&[]).await;
    for _ in 0..100 {
        let stream = peer.request().await;
        peer.answer(stream, b"ok").await;
    }
    for call in calls {
        assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(network.n_unanswered(), 0);
    assert_eq!(of(&pool, &h2c()).opened, 1);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_others_are_served_when_the_call_that_started_the_connect_is_dropped() {
    let mut network = Network::new();
    network.delay(Duration::from_secs(1));
    let pool = network.pool(PoolConfig::default());
    let first = spawn_send(&pool, &h2c(), post("first"));
    settle().await;
    let second = spawn_send(&pool, &h2c(), post("second"));
    settle().await;
    first.abort();
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"second").await;
    assert_eq!(text(soon(second).await.unwrap().unwrap()).await.unwrap(), "second");
    assert_eq!(of(&pool, &h2c()).opened, 1);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_is_told_to_everybody_and_nothing_was_sent() {
    let network = Network::new();
    network.delay(Duration::from_secs(1));
    network.refuse(1);
    let pool = network.pool(PoolConfig::default());
    let calls: Vec<_> = (0..3).map(|_| spawn_send(&pool, &h2c(), post("x"))).collect();
    for call in calls {
        let mut error = soon(call).await.unwrap().expect_err("refused");
        assert_eq!((error.kind(), error.sent()), (ErrorKind::Connect, Sent::No));
        assert_eq!(error.to_string(), "cannot connect to http://peer.test:8080: refused by the script");
        assert!(error.take_request().is_some());
    }
    assert_eq!(of(&pool, &h2c()).connect_failed, 1);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_hangs_ends_at_its_own_limit() {
    let network = Network::new();
    network.delay(Duration::from_secs(3600));
    let pool = network.pool(PoolConfig::default());
    let error = soon(pool.send(&h2c(), post("x"), None)).await.expect_err("hangs");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Connect, Sent::No));
    assert_eq!(error.to_string(), "connecting to http://peer.test:8080 took longer than 10s");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_further_connection_opens_only_when_the_open_ones_are_full() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_streams = 2;
    let pool = network.pool(config);
    let calls: Vec<_> = (0..3).map(|_| spawn_send(&pool, &h2c(), post("x"))).collect();
    let mut first = network.accept_h2(&[]).await;
    let (one, two) = (first.request().await, first.request().await);
    let mut second = network.accept_h2(&[]).await;
    let three = second.request().await;
    first.answer(one, b"ok").await;
    first.answer(two, b"ok").await;
    second.answer(three, b"ok").await;
    for call in calls {
        assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(of(&pool, &h2c()).opened, 2);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn settings_that_lower_the_limit_to_one_make_the_next_exchange_wait() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_connections = 1;
    let pool = network.pool(config);
    let first = spawn_send(&pool, &h2c(), post("first"));
    let mut peer = network.accept_h2(&[(SETTINGS_MAX_CONCURRENT_STREAMS, 1)]).await;
    let one = peer.request().await;
    settle().await;
    let second = spawn_send(&pool, &h2c(), post("second"));
    settle().await;
    assert_eq!((of(&pool, &h2c()).streams, of(&pool, &h2c()).waiting), (1, 1));
    peer.answer(one, b"1").await;
    assert_eq!(text(soon(first).await.unwrap().unwrap()).await.unwrap(), "1");
    let two = peer.request().await;
    peer.answer(two, b"2").await;
    assert_eq!(text(soon(second).await.unwrap().unwrap()).await.unwrap(), "2");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn settings_of_zero_stop_everything_and_raising_them_starts_it_again() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_connections = 1;
    let pool = network.pool(config);
    let warm_up = spawn_send(&pool, &h2c(), post("warm up"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    text(soon(warm_up).await.unwrap().unwrap()).await.unwrap();
    peer.settings(&[(SETTINGS_MAX_CONCURRENT_STREAMS, 0)]).await;
    settle().await;

    let calls: Vec<_> = (0..3).map(|_| spawn_send(&pool, &h2c(), post("x"))).collect();
    settle().await;
    assert_eq!((of(&pool, &h2c()).streams, of(&pool, &h2c()).waiting), (0, 3));
    assert_eq!(network.n_unanswered(), 0, "another connection would only be told zero again");
    peer.settings(&[(SETTINGS_MAX_CONCURRENT_STREAMS, 2)]).await;
    for call in calls {
        let stream = peer.request().await;
        assert!(of(&pool, &h2c()).streams <= 2, "{:?}", pool.snapshot());
        peer.answer(stream, b"ok").await;
        assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    }
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline_and_says_why() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_connections = 1;
    config.max_streams = 1;
    let pool = network.pool(config);
    let holder = spawn_send(&pool, &h2c(), post("holder"));
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let mut error =
        soon(pool.send(&h2c(), post("x"), Some(tokio::time::Instant::now() + Duration::from_secs(2))))
            .await
            .expect_err("no place");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::PoolExhausted, Sent::No));
    assert_eq!(
        error.to_string(),
        "pool exhausted: 1 connections, 1 waiting; no place was free before the deadline"
    );
    assert!(error.take_request().is_some());
    holder.abort();
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_may_wait_than_the_limit_says() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    (config.max_connections, config.max_streams, config.max_waiting) = (1, 1, 2);
    let pool = network.pool(config);
    let holder = spawn_send(&pool, &h2c(), post("holder"));
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    let waiting: Vec<_> = (0..2).map(|_| spawn_send(&pool, &h2c(), post("x"))).collect();
    settle().await;
    let error = soon(pool.send(&h2c(), post("x"), None)).await.expect_err("one too many");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::PoolExhausted, Sent::No));
    assert_eq!(error.to_string(), "pool exhausted: 1 connections, 2 waiting; no waiting place is left");
    holder.abort();
    waiting.iter().for_each(|call| call.abort());
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_makes_room_for_another_origin_at_the_limit() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_connections = 1;
    let pool = network.pool(config);
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut first = network.accept_h2(&[]).await;
    let stream = first.request().await;
    first.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();

    let call = spawn_send(&pool, &other_h2c(), post("x"));
    first.closed().await;
    drop(first);
    let mut second = network.accept_h2(&[]).await;
    let stream = second.request().await;
    second.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    assert_eq!(pool.snapshot().connections, 1);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_origin_does_not_starve_another_at_the_limit() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    (config.max_connections, config.max_streams) = (1, 1);
    let pool = network.pool(config);
    let busy = spawn_send(&pool, &h2c(), post("busy"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    let starved = spawn_send(&pool, &other_h2c(), post("starved"));
    settle().await;
    // More of the busy origin queue up behind; they came later.
    let later = spawn_send(&pool, &h2c(), post("later"));
    settle().await;
    peer.answer(stream, b"ok").await;
    text(soon(busy).await.unwrap().unwrap()).await.unwrap();
    peer.closed().await;
    drop(peer);
    let mut other = network.accept_h2(&[]).await;
    let stream = other.request().await;
    other.answer(stream, b"fair").await;
    assert_eq!(text(soon(starved).await.unwrap().unwrap()).await.unwrap(), "fair");
    other.closed().await;
    drop(other);
    let mut again = network.accept_h2(&[]).await;
    let stream = again.request().await;
    again.answer(stream, b"ok").await;
    text(soon(later).await.unwrap().unwrap()).await.unwrap();
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_expiry_and_not_before() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    tokio::time::advance(Duration::from_secs(29)).await;
    settle().await;
    assert_eq!(of(&pool, &h2c()).idle, 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    peer.closed().await;
    settle().await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_past_its_age_finishes_its_streams_and_takes_no_more() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_connection_age = Some(Duration::from_secs(5));
    let pool = network.pool(config);
    let old = spawn_send(&pool, &h2c(), post("old"));
    let mut aged = network.accept_h2(&[]).await;
    let stream = aged.request().await;
    tokio::time::advance(Duration::from_secs(6)).await;
    settle().await;
    let new = spawn_send(&pool, &h2c(), post("new"));
    let mut fresh = network.accept_h2(&[]).await;
    let its_stream = fresh.request().await;
    fresh.answer(its_stream, b"new").await;
    assert_eq!(text(soon(new).await.unwrap().unwrap()).await.unwrap(), "new");
    aged.answer(stream, b"old").await;
    assert_eq!(text(soon(old).await.unwrap().unwrap()).await.unwrap(), "old");
    aged.closed().await;
    drop(aged);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_idle_connections_are_kept_than_the_limit_says() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    (config.max_streams, config.max_keepalive_connections) = (1, 1);
    let pool = network.pool(config);
    let calls = [spawn_send(&pool, &h2c(), post("x")), spawn_send(&pool, &h2c(), post("x"))];
    let (mut first, mut second) = (network.accept_h2(&[]).await, network.accept_h2(&[]).await);
    for peer in [&mut first, &mut second] {
        let stream = peer.request().await;
        peer.answer(stream, b"ok").await;
    }
    for call in calls {
        text(soon(call).await.unwrap().unwrap()).await.unwrap();
    }
    settle().await;
    assert_eq!(of(&pool, &h2c()).idle, 2, "both were in use a moment ago");
    let begin = Instant::now();
    first.closed().await;
    assert_eq!(begin.elapsed().as_secs(), 1);
    drop(first);
    settle().await;
    assert_eq!(of(&pool, &h2c()).idle, 1);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_follow_each_other_open_no_connections_anew_because_of_the_idle_limit() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    (config.max_streams, config.max_keepalive_connections) = (1, 1);
    let pool = network.pool(config);
    let mut peers: Vec<_> = Vec::new();
    for round in 0..100 {
        let calls: Vec<_> = (0..3).map(|_| spawn_send(&pool, &h2c(), post("x"))).collect();
        while round == 0 && peers.len() < calls.len() {
            peers.push(network.accept_h2(&[]).await);
        }
        for peer in &mut peers {
            let stream = peer.request().await;
            peer.answer(stream, b"ok").await;
        }
        for call in calls {
            text(soon(call).await.unwrap().unwrap()).await.unwrap();
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert_eq!(of(&pool, &h2c()).opened, 3);
    drop(peers);
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn closing_lets_exchanges_finish_and_takes_no_more() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(Duration::from_secs(20)).await }
    });
    settle().await;
    let mut error = pool.send(&h2c(), post("late"), None).await.expect_err("closed");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::PoolClosed, Sent::No));
    assert!(error.take_request().is_some());
    peer.answer(stream, b"finished").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "finished");
    peer.closed().await;
    drop(peer);
    soon(closing).await.unwrap();
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn closing_cuts_what_outlives_its_limit() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    peer.request().await;
    let started = tokio::time::Instant::now();
    pool.close(Duration::from_secs(2)).await;
    assert_eq!(started.elapsed().as_secs(), 2);
    let error = soon(call).await.unwrap().expect_err("cut");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::Maybe));
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_pool_closes_its_connections() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    drop(pool);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn without_concurrency_calls_go_one_at_a_time() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::preset(Preset::Conservative));
    let calls: Vec<_> = (0..3).map(|_| spawn_send(&pool, &h2c(), post("x"))).collect();
    let mut peer = network.accept_h2(&[]).await;
    for call in calls {
        let stream = peer.request().await;
        settle().await;
        assert_eq!(of(&pool, &h2c()).streams, 1);
        peer.answer(stream, b"ok").await;
        assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    }
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn http1_serves_one_exchange_after_another_on_one_connection() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &http1(), post("one"));
    let mut peer = network.accept().await;
    let request = read_http1_request(&mut peer).await;
    assert!(request.starts_with("POST /call HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: peer.test:8080\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\none"), "{request}");
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");

    let call = spawn_send(&pool, &http1(), post("two"));
    read_http1_request(&mut peer).await;
    peer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    nothing_leaked(&pool).await;
    assert_eq!((of(&pool, &http1()).opened, of(&pool, &http1()).http1_exchanges), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn http1_waiters_get_the_connection_in_the_order_they_came() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_connections = 1;
    let pool = network.pool(config);
    let mut calls = Vec::new();
    for body in ["1", "2", "3"] {
        calls.push(spawn_send(&pool, &http1(), post(body)));
        settle().await;
    }
    let mut peer = network.accept().await;
    for body in ["1", "2", "3"] {
        assert!(read_http1_request(&mut peer).await.ends_with(body));
        peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    }
    for call in calls {
        assert_eq!(soon(call).await.unwrap().unwrap().status(), 204);
    }
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn an_http1_exchange_cut_short_takes_its_connection_with_it() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_connections = 1;
    let pool = network.pool(config);
    let call = spawn_send(&pool, &http1(), post("x"));
    let mut peer = network.accept().await;
    read_http1_request(&mut peer).await;
    call.abort();
    assert_eq!(soon(peer.read(&mut [0; 8])).await.unwrap(), 0, "the pool closes it");
    drop(peer);
    let call = spawn_send(&pool, &http1(), post("x"));
    let mut peer = network.accept().await;
    read_http1_request(&mut peer).await;
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npartial").await.unwrap();
    drop(soon(call).await.unwrap().unwrap());
    assert_eq!(soon(peer.read(&mut [0; 8])).await.unwrap(), 0, "the pool closes it");
    drop(peer);
    nothing_leaked(&pool).await;
    assert_eq!(pool.snapshot().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn an_http1_peer_that_closes_an_idle_connection_is_noticed() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &http1(), post("x"));
    let mut peer = network.accept().await;
    read_http1_request(&mut peer).await;
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    drop(peer);
    settle().await;
    assert_eq!(pool.snapshot().connections, 0);
    let call = spawn_send(&pool, &http1(), post("x"));
    let mut peer = network.accept().await;
    read_http1_request(&mut peer).await;
    drop(peer);
    let error = soon(call).await.unwrap().expect_err("cut");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::Maybe));
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_comes_back_at_once() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let request = Request::connect("/x").body(Bytes::new()).unwrap();
    let mut error = pool.send(&h2c(), request, None).await.expect_err("not an exchange");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::InvalidRequest, Sent::No));
    assert!(error.take_request().is_some());
    let request =
        Request::post("/x").header("connection", "x-hop, close").header("x-hop", "1").header("te", "gzip");
    let call = spawn_send(&pool, &h2c(), request.header("keep-alive", "5").body(Bytes::new()).unwrap());
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().expect("headers of one HTTP/1.1 hop are left out")).await.unwrap();
    peer.goaway(stream, NO_ERROR).await;
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_request_may_announce_more_than_the_limit() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.max_response_bytes = 10;
    let pool = network.pool(config);
    for (request, is_fine) in [(Request::head("/x"), true), (Request::get("/x"), false)] {
        let call = spawn_send(&pool, &http1(), request.body(Bytes::new()).unwrap());
        let mut peer = network.accept().await;
        read_http1_request(&mut peer).await;
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let answer = soon(call).await.unwrap();
        assert_eq!(answer.is_ok(), is_fine);
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        }
    }
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn closing_gives_attempts_under_way_up() {
    let network = Network::new();
    network.delay(Duration::from_secs(3600));
    let pool = network.pool(PoolConfig::default());
    let call = spawn_send(&pool, &h2c(), post("x"));
    settle().await;
    let started = tokio::time::Instant::now();
    pool.close(Duration::from_secs(20)).await;
    assert_eq!(started.elapsed(), Duration::ZERO, "nothing is left to wait for");
    let error = soon(call).await.unwrap().expect_err("closed");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::PoolClosed, Sent::No));
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn durations_without_end_are_as_good_as_long_ones() {
    let mut network = Network::new();
    let mut config = PoolConfig::default();
    config.keepalive_expiry = Duration::MAX;
    config.request_timeout = Duration::MAX;
    config.connect_timeout = Duration::MAX;
    config.ping_timeout = Duration::MAX;
    (config.ping_interval, config.max_connection_age) = (Some(Duration::MAX), Some(Duration::MAX));
    let pool = network.pool(config);
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
    nothing_leaked(&pool).await;
    pool.close(Duration::MAX).await;
}
