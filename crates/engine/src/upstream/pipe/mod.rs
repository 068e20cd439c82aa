//! One channel that many calls share, such as a process's pipes: messages out, messages in, each reply to whoever
//! waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mpe_mcp_protocol::jsonrpc::{Envelope, ErrorObject, Id, Response, code};
use mpe_mcp_protocol::meta::key;
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::params::Progress;
use mpe_mcp_protocol::probe::Found;
use mpe_transport::Sent;
use mpe_transport::stdio::LineWriter;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::listener::LogLevel;
use super::{Notices, UpstreamError, message};
use crate::CallErrorKind;
use announce::Announcing;

pub(super) mod announce;
pub(super) mod call;

/// What a call came to: the result, or the server's own error.
pub(super) type Outcome = Result<Box<RawValue>, ErrorObject>;

/// Something that belongs to one call and is not its reply.
#[derive(Debug)]
pub(super) enum Aside {
    Notification { method: String, params: Option<Box<RawValue>> },
    Request { id: Id, method: String, params: Option<Box<RawValue>> },
}

/// What carries messages to the other side.
#[derive(Clone)]
pub(super) enum Writer {
    /// Lines to a process.
    Lines(LineWriter),
    /// Something else; a call returns once the other side has the message.
    Other(Arc<dyn Write>),
}

/// Writes messages one at a time.
pub(super) trait Write: Send + Sync {
    /// Returns once the other side has the message.
    fn write(&self, message: Vec<u8>) -> BoxFuture<'_, Result<(), UpstreamError>>;
}

/// Whose channel it is.
pub(super) trait Host: Send + Sync {
    /// An id that is used for nothing else.
    fn next_id(&self) -> Id;
    /// What the other side speaks, if that is known.
    fn found(&self) -> Option<Arc<Found>>;
    /// What was found has been proven wrong.
    fn forget(&self);
    /// A call has been answered.
    fn works(&self, pipe: &Pipe);
}

/// One channel and everybody who waits for it.
pub(super) struct Pipe {
    writer: Mutex<Option<Writer>>,
    calls: Mutex<Calls>,
    /// The most verbose level a legacy server was asked for.
    pub(super) level: tokio::sync::Mutex<Option<LogLevel>>,
    /// What it has been asked to announce.
    pub(super) announcing: tokio::sync::Mutex<Announcing>,
    /// A call has been answered: the process is not one that only starts and dies.
    has_answered: AtomicBool,
    opened: Instant,
    notices: Arc<Notices>,
    stop: CancellationToken,
    /// Cancelled by [`Pipe::shut`].
    shut: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Calls {
    open: HashMap<Id, Call>,
    /// Set once, when the process is gone; says why.
    ended: Option<Ended>,
    /// Requests that hold a [`Turn`].
    n_turns: usize,
    /// When the last turn ended; `None`: none has.
    last_turn: Option<Instant>,
    /// When the last one ended that was more than to learn what the server offers.
    last_use: Option<Instant>,
    /// It was ended because nobody used it, not because anything went wrong.
    was_idle: bool,
}

#[derive(Clone)]
struct Ended {
    message: String,
    stderr: String,
}

struct Call {
    reply: oneshot::Sender<Result<Outcome, UpstreamError>>,
    asides: mpsc::Sender<Aside>,
    wants_logs: bool,
}

/// Keeps a channel from ending for idleness while a request is under way.
pub(super) struct Turn {
    pipe: Arc<Pipe>,
    is_use: bool,
}

/// How long a channel may be idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idleness {
    /// After its last use.
    pub(super) after_use: Option<Duration>,
    /// After anything else, if it has not been used at all.
    pub(super) unused: Option<Duration>,
}

/// A request that was written. Dropping it before the reply tells the server that it is cancelled.
pub(super) struct Waiting {
    pipe: Arc<Pipe>,
    id: Id,
    reply: oneshot::Receiver<Result<Outcome, UpstreamError>>,
    asides: mpsc::Receiver<Aside>,
    is_answered: bool,
    is_cancellable: bool,
}

/// Notifications a call has not yet heard, at most; further ones are lost, and counted in the log.
const MAX_ASIDES: usize = 256;
/// How long a message that nobody waits for may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a process that has stopped to read is given to end.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// How much of what a process wrote to its standard error is quoted.
const MAX_QUOTED: usize = 400;

