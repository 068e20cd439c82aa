//! One request under way: what it emits, how it ends, and whether that becomes JSON or an event stream.
//!
//! The head of the response is held until the first message is known: an answer that comes first is plain JSON with
//! the status that belongs to it; anything before it, or a long silence, opens a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::outbox::Outgoing;
use super::replay::{self, Resumable};
use super::rpc::Answer;
use crate::Body;
use crate::json::one_line;

/// Messages that may wait for a slow reader. Progress beyond it is dropped, requests wait for room.
pub(crate) const EVENT_QUEUE: usize = 256;

/// Something that happened before the answer.
#[derive(Debug)]
pub(crate) enum Emitted {
    /// A request of the upstream that only the caller's next request can answer.
    Ask(Ask),
    /// A message for the caller's stream.
    Message(Vec<u8>),
}

/// A request of the upstream.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) params: Option<Box<RawValue>>,
    pub(crate) reply: oneshot::Sender<Result<Box<RawValue>, ErrorObject>>,
}

/// The next thing an exchange does.
#[derive(Debug)]
pub(crate) enum Step {
    Ask(Ask),
    Done(Answer),
    Message(Vec<u8>),
}

/// A request under way. Dropping it cancels the call behind it.
pub(crate) struct Running {
    future: Option<BoxFuture<'static, Answer>>,
    events: Outgoing,
    finished: Option<Answer>,
}

/// Who takes over an exchange that asks its caller something.
pub(crate) trait Holder: Send + Sync {
    /// Keeps `running` for the caller's next request and returns the answer that asks for it.
    fn hold(self: Arc<Self>, running: Running, ask: Ask) -> BoxFuture<'static, Answer>;
}

/// How the exchange is answered.
#[derive(Clone)]
pub(crate) struct Manner {
    /// The id of the request, which the answer repeats.
    pub(crate) id: Id,
    /// Whether the caller reads event streams.
    pub(crate) stream: bool,
    /// See [`GatewayConfig::hold_head`](crate::GatewayConfig::hold_head).
    pub(crate) hold_head: Duration,
    /// See [`GatewayConfig::keep_alive`](crate::GatewayConfig::keep_alive).
    pub(crate) keep_alive: Duration,
    /// Who takes questions; `None`: nobody, they are refused.
    pub(crate) holder: Option<Arc<dyn Holder>>,
    /// What becomes of the call when its reader leaves.
    pub(crate) orphan: Orphan,
    /// How its stream is kept for a reader that comes back; `None`: it is not.
    pub(crate) resumable: Option<Box<Resumable>>,
}

/// What becomes of a call whose reader leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orphan {
    /// It is cancelled: the closed stream is the cancel signal (2026-07-28, cancellation).
    Cancelled,
    /// It goes on for a while: in the legacy era a disconnect is no cancel (2025-11-25, transports).
    Finishes(Duration),
}

impl Running {
    pub(crate) fn new(future: BoxFuture<'static, Answer>, events: Outgoing) -> Self {
        Self { future: Some(future), events, finished: None }
    }

    /// The next step. Everything emitted comes before the answer; after the answer there is nothing.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(emitted) = self.events.poll_next(cx) {
            return Poll::Ready(Step::from(emitted));
        }
        if let Some(future) = &mut self.future
            && let Poll::Ready(answer) = future.as_mut().poll(cx)
        {
            self.future = None;
            self.finished = Some(answer);
            // What it emitted while it ended stands before its answer.
            if let Poll::Ready(emitted) = self.events.poll_next(cx) {
                return Poll::Ready(Step::from(emitted));
            }
        }
        match self.finished.take() {
            Some(answer) => Poll::Ready(Step::Done(answer)),
            None => Poll::Pending,
        }
    }

    /// The next step.
    ///
    /// # Cancel safety
    /// Nothing is lost: a step is taken only when it is returned.
    pub(crate) async fn step(&mut self) -> Step {
        std::future::poll_fn(|cx| self.poll_step(cx)).await
    }

    fn is_under_way(&self) -> bool {
        self.future.is_some()
    }
}

impl From<Emitted> for Step {
    fn from(emitted: Emitted) -> Self {
        match emitted {
            Emitted::Ask(ask) => Self::Ask(ask),
            Emitted::Message(message) => Self::Message(message),
        }
    }
}

