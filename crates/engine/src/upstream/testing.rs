//! A scripted HTTP peer on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification};
use mpe_transport::{Pool, PoolConfig, TlsConfig, Wire};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{HttpTarget, HttpUpstream, UpstreamRequest};
use crate::{CallContext, CallEvents};
use mpe_mcp_protocol::version::ProtocolVersion;

pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Reply = Response<ReplyBody>;

/// One request as the peer saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) http: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Seen {
    pub(crate) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn id(&self) -> Value {
        self.body["id"].clone()
    }

    /// A field of the form that the body is.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let mut fields = url::form_urlencoded::parse(self.text.as_bytes());
        fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// A success response to this request.
    pub(crate) fn result(&self, result: &Value) -> Value {
        json!({"jsonrpc": "2.0", "id": self.id(), "result": result})
    }

    /// An error response to this request.
    pub(crate) fn error(&self, code: i64, message: &str) -> Value {
        json!({"jsonrpc": "2.0", "id": self.id(), "error": {"code": code, "message": message}})
    }
}

/// A server that answers as its script says and remembers what it saw.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(crate) async fn start<F>(script: F) -> Self
    where
        F: Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, journal) = (Arc::new(script), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (script, journal) = (Arc::clone(&script), Arc::clone(&journal));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (script, journal) = (Arc::clone(&script), Arc::clone(&journal));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let seen = Seen {
                            http: head.method,
                            path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                            headers: head.headers,
                            body: serde_json::from_slice(&body).unwrap_or_default(),
                            text: String::from_utf8_lossy(&body).into_owned(),
                        };
                        journal.lock().unwrap().push(seen.clone());
                        Ok::<_, hyper::Error>(script(seen).await)
                    }
                });
                connections.spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The JSON-RPC methods in the order of arrival; responses as an empty string, GET and DELETE as such.
    pub(crate) fn methods(&self) -> Vec<String> {
        let name = |seen: &Seen| match seen.http {
            Method::POST => seen.method().to_owned(),
            _ => seen.http.to_string(),
        };
        self.seen().iter().map(name).collect()
    }

    /// Waits until the peer has seen what `wanted` describes.
    pub(crate) async fn until(&self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(seen) = self.seen().into_iter().find(&wanted) {
                return seen;
            }
            assert!(Instant::now() < deadline, "not seen: {:?}", self.methods());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn url(&self) -> http::Uri {
        format!("http://{}/mcp", self.address).parse().unwrap()
    }

    pub(crate) fn upstream(&self, wire: Wire, pinned: Option<ProtocolVersion>) -> HttpUpstream {
        let pool = Pool::new(PoolConfig::default(), TlsConfig::default()).unwrap();
        let target = HttpTarget { url: &self.url(), headers: &[], wire, pinned, authorization: None };
        HttpUpstream::new(&pool, &target).unwrap()
    }
}

pub(crate) fn answer(status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

pub(crate) fn json_answer(status: u16, body: &Value) -> Reply {
    answer(status, &[("content-type", "application/json")], body.to_string())
}

/// A body that is written while it is read; ends when every sender is dropped.
pub(crate) fn stream(content_type: &str) -> (mpsc::Sender<String>, Reply) {
    let (sender, receiver) = mpsc::channel::<String>(64);
    let chunks = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(chunk))), receiver))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    response.headers_mut().insert("content-type", content_type.parse().unwrap());
    (sender, response)
}

pub(crate) fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

pub(crate) fn request(method: &'static str, params: Option<&str>) -> UpstreamRequest {
    request_in(method, params, CallContext::default())
}

pub(crate) fn request_in(
    method: &'static str,
    params: Option<&str>,
    context: CallContext,
) -> UpstreamRequest {
    UpstreamRequest {
        method: method.into(),
        params: params.map(|params| RawValue::from_string(params.to_owned()).unwrap()),
        name: None,
        mirrored: Vec::new(),
        context: Arc::new(context),
        deadline: Instant::now() + Duration::from_secs(20),
    }
}

/// Remembers what a call heard, and answers what it was asked.
#[derive(Default)]
pub(crate) struct Ears {
    pub(crate) heard: Mutex<Vec<(String, String)>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl CallEvents for Ears {
    fn notify(&self, notification: Notification) {
        let params = notification.params.map(|params| params.get().to_owned()).unwrap_or_default();
        self.heard.lock().unwrap().push((notification.method, params));
    }

    fn ask<'a>(
        &'a self,
        method: &'a str,
        _: Option<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<Box<RawValue>, ErrorObject>> {
        self.asked.lock().unwrap().push(method.to_owned());
        Box::pin(async { Ok(raw(&json!({"action": "accept", "content": {"a": 1}}))) })
    }
}
