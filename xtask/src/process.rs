//! Running other programs: to their end, or beside us for as long as they are needed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a started server may take until it accepts connections. Node and Python need seconds on a busy machine.
const START: Duration = Duration::from_secs(60);

/// How long a server may take to stop once asked.
const STOP: Duration = Duration::from_secs(10);

/// Runs a command to its end, its output on our terminal.
///
/// # Errors
/// When it cannot be started or does not end with success; the message shows the command.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command to its end and returns what it wrote to its standard output.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", shown(command)))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// A port of the loopback interface that nobody listens on.
///
/// Somebody else could take it before it is used; whoever starts a server on it then sees that server fail.
///
/// # Errors
/// When none can be had.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// A server that runs beside us; stopped when dropped. Its output goes to a file.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts `command` and waits until something accepts on `port`.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not accept in time; the message ends with the tail of its output.
    pub(crate) fn start(name: &str, command: &mut Command, port: u16, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", shown(command)))?;
        let mut server = Self { child, name: name.to_owned(), log };
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended with {status} before it listened on port {port}:\n{}", server.tail());
            }
            if Instant::now() > deadline {
                bail!("{name} does not listen on port {port} after {START:?}:\n{}", server.tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Asks the server to stop, as an operator would, and waits for it.
    ///
    /// # Errors
    /// When it does not end in time, or not with success.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let deadline = Instant::now() + STOP;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.tail()),
                None if Instant::now() > deadline => {
                    bail!("{} still runs {STOP:?} after SIGTERM:\n{}", self.name, self.tail())
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The last lines of its output.
    pub(crate) fn tail(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        let lines: Vec<_> = BufReader::new(text.as_bytes()).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already stopped, or we are leaving on an error: nothing is worth saying any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