/// Answers with JSON or a stream, whichever the exchange turns out to need.
///
/// # Cancel safety
/// Dropping the future, or the response's body, does to the call what [`Manner::orphan`] says.
pub(crate) async fn respond(running: Running, manner: Manner) -> http::Response<Body> {
    let mut guarded = Guarded { running: Some(running), orphan: manner.orphan };
    let silence = tokio::time::sleep(manner.hold_head);
    tokio::pin!(silence);
    loop {
        let running = guarded.running.as_mut().expect("taken only on the way out");
        let step = tokio::select! {
            biased;
            step = running.step() => Some(step),
            () = &mut silence, if manner.stream => None,
        };
        match step {
            Some(Step::Done(answer)) => return answer.into_response(Some(&manner.id)),
            Some(Step::Message(message)) if manner.stream => return open(guarded, manner, Some(message)),
            // Whoever reads no stream declared nothing that could ask; notifications are lost on it.
            Some(Step::Message(_)) => {}
            Some(Step::Ask(ask)) => match &manner.holder {
                Some(holder) => {
                    let running = guarded.running.take().expect("taken only on the way out");
                    return Arc::clone(holder).hold(running, ask).await.into_response(Some(&manner.id));
                }
                None => refuse(ask),
            },
            None => return open(guarded, manner, None),
        }
    }
}

fn open(mut guarded: Guarded, manner: Manner, mut first: Option<Vec<u8>>) -> http::Response<Body> {
    if let Some(resumable) = &manner.resumable
        && let Some(running) = guarded.running.take()
    {
        match replay::open(resumable, running, first, manner.id.clone(), manner.keep_alive) {
            Ok(body) => return stream_response(body),
            Err((running, said)) => {
                guarded.running = Some(running);
                first = said;
            }
        }
    }
    let mut queue = VecDeque::new();
    match first {
        Some(message) => queue.push_back(event(message)),
        None => queue.push_back(Bytes::from_static(KEEP_ALIVE)),
    }
    let stream = EventStream {
        guarded: Some(guarded),
        holding: None,
        queue,
        quiet: Box::pin(tokio::time::sleep(manner.keep_alive)),
        keep_alive: manner.keep_alive,
        holder: manner.holder,
        id: manner.id,
    };
    stream_response(stream.map_err(|never: Infallible| match never {}).boxed_unsync())
}

/// A response whose body is an event stream.
pub(crate) fn stream_response(body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would hold events back until the stream ends.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// One message as an event.
pub(crate) fn event(message: Vec<u8>) -> Bytes {
    let message = one_line(message);
    let mut event = Vec::with_capacity(message.len() + 24);
    event.extend_from_slice(b"event: message\ndata: ");
    event.extend_from_slice(&message);
    event.extend_from_slice(b"\n\n");
    Bytes::from(event)
}

/// A comment that only keeps the stream from looking dead (2026-07-28, Streamable HTTP).
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

pub(crate) fn refuse(ask: Ask) {
    let error = ErrorObject {
        code: mpe_mcp_protocol::jsonrpc::code::METHOD_NOT_FOUND,
        message: format!("the caller cannot answer {}", ask.method),
        data: None,
    };
    // The asker may be gone already; then nobody needs the refusal.
    let _ = ask.reply.send(Err(error));
}

/// A running exchange with what becomes of it when dropped.
struct Guarded {
    running: Option<Running>,
    orphan: Orphan,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take().filter(Running::is_under_way) else { return };
        let Orphan::Finishes(grace) = self.orphan else { return };
        // Bounded by `grace`, and by the call's own deadline; the runtime's end ends it too.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let finish = async { while !matches!(running.step().await, Step::Done(_)) {} };
            if tokio::time::timeout(grace, finish).await.is_err() {
                tracing::debug!("a call whose client left did not end in time and is cancelled");
            }
        });
    }
}

/// The body of an exchange that is answered by a stream.
struct EventStream {
    guarded: Option<Guarded>,
    holding: Option<BoxFuture<'static, Answer>>,
    queue: VecDeque<Bytes>,
    quiet: Pin<Box<Sleep>>,
    keep_alive: Duration,
    holder: Option<Arc<dyn Holder>>,
    id: Id,
}

