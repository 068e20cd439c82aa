//! Changes a server announces, on whichever stream they come.

use std::sync::Mutex;

use mpe_mcp_protocol::object::Object;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::Change;

/// Changes nobody has read yet, at most. Beyond, a receiver has one of each kind waiting anyway.
const MAX_WAITING: usize = 64;

/// Hands announcements to whoever listens.
#[derive(Debug, Default)]
pub(super) struct Notices {
    listeners: Mutex<Vec<mpsc::Sender<Change>>>,
}

impl Notices {
    /// A new listener. It is forgotten when its receiver is dropped.
    pub(super) fn listen(&self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let mut listeners = self.listeners.lock().expect("nothing panics while it holds this lock");
        listeners.retain(|listener| !listener.is_closed());
        listeners.push(sender);
        receiver
    }

    /// Whether the notification is an announcement. If so, every listener has been told.
    pub(super) fn hear(&self, method: &str, params: Option<&RawValue>) -> bool {
        let change = match method {
            "notifications/prompts/list_changed" => Change::Prompts,
            "notifications/resources/list_changed" => Change::Resources,
            "notifications/tools/list_changed" => Change::Tools,
            "notifications/resources/updated" => match updated(params) {
                Some(uri) => Change::Resource(uri),
                None => return true,
            },
            _ => return false,
        };
        self.announce(&change);
        true
    }

    /// Tells every listener.
    pub(super) fn announce(&self, change: &Change) {
        let mut listeners = self.listeners.lock().expect("nothing panics while it holds this lock");
        // A full queue already holds news; one more of the same would not be news.
        listeners.retain(|listener| {
            !matches!(listener.try_send(change.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
    }

    /// Whether anybody listens.
    pub(super) fn has_listeners(&self) -> bool {
        let mut listeners = self.listeners.lock().expect("nothing panics while it holds this lock");
        listeners.retain(|listener| !listener.is_closed());
        !listeners.is_empty()
    }
}

fn updated(params: Option<&RawValue>) -> Option<String> {
    Object::parse(params?).ok()?.string("uri").ok()?.map(Into::into)
}
