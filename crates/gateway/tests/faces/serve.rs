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
