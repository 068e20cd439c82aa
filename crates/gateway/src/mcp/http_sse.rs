//! HTTP+SSE, the transport of 2024-11-05: GET `/sse` opens the stream and names the URL that messages are posted to.
//!
//! The stream lives at one replica, and so does what is posted to it; a client that loses it begins anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::conversation::Conversation;
use super::exchange::{KEEP_ALIVE, event, stream_response};
use crate::problem::{Problem, ProblemType};
use crate::replicas::Whole;
use crate::seal::random_name;
use crate::service::{Inbound, LongLived};
use crate::{Body, Gateway, body};

/// Messages that may wait for a slow reader.
const OUT_QUEUE: usize = 64;

/// The streams that are open here, by the name in their URL.
#[derive(Default)]
pub(crate) struct Channels {
    by_name: Mutex<HashMap<String, Arc<Conversation>>>,
}

/// An open stream; dropping it forgets its name and ends what is under way.
struct Channel {
    gateway: Gateway,
    name: String,
    messages: mpsc::Receiver<Bytes>,
    _ended: DropGuard,
    _place: OwnedSemaphorePermit,
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Conversation>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.gateway.channels().lock().remove(&self.name);
    }
}

/// Answers GET `/sse`.
pub(crate) fn open(inbound: &Inbound) -> http::Response<Body> {
    let gateway = &inbound.gateway;
    let Some(place) = gateway.listener_place() else {
        let limit = gateway.config().max_listeners;
        return Problem::new(ProblemType::Overloaded, format!("{limit} clients are listening already"))
            .retry_after(Duration::from_secs(1))
            .into_response();
    };
    let (out, messages) = mpsc::channel(OUT_QUEUE);
    let ended = CancellationToken::new();
    let conversation = Conversation::new(gateway.clone(), inbound.endpoint.clone(), out, ended.clone());
    let name = match super::home::name(inbound) {
        None => random_name(),
        Some(replica) => format!("{}-{replica}", random_name()),
    };
    gateway.channels().lock().insert(name.clone(), Arc::clone(&conversation));
    // Relative to the stream's own URL, so that it holds behind any prefix.
    let first = Bytes::from(format!("event: endpoint\ndata: messages?session={name}\n\n"));
    let channel =
        Channel { gateway: gateway.clone(), name, messages, _ended: ended.drop_guard(), _place: place };
    let keep_alive = gateway.config().keep_alive;
    let draining = gateway.draining().clone();
    // What is under way when we are told to stop is still answered here.
    let drained = async move {
        draining.cancelled().await;
        conversation.drained().await;
    };
    let state = (channel, drained.boxed().shared());
    let rest = futures_util::stream::unfold(state, move |(mut channel, mut drained)| async move {
        let next = tokio::select! {
            biased;
            next = tokio::time::timeout(keep_alive, channel.messages.recv()) => next,
            // What was said just now is still there.
            () = &mut drained => Ok(channel.messages.try_recv().ok()),
        };
        let bytes = match next {
            Ok(message) => event(message?.to_vec()),
            Err(_) => Bytes::from_static(KEEP_ALIVE),
        };
        Some((bytes, (channel, drained)))
    });
    let frames = futures_util::stream::once(std::future::ready(first)).chain(rest);
    let frames = frames.map(|bytes| Ok::<_, std::convert::Infallible>(Frame::data(bytes)));
    let mut response =
        stream_response(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync());
    response.extensions_mut().insert(LongLived);
    response
}

/// Answers POST `/messages?session=…`: the answer comes on the stream.
pub(crate) async fn post(mut inbound: Inbound) -> http::Response<Body> {
    let name = inbound.query_value("session").unwrap_or_default();
    let unknown =
        || Problem::new(ProblemType::NotFound, "no stream of that name is open here").into_response();
    let conversation = inbound.gateway.channels().lock().get(&name).cloned();
    if conversation.is_none() && inbound.gateway.replicas().is_none() {
        return unknown();
    }
    let bytes = match crate::rest::json_body(&mut inbound).await {
        Ok(bytes) => bytes,
        Err(problem) => return problem.into_response(),
    };
    if let Some(conversation) = conversation {
        conversation.take(bytes).await;
        return body::status_only(StatusCode::ACCEPTED);
    }
    inbound.parts.extensions.insert(Whole(bytes));
    match super::home::answer(&inbound, super::home::of_name(&name)).await {
        Some(Ok(response)) => response,
        Some(Err(_)) | None => unknown(),
    }
}
