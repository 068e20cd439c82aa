//! An upstream over HTTP: Streamable HTTP in both eras.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

use super::auth::ClientCredentials;
use super::error::verdict_error;
use super::pipe::Pipe;
use super::{Change, Introduction, Notices, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use crate::CallContext;

mod events;
mod legacy;
mod listen;
mod modern;
mod pump;
mod reader;
mod session;
mod standing;
mod wire;

use listen::Listening;
use session::{Session, Sessions};
use wire::Wire;

/// An MCP server behind a URL.
pub struct HttpUpstream {
    inner: Arc<Inner>,
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
    pub credentials: Option<&'a ClientCredentials>,
}

struct Inner {
    wire: Arc<Wire>,
    pinned: Option<ProtocolVersion>,
    found: ArcSwapOption<Found>,
    /// Held by the one call that probes; everybody else waits for it.
    probing: tokio::sync::Mutex<()>,
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

/// One step of a probe or a handshake may take this long.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// What is said to a server after its call has ended may take this long.
const AFTERWARDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Cancellations and deletions under way, at most. Beyond, the server finds out by itself.
const MAX_AFTERWARDS: usize = 256;
/// The session that discovery uses declares nothing.
const NO_CAPABILITIES: &str = "{}";

// === impl HttpUpstream ===

impl HttpUpstream {
    /// Does no IO: the first request does.
    ///
    /// # Errors
    /// One sentence saying what is wrong with the URL or a header.
    pub fn new(pool: &Pool, target: &HttpTarget<'_>) -> Result<Self, String> {
        let wire = Wire::new(pool.clone(), target.url, target.wire, target.headers, target.credentials)?;
        Ok(Self {
            inner: Arc::new(Inner {
                wire: Arc::new(wire),
                pinned: target.pinned,
                found: ArcSwapOption::empty(),
                probing: tokio::sync::Mutex::default(),
                sessions: Sessions::default(),
                notices: Arc::default(),
                listening: Listening::default(),
                channel: tokio::sync::Mutex::default(),
                last_id: AtomicI64::new(0),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                afterwards: Arc::new(Semaphore::new(MAX_AFTERWARDS)),
            }),
        })
    }
}

impl Upstream for HttpUpstream {
    fn introduce(&self, deadline: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async move {
            let probing = timeout_at(deadline, self.inner.probing.lock()).await;
            let _probing = probing.map_err(|_| UpstreamError::deadline(Sent::No, "another discovery"))?;
            let found = self.inner.probe(deadline).await?;
            Ok(Introduction {
                version: found.version,
                capabilities: Arc::from(found.server.capabilities.clone()),
                server_info: found.server.server_info.clone().map(Arc::from),
                instructions: found.server.instructions.as_deref().map(Arc::from),
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            let found = self.inner.found(request.deadline).await.map_err(UpstreamError::before_sending)?;
            if events::is_used(&found) {
                return events::request(&self.inner, &found, &request).await;
            }
            match found.version.era() {
                Era::Modern => modern::request(&self.inner, found.version, &request).await,
                Era::Legacy => legacy::request(&self.inner, &request).await,
            }
        })
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
            self.inner.stop.cancel();
            for session in self.inner.sessions.take_all() {
                self.inner.retire(session);
            }
            self.inner.tasks.close();
            if timeout_at(deadline, self.inner.tasks.wait()).await.is_err() {
                debug!(server = %self.inner.wire.uri(), "sessions were left to the server");
            }
        })
    }
}

// === impl Inner ===

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Inner {
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
        self.probe(deadline).await
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
                    }
                    if let Some(pipe) = channel.take() {
                        *self.channel.lock().await = Some(pipe);
                    }
                    let found = Arc::new(*found);
                    info!(server = %self.wire.uri(), version = %found.version, "upstream introduced itself");
                    self.found.store(Some(Arc::clone(&found)));
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
        let request = UpstreamRequest {
            method: "server/discover".into(),
            params: None,
            mirrored: Vec::new(),
            context: Arc::new(CallContext::default()),
            deadline,
        };
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

#[cfg(test)]
mod tests;
