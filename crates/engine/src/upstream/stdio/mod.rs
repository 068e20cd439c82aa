//! An upstream that is a child process: started when first asked, started again when it has ended.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use mpe_mcp_protocol::jsonrpc::{Id, encode};
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::probe::{Carrier, Found, Heard, Probe, Step, Verdict};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use mpe_transport::Sent;
use mpe_transport::stdio::StdioConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::error::verdict_error;
use super::pipe::{Host, Idleness, Outcome, Pipe, Turn, Waiting, announce, call};
use super::{
    Change, Introduction, Notices, Upstream, UpstreamError, UpstreamReply, UpstreamRequest, message,
};
use crate::config::{ProcessConfig, Start};
use crate::{Asking, CallContext, CallErrorKind, CallEvents};

mod process;
mod restart;

use restart::Restarts;

/// An MCP server that runs as our child.
pub struct StdioUpstream {
    inner: Arc<Inner>,
}

/// What to start.
#[derive(Debug)]
pub struct StdioTarget<'a> {
    /// The program.
    pub command: &'a str,
    /// Its arguments.
    pub args: &'a [String],
    /// Added to a scrubbed environment; values are secrets.
    pub env: &'a [(String, SecretString)],
    /// Where it runs; `None`: here.
    pub cwd: Option<&'a Path>,
    /// The revision to speak; `None`: found out.
    pub pinned: Option<ProtocolVersion>,
    /// When it runs.
    pub process: &'a ProcessConfig,
}

struct Inner {
    config: StdioConfig,
    process: ProcessConfig,
    pinned: Option<ProtocolVersion>,
    found: ArcSwapOption<Found>,
    /// One process shared by all calls that declare nothing, and one for each set of capabilities a legacy server is
    /// told at its start.
    slots: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
    restarts: Mutex<Restarts>,
    notices: Arc<Notices>,
    /// Resources whose updates are wanted.
    watched: Mutex<BTreeSet<String>>,
    /// The shared process has run before.
    restarted: AtomicBool,
    last_id: AtomicI64,
    tasks: TaskTracker,
    /// Ends every process.
    stop: CancellationToken,
}

/// The process for one set of capabilities.
struct Slot {
    capabilities: Arc<str>,
    current: ArcSwapOption<Pipe>,
    /// Held while the process is started and introduced.
    starting: tokio::sync::Mutex<()>,
    /// Held by the one call a process serves at a time when the caller may be asked: nothing on a pipe says which
    /// call a question belongs to.
    exclusive: tokio::sync::Mutex<()>,
    /// Calls that wait for it.
    n_waiting: AtomicUsize,
    /// Keeps the process while somebody wants to hear of resources.
    watching: Mutex<Option<Turn>>,
}

/// Counts a call that waits for its turn.
struct Queued<'a>(&'a AtomicUsize);

/// A server that says nothing to `server/discover` for so long does not know it.
const SILENCE: Duration = Duration::from_secs(5);
/// Starting a process and introducing ourselves may take this long: package runners download first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A call whose question nobody has answered for so long gives way, once another call waits for its process.
const GIVES_WAY: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Processes of one upstream, at most: one shared, the others for callers that can be asked.
const MAX_PROCESSES: usize = 8;
/// How long a new process may take to agree to announce what changes.
const ARMING: Duration = Duration::from_secs(2);
/// Resources watched at once, at most.
const MAX_WATCHED: usize = 1024;
/// A process started on demand to learn what it offers is kept for so long: more may be asked of it.
const UNUSED: Duration = Duration::from_secs(5);
/// Processes that one request may find idle just when it wants to use them.
const MAX_IDLED: usize = 3;
/// What the shared process is told we can do.
const NO_CAPABILITIES: &str = "{}";

// === impl StdioUpstream ===

