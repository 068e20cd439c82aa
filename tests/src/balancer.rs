//! A plain round-robin balancer: each request goes to the next backend, whatever it is about.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::Http;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A running balancer. Dropping it ends it and every connection through it.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Turns {
    backends: Vec<SocketAddr>,
    next: AtomicUsize,
}

impl Balancer {
    /// Starts one in front of these. A backend that takes no connection is passed over; a request it has taken is not
    /// sent again.
    pub async fn start(backends: impl IntoIterator<Item = SocketAddr>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("a bound address");
        let turns = Arc::new(Turns { backends: backends.into_iter().collect(), next: AtomicUsize::new(0) });
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let turns = Arc::clone(&turns);
                connections.spawn(async move {
                    let service = service_fn(|request| {
                        let turns = Arc::clone(&turns);
                        async move { Ok::<_, Infallible>(turns.forward(request).await) }
                    });
                    // However it ends, whoever asked sees it.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it.
    pub fn http(&self) -> Http {
        Http::new(self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Turns {
    async fn forward(&self, request: Request<Incoming>) -> Response<Body> {
        let first = self.next.fetch_add(1, Ordering::SeqCst);
        for turn in first..first + self.backends.len() {
            let backend = self.backends[turn % self.backends.len()];
            let Ok(stream) = TcpStream::connect(backend).await else { continue };
            return exchange(stream, request).await.unwrap_or_else(|_| bad_gateway());
        }
        bad_gateway()
    }
}

async fn exchange(stream: TcpStream, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange: its sender is dropped when the head is here, and the body ends it.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let is_stream = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        // Whole or not at all: a backend that dies half-way is a bad gateway, not a broken answer.
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        return Ok(Response::from_parts(
            head,
            Full::new(body).map_err(|never| match never {}).boxed_unsync(),
        ));
    }
    Ok(response.map(|body| {
        // The connection lives as long as its sender.
        let kept = sender;
        body.map_frame(move |frame| {
            let _ = &kept;
            frame
        })
        .boxed_unsync()
    }))
}

fn bad_gateway() -> Response<Body> {
    let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
