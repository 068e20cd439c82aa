//! Hears what a server announces: `subscriptions/listen` in the modern era, a session's stream in the legacy one.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mpe_mcp_protocol::jsonrpc::{Envelope, encode};
use mpe_mcp_protocol::object::raw_of;
use mpe_mcp_protocol::probe::Found;
use mpe_mcp_protocol::version::Era;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::pipe::Pipe;
use super::super::subscription::{agreed_resources, filter};
use super::super::{Change, UpstreamError, UpstreamRequest};
use super::background::Background;
use super::reader::Messages;
use super::session::Session;
use super::standing::{self, Opened};
use super::{Inner, NO_CAPABILITIES, STEP_TIMEOUT, events, legacy, modern};
use crate::CallContext;

/// What is to be heard, and what is being heard.
#[derive(Debug, Default)]
pub(super) struct Listening {
    task: Background,
    /// Resources whose updates are wanted, with a number that grows with each change of mind.
    wanted: watch::Sender<(u64, BTreeSet<String>)>,
    /// Which number has been served, and what the server agreed to.
    armed: watch::Sender<(u64, Vec<String>)>,
}

/// Pause before a stream is opened again; it doubles while that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A server that announces nothing is asked again after this long: it may have been replaced.
const SILENT_PAUSE: Duration = Duration::from_secs(300);
/// How long a stream is still read after another one has taken its place.
const OVERLAP: Duration = Duration::from_millis(100);
/// How often it is checked that somebody still listens.
const CHECK: Duration = Duration::from_secs(30);
/// Resources a session subscribes to, at most.
const MAX_SUBSCRIPTIONS: usize = 1024;

impl Listening {
    /// The server is not what it was: what is listened to is opened anew.
    pub(super) fn begin_anew(&self) {
        self.wanted.send_modify(|(number, _)| *number += 1);
    }
}

/// Starts listening unless that is under way.
pub(super) fn start(inner: &Arc<Inner>) {
    inner.listening.task.start(inner, run);
}

/// Wants updates of exactly these resources; returns those the server has agreed to by the deadline.
pub(super) async fn watch_resources(inner: &Arc<Inner>, uris: Vec<String>, deadline: Instant) -> Vec<String> {
    let uris: BTreeSet<String> = uris.into_iter().take(MAX_SUBSCRIPTIONS).collect();
    let mut armed = inner.listening.armed.subscribe();
    let mut wanted = 0;
    // Nobody is told of a change that is none: the stream would be opened anew for it.
    inner.listening.wanted.send_if_modified(|(number, current)| {
        let is_change = *current != uris;
        if is_change {
            *number += 1;
            *current = uris;
        }
        wanted = *number;
        is_change
    });
    let served = timeout_at(deadline, armed.wait_for(|(number, _)| *number >= wanted)).await;
    match served {
        Ok(Ok(served)) => served.1.clone(),
        _ => Vec::new(),
    }
}

async fn run(weak: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    let mut was_open = false;
    let mut broke_at = None;
    // A stream that goes on although something else is wanted.
    let mut open: Option<Round> = None;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        if inner.listening.task.is_over(|| inner.notices.has_listeners()) {
            return;
        }
        let mut wanted = inner.listening.wanted.subscribe();
        let now_wanted = wanted.borrow_and_update().clone();
        let (round, is_gapless) = match open.take() {
            Some(round) => round.widened(&inner, &now_wanted).await,
            None => (Round::open(&inner, &now_wanted, broke_at.take()).await, false),
        };
        let next_pause = match round {
            Ok(Some(mut round)) => {
                if std::mem::replace(&mut was_open, true) && !is_gapless {
                    // Whatever changed while nobody listened went unheard.
                    announce_everything(&inner, &now_wanted.1);
                }
                drop(inner);
                let (break_point, named) = round.read(&weak, &mut wanted).await;
                pause = FIRST_PAUSE;
                // Something else is wanted: without delay. Otherwise when the server says so.
                match wanted.has_changed().unwrap_or(false) {
                    true => {
                        match wanted.borrow().1 == now_wanted.1 {
                            // The same of a server that is not what it was.
                            true => broke_at = break_point,
                            false => open = Some(round),
                        }
                        Duration::ZERO
                    }
                    false => {
                        broke_at = break_point;
                        named.map_or(pause, |named| named.min(MAX_PAUSE))
                    }
                }
            }
            Ok(None) => {
                drop(inner);
                // A change of what is wanted, or a long time, is a reason to ask again.
                let _ = tokio::time::timeout(SILENT_PAUSE, wanted.changed()).await;
                Duration::ZERO
            }
            Err(error) => {
                debug!(%error, "the server's announcements cannot be heard");
                drop(inner);
                let this = pause;
                pause = (pause * 2).min(MAX_PAUSE);
                this
            }
        };
        sleep(next_pause).await;
    }
}

