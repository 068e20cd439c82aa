//! An upstream over HTTP: Streamable HTTP in both eras.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use mpe_mcp_protocol::jsonrpc::Id;
use mpe_mcp_protocol::probe::{Carrier, Found, Heard, Probe, Step, Verdict};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use mpe_transport::{Pool, Sent};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::auth::{Authorization, Login};
use super::error::verdict_error;
use super::pipe::Pipe;
use super::{Change, Introduction, Notices, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use crate::CallContext;
use crate::pinned::pinned;

mod background;
mod eras;
mod events;
mod legacy;
mod listen;
mod modern;
mod pump;
mod reader;
mod session;
mod standing;
mod wire;

use eras::OtherEra;
use listen::Listening;
use session::{Session, Sessions};
use wire::Wire;

/// An MCP server behind a URL.
pub struct HttpUpstream {
    /// The server in the era that discovery found.
    inner: Arc<Inner>,
    /// The server in its other era, where a caller has asked for that.
    other: OtherEra,
}

/// Where the server is and how to speak to it.
#[derive(Debug)]
pub struct HttpTarget<'a> {
    /// Absolute `http` or `https` URL.
    pub url: &'a http::Uri,
    /// Sent with every request; values are secrets.
    pub headers: &'a [(http::HeaderName, secrecy::SecretString)],
    /// Which HTTP to speak.
    pub wire: mpe_transport::Wire,
    /// The revision to speak; `None`: found out.
    pub pinned: Option<ProtocolVersion>,
    /// How to get tokens for this server; `None`: not at all, `headers` hold what it wants.
    pub authorization: Option<&'a Authorization>,
}

/// One connection: a server in one era.
struct Inner {
    wire: Arc<Wire>,
    pinned: Option<ProtocolVersion>,
    found: ArcSwapOption<Found>,
    /// Held by the one call that probes; everybody else waits for it.
    probing: tokio::sync::Mutex<()>,
    /// When a refusal was last taken for a sign that the server is not what it was.
    doubted: Mutex<Option<Instant>>,
    sessions: Sessions,
    notices: Arc<Notices>,
    listening: Listening,
    /// The channel to a server of 2024-11-05.
    channel: tokio::sync::Mutex<Option<Arc<Pipe>>>,
    last_id: AtomicI64,
    tasks: TaskTracker,
    /// Ends what listens in the background.
    stop: CancellationToken,
    /// Bounds the work that outlives its call.
    afterwards: Arc<Semaphore>,
}

/// What a server said to a request.
enum Told {
    Reply(UpstreamReply),
    /// It refused the request before anything ran, the way a server does that speaks another era.
    Misfit {
        outcome: Result<UpstreamReply, UpstreamError>,
        /// It says so itself, rather than only looking like it.
        is_certain: bool,
    },
}

/// One step of a probe or a handshake may take this long.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// What is said to a server after its call has ended may take this long.
const AFTERWARDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Cancellations and deletions under way, at most. Beyond, the server finds out by itself.
const MAX_AFTERWARDS: usize = 256;
/// How often a refusal that only looks like another era's is looked into.
const DOUBT_PAUSE: Duration = Duration::from_secs(30);
/// The session that discovery uses declares nothing.
const NO_CAPABILITIES: &str = "{}";

// === impl HttpUpstream ===

impl HttpUpstream {
    /// Does no IO: the first request does.
    ///
    /// # Errors
    /// One sentence saying what is wrong with the URL or a header.
    pub fn new(pool: &Pool, target: &HttpTarget<'_>) -> Result<Self, String> {
        let wire = Wire::new(pool.clone(), target.url, target.wire, target.headers, target.authorization)?;
        let inner = Arc::new(Inner::new(Arc::new(wire), Arc::default(), target.pinned));
        Ok(Self { inner, other: OtherEra::default() })
    }
}

