//! The process behind a pipe.

use std::sync::Arc;
use std::time::Duration;

use mpe_transport::ErrorKind;
use mpe_transport::stdio::{LineReader, StdioConfig, StdioProcess};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::pipe::{Idleness, Pipe, Writer};
use super::super::{Notices, UpstreamError};

/// How long a process may take to end after its input was closed, and again after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the explanation of a process that has closed its output is waited for: all of it when something that it has
/// left behind holds its standard error.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Starts a process; its pipe is read until it ends, or has been idle for too long.
pub(super) fn spawn(
    config: &StdioConfig,
    idleness: Idleness,
    notices: &Arc<Notices>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<Arc<Pipe>, UpstreamError> {
    let (process, writer, reader) = StdioProcess::spawn(config)?;
    let pipe = Pipe::new(Writer::Lines(writer), notices, tasks, stop);
    tasks.spawn(run(Arc::clone(&pipe), reader, process, idleness));
    Ok(pipe)
}

/// Reads what the process writes until it ends or shall end.
async fn run(pipe: Arc<Pipe>, mut reader: LineReader, mut process: StdioProcess, idleness: Idleness) {
    let idle = pipe.idle(idleness);
    tokio::pin!(idle);
    let why = loop {
        let line = tokio::select! {
            biased;
            () = pipe.stopping().cancelled() => break "the process was stopped",
            line = reader.next() => line,
            () = &mut idle => break "the process was stopped: nobody used it",
        };
        match line {
            Some(Ok(line)) => pipe.hear(&line),
            Some(Err(error)) if error.kind() == ErrorKind::TooLarge => pipe.unreadable(error),
            Some(Err(_)) | None => break "the process ended",
        }
    };
    // A moment for its last words to arrive, which explain why it ended.
    if !pipe.stopping().is_cancelled() && !pipe.was_idle() {
        let silent = async {
            let _ = process.exited().await;
            process.stderr_ended().await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, silent).await;
    }
    pipe.shut(why, &process.stderr_tail()).await;
    process.end(PATIENCE).await;
}