fn announce_everything(inner: &Inner, watched: &BTreeSet<String>) {
    let lists = [Change::Tools, Change::Prompts, Change::Resources];
    for change in lists.into_iter().chain(watched.iter().cloned().map(Change::Resource)) {
        inner.notices.announce(&change);
    }
}

/// Where the stream of a session broke: the session, and the last event that was read.
type BreakPoint = (Weak<Session>, String);

/// One stream of announcements.
struct Round {
    source: Source,
    inner_wire: Arc<super::wire::Wire>,
    notices: Arc<super::Notices>,
}

/// Where announcements come from.
enum Source {
    /// The one channel of HTTP+SSE, which hands them on by itself.
    Channel(Arc<Pipe>),
    /// `subscriptions/listen`.
    Listen(Messages),
    /// The stream of a session, which lives as long as we listen.
    Session(Arc<Session>, Messages),
}

impl Round {
    /// `None`: the server announces nothing. Whoever waits for it is told what it agreed to.
    async fn open(
        inner: &Arc<Inner>,
        wanted: &(u64, BTreeSet<String>),
        broke_at: Option<BreakPoint>,
    ) -> Result<Option<Self>, UpstreamError> {
        let (round, armed) = Self::attempt(inner, wanted, broke_at).await?;
        inner.listening.armed.send_replace((wanted.0, armed));
        Ok(round)
    }

