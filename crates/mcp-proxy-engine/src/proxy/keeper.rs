//! The last good catalogues in files, one an endpoint, so that a later run can begin with them.
//!
//! 1. At the start each configured endpoint's file is read. One that cannot be used is a warning, not a failure.
//! 2. While the engine runs, what has changed since the last look is written; changes between two looks share one writing.
//! 3. At the end what has changed since then is written too.
//!
//! Endpoints made on demand are not kept: their names are their callers' choice, and so would be the number of files.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mpe_engine::{EndpointId, Engine, Memory};
use sha2::{Digest, Sha256};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::files;

/// Where catalogues are kept.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

/// What was read or written last, by endpoint.
#[derive(Debug, Default)]
pub(super) struct Kept(HashMap<EndpointId, Standing>);

/// How an endpoint's file stands.
#[derive(Debug, Default)]
struct Standing {
    /// The revision of the catalogue that was looked at last, once its file holds it.
    revision: Option<String>,
    /// The digest of what the file holds; `None` while that is nothing of use.
    content: Option<[u8; 32]>,
    /// Writing failed last time, and that has been said.
    is_failing: bool,
}

/// Keeps the catalogues of an engine until it is dropped or finished.
pub(super) struct Keeper {
    writer: Arc<Writer>,
    /// Ends the looks between two of them: one writing is never cut short for the next to meet it.
    stop: CancellationToken,
}

struct Writer {
    store: Store,
    engine: Engine,
    endpoints: Mutex<Vec<EndpointId>>,
    /// Held while files are written: a look and the end never write at once.
    kept: tokio::sync::Mutex<Kept>,
}

/// How often catalogues are looked at. What changes meanwhile is lost if the process is killed.
const LOOK: Duration = Duration::from_secs(2);

/// Bytes of a file, at most: about 60,000 tools of one kibibyte each.
const LARGEST: u64 = 64 << 20;

/// How long the last writing may take. A disk that hangs must not keep the process.
const FAREWELL: Duration = Duration::from_secs(5);

// === impl Store ===

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file of an endpoint: its name for people, a digest of it for file systems that do not tell `a` from `A`.
    fn file(&self, endpoint: &EndpointId) -> PathBuf {
        let digest = format!("{:x}", Sha256::digest(endpoint.as_str().as_bytes()));
        let name: String = endpoint
            .as_str()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '_' })
            .take(64)
            .collect();
        self.folder.join(format!("catalogue-{name}-{}.json", &digest[..8]))
    }

    /// What earlier runs kept of these endpoints.
    ///
    /// # Cancel safety
    /// Reading changes nothing.
    pub(super) async fn read(&self, endpoints: &[EndpointId]) -> (Vec<(EndpointId, Memory)>, Kept) {
        let (mut memories, mut kept) = (Vec::new(), Kept::default());
        for endpoint in endpoints {
            let file = self.file(endpoint);
            match files::blocking(move || read(&file)).await {
                Ok(None) => {}
                Ok(Some(memory)) => {
                    let content = Some(digest(&memory.to_bytes()));
                    kept.0.insert(endpoint.clone(), Standing { content, ..Standing::default() });
                    memories.push((endpoint.clone(), memory));
                }
                Err(reason) => warn!(
                    %endpoint,
                    file = %self.file(endpoint).display(),
                    reason,
                    "the kept catalogue cannot be used; the endpoint begins without it, and the next one replaces it"
                ),
            }
        }
        (memories, kept)
    }
}

/// `None`: there is no such file.
fn read(file: &Path) -> Result<Option<Memory>, String> {
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // Opening a pipe would wait for somebody to write to it.
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).map_err(|error| error.to_string())?;
    open.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it has more than {LARGEST} bytes"));
    }
    Memory::parse(&bytes).map(Some).map_err(|error| error.message)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

// === impl Keeper ===

impl Keeper {
    /// Begins to look after the catalogues of `endpoints`. `kept` is what was read of them.
    pub(super) fn start(store: Store, kept: Kept, engine: Engine, endpoints: Vec<EndpointId>) -> Self {
        let endpoints = Mutex::new(endpoints);
        let kept = tokio::sync::Mutex::new(kept);
        let writer = Arc::new(Writer { store, engine, endpoints, kept });
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&writer).look_until(stop.clone()));
        Self { writer, stop }
    }

    /// Looks after these endpoints from now on. The files of others stay, in case they come back.
    pub(super) fn replace(&self, endpoints: Vec<EndpointId>) {
        *self.writer.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = endpoints;
    }

    /// Writes what has changed since the last look, and looks no more.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the last change unwritten; a file is whole in any case.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        if timeout(FAREWELL, self.writer.look()).await.is_err() {
            warn!(folder = %self.writer.store.folder.display(), "the catalogues could not be kept in time");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

// === impl Writer ===

impl Writer {
    async fn look_until(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            self.look().await;
        }
    }

    async fn look(&self) {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut kept = self.kept.lock().await;
        for endpoint in endpoints {
            let standing = kept.0.entry(endpoint.clone()).or_default();
            self.keep(&endpoint, standing).await;
        }
    }

    async fn keep(&self, endpoint: &EndpointId, standing: &mut Standing) {
        let Some(snapshot) = self.engine.snapshot(endpoint) else { return };
        let revision = snapshot.catalogue.revision();
        if standing.revision.as_deref() == Some(revision) {
            return;
        }
        let (file, before) = (self.store.file(endpoint), standing.content);
        let (engine, id) = (self.engine.clone(), endpoint.clone());
        // A large catalogue takes a while to copy and to write out.
        let writing = move || engine.memory(&id).map_or(Ok(before), |memory| write(&file, &memory, before));
        match files::blocking(writing).await {
            Ok(content) => {
                debug!(%endpoint, revision, "catalogue kept");
                let revision = Some(revision.to_owned());
                *standing = Standing { revision, content, is_failing: false };
            }
            Err(reason) if standing.is_failing => debug!(%endpoint, reason, "catalogue still cannot be kept"),
            Err(reason) => {
                let file = self.store.file(endpoint);
                warn!(%endpoint, file = %file.display(), reason, "the catalogue cannot be kept");
                standing.is_failing = true;
            }
        }
    }
}

/// Puts a memory into its file unless that holds it already; `before` is the digest of what it holds. Blocks.
fn write(file: &Path, memory: &Memory, before: Option<[u8; 32]>) -> Result<Option<[u8; 32]>, String> {
    // Nothing known yet is no reason to forget, or to leave an empty file.
    if memory.is_empty() && before.is_none() {
        return Ok(None);
    }
    let bytes = memory.to_bytes();
    let content = Some(digest(&bytes));
    if content == before {
        return Ok(content);
    }
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it has {} bytes, more than the {LARGEST} that one file may have", bytes.len()));
    }
    let folder = file.parent().expect("a file of ours lies in a folder");
    files::make_folder(folder)
        .and_then(|()| files::replace(file, &bytes))
        .map_err(|error| error.to_string())?;
    Ok(content)
}

#[cfg(test)]
mod tests;
