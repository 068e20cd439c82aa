//! The stream that a legacy session keeps open beside its calls: announcements, and questions that name no call.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use http::header::HeaderValue;
use mpe_mcp_protocol::header::LAST_EVENT_ID;
use mpe_mcp_protocol::jsonrpc::{Envelope, Id};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::debug;

use super::super::listener::Listener;
use super::super::{Notices, UpstreamError, message};
use super::Inner;
use super::legacy::respond;
use super::pump::{MAX_ANSWERS, Outcome};
use super::reader::Messages;
use super::session::Session;
use super::wire::Wire;

/// How long the first call of a session waits for the stream to stand: a question sent before is lost at many servers.
const ARMING: Duration = Duration::from_millis(500);
/// Pause before the stream is opened again, unless the server names one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long an answer may take on its way to the server.
const ANSWERING: Duration = Duration::from_secs(10);

/// Keeps the stream of a session open until the session is dropped. Returns when it stands, or soon after.
pub(super) async fn attend(inner: &Inner, session: &Arc<Session>) {
    let (standing, stands) = oneshot::channel();
    let (wire, notices) = (Arc::clone(&inner.wire), Arc::clone(&inner.notices));
    let (session, stop) = (Arc::downgrade(session), session.stop.clone());
    inner.tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = keep(wire, notices, session, standing) => {}
        }
    });
    // Without a stream the session works all the same.
    let _ = timeout(ARMING, stands).await;
}

async fn keep(wire: Arc<Wire>, notices: Arc<Notices>, session: Weak<Session>, standing: oneshot::Sender<()>) {
    let mut standing = Some(standing);
    let mut last_event: Option<String> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(current) = session.upgrade() else { return };
        let opened = open(&wire, &current, last_event.as_deref()).await;
        drop(current);
        let mut messages = match opened {
            Ok(Opened::Stream(messages)) => *messages,
            // The next call finds out that the session is over.
            Ok(Opened::None | Opened::SessionOver) => return,
            Err(error) => {
                debug!(%error, "the session's stream could not be opened");
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
                continue;
            }
        };
        if let Some(standing) = standing.take() {
            // Whoever waited for this may have stopped waiting.
            let _ = standing.send(());
        }
        if read(&mut messages, &wire, &notices, &session).await {
            pause = FIRST_PAUSE;
        }
        if let Some((event, retry)) = messages.resume_point() {
            last_event = Some(event);
            pause = retry.unwrap_or(pause).min(MAX_PAUSE);
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

pub(super) enum Opened {
    /// The server has no such stream.
    None,
    /// The server has no such session.
    SessionOver,
    Stream(Box<Messages>),
}

/// Opens the stream of a session, or takes it up where it broke.
pub(super) async fn open(
    wire: &Wire,
    session: &Session,
    last_event: Option<&str>,
) -> Result<Opened, UpstreamError> {
    let mut request = wire.get();
    session.stamp(request.headers_mut());
    if let Some(event) = last_event.and_then(|event| HeaderValue::from_str(event).ok()) {
        request.headers_mut().insert(LAST_EVENT_ID, event);
    }
    let answer = wire.open(request).await?;
    match answer.status {
        status if status.is_success() && answer.messages.is_event_stream() => {
            Ok(Opened::Stream(Box::new(answer.messages)))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(answer.status_error(None)),
        // 2025-11-25, transports. 400 is what servers say that ask for a session they know.
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST if session.id.is_some() => Ok(Opened::SessionOver),
        status if status.is_client_error() || status.is_success() => Ok(Opened::None),
        _ => Err(answer.status_error(None)),
    }
}

/// Reads until the stream ends. True when it brought anything.
pub(super) async fn read(
    messages: &mut Messages,
    wire: &Arc<Wire>,
    notices: &Notices,
    session: &Weak<Session>,
) -> bool {
    let mut answers = FuturesUnordered::new();
    let mut brought = false;
    loop {
        let message = tokio::select! {
            biased;
            Some(()) = answers.next(), if !answers.is_empty() => continue,
            message = messages.next(), if answers.len() < MAX_ANSWERS => message,
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return brought,
            Err(error) => {
                debug!(%error, "the session's stream broke");
                return brought;
            }
        };
        brought = true;
        match Envelope::parse(&message) {
            Ok(Envelope::Notification { method, params }) => {
                if !notices.hear(&method, params) {
                    debug!(%method, "a notification that belongs to no call is ignored");
                }
            }
            Ok(Envelope::Request { id, method, params }) => {
                let Some(session) = session.upgrade() else { return brought };
                let wire = Arc::clone(wire);
                answers.push(answer(wire, session, id, method.into_owned(), params.map(ToOwned::to_owned)));
            }
            Ok(Envelope::Response { id, .. }) => debug!(?id, "a reply on the session's stream is ignored"),
            Err(error) => debug!(%error, "what is no message is ignored"),
        }
    }
}

/// Asks the one call of the session; with none or several there is no telling whose question it is.
async fn answer(
    wire: Arc<Wire>,
    session: Arc<Session>,
    id: Id,
    method: String,
    params: Option<Box<RawValue>>,
) {
    let outcome: Outcome = match (method.as_str(), session.only_call()) {
        ("ping", _) => Ok(message::empty_object()),
        (_, None) => Err(super::super::listener::no_such_method(&method)),
        (_, Some((context, deadline))) => {
            match Listener::new(&context, &id).answerer(&method, params.as_deref()) {
                Ok(events) => match timeout_at(deadline, events.ask(&method, params)).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(super::super::listener::no_such_method(&method)),
                },
                Err(refusal) => Err(refusal),
            }
        }
    };
    respond(&wire, &session, id, outcome, tokio::time::Instant::now() + ANSWERING).await;
}
