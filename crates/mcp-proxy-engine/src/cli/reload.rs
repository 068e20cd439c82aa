//! Taking up a changed configuration without dropping a call: on SIGHUP, and when the file changes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mcp_proxy_engine::McpProxyEngine;
use mcp_proxy_engine::config::{ConfigError, Source};
use tokio::time::MissedTickBehavior;

use super::output;

/// How often the file is looked at. An editor's several writes usually fall into one look.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one state of a file from another.
type Fingerprint = Option<(SystemTime, u64)>;

/// Watches `file` for as long as the future is polled. A configuration with problems changes nothing.
///
/// `adjust` does to each configuration what the command line did to the first.
pub(crate) async fn watch(engine: McpProxyEngine, file: PathBuf, adjust: impl Fn(&mut Source)) {
    let mut hangups = Hangups::new();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = fingerprint(&file).await;
    loop {
        tokio::select! {
            () = hangups.next() => {}
            _ = looks.tick() => {
                let now = fingerprint(&file).await;
                // A file that is gone is one being replaced, most likely; it is read when it is back.
                if now.is_none() || now == seen {
                    continue;
                }
            }
        }
        seen = fingerprint(&file).await;
        match reload(&engine, &file, &adjust) {
            Ok(later) => {
                output::note(&format!("{}: taken up", file.display()));
                for key in later {
                    output::note(&format!("note: `{key}` takes effect at the next start"));
                }
            }
            Err(problems) => {
                output::error(&problems);
                output::note(&format!("{}: not taken up; the engine goes on as before", file.display()));
            }
        }
    }
}

fn reload(
    engine: &McpProxyEngine,
    file: &Path,
    adjust: &impl Fn(&mut Source),
) -> Result<Vec<&'static str>, String> {
    let told = |error: ConfigError| error.to_string();
    let mut source = Source::open(file).map_err(told)?;
    adjust(&mut source);
    engine.apply(source).map_err(|error| super::exit::chain(&error))
}

async fn fingerprint(file: &Path) -> Fingerprint {
    let file = file.to_owned();
    let metadata = tokio::task::spawn_blocking(move || std::fs::metadata(file)).await.ok()?.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// SIGHUPs, where there is such a thing.
struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            signals: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
