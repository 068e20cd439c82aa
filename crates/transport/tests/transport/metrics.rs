//! What is counted, in snapshots and for a recorder.

use std::collections::BTreeSet;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use mpe_transport::{METRICS, PoolConfig};
use tokio::io::AsyncWriteExt;

use crate::support::{Network, h2c, http1, of, post, read_http1_request, settle, soon, spawn_send, text};

#[tokio::test(start_paused = true)]
async fn the_table_lists_what_is_recorded_and_nothing_else() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    network.refuse(1);
    soon(pool.send(&h2c(), post("x"), None)).await.expect_err("refused");
    let call = spawn_send(&pool, &h2c(), post("four"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"sixsix").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    drop(pool);
    peer.closed().await;
    settle().await;

    let recorded = snapshotter.snapshot().into_vec();
    let value_of = |name: &str| {
        let found = recorded.iter().find(|(key, ..)| key.key().name() == name);
        found.map(|(key, _, _, value)| {
            (key.key().labels().map(|label| label.key().to_owned()).collect(), value)
        })
    };
    let mut names = BTreeSet::new();
    for metric in METRICS {
        names.insert(metric.name);
        let Some((labels, value)) = value_of(metric.name) else {
            panic!("{} is never recorded", metric.name)
        };
        let labels: Vec<String> = labels;
        assert_eq!(labels, metric.labels, "{}", metric.name);
        let kind = match value {
            DebugValue::Counter(_) => "counter",
            DebugValue::Gauge(_) => "gauge",
            DebugValue::Histogram(_) => "histogram",
        };
        assert_eq!(kind, metric.kind, "{}", metric.name);
    }
    for (key, ..) in &recorded {
        assert!(names.contains(key.key().name()), "{} is not in the table", key.key().name());
    }
    let counted = |name| value_of(name).expect("recorded").1;
    assert_eq!(*counted("mpe_transport_request_bytes_total"), DebugValue::Counter(4));
    assert_eq!(*counted("mpe_transport_response_bytes_total"), DebugValue::Counter(6));
    assert_eq!(*counted("mpe_transport_connections_open"), DebugValue::Gauge(0.0.into()));
}

#[test]
fn the_table_is_sorted_by_name() {
    assert!(METRICS.is_sorted_by_key(|metric| metric.name));
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_tells_protocol_reuse_latency_and_bytes() {
    let mut network = Network::new();
    let pool = network.pool(PoolConfig::default());
    let mut peer = None;
    for _ in 0..4 {
        let call = spawn_send(&pool, &http1(), post("four"));
        let peer = match &mut peer {
            Some(peer) => peer,
            None => peer.insert(network.accept().await),
        };
        read_http1_request(peer).await;
        tokio::time::advance(std::time::Duration::from_millis(20)).await;
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        text(soon(call).await.unwrap().unwrap()).await.unwrap();
    }
    let seen = of(&pool, &http1());
    assert_eq!((seen.http1_exchanges, seen.http2_exchanges, seen.answered), (4, 0, 4));
    assert_eq!((seen.request_bytes, seen.response_bytes), (16, 8));
    assert_eq!((seen.reused, seen.reuse_ratio()), (3, 0.75));
    assert_eq!(seen.mean_head_time.as_millis(), 20);
}