impl StdioUpstream {
    /// Starts nothing: the first request does.
    pub fn new(target: &StdioTarget<'_>) -> Self {
        let mut config = StdioConfig::new(target.command);
        config.args = target.args.iter().map(Into::into).collect();
        config.env =
            target.env.iter().map(|(name, value)| (name.into(), value.expose_secret().into())).collect();
        config.cwd = target.cwd.map(Path::to_owned);
        Self {
            inner: Arc::new(Inner {
                config,
                process: target.process.clone(),
                pinned: target.pinned,
                found: ArcSwapOption::empty(),
                slots: Mutex::default(),
                restarts: Mutex::default(),
                notices: Arc::default(),
                watched: Mutex::default(),
                restarted: AtomicBool::new(false),
                last_id: AtomicI64::new(0),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
    }
}

impl Upstream for StdioUpstream {
    fn introduce(&self, deadline: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async move {
            let slot = self.inner.slot(NO_CAPABILITIES)?;
            if slot.live().is_none() {
                // A process that ended may come back as a newer version of itself.
                self.inner.found.store(None);
            }
            self.inner.pipe(&slot, deadline).await?;
            let found = self.inner.found.load_full();
            let found = found.ok_or_else(|| lost("the process ended while it introduced itself"))?;
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
            let version = self.inner.version(request.deadline).await?;
            let capabilities = match version.era() {
                Era::Legacy if can_be_asked(&request.context) => {
                    request.context.capabilities.as_deref().map_or(NO_CAPABILITIES, |raw| raw.get())
                }
                // A modern server is told with each request, and never asks by itself.
                Era::Legacy | Era::Modern => NO_CAPABILITIES,
            };
            let slot = self.inner.slot(capabilities)?;
            let turn = match capabilities {
                NO_CAPABILITIES => None,
                _ => {
                    let _queued = Queued::count(&slot.n_waiting);
                    let turn = timeout_at(request.deadline, slot.exclusive.lock()).await;
                    Some(turn.map_err(|_| UpstreamError::deadline(Sent::No, "its turn"))?)
                }
            };
            let (pipe, _kept) = self.inner.turn(&slot, &request).await?;
            let answered = call::request(&*self.inner, &pipe, version, &request);
            let asking = request.context.events.as_deref().and_then(CallEvents::asking);
            let reply = match asking.filter(|_| turn.is_some()) {
                None => answered.await,
                Some(asking) => tokio::select! {
                    answered = answered => answered,
                    () = slot.gives_way(asking) => {
                        Err(UpstreamError::deadline(Sent::Maybe, "an answer of the caller, while other calls waited"))
                    }
                },
            }?;
            if is_use(&request.method) {
                self.inner.served(&pipe);
            }
            Ok(reply)
        })
    }

    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let changes = self.inner.notices.listen();
        let live = self.inner.slot(NO_CAPABILITIES).ok().and_then(|slot| slot.live());
        if let Some((pipe, runtime)) = live.zip(tokio::runtime::Handle::try_current().ok()) {
            let inner = Arc::clone(&self.inner);
            self.inner.tasks.spawn_on(async move { inner.arm(&pipe).await }, &runtime);
        }
        Some(changes)
    }

    fn watch_resources(&self, uris: Vec<String>, deadline: Instant) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let wanted: BTreeSet<String> = uris.into_iter().take(MAX_WATCHED).collect();
            self.inner.watched().clone_from(&wanted);
            let Ok(slot) = self.inner.slot(NO_CAPABILITIES) else { return Vec::new() };
            if self.is_asleep() && !wanted.is_empty() {
                // Only a process that runs can tell of updates. Starting it arms it.
                let _ = self.inner.pipe(&slot, deadline).await;
            }
            // A process that does not run is told when it starts.
            let Some(pipe) = slot.live() else { return Vec::new() };
            slot.keep(&pipe, !wanted.is_empty());
            let armed = announce::arm(&*self.inner, &pipe, &wanted, deadline).await;
            armed.unwrap_or_else(|error| {
                debug!(%error, "the process does not announce updates");
                Vec::new()
            })
        })
    }

    fn is_asleep(&self) -> bool {
        let Ok(slot) = self.inner.slot(NO_CAPABILITIES) else { return false };
        match slot.current.load_full() {
            Some(pipe) if !pipe.is_closed() => false,
            Some(pipe) => pipe.was_idle() || self.inner.process.start == Start::OnDemand,
            None => self.inner.process.start == Start::OnDemand,
        }
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.inner.stop.cancel();
            self.inner.tasks.close();
            if timeout_at(deadline, self.inner.tasks.wait()).await.is_err() {
                debug!(command = %self.inner.command(), "the process is killed: it did not end in time");
            }
        })
    }
}

