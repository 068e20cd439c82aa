//! The pool's shell: runs the ledger's actions, owns every task, and turns places into leases.
//!
//! Lock order: the ledger's lock is never held while an action runs, so a lease may be dropped anywhere.

mod connection;
mod ledger;
mod slab;

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::connect::Connector;
use crate::deadline::Timer;
use crate::info::{ConnectionId, ExchangeInfo, OriginSnapshot, PoolSnapshot, Protocol};
use crate::metrics::Labels;
use crate::{Error, ErrorKind, Origin, PoolConfig, h2, http1};
pub(crate) use connection::Registration;
pub(crate) use ledger::ConnectionKey;
use ledger::{Action, Checkout, Grant, Ledger, Limits, OriginKey, Release, Ticket};

/// How to reach an open connection.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Http1(Arc<http1::Link>),
    Http2(Arc<h2::Link>),
}

type Waiter = oneshot::Sender<Result<Lease, Error>>;
type Actions = Vec<Action<Waiter, Link>>;

/// Everything the clones of a pool share.
pub(crate) struct Shared {
    pub(crate) config: PoolConfig,
    connector: Arc<Connector>,
    labels: Labels,
    ledger: Mutex<Ledger<Waiter, Link>>,
    /// One task per connection, and the timekeeper. Dropping the set aborts them all.
    tasks: Mutex<JoinSet<()>>,
    /// The runtime of the first exchange: leases may be dropped outside of any.
    runtime: OnceLock<Handle>,
    alarm: Arc<Alarm>,
    /// Rings when the last connection is gone.
    emptied: Notify,
    /// True once the pool closes; ends the attempts under way.
    is_closing: watch::Sender<bool>,
}

/// A place on a connection: a reserved stream slot, or a whole HTTP/1.1 connection. Dropping it gives it back.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    connection: ConnectionKey,
    pub(crate) link: Link,
    reused: bool,
    /// `None`: the connection's task gives the place back itself.
    release: Option<Release>,
}

