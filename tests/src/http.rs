//! A plain HTTP/1.1 client: one connection per request, nothing hidden.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::PATIENCE;

/// A client of one address. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    address: SocketAddr,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Http {
    /// A client of this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Sends a request as it is, with `Host` added where it has none.
    ///
    /// Dropping the future closes the connection.
    pub async fn send(&self, mut request: Request<Bytes>) -> Answer {
        if !request.headers().contains_key(HOST) {
            let host = self.address.to_string().parse().expect("an address is a header value");
            request.headers_mut().insert(HOST, host);
        }
        let exchange = async {
            let stream = TcpStream::connect(self.address).await.expect("somebody listens");
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .expect("a fresh connection takes a handshake");
            let response = async {
                let response = sender.send_request(request.map(Full::new)).await.expect("an answer");
                let (head, body) = response.into_parts();
                let body = body.collect().await.expect("a whole body").to_bytes();
                Answer { status: head.status, headers: head.headers, body }
            };
            tokio::pin!(response, connection);
            tokio::select! {
                answer = &mut response => answer,
                // The connection may end before we have read what it brought.
                _ = &mut connection => response.await,
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, Bytes::new())).await
    }

    /// `POST path` with a JSON body, as written.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(request(Method::POST, path, body.into())).await
    }
}

/// A request with a JSON body.
fn request(method: Method, path: &str, body: Bytes) -> Request<Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request.body(body).expect("a request of the fixture's own making")
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON; panics with the answer where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// A header's value; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}