/// Whether the caller declared anything a legacy server could ask it for.
fn can_be_asked(context: &CallContext) -> bool {
    let Some(capabilities) = context.capabilities.as_deref().filter(|_| context.events.is_some()) else {
        return false;
    };
    Object::parse(capabilities).is_ok_and(|capabilities| {
        ["elicitation", "roots", "sampling"].iter().any(|name| capabilities.present(name).is_some())
    })
}

fn lost(message: &str) -> UpstreamError {
    UpstreamError::new(CallErrorKind::UpstreamLost, Sent::No, message)
}

// === impl Slot ===

impl<'a> Queued<'a> {
    fn count(n_waiting: &'a AtomicUsize) -> Self {
        n_waiting.fetch_add(1, Ordering::SeqCst);
        Self(n_waiting)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Slot {
    fn new(capabilities: &str) -> Self {
        Self {
            capabilities: Arc::from(capabilities),
            current: ArcSwapOption::empty(),
            starting: tokio::sync::Mutex::new(()),
            exclusive: tokio::sync::Mutex::new(()),
            n_waiting: AtomicUsize::new(0),
            watching: Mutex::new(None),
        }
    }

    /// Ends when the call that has the process should leave it to others: a caller may think for minutes, or never come
    /// back, and only one call at a time can be asked.
    async fn gives_way(&self, asking: &Asking) {
        let mut open_for = Duration::ZERO;
        loop {
            tokio::time::sleep(LOOK).await;
            open_for = if asking.is_open() { open_for + LOOK } else { Duration::ZERO };
            if open_for >= GIVES_WAY && self.n_waiting.load(Ordering::SeqCst) > 0 {
                return;
            }
        }
    }

    fn live(&self) -> Option<Arc<Pipe>> {
        self.current.load_full().filter(|pipe| !pipe.is_closed())
    }

    /// Whether somebody wants to hear what this process announces.
    fn keep(&self, pipe: &Arc<Pipe>, is_watched: bool) {
        let turn = if is_watched { pipe.enter(true) } else { None };
        let before = std::mem::replace(
            &mut *self.watching.lock().expect("nothing panics while it holds this lock"),
            turn,
        );
        drop(before);
    }
}

/// Whether a request uses a server, rather than learns what it offers.
fn is_use(method: &str) -> bool {
    !method.ends_with("/list")
}

// === impl Inner ===

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Host for Inner {
    fn next_id(&self) -> Id {
        Id::Integer(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn found(&self) -> Option<Arc<Found>> {
        self.found.load_full()
    }

    fn forget(&self) {
        self.found.store(None);
    }

    fn works(&self, _: &Pipe) {
        // Judged by what was asked; see [`Inner::served`].
    }
}

impl Inner {
    /// A process has answered a call. Whatever went wrong before is history.
    fn served(&self, pipe: &Pipe) {
        if !pipe.mark_answered() {
            self.restarts().works();
        }
    }

    fn command(&self) -> std::borrow::Cow<'_, str> {
        self.config.command.to_string_lossy()
    }

    async fn version(self: &Arc<Self>, deadline: Instant) -> Result<ProtocolVersion, UpstreamError> {
        if let Some(found) = self.found.load_full() {
            return Ok(found.version);
        }
        let slot = self.slot(NO_CAPABILITIES)?;
        self.pipe(&slot, deadline).await?;
        let found = self.found.load_full();
        found.map(|found| found.version).ok_or_else(|| lost("the process ended while it introduced itself"))
    }

    fn slot(&self, capabilities: &str) -> Result<Arc<Slot>, UpstreamError> {
        if self.stop.is_cancelled() {
            return Err(UpstreamError::new(CallErrorKind::ShuttingDown, Sent::No, "the engine is closing"));
        }
        let mut slots = self.slots.lock().expect("nothing panics while it holds this lock");
        if let Some(slot) = slots.get(capabilities) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= MAX_PROCESSES {
            // Whoever is not at work makes room; the shared process stays.
            let spare =
                slots.iter().find(|(key, slot)| &***key != NO_CAPABILITIES && Arc::strong_count(slot) == 1);
            let Some(key) = spare.map(|(key, _)| Arc::clone(key)) else {
                let message = format!("{MAX_PROCESSES} processes of this server are already at work");
                return Err(UpstreamError::new(CallErrorKind::UpstreamUnreachable, Sent::No, message));
            };
            if let Some(pipe) = slots.remove(&key).and_then(|slot| slot.current.swap(None)) {
                pipe.stop();
            }
        }
        let slot = Arc::new(Slot::new(capabilities));
        slots.insert(Arc::clone(&slot.capabilities), Arc::clone(&slot));
        Ok(slot)
    }

    /// The running process of a slot, kept running for one request.
    async fn turn(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        request: &UpstreamRequest,
    ) -> Result<(Arc<Pipe>, Turn), UpstreamError> {
        for _ in 0..MAX_IDLED {
            let pipe = self.pipe(slot, request.deadline).await?;
            if let Some(turn) = pipe.enter(is_use(&request.method)) {
                return Ok((pipe, turn));
            }
        }
        Err(lost("the process ends as soon as it has started"))
    }

    /// The running process of a slot; started, by one call for all, where there is none. A start goes on when the call
    /// that began it gives up: the next one may have more patience.
    async fn pipe(self: &Arc<Self>, slot: &Arc<Slot>, deadline: Instant) -> Result<Arc<Pipe>, UpstreamError> {
        if let Some(pipe) = slot.live() {
            return Ok(pipe);
        }
        let (started, starting) = oneshot::channel();
        let (inner, slot) = (Arc::clone(self), Arc::clone(slot));
        self.tasks.spawn(async move { inner.provide(&slot, started).await });
        match timeout_at(deadline, starting).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(lost("the process could not be started")),
            Err(_) => Err(UpstreamError::deadline(Sent::No, "the process to start")),
        }
    }

    /// Gives whoever waits the running process of a slot, once it is his turn and if he still waits then.
    async fn provide(&self, slot: &Slot, mut waiting: oneshot::Sender<Result<Arc<Pipe>, UpstreamError>>) {
        let _starting = tokio::select! {
            biased;
            () = waiting.closed() => return,
            starting = slot.starting.lock() => starting,
        };
        let outcome = match slot.live() {
            Some(pipe) => Ok(pipe),
            None => self.restart(slot).await,
        };
        // Whoever has given up in the meantime is not missed: the process runs for the next one.
        let _ = waiting.send(outcome);
    }

    /// Starts the process of a slot, unless it has failed too often lately.
    async fn restart(&self, slot: &Slot) -> Result<Arc<Pipe>, UpstreamError> {
        if let Some(ended) = slot.current.load_full()
            && !ended.has_answered()
            && !ended.was_idle()
        {
            self.restarts().failed(ended.age(), ended.last_words());
            // Counted once.
            slot.current.store(None);
        }
        self.restarts().permit()?;
        let (pipe, _kept) = match self.start(&slot.capabilities, Instant::now() + START_TIMEOUT).await {
            Ok(started) => started,
            Err((error, last_words)) => {
                self.restarts().failed(Duration::ZERO, last_words);
                return Err(error.before_sending());
            }
        };
        if &*slot.capabilities == NO_CAPABILITIES {
            self.arm(&pipe).await;
            slot.keep(&pipe, !self.watched().is_empty());
            if self.restarted.swap(true, Ordering::Relaxed) {
                // What changed with the process went unheard.
                for change in [Change::Tools, Change::Prompts, Change::Resources] {
                    self.notices.announce(&change);
                }
            }
        }
        slot.current.store(Some(Arc::clone(&pipe)));
        Ok(pipe)
    }

    fn restarts(&self) -> std::sync::MutexGuard<'_, Restarts> {
        self.restarts.lock().expect("nothing panics while it holds this lock")
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.watched.lock().expect("nothing panics while it holds this lock")
    }

    /// Has the shared process announce what changes, if anybody wants to hear.
    async fn arm(&self, pipe: &Arc<Pipe>) {
        if !self.notices.has_listeners() {
            return;
        }
        let wanted = self.watched().clone();
        if let Err(error) = announce::arm(self, pipe, &wanted, Instant::now() + ARMING).await {
            debug!(%error, "the process does not announce what changes");
        }
    }

    /// A process that has introduced itself, kept running for now; or why there is none, and its last words.
    async fn start(
        &self,
        capabilities: &str,
        deadline: Instant,
    ) -> Result<(Arc<Pipe>, Option<Turn>), (UpstreamError, String)> {
        let pipe = self.spawn()?;
        // A start that is given up, by error or by drop, ends the process.
        let unfinished = StopOnDrop(Some(Arc::clone(&pipe)));
        let kept = pipe.enter(false);
        let (found, has_heard_both) = match self.greet(&pipe, capabilities, deadline).await {
            Ok(greeted) => greeted,
            Err(error) => {
                // One that was modern may have been replaced by one that is silent: the next is met without prejudice.
                if self.found.load().as_ref().is_some_and(|found| found.version.era() == Era::Modern) {
                    self.found.store(None);
                }
                if matches!(error.kind, CallErrorKind::UpstreamLost | CallErrorKind::UpstreamUnreachable) {
                    pipe.settle().await;
                }
                let last_words = pipe.last_words();
                return Err((pipe.explain(error), last_words));
            }
        };
        if has_heard_both {
            // It was slow to start and got both greetings, and a server of both eras may go by the second. Another process
            // is spoken to as what this one turned out to be, from its first message on.
            self.found.store(Some(Arc::new(found)));
            drop(unfinished);
            let pipe = self.spawn()?;
            let kept = pipe.enter(false);
            return Ok((pipe, kept));
        }
        info!(command = %self.command(), version = %found.version, "upstream introduced itself");
        if self.found.load().as_ref().is_none_or(|known| known.version != found.version) {
            self.found.store(Some(Arc::new(found)));
        }
        unfinished.keep();
        Ok((pipe, kept))
    }

    fn spawn(&self) -> Result<Arc<Pipe>, (UpstreamError, String)> {
        let idleness = Idleness {
            after_use: self.process.idle_stop,
            unused: match self.process.start {
                Start::Eager => self.process.idle_stop,
                Start::OnDemand => Some(UNUSED),
            },
        };
        let stop = self.stop.child_token();
        let spawned = process::spawn(&self.config, idleness, &self.notices, &self.tasks, stop);
        spawned.map_err(|error| (error, String::new()))
    }

    /// Finds out what a new process speaks, and opens the session if it is legacy. Also says whether a modern one has got a
    /// legacy greeting, too.
    async fn greet(
        &self,
        pipe: &Arc<Pipe>,
        capabilities: &str,
        deadline: Instant,
    ) -> Result<(Found, bool), UpstreamError> {
        // A new process may be another version of the program. What a legacy one speaks shows in the handshake it needs
        // anyway; asking it `server/discover` first could mean to wait out its silence. A modern one has answered that.
        let known = self.found.load_full();
        let was_modern = known.as_ref().is_some_and(|found| found.version.era() == Era::Modern);
        let known = known.filter(|_| !was_modern);
        let mut doubts = known.is_some();
        let mut probe = match known {
            Some(found) => Probe::handshake(Carrier::Stdio, found.version, self.pinned),
            None => Probe::new(Carrier::Stdio, self.pinned),
        };
        let mut late: Option<Waiting> = None;
        let mut has_heard_both = false;
        loop {
            let verdict = match probe.step() {
                Step::Discover(version) => {
                    let mut asked = self.discover(pipe, version, deadline).await?;
                    let until = if was_modern { deadline } else { deadline.min(Instant::now() + SILENCE) };
                    let outcome = heard(timeout_at(until, asked.reply()).await)?;
                    if outcome.is_none() {
                        late = Some(asked);
                    }
                    probe.hear(as_heard(outcome.as_ref()))
                }
                Step::Initialize(version) => {
                    let id = self.next_id();
                    let mut asked = pipe.ask(&id, message::initialize(&id, version, capabilities)).await?;
                    match first_of(late.as_mut(), &mut asked, deadline).await? {
                        First::Late(outcome) => {
                            has_heard_both = true;
                            Probe::new(Carrier::Stdio, self.pinned).hear(as_heard(Some(&outcome)))
                        }
                        First::Now(outcome) => probe.hear(as_heard(outcome.as_ref())),
                    }
                }
                Step::OpenEventStream => probe.hear(Heard::Silence),
            };
            match verdict {
                Verdict::Next(_) => {}
                Verdict::Found(found) => {
                    if found.version.era() == Era::Legacy {
                        pipe.tell(encode::notification("notifications/initialized", None)).await?;
                    }
                    return Ok((*found, has_heard_both));
                }
                // It no longer begins the way it did.
                Verdict::Incompatible(_) if std::mem::take(&mut doubts) => {
                    probe = Probe::new(Carrier::Stdio, self.pinned);
                }
                verdict => return Err(verdict_error(verdict)),
            }
        }
    }

    async fn discover(
        &self,
        pipe: &Arc<Pipe>,
        version: ProtocolVersion,
        deadline: Instant,
    ) -> Result<Waiting, UpstreamError> {
        let request = UpstreamRequest {
            method: "server/discover".into(),
            params: None,
            name: None,
            mirrored: Vec::new(),
            context: Arc::new(CallContext::default()),
            deadline,
        };
        let id = self.next_id();
        let listener = super::listener::Listener::new(&request.context, &id);
        pipe.ask(&id, message::modern(version, &id, &request, &listener)).await
    }
}

enum First {
    /// The reply to what was asked now; `None` for silence.
    Now(Option<Outcome>),
    /// A discovery that was given up has been answered after all, and well: the server is slow, not old.
    Late(Outcome),
}

async fn first_of(
    late: Option<&mut Waiting>,
    now: &mut Waiting,
    deadline: Instant,
) -> Result<First, UpstreamError> {
    let Some(late) = late else {
        return Ok(First::Now(heard(timeout_at(deadline, now.reply()).await)?));
    };
    tokio::select! {
        biased;
        Ok(outcome @ Ok(_)) = late.reply() => Ok(First::Late(outcome)),
        reply = timeout_at(deadline, now.reply()) => Ok(First::Now(heard(reply)?)),
    }
}

fn heard(
    reply: Result<Result<Outcome, UpstreamError>, tokio::time::error::Elapsed>,
) -> Result<Option<Outcome>, UpstreamError> {
    reply.ok().transpose()
}

fn as_heard(outcome: Option<&Outcome>) -> Heard<'_> {
    match outcome {
        Some(outcome) => Heard::Reply { status: None, outcome },
        None => Heard::Silence,
    }
}

/// Ends a process whose start was given up.
struct StopOnDrop(Option<Arc<Pipe>>);

impl StopOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(pipe) = &self.0 {
            pipe.stop();
        }
    }
}

#[cfg(test)]
mod tests;