impl HttpUpstream {
    /// Has a person log in at this server, as its authorization says, and keeps what that brings.
    ///
    /// # Errors
    /// [`crate::CallErrorKind::UpstreamAuth`], saying which step failed; or the server does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future gives the login up; a client that has been registered meanwhile is registered again next
    /// time.
    pub async fn login(&self, deadline: Instant) -> Result<Login, UpstreamError> {
        let Some(authorizer) = self.inner.wire.authorizer() else {
            return Err(UpstreamError::new(
                crate::CallErrorKind::UpstreamAuth,
                Sent::No,
                "this server is not configured for a login",
            ));
        };
        let request = discovery_request(deadline);
        let version = self.inner.pinned.unwrap_or(ProtocolVersion::LATEST);
        let (_, request) = modern::prepare(&self.inner, version, &request)?;
        let challenge = self.inner.wire.challenge(request, deadline).await?;
        authorizer.login(&challenge, deadline).await
    }
}

impl Upstream for HttpUpstream {
    fn introduce(&self, deadline: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async move {
            let probing = timeout_at(deadline, self.inner.probing.lock()).await;
            let _probing = probing.map_err(|_| UpstreamError::deadline(Sent::No, "another discovery"))?;
            let found = self.inner.probe(deadline).await?;
            self.other.reconsider();
            Ok(introduction(&found))
        })
    }

    fn introduce_in(
        &self,
        era: Era,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Option<Introduction>, UpstreamError>> {
        Box::pin(async move {
            let connection = self.other.connection(&self.inner, Some(era), deadline).await?;
            let found = connection.found(deadline).await?;
            Ok((found.version.era() == era).then(|| introduction(&found)))
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        pinned(|| async move { self.other.request(&self.inner, &request).await })
    }

    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let changes = self.inner.notices.listen();
        listen::start(&self.inner);
        Some(changes)
    }

    fn watch_resources(&self, uris: Vec<String>, deadline: Instant) -> BoxFuture<'_, Vec<String>> {
        Box::pin(listen::watch_resources(&self.inner, uris, deadline))
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let other = self.other.take();
            for connection in other.iter().chain([&self.inner]) {
                connection.end();
            }
            if let Some(authorizer) = self.inner.wire.authorizer() {
                authorizer.settle(deadline).await;
            }
            for connection in other.iter().chain([&self.inner]) {
                if timeout_at(deadline, connection.tasks.wait()).await.is_err() {
                    debug!(server = %connection.wire.shown(), "sessions were left to the server");
                }
            }
        })
    }
}

fn introduction(found: &Found) -> Introduction {
    Introduction {
        version: found.version,
        capabilities: Arc::from(found.server.capabilities.clone()),
        server_info: found.server.server_info.clone().map(Arc::from),
        instructions: found.server.instructions.as_deref().map(Arc::from),
    }
}