/// When the ledger wants to be told the time.
#[derive(Default)]
struct Alarm {
    at: Mutex<Option<Instant>>,
    changed: Notify,
    /// Whether somebody watches already.
    has_keeper: AtomicBool,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: PoolConfig, connector: Connector) -> Arc<Self> {
        let ledger = Ledger::new(Limits::from(&config));
        Arc::new(Self {
            config,
            connector: Arc::new(connector),
            labels: Labels::default(),
            ledger: Mutex::new(ledger),
            tasks: Mutex::default(),
            runtime: OnceLock::new(),
            alarm: Arc::default(),
            emptied: Notify::new(),
            is_closing: watch::Sender::new(false),
        })
    }

    /// A place at `origin`, now or when one is free.
    ///
    /// Dropping the future leaves the queue; a connection being opened is opened all the same, for the others.
    pub(crate) async fn lease(self: &Arc<Self>, origin: &Origin, timer: &mut Timer) -> Result<Lease, Error> {
        self.runtime.get_or_init(Handle::current);
        let mut receiver = None;
        let mut actions = Actions::new();
        let checkout = self.ledger().checkout(
            origin,
            Instant::now(),
            || {
                let (sender, its_receiver) = oneshot::channel();
                receiver = Some(its_receiver);
                sender
            },
            &mut actions,
        );
        self.run(actions, None);
        match checkout {
            Checkout::Granted(grant) => Ok(self.lend(grant)),
            Checkout::Closed => Err(pool_closed()),
            Checkout::Exhausted { connections, waiting } => {
                Err(exhausted(connections, waiting, "no waiting place is left"))
            }
            Checkout::Waiting(key, ticket) => {
                let place = WaitingPlace { shared: self, origin: key, ticket };
                let receiver = receiver.expect("the ledger makes a waiter for every ticket");
                place.wait(receiver, origin, timer).await
            }
        }
    }

    pub(crate) fn snapshot(&self) -> PoolSnapshot {
        self.ledger().snapshot()
    }

    /// Drains until `deadline`, then cuts what is left.
    pub(crate) async fn close(self: &Arc<Self>, deadline: Instant) {
        self.step(None, |ledger, now, out| ledger.close(now, out));
        self.is_closing.send_replace(true);
        let drained = async {
            loop {
                let emptied = self.emptied.notified();
                if self.ledger().n_connections() == 0 {
                    return;
                }
                emptied.await;
            }
        };
        // Whether or not they all have ended: it is over now.
        let _ = timeout_at(deadline, drained).await;
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
    }

    /// One event for the ledger, and what follows from it. `failure` is what waiters that fail are told.
    fn step(
        self: &Arc<Self>,
        failure: Option<&Error>,
        event: impl FnOnce(&mut Ledger<Waiter, Link>, Instant, &mut Actions),
    ) {
        let mut actions = Actions::new();
        event(&mut self.ledger(), Instant::now(), &mut actions);
        self.run(actions, failure);
    }

    fn run(self: &Arc<Self>, actions: Actions, failure: Option<&Error>) {
        for action in actions {
            match action {
                Action::Close(link) => link.close(),
                Action::Connect { origin, connection, http1_only, totals } => {
                    let registration = Registration::new(self, connection, origin, totals);
                    let task = connection::run(registration, Arc::clone(&self.connector), http1_only);
                    self.spawn(task);
                }
                // A receiver that is gone drops the error or the lease, which gives the place back.
                Action::Fail(waiter) => {
                    drop(waiter.send(Err(failure.map_or_else(pool_closed, Error::shared))));
                }
                Action::Grant(waiter, grant) => drop(waiter.send(Ok(self.lend(grant)))),
                Action::Wake(at) => self.wake_at(at),
            }
        }
    }

    fn lend(self: &Arc<Self>, grant: Grant<Link>) -> Lease {
        Lease {
            shared: Arc::clone(self),
            connection: grant.connection,
            link: grant.link,
            reused: grant.reused,
            release: Some(Release::Reusable),
        }
    }

    fn wake_at(self: &Arc<Self>, at: Instant) {
        {
            let mut alarm = self.alarm.at.lock().unwrap_or_else(PoisonError::into_inner);
            // Actions of two events may run in either order. A tick too early costs nothing, and each one looks at
            // everything anew.
            *alarm = Some(alarm.map_or(at, |earlier| earlier.min(at)));
        }
        if !self.alarm.has_keeper.swap(true, Ordering::AcqRel) {
            self.spawn(keep_time(Arc::downgrade(self), Arc::clone(&self.alarm)));
        }
        self.alarm.changed.notify_one();
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.runtime.get().expect("the first exchange has set the runtime");
        let mut tasks = self.tasks();
        // Ended tasks are forgotten here, so the set never holds more than what runs and what ended since.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, runtime);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<Waiter, Link>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

// === impl Link ===

impl Link {
    fn close(&self) {
        match self {
            Self::Http1(link) => link.close(),
            Self::Http2(link) => link.close(),
        }
    }
}

// === impl Lease ===

impl Lease {
    pub(crate) fn info(&self) -> ExchangeInfo {
        let protocol = match self.link {
            Link::Http1(_) => Protocol::Http1,
            Link::Http2(_) => Protocol::Http2,
        };
        ExchangeInfo { protocol, connection: self.connection.id, reused: self.reused }
    }

    /// The connection serves nobody after this: an HTTP/1.1 exchange was cut short.
    pub(crate) fn spend(&mut self) {
        self.release = Some(Release::Spent);
    }

    /// Leaves giving the place back to the connection's task, see [`Registration::released`].
    pub(crate) fn hand_over(mut self) {
        self.release = None;
    }

    /// The peer insists on HTTP/1.1 for this origin.
    pub(crate) fn http1_required(&self, origin: &Origin) {
        self.shared.step(None, |ledger, now, out| ledger.http1_required(origin, now, out));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (connection, Some(release)) = (self.connection, self.release) else { return };
        self.shared.step(None, |ledger, now, out| ledger.released(connection, release, now, out));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("connection", &self.connection.id).finish_non_exhaustive()
    }
}

// === impl WaitingPlace ===

/// A place in the queue; dropping it leaves the queue.
struct WaitingPlace<'a> {
    shared: &'a Arc<Shared>,
    origin: OriginKey,
    ticket: Ticket,
}

impl WaitingPlace<'_> {
    async fn wait(
        self,
        mut receiver: oneshot::Receiver<Result<Lease, Error>>,
        origin: &Origin,
        timer: &mut Timer,
    ) -> Result<Lease, Error> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(served) = Pin::new(&mut receiver).poll(cx) {
                return Poll::Ready(served.unwrap_or_else(|_| Err(pool_closed())));
            }
            timer.poll_expired(cx).map(|()| Err(self.too_late(origin)))
        })
        .await
    }

    fn too_late(&self, origin: &Origin) -> Error {
        let ledger = self.shared.ledger();
        if ledger.is_connecting(self.origin) {
            return Error::unsent(
                ErrorKind::Deadline,
                format!("the deadline passed while connecting to {origin}"),
            );
        }
        exhausted(ledger.n_connections(), ledger.n_waiting(), "no place was free before the deadline")
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let (origin, ticket) = (self.origin, self.ticket);
        self.shared.step(None, |ledger, now, out| ledger.cancelled(origin, ticket, now, out));
    }
}

/// Tells the ledger the time whenever it has asked for it.
async fn keep_time(shared: Weak<Shared>, alarm: Arc<Alarm>) {
    loop {
        let at = *alarm.at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = at else {
            alarm.changed.notified().await;
            continue;
        };
        tokio::select! {
            () = alarm.changed.notified() => continue,
            () = sleep_until(at) => {}
        }
        *alarm.at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Some(shared) = shared.upgrade() else { return };
        shared.step(None, |ledger, now, out| ledger.tick(now, out));
    }
}

fn pool_closed() -> Error {
    Error::unsent(ErrorKind::PoolClosed, "the pool is closed")
}

fn exhausted(connections: usize, waiting: usize, why: &str) -> Error {
    let message = format!("pool exhausted: {connections} connections, {waiting} waiting; {why}");
    Error::unsent(ErrorKind::PoolExhausted, message)
}
