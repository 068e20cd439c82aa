//! MCP over a channel that carries messages both ways: a pipe, or the two endpoints of 2024-11-05's HTTP+SSE.
//!
//! The MCP face answers requests with bodies; here those bodies become messages of the channel. The legacy session that
//! a handshake begins belongs to the channel, and ends with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header;
use http_body_util::BodyExt;
use mpe_engine::EndpointId;
use mpe_mcp_protocol::header::MCP_SESSION_ID;
use mpe_mcp_protocol::jsonrpc::{Id, Message, Notification, Request, code};
use mpe_mcp_protocol::meta::key;
use mpe_mcp_protocol::sse::Decoder;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::rpc::{Answer, Refusal};
use crate::json::{Members, one_line};
use crate::service::Inbound;
use crate::{Gateway, body};

/// Requests of one channel that are worked on at a time; more are refused, so that answers and cancels are always read.
const MAX_AT_ONCE: usize = 256;

/// How often a channel that is to end looks whether anything is under way.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes of one message out of an upstream, at most; the transport's own limit is below it.
const MAX_EVENT: usize = 256 << 20;

/// Marks a request that came over a channel: it has no headers, and streams are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverChannel;

/// One channel.
pub(crate) struct Conversation {
    gateway: Gateway,
    endpoint: EndpointId,
    out: mpsc::Sender<Bytes>,
    session: Mutex<Option<String>>,
    running: Mutex<HashMap<Id, Begun>>,
    places: Arc<Semaphore>,
    ended: CancellationToken,
}

/// A request under way.
#[derive(Clone)]
struct Begun {
    token: CancellationToken,
    /// Of the modern era, whose cancel is the end of its stream; a legacy one is cancelled through its session.
    is_modern: bool,
}

/// Forgets a running request when it ends.
struct Running<'a> {
    conversation: &'a Conversation,
    id: Id,
    token: CancellationToken,
}