impl EventStream {
    /// Runs the exchange until something is in the queue, or it has ended.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.queue.is_empty() {
            if let Some(holding) = &mut self.holding {
                let answer = std::task::ready!(holding.as_mut().poll(cx));
                self.holding = None;
                self.queue.push_back(event(answer.message(Some(&self.id))));
                return Poll::Ready(());
            }
            let Some(running) = self.guarded.as_mut().and_then(|guarded| guarded.running.as_mut()) else {
                return Poll::Ready(());
            };
            match std::task::ready!(running.poll_step(cx)) {
                Step::Message(message) => self.queue.push_back(event(message)),
                Step::Done(answer) => {
                    self.guarded = None;
                    self.queue.push_back(event(answer.message(Some(&self.id))));
                }
                Step::Ask(ask) => match &self.holder {
                    Some(holder) => {
                        let running = self.guarded.take().and_then(|mut guarded| guarded.running.take());
                        self.holding = running.map(|running| Arc::clone(holder).hold(running, ask));
                    }
                    None => refuse(ask),
                },
            }
        }
        Poll::Ready(())
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.advance(cx).is_ready() {
            let next = Instant::now() + self.keep_alive;
            self.quiet.as_mut().reset(next);
            return Poll::Ready(self.queue.pop_front().map(|bytes| Ok(Frame::data(bytes))));
        }
        std::task::ready!(self.quiet.as_mut().poll(cx));
        let next = Instant::now() + self.keep_alive;
        self.quiet.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(KEEP_ALIVE)))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use http::StatusCode;
    use http_body_util::BodyExt;
    use mpe_mcp_protocol::jsonrpc::Id;
    use tokio::sync::mpsc;

    use super::{Emitted, Manner, Orphan, Running, respond};
    use crate::mcp::outbox::outbox;
    use crate::mcp::rpc::Answer;

    fn manner(stream: bool) -> Manner {
        Manner {
            id: Id::Integer(1),
            stream,
            hold_head: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
            holder: None,
            orphan: Orphan::Cancelled,
            resumable: None,
        }
    }

    const DONE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"done":1}}"#;

    fn answer() -> Answer {
        Answer { status: StatusCode::NOT_FOUND, ..Answer::result("{\"done\":1}") }
    }

    async fn text(response: http::Response<crate::Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_first_is_json_with_its_own_status() {
        let (_events, receiver) = outbox(4);
        let response = respond(Running::new(async { answer() }.boxed(), receiver), manner(true)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(text(response).await, DONE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_before_the_answer_opens_a_stream_with_both() {
        let (events, receiver) = outbox(4);
        let call = async move {
            events.try_send(Emitted::Message(b"{\n\"p\":1}".to_vec())).unwrap();
            answer()
        };
        let response = respond(Running::new(call.boxed(), receiver), manner(true)).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let expected = format!("event: message\ndata: {{ \"p\":1}}\n\nevent: message\ndata: {DONE}\n\n");
        assert_eq!(text(response).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_opens_the_stream_and_keeps_it_alive() {
        let (_events, receiver) = outbox(4);
        let call = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            answer()
        };
        let response = respond(Running::new(call.boxed(), receiver), manner(true)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let expected = format!("{}event: message\ndata: {DONE}\n\n", ": keep-alive\n\n".repeat(3));
        assert_eq!(text(response).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_no_stream_gets_json_alone() {
        let (events, receiver) = outbox(4);
        let call = async move {
            events.try_send(Emitted::Message(b"{}".to_vec())).unwrap();
            tokio::time::sleep(Duration::from_secs(40)).await;
            answer()
        };
        let response = respond(Running::new(call.boxed(), receiver), manner(false)).await;
        assert_eq!(text(response).await, DONE);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_body_cancels_a_modern_call_and_spares_a_legacy_one() {
        for (orphan, survives) in
            [(Orphan::Cancelled, false), (Orphan::Finishes(Duration::from_secs(60)), true)]
        {
            let (events, receiver) = outbox(4);
            let (ended, mut end) = mpsc::channel(1);
            let call = async move {
                events.try_send(Emitted::Message(b"{}".to_vec())).unwrap();
                tokio::time::sleep(Duration::from_secs(30)).await;
                ended.send(()).await.unwrap();
                answer()
            };
            let response =
                respond(Running::new(call.boxed(), receiver), Manner { orphan, ..manner(true) }).await;
            drop(response);
            assert_eq!(end.recv().await.is_some(), survives, "{orphan:?}");
        }
    }
}
