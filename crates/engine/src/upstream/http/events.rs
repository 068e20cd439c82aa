//! HTTP+SSE of 2024-11-05: one event stream for everything the server says, POST beside it for what we say.
//!
//! The stream is a channel like a process's pipes and is used like them. A deprecated transport: its servers are told
//! that we can do nothing, so that no question of theirs has to be matched to a call.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Uri;
use mpe_mcp_protocol::jsonrpc::{Id, encode};
use mpe_mcp_protocol::probe::{Carrier, Found, Heard, Probe, Transport, Verdict};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::Sent;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::super::error::verdict_error;
use super::super::pipe::{Host, Pipe, Write, Writer, announce, call};
use super::super::{UpstreamError, UpstreamReply, UpstreamRequest, message};
use super::reader::Messages;
use super::wire::{Wire, shortened};
use super::{Inner, NO_CAPABILITIES, STEP_TIMEOUT};
use crate::CallErrorKind;

/// What the first event of a stream names.
pub(super) enum Opened {
    /// The channel, ready for `initialize`.
    Channel(Arc<Pipe>),
    /// Not this transport; the status it was refused with.
    Refused(u16),
}

struct Posts {
    wire: Wire,
}

impl Write for Posts {
    fn write(&self, message: Vec<u8>) -> BoxFuture<'_, Result<(), UpstreamError>> {
        Box::pin(async move {
            let answer = self.wire.send(self.wire.post(message), Instant::now() + STEP_TIMEOUT).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            // 404 and 400: the stream this address belonged to is over, and nothing ran.
            let is_over = matches!(answer.status.as_u16(), 400 | 404 | 410);
            let mut error = answer.status_error(None);
            if is_over {
                error = UpstreamError::new(CallErrorKind::UpstreamLost, Sent::No, error.message);
            }
            Err(error)
        })
    }
}

/// Opens the stream and waits for the address that messages go to.
pub(super) async fn open(inner: &Arc<Inner>, deadline: Instant) -> Result<Opened, UpstreamError> {
    let mut answer = inner.wire.open(inner.wire.get()).await?;
    if !answer.status.is_success() {
        return Ok(Opened::Refused(answer.status.as_u16()));
    }
    if !answer.messages.is_event_stream() {
        return Ok(Opened::Refused(405));
    }
    let first = timeout_at(deadline, answer.messages.next_event()).await;
    let first = first.map_err(|_| UpstreamError::deadline(Sent::No, "the address of the event stream"))??;
    let Some(event) = first.filter(|event| event.name.as_deref() == Some("endpoint")) else {
        return Ok(Opened::Refused(405));
    };
    let uri = endpoint(inner.wire.uri(), &event.data)?;
    let posts: Arc<dyn Write> = Arc::new(Posts { wire: inner.wire.at(uri) });
    let pipe = Pipe::new(Writer::Other(posts), &inner.notices, &inner.tasks, inner.stop.child_token());
    inner.tasks.spawn(run(Arc::clone(&pipe), answer.messages));
    Ok(Opened::Channel(pipe))
}

async fn run(pipe: Arc<Pipe>, mut messages: Messages) {
    loop {
        let message = tokio::select! {
            biased;
            () = pipe.stopping().cancelled() => break,
            message = messages.next() => message,
        };
        match message {
            Ok(Some(message)) => pipe.hear(&message),
            Ok(None) => break,
            Err(error) => {
                debug!(%error, "the event stream broke");
                break;
            }
        }
    }
    pipe.shut("the server closed the event stream", "").await;
    pipe.stop();
}

/// The address in the `endpoint` event. It must be on the server that named it: our credentials go there.
fn endpoint(base: &Uri, data: &[u8]) -> Result<Uri, UpstreamError> {
    let text = String::from_utf8_lossy(data);
    let refuse = |why: &str| {
        UpstreamError::protocol(format!("the event stream names the address {:?}: {why}", shortened(&text)))
            .before_sending()
    };
    let named: Uri = text.trim().parse().map_err(|_| refuse("no URL"))?;
    let is_same = |named: &Uri| {
        named.scheme_str() == base.scheme_str() && named.host() == base.host() && port(named) == port(base)
    };
    if named.authority().is_some() {
        return if is_same(&named) { Ok(named) } else { Err(refuse("another server than the one we asked")) };
    }
    let path = named.path_and_query().ok_or_else(|| refuse("no path"))?.as_str();
    if !path.starts_with('/') {
        return Err(refuse("no absolute path"));
    }
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| refuse("no path"))?);
    Uri::from_parts(parts).map_err(|_| refuse("no URL"))
}

fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

/// Sends `initialize` over the channel.
pub(super) async fn initialize(
    inner: &Inner,
    pipe: &Arc<Pipe>,
    version: ProtocolVersion,
    probe: &mut Probe,
) -> Result<Verdict, UpstreamError> {
    let id = inner.next_id();
    let mut asked = pipe.ask(&id, message::initialize(&id, version, NO_CAPABILITIES)).await?;
    let verdict = match timeout(STEP_TIMEOUT, asked.reply()).await {
        Ok(outcome) => {
            let outcome = outcome?;
            probe.hear(Heard::Reply { status: Some(200), outcome: &outcome })
        }
        Err(_) => probe.hear(Heard::Silence),
    };
    if let Verdict::Found(_) = verdict {
        pipe.tell(encode::notification("notifications/initialized", None)).await?;
    }
    Ok(verdict)
}

/// Sends one request over the channel; opens it anew, by one call for all, where it has ended.
pub(super) async fn request(
    inner: &Arc<Inner>,
    found: &Found,
    request: &UpstreamRequest,
) -> Result<UpstreamReply, UpstreamError> {
    let pipe = live(inner, found, request.deadline).await.map_err(UpstreamError::before_sending)?;
    call::request(&**inner, &pipe, found.version, request).await
}

/// Has the server announce updates of exactly these resources; list changes it announces anyway. Returns the channel, which
/// is open for as long as they are heard, and the resources it agreed to.
pub(super) async fn listen(
    inner: &Arc<Inner>,
    found: &Found,
    wanted: &BTreeSet<String>,
    deadline: Instant,
) -> Result<(Arc<Pipe>, Vec<String>), UpstreamError> {
    let pipe = live(inner, found, deadline).await?;
    let armed = announce::arm(&**inner, &pipe, wanted, deadline).await?;
    Ok((pipe, armed))
}

/// The channel, opened anew where it has ended.
async fn live(inner: &Arc<Inner>, found: &Found, deadline: Instant) -> Result<Arc<Pipe>, UpstreamError> {
    let lock = timeout_at(deadline, inner.channel.lock()).await;
    let mut channel = lock.map_err(|_| UpstreamError::deadline(Sent::No, "the event stream"))?;
    if let Some(pipe) = channel.as_ref().filter(|pipe| !pipe.is_closed()) {
        return Ok(Arc::clone(pipe));
    }
    let pipe = reopen(inner, found, deadline).await?;
    Ok(Arc::clone(channel.insert(pipe)))
}

async fn reopen(inner: &Arc<Inner>, found: &Found, deadline: Instant) -> Result<Arc<Pipe>, UpstreamError> {
    match open(inner, deadline.min(Instant::now() + STEP_TIMEOUT)).await? {
        Opened::Channel(pipe) => {
            let mut probe = Probe::handshake(Carrier::Http, found.version, inner.pin());
            match initialize(inner, &pipe, found.version, &mut probe).await? {
                Verdict::Found(_) => Ok(pipe),
                verdict => {
                    pipe.stop();
                    Err(verdict_error(verdict))
                }
            }
        }
        Opened::Refused(status) => {
            inner.forget();
            let message = format!("the server refuses its event stream with HTTP status {status}");
            Err(UpstreamError::new(CallErrorKind::UpstreamStatus, Sent::No, message))
        }
    }
}

/// Whether this is how the server is spoken to.
pub(super) fn is_used(found: &Found) -> bool {
    found.transport == Transport::EventStream
}

impl Host for Inner {
    fn next_id(&self) -> Id {
        Inner::next_id(self)
    }

    fn found(&self) -> Option<Arc<Found>> {
        self.found.load_full()
    }

    fn forget(&self) {
        Inner::forget(self);
    }

    fn works(&self, pipe: &Pipe) {
        pipe.mark_answered();
    }
}
