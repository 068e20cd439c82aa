//! Through a proxy.

use mpe_transport::{ErrorKind, PoolConfig, ProxyConfig, Sent};
use tokio::io::AsyncWriteExt;

use crate::support::{
    Network, Peer, h2c, nothing_leaked, of, post, read_http1_request, soon, spawn_send, text,
};

fn through(proxy: &str, no_proxy: &str) -> PoolConfig {
    let mut config = PoolConfig::default();
    config.proxies = ProxyConfig::new(Some(proxy), None, Some(no_proxy)).expect("a proxy");
    config
}

#[tokio::test(start_paused = true)]
async fn an_exchange_goes_through_a_tunnel() {
    let mut network = Network::new();
    let pool = network.pool(through("http://me:secret@proxy.test:3128", ""));
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut tunnel = network.accept().await;
    let request = read_http1_request(&mut tunnel).await;
    assert_eq!(
        request,
        "CONNECT peer.test:8080 HTTP/1.1\r\nHost: peer.test:8080\r\n\
         Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    );
    tunnel.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").await.unwrap();
    let mut peer = Peer::over(tunnel, &[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"through").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "through");
    nothing_leaked(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_is_quoted_and_nothing_was_sent() {
    for (answer, said) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy answered `HTTP/1.1 403 Forbidden`"),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy asks for user and password"),
        ("220 smtp.test\r\n\r\n", "the proxy does not speak HTTP/1.1"),
    ] {
        let mut network = Network::new();
        let pool = network.pool(through("proxy.test:3128", ""));
        let call = spawn_send(&pool, &h2c(), post("x"));
        let mut tunnel = network.accept().await;
        read_http1_request(&mut tunnel).await;
        tunnel.write_all(answer.as_bytes()).await.unwrap();
        let error = soon(call).await.unwrap().expect_err("refused");
        assert_eq!((error.kind(), error.sent()), (ErrorKind::Connect, Sent::No));
        let wanted =
            format!("no tunnel to http://peer.test:8080 through the proxy http://proxy.test:3128: {said}");
        assert_eq!(error.to_string(), wanted);
        nothing_leaked(&pool).await;
        assert_eq!(of(&pool, &h2c()).connect_failed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_proxy_goes_straight() {
    let mut network = Network::new();
    let pool = network.pool(through("http://proxy.test", "peer.test"));
    let call = spawn_send(&pool, &h2c(), post("x"));
    let mut peer = network.accept_h2(&[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"straight").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "straight");
}
