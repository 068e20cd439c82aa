//! Endpoints that come into being when somebody asks for them, and go when nobody does any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::fleet::{Fleet, retire_tenant};
use crate::tenant::Tenant;
use crate::{EndpointConfig, EndpointId};

/// Makes the configuration of endpoints that are not configured by name.
pub trait EndpointSource: Send + Sync {
    /// The endpoint's configuration, of that very id; `None`: there is no such endpoint. Asked on the request path: must be
    /// quick and do no IO. Asked again on every [`Engine::apply`](crate::Engine::apply).
    fn endpoint(&self, id: &EndpointId) -> Option<EndpointConfig>;
}

/// What endpoints that come and go may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LazyLimits {
    /// Endpoints of the source at once. One more takes the place of the one that has been idle the longest. Default:
    /// 10 000.
    pub max_endpoints: usize,
    /// How long an endpoint lives after its last use. Default: 10 minutes.
    pub idle: Duration,
}

impl Default for LazyLimits {
    fn default() -> Self {
        Self { max_endpoints: 10_000, idle: Duration::from_secs(600) }
    }
}

/// A source and its limits.
#[derive(Clone)]
pub(crate) struct Lazy {
    pub(crate) source: Arc<dyn EndpointSource>,
    pub(crate) limits: LazyLimits,
}

impl Fleet {
    /// The endpoint, made now if the source knows it.
    pub(crate) fn tenant(&self, id: &EndpointId) -> Option<Arc<Tenant>> {
        if let Some(tenant) = self.existing(id) {
            tenant.touch_use();
            return Some(tenant);
        }
        let lazy = self.lazy.as_ref()?;
        let config = lazy.source.endpoint(id)?;
        let _applying = self.applying();
        // Somebody else may have made it while we waited for our turn.
        if let Some(tenant) = self.existing(id) {
            return Some(tenant);
        }
        if config.id != *id || self.is_closing() {
            return None;
        }
        if !self.has_room(lazy.limits.max_endpoints) {
            self.make_room()?;
        }
        let tenant = match self.start_tenant(config) {
            Ok(tenant) => tenant,
            Err(error) => {
                warn!(endpoint = %id, %error, "the endpoint's source gives a configuration that cannot work");
                return None;
            }
        };
        tenant.set_lazy();
        self.tenants_mut().insert(id.clone(), Arc::clone(&tenant));
        info!(endpoint = %id, "endpoint made on demand");
        Some(tenant)
    }

    /// Ends endpoints that have been idle for too long.
    pub(crate) fn retire_idle(&self) {
        let Some(lazy) = &self.lazy else { return };
        let _applying = self.applying();
        let is_idle = |tenant: &Arc<Tenant>| tenant.is_idle_for(lazy.limits.idle);
        let mut idle = Vec::new();
        self.tenants_mut().retain(|_, tenant| {
            let retires = is_idle(tenant);
            if retires {
                idle.push(Arc::clone(tenant));
            }
            !retires
        });
        for tenant in idle {
            info!(endpoint = %tenant.id, "idle endpoint retired");
            self.tasks().spawn(retire_tenant(tenant));
        }
    }

    /// Looks for idle endpoints now and then, as long as the fleet lives.
    pub(crate) fn watch_idleness(self: &Arc<Self>) {
        let Some(lazy) = &self.lazy else { return };
        let (pause, fleet) = (lazy.limits.idle / 4, Arc::downgrade(self));
        let ended = self.ended.clone();
        self.tasks().spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(pause.max(Duration::from_millis(10))) => {}
                    () = ended.cancelled() => return,
                }
                let Some(fleet) = fleet.upgrade() else { return };
                fleet.retire_idle();
            }
        });
    }

    fn has_room(&self, max: usize) -> bool {
        let tenants = self.tenants_mut();
        tenants.len() < max || tenants.values().filter(|tenant| tenant.is_lazy()).count() < max
    }

    /// Takes out the endpoint on demand that has been idle the longest. `None`: all of them are in use.
    fn make_room(&self) -> Option<()> {
        let mut tenants = self.tenants_mut();
        let unused = tenants.values().filter(|tenant| tenant.is_lazy() && tenant.calls.is_empty());
        let oldest = unused.max_by_key(|tenant| tenant.idle_time())?.id.clone();
        let displaced = tenants.remove(&oldest)?;
        drop(tenants);
        info!(endpoint = %displaced.id, "endpoint displaced by a newer one");
        self.tasks().spawn(retire_tenant(displaced));
        Some(())
    }
}