impl Pipe {
    /// Whoever reads the other side calls [`Pipe::hear`] with each message, and [`Pipe::shut`] at the end.
    pub(super) fn new(
        writer: Writer,
        notices: &Arc<Notices>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            writer: Mutex::new(Some(writer)),
            calls: Mutex::default(),
            level: tokio::sync::Mutex::new(None),
            announcing: tokio::sync::Mutex::default(),
            has_answered: AtomicBool::new(false),
            opened: Instant::now(),
            notices: Arc::clone(notices),
            stop,
            shut: CancellationToken::new(),
            tasks: tasks.clone(),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.calls().ended.is_some() || self.stop.is_cancelled()
    }

    /// Waits until the channel is shut, for a moment at most: a process that is dying is first noticed by the line that it
    /// does not take, and its last words come after that.
    pub(super) async fn settle(&self) {
        let _ = tokio::time::timeout(LAST_MOMENT, self.shut.cancelled()).await;
    }

    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Returns what it was before.
    pub(super) fn mark_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed) || self.has_answered.swap(true, Ordering::Relaxed)
    }

    /// How long ago it was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// What the process last wrote to its standard error; empty while it runs.
    pub(super) fn last_words(&self) -> String {
        self.calls().ended.as_ref().map(|ended| ended.stderr.clone()).unwrap_or_default()
    }

    /// Whether it was ended by [`Pipe::idle`].
    pub(super) fn was_idle(&self) -> bool {
        self.calls().was_idle
    }

    /// To be held during a request. `None`: the channel has ended. `is_use`: it counts as a reason to keep the channel.
    pub(super) fn enter(self: &Arc<Self>, is_use: bool) -> Option<Turn> {
        let mut calls = self.calls();
        if calls.ended.is_some() || self.stop.is_cancelled() {
            return None;
        }
        calls.n_turns += 1;
        Some(Turn { pipe: Arc::clone(self), is_use })
    }

    /// Resolves once nobody has used the channel for so long; it lets nobody in any more then.
    ///
    /// Cancel safe: nothing has been decided before it resolves.
    pub(super) async fn idle(&self, limits: Idleness) {
        // How often to look. Looking costs less than being told of every turn.
        let Some(shortest) = limits.after_use.into_iter().chain(limits.unused).min() else {
            return std::future::pending().await;
        };
        loop {
            let now = Instant::now();
            let next = {
                let mut calls = self.calls();
                let until = match calls.last_use {
                    Some(at) => limits.after_use.map(|limit| at + limit),
                    None => limits.unused.map(|limit| calls.last_turn.unwrap_or(self.opened) + limit),
                };
                match until {
                    Some(until) if until <= now && calls.n_turns == 0 => {
                        calls.was_idle = true;
                        let message = "the process was stopped: nobody used it".to_owned();
                        calls.ended = Some(Ended { message, stderr: String::new() });
                        return;
                    }
                    Some(until) if until > now => until,
                    Some(_) | None => now + shortest,
                }
            };
            sleep_until(next).await;
        }
    }

    /// Cancelled when the channel shall end.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Ends the channel, and the process behind it.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Writes a request and waits for nothing.
    pub(super) async fn ask(self: &Arc<Self>, id: &Id, line: Vec<u8>) -> Result<Waiting, UpstreamError> {
        self.call(id, line, false, false).await
    }

    /// Writes a `subscriptions/listen`, which is open until it is dropped.
    pub(super) async fn listen(self: &Arc<Self>, id: &Id, line: Vec<u8>) -> Result<Waiting, UpstreamError> {
        self.call(id, line, false, true).await
    }

    /// Writes a request that its caller may cancel and during which it may be talked to.
    pub(super) async fn call(
        self: &Arc<Self>,
        id: &Id,
        line: Vec<u8>,
        wants_logs: bool,
        is_cancellable: bool,
    ) -> Result<Waiting, UpstreamError> {
        let (replied, reply) = oneshot::channel();
        let (aside, asides) = mpsc::channel(MAX_ASIDES);
        {
            let mut calls = self.calls();
            if let Some(ended) = &calls.ended {
                return Err(ended.error(Sent::No));
            }
            calls.open.insert(id.clone(), Call { reply: replied, asides: aside, wants_logs });
        }
        // From here on the drop of `waiting` takes the call out again.
        let mut waiting = Waiting {
            pipe: Arc::clone(self),
            id: id.clone(),
            reply,
            asides,
            is_answered: false,
            is_cancellable,
        };
        let written = self.tell(line).await;
        if let Err(error) = written {
            waiting.is_cancellable = false;
            return Err(error);
        }
        Ok(waiting)
    }

    /// Writes one message.
    pub(super) async fn tell(&self, line: Vec<u8>) -> Result<(), UpstreamError> {
        let writer = self.writer.lock().expect("nothing panics while it holds this lock").clone();
        let Some(writer) = writer else {
            return Err(UpstreamError::new(CallErrorKind::UpstreamLost, Sent::No, "the server is gone"));
        };
        match writer {
            Writer::Lines(writer) => Ok(writer.write(Bytes::from(line)).await?),
            Writer::Other(writer) => writer.write(line).await,
        }
    }

    /// Adds what the process last wrote to its standard error: the reason why it does not answer stands there.
    pub(super) fn explain(&self, mut error: UpstreamError) -> UpstreamError {
        let stderr = self.last_words();
        if !stderr.is_empty() {
            error.message = format!("{}; its last words: {stderr}", error.message);
        }
        error
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().expect("nothing panics while it holds this lock")
    }

    /// Takes in one message of the other side.
    pub(super) fn hear(self: &Arc<Self>, line: &[u8]) {
        let envelope = match Envelope::parse(line) {
            Ok(envelope) => envelope,
            Err(error) => {
                // Many servers print a greeting or a log line to the wrong stream.
                debug!(%error, "a line that is no message is ignored");
                return;
            }
        };
        match envelope {
            Envelope::Response { id: Some(id), outcome } => {
                let call = self.calls().open.remove(&id);
                match call {
                    // Nobody waiting any more is fine.
                    Some(call) => drop(call.reply.send(Ok(outcome.map(ToOwned::to_owned)))),
                    None => debug!(%id, "a reply to nothing we wait for is ignored"),
                }
            }
            Envelope::Response { id: None, outcome } => self.blame(outcome.err()),
            Envelope::Notification { method, params } => {
                if !self.notices.hear(&method, params) {
                    self.notify(&method, params);
                }
            }
            Envelope::Request { id, method, params } => self.asked(id, &method, params),
        }
    }

    /// An error without an id concerns the only open call, if there is only one.
    fn blame(&self, error: Option<ErrorObject>) {
        let mut calls = self.calls();
        let only = if calls.open.len() == 1 { calls.open.keys().next().cloned() } else { None };
        match only.and_then(|id| calls.open.remove(&id)).zip(error) {
            Some((call, error)) => drop(call.reply.send(Ok(Err(error)))),
            None => debug!("an error that says not what it is about is ignored"),
        }
    }

    fn notify(&self, method: &str, params: Option<&RawValue>) {
        let calls = self.calls();
        let call = match method {
            "notifications/progress" => {
                Progress::parse(params).and_then(|progress| calls.open.get(&progress.token))
            }
            "notifications/subscriptions/acknowledged" => {
                subscription_of(params).and_then(|id| {
                    // Some servers turn the number into a string.
                    calls.open.get(&id).or_else(|| calls.open.get(&as_number(&id)?))
                })
            }
            // Nothing says which call a log message belongs to; with one that wants them it is clear.
            "notifications/message" => {
                let mut wanting = calls.open.values().filter(|call| call.wants_logs);
                wanting.next().filter(|_| wanting.next().is_none())
            }
            _ => None,
        };
        let Some(call) = call else {
            debug!(method, "a notification that belongs to no call is ignored");
            return;
        };
        let aside = Aside::Notification { method: method.to_owned(), params: params.map(ToOwned::to_owned) };
        if call.asides.try_send(aside).is_err() {
            debug!(method, "a notification is lost: the caller does not keep up");
        }
    }

    fn asked(self: &Arc<Self>, id: Id, method: &str, params: Option<&RawValue>) {
        if method == "ping" {
            return self.respond(id, Ok(message::empty_object()));
        }
        let calls = self.calls();
        let only = calls.open.values().next().filter(|_| calls.open.len() == 1);
        let aside = Aside::Request {
            id: id.clone(),
            method: method.to_owned(),
            params: params.map(ToOwned::to_owned),
        };
        let is_taken = only.is_some_and(|call| call.asides.try_send(aside).is_ok());
        drop(calls);
        if !is_taken {
            self.respond(
                id,
                Err(ErrorObject::new(code::METHOD_NOT_FOUND, "there is no call this belongs to")),
            );
        }
    }

    /// Writes an answer without waiting for it.
    pub(super) fn respond(self: &Arc<Self>, id: Id, outcome: Outcome) {
        self.later(Response { id: Some(id), outcome }.to_bytes());
    }

    /// Writes a line in the background; the writer's own bounded queue is the limit.
    fn later(self: &Arc<Self>, line: Vec<u8>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let pipe = Arc::clone(self);
        self.tasks.spawn_on(
            async move {
                let write = tokio::time::timeout(PATIENCE, pipe.tell(line));
                if let Ok(Err(error)) = write.await {
                    debug!(%error, "a message did not reach the process");
                }
            },
            &runtime,
        );
    }

    /// The other side is gone or going: everybody who waits is told, and nobody is let in any more.
    pub(super) async fn shut(&self, message: &str, stderr: &str) {
        self.writer.lock().expect("nothing panics while it holds this lock").take();
        let stderr = last_words(stderr);
        let ended = Ended { message: message.to_owned(), stderr: stderr.to_owned() };
        let open = {
            let mut calls = self.calls();
            calls.ended = Some(ended.clone());
            std::mem::take(&mut calls.open)
        };
        for call in open.into_values() {
            // Nobody waiting any more is fine.
            let _ = call.reply.send(Err(ended.error(Sent::Maybe)));
        }
        self.shut.cancel();
        // A listen holds on to the pipe, and the pipe to it.
        *self.announcing.lock().await = Announcing::default();
    }

    /// A line too long to read may have been anybody's reply: with one open call it was that one's.
    pub(super) fn unreadable(&self, error: mpe_transport::Error) {
        let mut calls = self.calls();
        let only = if calls.open.len() == 1 { calls.open.keys().next().cloned() } else { None };
        match only.and_then(|id| calls.open.remove(&id)) {
            Some(call) => {
                let mut error = UpstreamError::from(error);
                error.sent = Sent::Maybe;
                // Nobody waiting any more is fine.
                let _ = call.reply.send(Err(error));
            }
            None => warn!(%error, "a line of the process was skipped"),
        }
    }
}

