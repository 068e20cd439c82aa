//! What all conversations share: the parts that change, and who has to be told.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Which eras the reference server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eras {
    /// All of them.
    Both,
    /// Those with a handshake, to 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// The era of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

/// Something changed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Prompts,
    Resource(&'static str),
    Tools,
}

/// Everything shared.
pub(crate) struct World {
    pub(crate) eras: Eras,
    log: Option<PathBuf>,
    next: AtomicU64,
    revision: AtomicU64,
    has_dynamic_tool: AtomicBool,
    has_dynamic_prompt: AtomicBool,
    changes: broadcast::Sender<Change>,
    /// Calls of `x_wait` that ended before their time.
    n_cancelled: AtomicU64,
    /// What `requestState`s of ours stand for. Whatever is not in here was not handed out by us.
    states: Mutex<HashMap<String, Value>>,
}

/// The resource that changes.
pub(crate) const WATCHED: &str = "test://watched-resource";

/// States kept, at most; a run of the suite makes a few dozen.
const MAX_STATES: usize = 10_000;

impl Eras {
    /// The eras of a name: `both`, `legacy` or `modern`.
    ///
    /// # Errors
    /// A sentence that repeats the name.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "both" => Ok(Self::Both),
            "legacy" => Ok(Self::Legacy),
            "modern" => Ok(Self::Modern),
            other => Err(format!("no era {other}")),
        }
    }

    pub(crate) fn has(self, era: Era) -> bool {
        match self {
            Self::Both => true,
            Self::Legacy => era == Era::Legacy,
            Self::Modern => era == Era::Modern,
        }
    }
}

impl World {
    pub(crate) fn new(eras: Eras, log: Option<PathBuf>) -> Self {
        Self {
            eras,
            log,
            next: AtomicU64::new(1),
            revision: AtomicU64::new(1),
            has_dynamic_tool: AtomicBool::new(true),
            has_dynamic_prompt: AtomicBool::new(true),
            changes: broadcast::Sender::new(256),
            n_cancelled: AtomicU64::new(0),
            states: Mutex::default(),
        }
    }

    /// A number nobody had before.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes one received message down.
    pub(crate) fn note(&self, message: &Value) {
        let Some(file) = &self.log else { return };
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
        // A log that cannot be written shows in the run that wants to read it.
        let _ = opened.and_then(|mut file| writeln!(file, "{message}"));
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    pub(crate) fn has_dynamic_tool(&self) -> bool {
        self.has_dynamic_tool.load(Ordering::SeqCst)
    }

    pub(crate) fn has_dynamic_prompt(&self) -> bool {
        self.has_dynamic_prompt.load(Ordering::SeqCst)
    }

    pub(crate) fn toggle_tool(&self) {
        self.has_dynamic_tool.fetch_xor(true, Ordering::SeqCst);
        self.tell(Change::Tools);
    }

    pub(crate) fn toggle_prompt(&self) {
        self.has_dynamic_prompt.fetch_xor(true, Ordering::SeqCst);
        self.tell(Change::Prompts);
    }

    pub(crate) fn touch(&self) {
        self.revision.fetch_add(1, Ordering::SeqCst);
        self.tell(Change::Resource(WATCHED));
    }

    fn tell(&self, change: Change) {
        // Nobody may be listening.
        let _ = self.changes.send(change);
    }

    pub(crate) fn n_cancelled(&self) -> u64 {
        self.n_cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn count_cancelled(&self) {
        self.n_cancelled.fetch_add(1, Ordering::SeqCst);
    }

    /// A state to hand out.
    pub(crate) fn remember(&self, state: Value) -> String {
        let mut states = self.states();
        if states.len() >= MAX_STATES {
            states.clear();
        }
        let token = format!("state-{}-{}", self.number(), std::process::id());
        states.insert(token.clone(), state);
        token
    }

    /// What a state handed out before stands for.
    pub(crate) fn recall(&self, token: &str) -> Option<Value> {
        self.states().get(token).cloned()
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        self.states.lock().expect("nothing panics under the lock")
    }
}

impl Change {
    /// The notification, with the id of the subscription it belongs to, in the modern era.
    pub(crate) fn notification(&self, subscription: Option<&Value>) -> Value {
        let method = match self {
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resource(_) => "notifications/resources/updated",
            Self::Tools => "notifications/tools/list_changed",
        };
        let mut params = json!({});
        if let Self::Resource(uri) = self {
            params["uri"] = json!(uri);
        }
        if let Some(id) = subscription {
            params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": id });
        }
        json!({ "jsonrpc": "2.0", "method": method, "params": params })
    }
}