impl Conversation {
    /// A channel whose answers and notifications go to `out`, one message each, until `ended`.
    pub(crate) fn new(
        gateway: Gateway,
        endpoint: EndpointId,
        out: mpsc::Sender<Bytes>,
        ended: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            endpoint,
            out,
            session: Mutex::default(),
            running: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            ended,
        })
    }

    /// Takes one message. Returns once there is room for the next; what the message asks for goes on in a task that ends
    /// with the channel.
    pub(crate) async fn take(self: &Arc<Self>, message: Bytes) {
        let is_array = message.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let parsed = Message::parse(&message).ok();
        if let Some(Message::Notification(notification)) = &parsed
            && self.cancel(notification)
        {
            return;
        }
        // A handshake is finished before anything that may lean on its session is begun.
        let is_handshake =
            matches!(&parsed, Some(Message::Request(request)) if request.method == "initialize");
        let id = match parsed {
            Some(Message::Request(request)) => Some((request.id.clone(), is_modern(&request))),
            Some(Message::Notification(notification)) => {
                if notification.method == "notifications/initialized" {
                    self.listen();
                }
                None
            }
            Some(Message::Response(_)) | None => None,
        };
        if is_handshake || (id.is_none() && !is_array) {
            return self.exchange(message, id).await;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let refusal =
                Refusal::new(code::INTERNAL_ERROR, format!("{MAX_AT_ONCE} requests are under way here"));
            return self.send(Answer::from(refusal).message(id.as_ref().map(|(id, _)| id))).await;
        };
        let conversation = Arc::clone(self);
        let ended = self.ended.clone();
        // Ends with the channel, at the latest.
        tokio::spawn(async move {
            tokio::select! {
                () = conversation.exchange(message, id) => {}
                () = ended.cancelled() => {}
            }
            drop(place);
        });
    }

    /// Waits until nothing is under way any more. Places are only looked at: whoever took them would keep them from requests
    /// that still come.
    pub(crate) async fn drained(&self) {
        while self.places.available_permits() < MAX_AT_ONCE {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One request of the MCP face, its answer put on the channel.
    async fn exchange(&self, message: Bytes, id: Option<(Id, bool)>) {
        let running = id.map(|(id, is_modern)| self.begin(id, is_modern));
        let mut request = http::Request::post("/mcp");
        if let Some(session) = self.session().clone() {
            request = request.header(MCP_SESSION_ID, session);
        }
        let Ok(request) = request.body(body::full(message)) else { return };
        let answering = async {
            let response = self.answer(request).await;
            if let Some(session) = response.headers().get(MCP_SESSION_ID).and_then(|id| id.to_str().ok()) {
                *self.session() = Some(session.to_owned());
            }
            self.forward(response).await;
        };
        match &running {
            None => answering.await,
            Some(running) => tokio::select! {
                () = answering => {}
                () = running.token.cancelled() => {}
            },
        }
    }

    /// Opens the session's listening stream, whose messages belong to no request.
    fn listen(self: &Arc<Self>) {
        let Some(session) = self.session().clone() else { return };
        let request = http::Request::get("/mcp").header(MCP_SESSION_ID, session).body(body::empty());
        let Ok(request) = request else { return };
        let conversation = Arc::clone(self);
        // Ends with the channel.
        tokio::spawn(async move {
            let listening = async {
                let response = conversation.answer(request).await;
                conversation.forward(response).await;
            };
            tokio::select! {
                () = listening => {}
                () = conversation.ended.cancelled() => {}
            }
        });
    }

    async fn answer(&self, request: http::Request<crate::Body>) -> http::Response<crate::Body> {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(OverChannel);
        match Inbound::over_channel(&self.gateway, &self.endpoint, parts, body) {
            Ok(inbound) => Box::pin(super::handle(inbound)).await,
            Err(problem) => problem.into_response(),
        }
    }

    /// Puts every message of a response on the channel.
    async fn forward(&self, response: http::Response<crate::Body>) {
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/event-stream"));
        let mut body = response.into_body();
        if !is_stream {
            let whole = body.collect().await.map(|collected| collected.to_bytes().to_vec());
            if let Some(message) = whole.ok().filter(|message| !message.is_empty()) {
                self.send(message).await;
            }
            return;
        }
        let mut decoder = Decoder::new(MAX_EVENT);
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(chunk) = frame.into_data() else { continue };
            if decoder.push(&chunk).is_err() {
                return;
            }
            while let Some(event) = decoder.next_event() {
                if event.is_message() {
                    self.send(event.data).await;
                }
            }
        }
    }

    async fn send(&self, message: Vec<u8>) {
        // A channel whose other side is gone is about to end.
        let _ = self.out.send(Bytes::from(one_line(message))).await;
    }

    /// Ends the request that a cancel names. True when it was one of the modern era, whose cancel is the end of its
    /// stream; a legacy one is cancelled through its session.
    fn cancel(&self, notification: &Notification) -> bool {
        if notification.method != "notifications/cancelled" {
            return false;
        }
        let params = notification.params.as_deref().and_then(Members::of).unwrap_or_default();
        let id = params.get("requestId").and_then(|id| serde_json::from_str::<Id>(id.get()).ok());
        match id.and_then(|id| self.running().get(&id).cloned()) {
            Some(begun) if begun.is_modern => begun.token.cancel(),
            _ => return false,
        }
        true
    }

    fn begin(&self, id: Id, is_modern: bool) -> Running<'_> {
        let token = CancellationToken::new();
        self.running().insert(id.clone(), Begun { token: token.clone(), is_modern });
        Running { conversation: self, id, token }
    }

    fn session(&self) -> MutexGuard<'_, Option<String>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Id, Begun>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request brings its own context.
fn is_modern(request: &Request) -> bool {
    let params = Members::of_params(request.params.as_deref());
    let meta = params.as_ref().and_then(|params| params.get("_meta")).and_then(Members::of);
    meta.is_some_and(|meta| meta.get(key::PROTOCOL_VERSION).is_some())
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.conversation.running().remove(&self.id);
    }
}
