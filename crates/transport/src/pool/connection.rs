//! One task per connection: connect, then drive until it ends. Whatever ends it, the ledger is told.

use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::ledger::{Release, Up};
use super::{ConnectionKey, Link, Shared};
use crate::connect::{Connected, Connector};
use crate::info::ConnectTimes;
use crate::metrics::{self, Meter, Totals};
use crate::{Error, ErrorKind, Origin, PoolConfig, Protocol, h2, http1};

/// A connection's entry in the ledger. Dropping it says that the connection is gone.
pub(crate) struct Registration {
    /// Weak: connections must not keep the pool alive that owns them.
    shared: Weak<Shared>,
    key: ConnectionKey,
    origin: Origin,
    config: PoolConfig,
    label: Arc<str>,
    totals: Arc<Totals>,
    times: ConnectTimes,
    failure: Option<Error>,
    is_closing: watch::Receiver<bool>,
}

impl Registration {
    pub(super) fn new(shared: &Arc<Shared>, key: ConnectionKey, origin: Origin, totals: Arc<Totals>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            key,
            config: shared.config.clone(),
            label: shared.labels.of(&origin),
            totals,
            times: ConnectTimes::default(),
            failure: None,
            is_closing: shared.is_closing.subscribe(),
            origin,
        }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// What the connection counts into. Made once it is open.
    pub(crate) fn meter(&self, protocol: Protocol) -> Arc<Meter> {
        Arc::new(Meter::new(Arc::clone(&self.label), protocol, self.times, Arc::clone(&self.totals)))
    }

    async fn connect(&mut self, connector: &Connector, http1_only: bool) -> Result<Connected, Error> {
        let limit = self.config.connect_timeout;
        tokio::select! {
            connected = timeout(limit, connector.connect(&self.origin, http1_only)) => connected.unwrap_or_else(|_| {
                let message = format!("connecting to {} took longer than {limit:?}", self.origin);
                Err(Error::unsent(ErrorKind::Connect, message))
            }),
            // Those who waited for it have been told already. The sender lives as long as the pool.
            _ = self.is_closing.wait_for(|is_closing| *is_closing) => Err(super::pool_closed()),
        }
    }

    pub(crate) fn connected(&self, link: Link, protocol: Protocol, capacity: usize) {
        debug!(origin = %self.origin, connection = self.key.id.0, ?protocol, capacity, "connected");
        if let Some(shared) = self.shared.upgrade() {
            let up = Up { link, protocol, capacity, times: self.times };
            shared.step(None, |ledger, now, out| ledger.connected(self.key, up, now, out));
        }
    }

    pub(crate) fn capacity_changed(&self, capacity: usize) {
        debug!(origin = %self.origin, connection = self.key.id.0, capacity, "stream capacity changed");
        if let Some(shared) = self.shared.upgrade() {
            shared.step(None, |ledger, now, out| ledger.capacity_changed(self.key, capacity, now, out));
        }
    }

    /// Gives back the place of a lease that was handed over.
    pub(crate) fn released(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.step(None, |ledger, now, out| ledger.released(self.key, Release::Reusable, now, out));
        }
    }

    pub(crate) fn going_away(&self) {
        debug!(origin = %self.origin, connection = self.key.id.0, "connection draining");
        if let Some(shared) = self.shared.upgrade() {
            shared.step(None, |ledger, now, out| ledger.going_away(self.key, now, out));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        debug!(origin = %self.origin, connection = self.key.id.0, "connection gone");
        let Some(shared) = self.shared.upgrade() else { return };
        shared.step(self.failure.as_ref(), |ledger, now, out| ledger.closed(self.key, now, out));
        if shared.ledger().n_connections() == 0 {
            shared.emptied.notify_waiters();
        }
    }
}

pub(super) async fn run(mut registration: Registration, connector: Arc<Connector>, http1_only: bool) {
    let ended = match registration.connect(&connector, http1_only).await {
        Err(error) => Err(error),
        Ok(Connected { stream, protocol, times }) => {
            registration.times = times;
            match protocol {
                Protocol::Http2 => h2::drive(&registration, stream).await,
                Protocol::Http1 => http1::drive(&registration, stream).await,
            }
        }
    };
    if let Err(error) = ended {
        debug!(origin = %registration.origin, %error, "connection attempt failed");
        metrics::connect_failed(Arc::clone(&registration.label), &error);
        registration.failure = Some(error);
    }
}
