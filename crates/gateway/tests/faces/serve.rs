//! The listener: both HTTP versions on one port, Host checks, draining.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;

struct Served {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn serve(fixture: &Fixture) -> Served {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(mpe_gateway::serve(fixture.gateway.clone(), listener, stop.clone()));
    Served { address, stop, task }
}

async fn http1(served: &Served, host: &str) -> u16 {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/livez").header("host", host).body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn one_port_speaks_http1_and_h2c() {
    let served = serve(&Fixture::new().await).await;
    assert_eq!(http1(&served, "localhost").await, 200);
    let stream = TcpStream::connect(served.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/tools/echo", served.address);
    let request = http::Request::post(uri).body(Full::new(Bytes::from_static(b"{\"a\":1}"))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"a\":1}");
}

#[tokio::test]
async fn a_foreign_host_is_refused_on_loopback() {
    let served = serve(&Fixture::new().await).await;
    assert_eq!(http1(&served, "evil.example.com").await, 403);
    assert_eq!(http1(&served, &served.address.to_string()).await, 200);
}

#[tokio::test]
async fn a_drain_lets_a_call_under_way_finish_and_takes_no_other() {
    let fixture = Fixture::new().await;
    let served = serve(&fixture).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let uri = "/tools/progress";
    let request = http::Request::post(uri).header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    let call = tokio::spawn(sender.send_request(request));
    tokio::time::timeout(Duration::from_secs(20), async {
        while fixture.upstream.calls().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    served.stop.cancel();
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    tokio::time::timeout(Duration::from_secs(20), served.task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_connection_that_outlasts_the_drain_is_cut() {
    let served = serve(&Fixture::with(|config| config.drain = Duration::from_millis(200)).await).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head =
        "POST /tools/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut heard = [0; 64];
    let n_bytes = stream.read(&mut heard).await.unwrap();
    assert!(heard[..n_bytes].starts_with(b"HTTP/1.1 100"), "the request is under way");
    served.stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), served.task).await.unwrap().unwrap().unwrap();
    // The body never comes, and the wait for it would be much longer than this.
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut heard)).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "still open after serve has returned: {end:?}");
}

/// An HTTP/2 client whose windows stay shut: nothing of an answer's body fits.
async fn shut_windows(served: &Served) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_client_that_leaves_its_stream_unread_loses_it_and_the_place_comes_back() {
    let fixture = Fixture::with(|config| {
        config.write_timeout = Duration::from_millis(300);
        config.max_requests = 1;
    })
    .await;
    let served = serve(&fixture).await;
    let mut sender = shut_windows(&served).await;
    let uri = format!("http://{}/tools/echo", served.address);
    let request = http::Request::post(uri).body(Full::new(Bytes::from_static(b"{\"a\":1}"))).unwrap();
    let unread = sender.send_request(request).await.unwrap();
    assert_eq!(unread.status(), 200);
    assert_eq!(fixture.get("/livez").await.status, 503, "the only place is taken");
    let reset = tokio::time::timeout(Duration::from_secs(20), unread.into_body().collect()).await;
    assert!(reset.expect("the stream ends").is_err(), "it is reset, not finished");
    assert_eq!(fixture.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_connection_loses_it_and_the_place_comes_back() {
    let fixture = Fixture::with(|config| {
        config.write_timeout = Duration::from_millis(300);
        config.max_requests = 1;
        config.max_body_bytes = 64 << 20;
    })
    .await;
    let served = serve(&fixture).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // The echo is larger than any socket's buffers.
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(32 << 20));
    let head =
        format!("POST /tools/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        while fixture.upstream.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        while fixture.get("/livez").await.status == 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the place comes back");
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_there_is_a_place() {
    let fixture = Fixture::with(|config| config.max_connections = 1).await;
    let served = serve(&fixture).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    first.write_all(request).await.unwrap();
    let mut heard = [0; 512];
    assert!(first.read(&mut heard).await.unwrap() > 0);
    let mut second = TcpStream::connect(served.address).await.unwrap();
    second.write_all(request).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), second.read(&mut heard)).await;
    assert!(waiting.is_err(), "it is not looked at");
    drop(first);
    let answered = tokio::time::timeout(Duration::from_secs(20), second.read(&mut heard)).await;
    assert!(answered.expect("its turn has come").unwrap() > 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_too_slow_is_not_waited_for() {
    let fixture = Fixture::with(|config| config.header_timeout = Duration::from_millis(300)).await;
    let served = serve(&fixture).await;
    let large = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(256 << 10));
    for head in [large.as_str(), "GET /livez HTTP/1.1\r\nhost: loc"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // It may be cut off while it still talks.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut heard = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut heard)).await;
        let _ = read.expect("the connection ends");
        assert!(!heard.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&heard));
    }
}

#[tokio::test]
async fn one_connection_takes_so_many_streams_and_no_more() {
    let fixture = Fixture::new().await;
    let served = serve(&fixture).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/tools/hang", served.address);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let mut sender = sender.clone();
        let request = http::Request::post(&uri).body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        calls.spawn(async move { sender.send_request(request).await.is_ok() });
    }
    let n_calls = || fixture.upstream.calls().len();
    tokio::time::timeout(Duration::from_secs(20), async {
        while n_calls() < 250 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("as many as are allowed");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(n_calls(), 250);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nests_too_deep_or_is_too_long_is_refused() {
    let fixture = Fixture::with(|config| config.max_body_bytes = 64 << 10).await;
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{}{}}}}}"#,
        r#"{"a":"#.repeat(5000),
        "}".repeat(5000)
    );
    let answer = fixture.legacy_post(None, &deep).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (400, &serde_json::json!(-32600)),
        "{}",
        answer.body
    );
    let long =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "y".repeat(65 << 10));
    assert_eq!(fixture.legacy_post(None, &long).await.status, 413);
    assert!(fixture.upstream.calls().is_empty());
}