    /// As [`open`](Self::open), and what was agreed to.
    async fn attempt(
        inner: &Arc<Inner>,
        wanted: &(u64, BTreeSet<String>),
        broke_at: Option<BreakPoint>,
    ) -> Result<(Option<Self>, Vec<String>), UpstreamError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        let found = inner.found(deadline).await?;
        let opened = match found.version.era() {
            _ if events::is_used(&found) => {
                let (pipe, armed) = events::listen(inner, &found, &wanted.1, deadline).await?;
                Some((Self::new(inner, Source::Channel(pipe)), armed))
            }
            Era::Modern => Self::open_modern(inner, &found, &wanted.1, deadline).await?,
            Era::Legacy => Self::open_legacy(inner, &found, &wanted.1, broke_at, deadline).await?,
        };
        Ok(match opened {
            Some((round, armed)) => (Some(round), armed),
            None => (None, Vec::new()),
        })
    }

    async fn open_modern(
        inner: &Arc<Inner>,
        found: &Found,
        wanted: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<Option<(Self, Vec<String>)>, UpstreamError> {
        let filter = filter(found, wanted);
        if filter.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(None);
        }
        let request = UpstreamRequest {
            method: "subscriptions/listen".into(),
            params: Some(raw_of(&json!({ "notifications": filter }))),
            name: None,
            mirrored: Vec::new(),
            context: Arc::new(CallContext::default()),
            deadline,
        };
        let (_, http) = modern::prepare(inner, found.version, &request)?;
        let mut answer = inner.wire.open(http).await?;
        if answer.status.is_client_error() && !matches!(answer.status.as_u16(), 401 | 403 | 408 | 429) {
            return Ok(None);
        }
        if !answer.status.is_success() || !answer.has_messages() {
            return Err(answer.status_error(None));
        }
        let agreed = timeout_at(deadline, acknowledged(&mut answer.messages, &inner.notices)).await;
        let agreed = agreed.map_err(|_| UpstreamError::protocol("the server does not acknowledge"))??;
        let Some(armed) = agreed else { return Ok(None) };
        Ok(Some((Self::new(inner, Source::Listen(answer.messages)), armed)))
    }

    async fn open_legacy(
        inner: &Arc<Inner>,
        found: &Found,
        wanted: &BTreeSet<String>,
        broke_at: Option<BreakPoint>,
        deadline: Instant,
    ) -> Result<Option<(Self, Vec<String>)>, UpstreamError> {
        let announces_lists =
            ["tools", "prompts", "resources"].iter().any(|kind| found.server.declares(kind, "listChanged"));
        let wants_updates = !wanted.is_empty() && found.server.declares("resources", "subscribe");
        if !announces_lists && !wants_updates {
            return Ok(None);
        }
        let Some((session, messages)) = Self::stream_of_session(inner, broke_at, deadline).await? else {
            return Ok(None);
        };
        let armed = match wants_updates {
            true => subscribe_to(inner, &session, wanted, deadline).await,
            false => Vec::new(),
        };
        Ok(Some((Self::new(inner, Source::Session(session, messages)), armed)))
    }

    /// The same for other resources, and whether nothing can have gone unheard in between: the new stream is there before the
    /// old one goes.
    async fn widened(
        self,
        inner: &Arc<Inner>,
        wanted: &(u64, BTreeSet<String>),
    ) -> (Result<Option<Self>, UpstreamError>, bool) {
        match self.source {
            Source::Channel(_) => (Self::open(inner, wanted, None).await, true),
            Source::Session(session, messages) => {
                // The stream is the session's, whatever is subscribed to.
                let armed = subscribe_to(inner, &session, &wanted.1, Instant::now() + STEP_TIMEOUT).await;
                inner.listening.armed.send_replace((wanted.0, armed));
                (Ok(Some(Self::new(inner, Source::Session(session, messages)))), true)
            }
            Source::Listen(mut old) => {
                let mut has_ended = false;
                let opened = {
                    let opening = Self::attempt(inner, wanted, None);
                    tokio::pin!(opening);
                    tokio::select! {
                        opened = &mut opening => opened,
                        () = hear_all(&mut old, &self.notices) => {
                            has_ended = true;
                            opening.await
                        }
                    }
                };
                if let Ok((Some(round), armed)) = opened {
                    inner.listening.armed.send_replace((wanted.0, armed));
                    // What was sent there before the new one began may still be under way.
                    let _ = tokio::time::timeout(OVERLAP, hear_all(&mut old, &self.notices)).await;
                    return (Ok(Some(round)), !has_ended);
                }
                // It may have no place for two.
                drop(old);
                (Self::open(inner, wanted, None).await, false)
            }
        }
    }

    /// The shared session and its stream. A session that the server has forgotten is opened anew, once.
    async fn stream_of_session(
        inner: &Arc<Inner>,
        broke_at: Option<BreakPoint>,
        deadline: Instant,
    ) -> Result<Option<(Arc<Session>, Messages)>, UpstreamError> {
        for _ in 0..2 {
            let session = legacy::session(inner, NO_CAPABILITIES, deadline).await?;
            let is_its = |broke: &&BreakPoint| Weak::ptr_eq(&broke.0, &Arc::downgrade(&session));
            let event = broke_at.as_ref().filter(is_its).map(|(_, event)| event.as_str());
            match standing::open(&inner.wire, &session, event).await? {
                Opened::Stream(messages) => return Ok(Some((session, *messages))),
                Opened::None => return Ok(None),
                Opened::SessionOver => inner.sessions.forget(NO_CAPABILITIES, &session),
            }
        }
        Ok(None)
    }

    fn new(inner: &Inner, source: Source) -> Self {
        Self { source, inner_wire: Arc::clone(&inner.wire), notices: Arc::clone(&inner.notices) }
    }

    /// Reads until the stream ends, something else is wanted, or nobody listens any more; then the rest can still be read.
    /// Says where the stream may be taken up again, and after how long, as far as the server said.
    async fn read(
        &mut self,
        inner: &Weak<Inner>,
        wanted: &mut watch::Receiver<(u64, BTreeSet<String>)>,
    ) -> (Option<BreakPoint>, Option<Duration>) {
        let (wire, notices) = (&self.inner_wire, &self.notices);
        let over = match &self.source {
            Source::Channel(pipe) => pipe.stopping().clone(),
            Source::Listen(_) => CancellationToken::new(),
            Source::Session(session, _) => session.stop.clone(),
        };
        let reading = async {
            match &mut self.source {
                Source::Channel(_) => std::future::pending().await,
                Source::Listen(messages) => hear_all(messages, notices).await,
                Source::Session(session, messages) => {
                    standing::read(messages, wire, notices, &Arc::downgrade(session)).await;
                }
            }
        };
        let deserted = async {
            loop {
                sleep(CHECK).await;
                if inner.upgrade().is_none_or(|inner| !inner.notices.has_listeners()) {
                    return;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = deserted => {}
            () = over.cancelled() => {}
            _ = wanted.wait_for_change() => {}
        }
        match &self.source {
            Source::Channel(_) => (None, None),
            Source::Listen(messages) => (None, messages.resume_point().and_then(|(_, retry)| retry)),
            Source::Session(session, messages) => match messages.resume_point() {
                Some((event, retry)) => (Some((Arc::downgrade(session), event)), retry),
                None => (None, None),
            },
        }
    }
}

trait WaitForChange {
    async fn wait_for_change(&mut self);
}

impl<T> WaitForChange for watch::Receiver<T> {
    /// Waits for a change without marking it as seen.
    async fn wait_for_change(&mut self) {
        // The sender lives as long as the upstream; without it nothing changes any more.
        if self.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.mark_changed();
    }
}

/// Waits for the acknowledgement; the resources in it are those whose updates will come. `None`: refused.
async fn acknowledged(
    messages: &mut Messages,
    notices: &super::Notices,
) -> Result<Option<Vec<String>>, UpstreamError> {
    while let Some(message) = messages.next().await? {
        match Envelope::parse(&message) {
            Ok(Envelope::Notification { method, params })
                if method == "notifications/subscriptions/acknowledged" =>
            {
                return Ok(Some(params.and_then(agreed_resources).unwrap_or_default()));
            }
            Ok(Envelope::Notification { method, params }) => drop(notices.hear(&method, params)),
            Ok(Envelope::Response { .. }) => return Ok(None),
            Ok(Envelope::Request { .. }) | Err(_) => {}
        }
    }
    Ok(None)
}

async fn hear_all(messages: &mut Messages, notices: &super::Notices) {
    loop {
        match messages.next().await {
            Ok(Some(message)) => match Envelope::parse(&message) {
                Ok(Envelope::Notification { method, params }) => drop(notices.hear(&method, params)),
                // The completion result: the server has ended the stream in order.
                Ok(Envelope::Response { .. }) => return,
                Ok(Envelope::Request { .. }) | Err(_) => {
                    debug!("what does not belong on this stream is ignored");
                }
            },
            Ok(None) => return,
            Err(error) => return debug!(%error, "the stream of announcements broke"),
        }
    }
}

/// Subscribes to these resources and to no others; returns those the server agreed to.
async fn subscribe_to(
    inner: &Arc<Inner>,
    session: &Session,
    wanted: &BTreeSet<String>,
    deadline: Instant,
) -> Vec<String> {
    let mut armed = Vec::new();
    let mut subscribed = session.subscribed.lock().await;
    for uri in subscribed.difference(wanted).cloned().collect::<Vec<_>>() {
        if subscribe(inner, session, "resources/unsubscribe", &uri, deadline).await {
            subscribed.remove(&uri);
        }
    }
    for uri in wanted {
        if subscribed.contains(uri) || subscribe(inner, session, "resources/subscribe", uri, deadline).await {
            subscribed.insert(uri.clone());
            armed.push(uri.clone());
        }
    }
    armed
}

async fn subscribe(
    inner: &Arc<Inner>,
    session: &Session,
    method: &str,
    uri: &str,
    deadline: Instant,
) -> bool {
    let id = inner.next_id();
    let message = encode::request(&id, method, Some(&raw_of(&json!({ "uri": uri }))));
    match legacy::ask(inner, session, &id, message, deadline).await {
        Ok(Some(Ok(_))) => true,
        Ok(_) => false,
        Err(error) => {
            debug!(%error, uri, method, "the server did not agree");
            false
        }
    }
}
