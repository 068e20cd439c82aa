//! Asks a server to announce what changes. Announcements come on the one pipe; nothing waits for them here.

use std::collections::BTreeSet;
use std::sync::Arc;

use mpe_mcp_protocol::jsonrpc::encode;
use mpe_mcp_protocol::object::raw_of;
use mpe_mcp_protocol::probe::Found;
use mpe_mcp_protocol::version::Era;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::super::listener::Listener;
use super::super::subscription::{agreed_resources, filter};
use super::super::{UpstreamError, UpstreamRequest, message};
use super::{Aside, Host, Pipe, Waiting};
use crate::CallContext;

/// What a server has been asked to announce. Dropping it ends that.
#[derive(Default)]
pub(in crate::upstream) struct Announcing {
    /// The open `subscriptions/listen` of a modern server.
    listen: Option<Waiting>,
    /// What a legacy server has agreed to.
    subscribed: BTreeSet<String>,
}

/// Has a server announce list changes and updates of exactly these resources; returns those it has agreed to.
pub(in crate::upstream) async fn arm(
    host: &dyn Host,
    pipe: &Arc<Pipe>,
    wanted: &BTreeSet<String>,
    deadline: Instant,
) -> Result<Vec<String>, UpstreamError> {
    let Some(found) = host.found() else { return Ok(Vec::new()) };
    let lock = timeout_at(deadline, pipe.announcing.lock()).await;
    let mut announcing = lock.map_err(|_| UpstreamError::deadline(mpe_transport::Sent::No, "its turn"))?;
    match found.version.era() {
        Era::Modern => arm_modern(host, pipe, &found, wanted, &mut announcing, deadline).await,
        Era::Legacy => arm_legacy(host, pipe, &found, wanted, &mut announcing, deadline).await,
    }
}

async fn arm_modern(
    host: &dyn Host,
    pipe: &Arc<Pipe>,
    found: &Found,
    wanted: &BTreeSet<String>,
    announcing: &mut Announcing,
    deadline: Instant,
) -> Result<Vec<String>, UpstreamError> {
    let filter = filter(found, wanted);
    if filter.as_object().is_some_and(serde_json::Map::is_empty) {
        announcing.listen = None;
        return Ok(Vec::new());
    }
    let request = UpstreamRequest {
        method: "subscriptions/listen".into(),
        params: Some(raw_of(&json!({ "notifications": filter }))),
        name: None,
        mirrored: Vec::new(),
        context: Arc::new(CallContext::default()),
        deadline,
    };
    let id = host.next_id();
    let listener = Listener::new(&request.context, &id);
    let line = message::modern(found.version, &id, &request, &listener);
    let mut waiting = pipe.listen(&id, line).await?;
    let mut asides = waiting.take_asides();
    let acknowledged = async {
        loop {
            tokio::select! {
                biased;
                aside = asides.recv() => match aside {
                    Some(Aside::Notification { params, .. }) => {
                        return Ok::<_, UpstreamError>(params.as_deref().and_then(agreed_resources).unwrap_or_default());
                    }
                    Some(Aside::Request { .. }) => {}
                    None => return Ok(Vec::new()),
                },
                outcome = waiting.reply() => match outcome? {
                    // It has nothing to announce, or does not know how.
                    Ok(_) | Err(_) => return Ok(Vec::new()),
                },
            }
        }
    };
    let armed = timeout_at(deadline, acknowledged).await;
    let armed = armed.map_err(|_| UpstreamError::protocol("the server does not acknowledge"))??;
    // The wider listen stands before the narrower one ends.
    announcing.listen = Some(waiting);
    Ok(armed)
}

async fn arm_legacy(
    host: &dyn Host,
    pipe: &Arc<Pipe>,
    found: &Found,
    wanted: &BTreeSet<String>,
    announcing: &mut Announcing,
    deadline: Instant,
) -> Result<Vec<String>, UpstreamError> {
    if !found.server.declares("resources", "subscribe") {
        return Ok(Vec::new());
    }
    for uri in announcing.subscribed.difference(wanted).cloned().collect::<Vec<_>>() {
        if subscribe(host, pipe, "resources/unsubscribe", &uri, deadline).await {
            announcing.subscribed.remove(&uri);
        }
    }
    for uri in wanted {
        if !announcing.subscribed.contains(uri)
            && subscribe(host, pipe, "resources/subscribe", uri, deadline).await
        {
            announcing.subscribed.insert(uri.clone());
        }
    }
    Ok(announcing.subscribed.intersection(wanted).cloned().collect())
}

async fn subscribe(host: &dyn Host, pipe: &Arc<Pipe>, method: &str, uri: &str, deadline: Instant) -> bool {
    let id = host.next_id();
    let line = encode::request(&id, method, Some(&raw_of(&json!({ "uri": uri }))));
    let asked = async { pipe.ask(&id, line).await?.reply().await };
    match timeout_at(deadline, asked).await {
        Ok(Ok(Ok(_))) => true,
        Ok(Ok(Err(_))) | Err(_) => false,
        Ok(Err(error)) => {
            debug!(%error, uri, method, "the server did not agree");
            false
        }
    }
}