// === impl Inner ===

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Inner {
    fn new(wire: Arc<Wire>, notices: Arc<Notices>, pinned: Option<ProtocolVersion>) -> Self {
        Self {
            wire,
            pinned,
            found: ArcSwapOption::empty(),
            probing: tokio::sync::Mutex::default(),
            doubted: Mutex::default(),
            sessions: Sessions::default(),
            notices,
            listening: Listening::default(),
            channel: tokio::sync::Mutex::default(),
            last_id: AtomicI64::new(0),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            afterwards: Arc::new(Semaphore::new(MAX_AFTERWARDS)),
        }
    }

    /// Ends its sessions at the server and everything in the background.
    fn end(self: &Arc<Self>) {
        self.stop.cancel();
        for session in self.sessions.take_all() {
            self.retire(session);
        }
        self.tasks.close();
    }

    /// Sends one request as the server was found to want it. A server that turns out not to be what it was is found out
    /// anew, and the request, which it has refused, is sent once more.
    async fn request(self: &Arc<Self>, request: &UpstreamRequest) -> Result<UpstreamReply, UpstreamError> {
        let found = self.found(request.deadline).await.map_err(UpstreamError::before_sending)?;
        let (outcome, is_certain) = match self.request_as(&found, request).await? {
            Told::Reply(reply) => return Ok(reply),
            Told::Misfit { outcome, is_certain } => (outcome, is_certain),
        };
        // Boxed, like everything here that happens once in a while: the common way stays small.
        match Box::pin(self.found_otherwise(&found, is_certain, request.deadline)).await {
            None => outcome,
            Some(now) => match Box::pin(self.request_as(&now, request)).await? {
                Told::Reply(reply) => Ok(reply),
                Told::Misfit { outcome, .. } => outcome,
            },
        }
    }

    async fn request_as(
        self: &Arc<Self>,
        found: &Found,
        request: &UpstreamRequest,
    ) -> Result<Told, UpstreamError> {
        if events::is_used(found) {
            return Box::pin(events::request(self, found, request)).await.map(Told::Reply);
        }
        match found.version.era() {
            Era::Modern => modern::request(self, found.version, request).await,
            Era::Legacy => Box::pin(legacy::request(self, request)).await,
        }
    }

    /// What the server speaks now, if that is not what it was found to speak.
    async fn found_otherwise(
        self: &Arc<Self>,
        doubted: &Arc<Found>,
        is_certain: bool,
        deadline: Instant,
    ) -> Option<Arc<Found>> {
        if self.pinned.is_some() {
            // There is nothing else it could be found to speak.
            return None;
        }
        let _probing = timeout_at(deadline, self.probing.lock()).await.ok()?;
        let is_other =
            |now: &Arc<Found>| (now.version, now.transport) != (doubted.version, doubted.transport);
        match self.found.load_full() {
            // Somebody else has looked meanwhile.
            Some(now) if !Arc::ptr_eq(&now, doubted) => return Some(now).filter(is_other),
            Some(_) if !is_certain && !self.may_doubt() => return None,
            Some(_) | None => {}
        }
        match self.probe(deadline).await {
            Ok(now) => Some(now).filter(is_other),
            Err(error) => {
                debug!(server = %self.wire.shown(), %error, "the server cannot be found out anew");
                None
            }
        }
    }

    /// Whether a legacy server that has lost our session has come back as one of the modern era. Asked now and then only.
    async fn is_newer_now(&self, deadline: Instant) -> bool {
        if self.pinned.is_some() || !self.may_doubt() {
            return false;
        }
        let deadline = deadline.min(Instant::now() + STEP_TIMEOUT);
        let mut probe = Probe::new(Carrier::Http, None);
        let asked = self.discover(&mut probe, ProtocolVersion::LATEST, deadline).await;
        matches!(asked, Ok(Verdict::Found(_)))
    }

    fn may_doubt(&self) -> bool {
        let mut doubted = self.doubted.lock().expect("nothing panics while it holds this lock");
        let may = doubted.is_none_or(|last| last.elapsed() >= DOUBT_PAUSE);
        if may {
            *doubted = Some(Instant::now());
        }
        may
    }

    fn next_id(&self) -> Id {
        Id::Integer(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn pin(&self) -> Option<ProtocolVersion> {
        self.pinned
    }

    fn found_version(&self) -> Option<ProtocolVersion> {
        self.found.load().as_ref().map(|found| found.version)
    }

    /// What the server speaks; found out once, by one call for all.
    async fn found(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Found>, UpstreamError> {
        if let Some(found) = self.found.load_full() {
            return Ok(found);
        }
        let probing = timeout_at(deadline, self.probing.lock()).await;
        let _probing = probing.map_err(|_| UpstreamError::deadline(Sent::No, "discovery"))?;
        if let Some(found) = self.found.load_full() {
            return Ok(found);
        }
        Box::pin(self.probe(deadline)).await
    }

    /// What was found has been proven wrong: the next request finds out anew.
    fn forget(&self) {
        self.found.store(None);
    }

    async fn probe(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Found>, UpstreamError> {
        let mut probe = Probe::new(Carrier::Http, self.pinned);
        let mut channel = None;
        loop {
            let step_deadline = deadline.min(Instant::now() + STEP_TIMEOUT);
            let (verdict, handshake) = self.step(&mut probe, &mut channel, step_deadline).await?;
            match verdict {
                Verdict::Next(_) => {}
                Verdict::Found(found) => {
                    if let Some(handshake) = handshake {
                        let session = legacy::complete(self, handshake, &found, step_deadline).await?;
                        if let Some(replaced) = self.sessions.put(NO_CAPABILITIES, session) {
                            self.retire(replaced);
                        }
                        session::retire_when_idle(self);
                    }
                    if let Some(pipe) = channel.take() {
                        *self.channel.lock().await = Some(pipe);
                    }
                    let found = Arc::new(*found);
                    info!(server = %self.wire.shown(), version = %found.version, "upstream introduced itself");
                    let before = self.found.swap(Some(Arc::clone(&found)));
                    if before.is_some_and(|before| before.version != found.version) {
                        self.listening.begin_anew();
                    }
                    return Ok(found);
                }
                verdict => return Err(verdict_error(verdict)),
            }
        }
    }

    async fn step(
        self: &Arc<Self>,
        probe: &mut Probe,
        channel: &mut Option<Arc<Pipe>>,
        deadline: Instant,
    ) -> Result<(Verdict, Option<legacy::Handshake>), UpstreamError> {
        match probe.step() {
            Step::Discover(version) => Ok((self.discover(probe, version, deadline).await?, None)),
            Step::Initialize(version) => {
                if let Some(pipe) = channel.as_ref() {
                    return Ok((events::initialize(self, pipe, version, probe).await?, None));
                }
                let handshake = legacy::initialize(self, version, NO_CAPABILITIES, deadline).await?;
                let status = handshake.status.as_u16();
                let verdict = probe.hear(match &handshake.outcome {
                    Some(outcome) => Heard::Reply { status: Some(status), outcome },
                    None => Heard::Status(status),
                });
                Ok((verdict, Some(handshake)))
            }
            Step::OpenEventStream => {
                let heard = match events::open(self, deadline).await? {
                    events::Opened::Channel(pipe) => {
                        *channel = Some(pipe);
                        Heard::Endpoint
                    }
                    events::Opened::Refused(status) => Heard::Status(status),
                };
                Ok((probe.hear(heard), None))
            }
        }
    }

    async fn discover(
        &self,
        probe: &mut Probe,
        version: ProtocolVersion,
        deadline: Instant,
    ) -> Result<Verdict, UpstreamError> {
        let request = discovery_request(deadline);
        let (status, outcome) = modern::ask(self, version, &request).await?;
        Ok(probe.hear(match &outcome {
            Some(outcome) => Heard::Reply { status: Some(status.as_u16()), outcome },
            None => Heard::Status(status.as_u16()),
        }))
    }

    /// Ends a session at the server once its last call has ended.
    fn retire(self: &Arc<Self>, session: Arc<Session>) {
        session.in_flight.close();
        if session.in_flight.is_empty() {
            self.afterwards(move |inner, deadline| async move {
                legacy::delete(&inner, &session, deadline).await;
            });
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let inner = Arc::clone(self);
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = session.in_flight.wait() => {}
                    () = inner.stop.cancelled() => {}
                }
                legacy::delete(&inner, &session, Instant::now() + AFTERWARDS_TIMEOUT).await;
            },
            &runtime,
        );
    }

    /// Does something that nobody waits for, soon or not at all.
    fn afterwards<F>(self: &Arc<Self>, work: impl FnOnce(Arc<Self>, Instant) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.afterwards).try_acquire_owned() else { return };
        // A drop outside a runtime has nobody to do the work.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let deadline = Instant::now() + AFTERWARDS_TIMEOUT;
        let work = work(Arc::clone(self), deadline);
        self.tasks.spawn_on(
            async move {
                // The pool's own deadline covers the request; this one covers everything.
                let _ = timeout_at(deadline, work).await;
                drop(permit);
            },
            &runtime,
        );
    }
}

/// The request that introduces a modern server, and that every server may refuse without harm.
fn discovery_request(deadline: Instant) -> UpstreamRequest {
    UpstreamRequest {
        method: "server/discover".into(),
        params: None,
        name: None,
        mirrored: Vec::new(),
        context: Arc::new(CallContext::default()),
        deadline,
    }
}

#[cfg(test)]
mod tests;
