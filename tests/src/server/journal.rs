//! What a scripted server saw.

use std::sync::Mutex;

use http::HeaderMap;
use tokio::sync::Notify;

use crate::PATIENCE;

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The connection it came on, counted from 1.
    pub connection: usize,
    /// The MCP method; empty for a request that is no message.
    pub method: String,
    /// The tool, for `tools/call`.
    pub tool: Option<String>,
    /// The arguments as they were written, for `tools/call`.
    pub arguments: Option<String>,
    /// The whole `params` as they were written.
    pub params: Option<String>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered.
    Answered,
    /// The caller went away, or the connection did, before there was an answer.
    Dropped,
    /// It is under way.
    Open,
}

/// Every exchange, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Mutex<Vec<Exchange>>,
    changed: Notify,
}

/// An exchange under way; dropped without [`Entry::answered`], the exchange counts as dropped.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    journal: &'a Journal,
    index: usize,
    fate: Fate,
}

impl Journal {
    pub(super) fn all(&self) -> Vec<Exchange> {
        self.entries.lock().expect("no panic under the lock").clone()
    }

    pub(super) fn begin(&self, exchange: Exchange) -> Entry<'_> {
        let mut entries = self.entries.lock().expect("no panic under the lock");
        entries.push(exchange);
        let index = entries.len() - 1;
        drop(entries);
        self.changed.notify_waiters();
        Entry { journal: self, index, fate: Fate::Dropped }
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&[Exchange]) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Registered before looking: a change between the look and the wait would be missed otherwise.
                changed.as_mut().enable();
                if holds(&self.all()) {
                    return;
                }
                changed.await;
            }
        });
        if waited.await.is_err() {
            panic!("the server never saw this: {what}; it saw {:#?}", self.all());
        }
    }
}

impl Entry<'_> {
    pub(super) fn answered(mut self) {
        self.fate = Fate::Answered;
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Ok(mut entries) = self.journal.entries.lock() {
            entries[self.index].fate = self.fate;
        }
        self.journal.changed.notify_waiters();
    }
}
