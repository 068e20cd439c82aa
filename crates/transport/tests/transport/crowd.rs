//! Many at once, against h2's own server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use mpe_transport::PoolConfig;
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{Network, h2c, nothing_leaked, post, soon, text};

/// Answers every request of a connection once the gate is open.
async fn serve(io: DuplexStream, n_arrived: Arc<AtomicUsize>, gate: Arc<Semaphore>) {
    let mut connection = h2::server::handshake(io).await.expect("a handshake");
    let mut answers = JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        n_arrived.fetch_add(1, Ordering::Relaxed);
        let gate = gate.clone();
        answers.spawn(async move {
            let _open = gate.acquire().await.expect("it is never closed");
            drop(request);
            let mut body = respond.send_response(Response::new(()), false).expect("the stream is open");
            body.send_data(Bytes::from_static(b"ok"), true).expect("the stream is open");
        });
    }
    answers.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_exchanges_in_flight_share_a_hundred_connections() {
    const CALLS: usize = 10_000;
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let (n_arrived, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let pool = pool.clone();
        calls.spawn(async move { text(pool.send(&h2c(), post("x"), None).await?).await });
    }
    let mut servers = JoinSet::new();
    for _ in 0..100 {
        let io = network.accept().await;
        servers.spawn(serve(io, n_arrived.clone(), gate.clone()));
    }
    soon(async {
        while n_arrived.load(Ordering::Relaxed) < CALLS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.connections, snapshot.waiting), (100, 0), "all are in flight at once");
    gate.add_permits(CALLS);
    while let Some(answer) = soon(calls.join_next()).await {
        assert_eq!(answer.unwrap().expect("an answer"), "ok");
    }
    servers.shutdown().await;
    nothing_leaked(&pool).await;
}