/// The number that a string holds.
fn as_number(id: &Id) -> Option<Id> {
    match id {
        Id::String(text) => text.parse().ok().map(Id::Integer),
        Id::Integer(_) => None,
    }
}

/// The listen that a notification belongs to.
fn subscription_of(params: Option<&RawValue>) -> Option<Id> {
    let meta = Object::parse(params?).ok()?.get("_meta")?;
    serde_json::from_str(Object::parse(meta).ok()?.get(key::SUBSCRIPTION_ID)?.get()).ok()
}

/// The end of what a process wrote to its standard error, cut at a character.
fn last_words(stderr: &str) -> &str {
    let stderr = stderr.trim();
    let from = stderr.len().saturating_sub(MAX_QUOTED);
    let from = (from..stderr.len()).find(|at| stderr.is_char_boundary(*at)).unwrap_or(0);
    &stderr[from..]
}

impl Ended {
    fn error(&self, sent: Sent) -> UpstreamError {
        let mut error = UpstreamError::new(CallErrorKind::UpstreamLost, sent, self.message.clone());
        // For the log, not for the caller: it may hold anything.
        if !self.stderr.is_empty() {
            error.source = Some(format!("standard error ends: {}", self.stderr).into());
        }
        error
    }
}

// === impl Turn ===

impl Drop for Turn {
    fn drop(&mut self) {
        let mut calls = self.pipe.calls();
        calls.n_turns -= 1;
        let now = Some(Instant::now());
        calls.last_turn = now;
        if self.is_use {
            calls.last_use = now;
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// The reply.
    ///
    /// Cancel safe, but to be awaited to its end only once.
    pub(super) async fn reply(&mut self) -> Result<Outcome, UpstreamError> {
        let reply = (&mut self.reply).await;
        self.is_answered = true;
        reply.unwrap_or_else(|_| {
            Err(UpstreamError::new(CallErrorKind::UpstreamLost, Sent::Maybe, "the server is gone"))
        })
    }

    /// What comes beside the reply; to be taken once.
    pub(super) fn take_asides(&mut self) -> mpsc::Receiver<Aside> {
        std::mem::replace(&mut self.asides, mpsc::channel(1).1)
    }

    pub(super) fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let was_open = self.pipe.calls().open.remove(&self.id).is_some();
        if was_open && self.is_cancellable {
            self.pipe.later(message::cancelled(&self.id));
        }
    }
}

#[cfg(test)]
mod tests;
