//! The process: started in a group of its own, ended with everything it has started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::lines::{self, LineReader, LineWriter};
use super::tail::Tail;
use crate::{Error, ErrorKind};

/// What to start, and what it may use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StdioConfig {
    /// The program: a path, or a name looked up in `PATH`.
    pub command: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables of its environment, over those inherited.
    pub env: Vec<(OsString, OsString)>,
    /// What it inherits of our environment. Default: the basics, so that our secrets do not become its own.
    pub inherit_env: InheritEnv,
    /// Its working directory. Default: ours.
    pub cwd: Option<PathBuf>,
    /// Bytes of one line it writes, at most. A longer one is skipped and reported. Default: 16 MiB.
    pub max_line_bytes: usize,
    /// Bytes of its standard error that are kept, the newest. Default: 64 KiB.
    pub stderr_bytes: usize,
}

/// How much of our environment a child sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InheritEnv {
    /// Everything.
    All,
    /// What programs need to find their way: `HOME`, `LANG`, `LOGNAME`, `PATH`, `SHELL`, `TERM`, `TMPDIR`, `USER`, and
    /// on Windows what its programs need to start at all.
    #[default]
    Basics,
    /// Nothing.
    Nothing,
}

/// A running process. Dropping it ends the process and everything that it has started.
///
/// On Unix the process leads a group of its own and the whole group is killed; elsewhere the process alone.
#[derive(Debug)]
pub struct StdioProcess {
    child: Child,
    stderr: Tail,
    /// Writes its input.
    _writing: JoinSet<()>,
    /// Reads its standard error.
    reading: JoinSet<()>,
    is_group_gone: bool,
}

// === impl StdioConfig ===

impl StdioConfig {
    /// `command` without arguments, in our working directory.
    pub fn new(command: impl Into<OsString>) -> Self {
        Self {
            command: command.into(),
            args: Vec::new(),
            env: Vec::new(),
            inherit_env: InheritEnv::default(),
            cwd: None,
            max_line_bytes: 16 << 20,
            stderr_bytes: 64 << 10,
        }
    }

    fn to_command(&self) -> Command {
        let mut command = Command::new(&self.command);
        command.args(&self.args);
        match self.inherit_env {
            InheritEnv::All => {}
            InheritEnv::Basics => {
                command.env_clear();
                command.envs(BASICS.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
            }
            InheritEnv::Nothing => {
                command.env_clear();
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        command
    }
}

#[cfg(unix)]
const BASICS: &[&str] = &["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"];

#[cfg(not(unix))]
const BASICS: &[&str] = &[
    "APPDATA",
    "HOMEDRIVE",
    "HOMEPATH",
    "LOCALAPPDATA",
    "PATH",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "PROGRAMFILES",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE",
];

// === impl StdioProcess ===

impl StdioProcess {
    /// Starts the process. Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] when it cannot be started, saying what was to be started and why it was not.
    pub fn spawn(config: &StdioConfig) -> Result<(Self, LineWriter, LineReader), Error> {
        let mut child = config.to_command().spawn().map_err(|error| {
            let message = format!("cannot start `{}`: {error}", config.command.to_string_lossy());
            Error::unsent(ErrorKind::Connect, message).caused_by(error)
        })?;
        debug!(command = %config.command.to_string_lossy(), pid = child.id(), "process started");
        let stdin = child.stdin.take().expect("it was asked for as a pipe");
        let stdout = child.stdout.take().expect("it was asked for as a pipe");
        let stderr = child.stderr.take().expect("it was asked for as a pipe");
        let (writer, write) = lines::writer(stdin);
        let mut writing = JoinSet::new();
        writing.spawn(write);
        let tail = Tail::new(config.stderr_bytes);
        let mut reading = JoinSet::new();
        reading.spawn(tail.clone().fill(stderr));
        let process = Self { child, stderr: tail, _writing: writing, reading, is_group_gone: false };
        Ok((process, writer, LineReader::new(stdout, config.max_line_bytes)))
    }

    /// The process's number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The newest of what the process wrote to its standard error, at most `stderr_bytes`.
    ///
    /// Complete once [`stderr_ended`](Self::stderr_ended) has returned.
    pub fn stderr_tail(&self) -> String {
        self.stderr.text()
    }

    /// Waits until the standard error has been read to its end.
    ///
    /// That the process has [exited](Self::exited) is not enough: its last words may still be in the pipe. And something
    /// that has left its group may keep the pipe open for as long as it likes, so bound the wait.
    ///
    /// # Cancel safety
    /// Safe: the next call waits on.
    pub async fn stderr_ended(&mut self) {
        while self.reading.join_next().await.is_some() {}
    }

    /// Waits until the process has ended by itself; whatever it left behind is killed then.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionLost`] when the operating system does not tell.
    ///
    /// # Cancel safety
    /// Safe: the next call waits on.
    pub async fn exited(&mut self) -> Result<ExitStatus, Error> {
        let group = self.child.id();
        let status = self.child.wait().await.map_err(|error| {
            let message = format!("the end of the process is unknown: {error}");
            Error::new(ErrorKind::ConnectionLost, crate::Sent::Maybe, message).caused_by(error)
        })?;
        if !self.is_group_gone {
            self.is_group_gone = true;
            // The number of a group is not given away while a member lives. If none does, it could belong to a
            // stranger since a moment ago; numbers are handed out in turn, so that takes a full round of them.
            signal_group(group, Signal::Kill);
        }
        Ok(status)
    }

    /// Ends the process in steps: waits `patience` for it to end by itself, which it should once the [`LineWriter`]s
    /// are dropped; then asks (SIGTERM) and waits as long again; then kills the group.
    ///
    /// # Cancel safety
    /// Dropping the future kills the group at once.
    pub async fn end(mut self, patience: Duration) -> Option<ExitStatus> {
        if let Ok(ended) = timeout(patience, self.exited()).await {
            return ended.ok();
        }
        signal_group(self.child.id(), Signal::Terminate);
        if let Ok(ended) = timeout(patience, self.exited()).await {
            return ended.ok();
        }
        signal_group(self.child.id(), Signal::Kill);
        let _ = self.child.start_kill();
        self.exited().await.ok()
    }
}

impl Drop for StdioProcess {
    fn drop(&mut self) {
        // The process itself is killed and reaped by Tokio; its id is gone once it has been waited for.
        if !self.is_group_gone {
            signal_group(self.child.id(), Signal::Kill);
        }
    }
}

#[derive(Clone, Copy)]
enum Signal {
    Kill,
    Terminate,
}

#[cfg(unix)]
fn signal_group(leader: Option<u32>, signal: Signal) {
    use rustix::process::{Pid, Signal as UnixSignal, kill_process_group};

    let leader = leader.and_then(|leader| Pid::from_raw(i32::try_from(leader).ok()?));
    let signal = match signal {
        Signal::Kill => UnixSignal::KILL,
        Signal::Terminate => UnixSignal::TERM,
    };
    if let Some(leader) = leader {
        // Fails only if nobody is left, which is what was wanted.
        let _ = kill_process_group(leader, signal);
    }
}

#[cfg(not(unix))]
fn signal_group(_leader: Option<u32>, _signal: Signal) {}
