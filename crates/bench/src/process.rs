//! A process under measurement: started, pinned, its CPU time and memory read from `/proc`.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A started process and where it listens. Killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// The port on which it speaks TLS, if it said so.
    pub tls_port: Option<u16>,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a processor of the process and of all it started, in microseconds.
    pub cpu_us: u64,
    /// The most memory it ever held, in KiB.
    pub peak_kib: u64,
    /// The memory it holds, in KiB.
    pub resident_kib: u64,
}

/// How long a process may take to end once asked.
const STOP: Duration = Duration::from_secs(5);

impl Process {
    /// Starts `command` and reads the address from the first line of its standard output that names one
    /// (`listening http://HOST:PORT/…`, and `tls PORT` where there is one).
    pub async fn announced(command: &[String], core: Option<usize>) -> anyhow::Result<Self> {
        let mut child = spawn(command, core, Stdio::piped())?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(Duration::from_secs(10), lines.next_line())
            .await
            .with_context(|| format!("{command:?} said nothing for 10 s"))??
            .with_context(|| format!("{command:?} ended at once"))?;
        let address = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .with_context(|| format!("no address in {line:?}"))?
            .parse()?;
        let tls_port = line.split(" tls ").nth(1).and_then(|port| port.trim().parse().ok());
        Ok(Self { child, address, tls_port })
    }

    /// Starts `command`, which listens on `address`, and waits until that accepts.
    pub async fn listening(
        command: &[String],
        address: SocketAddr,
        core: Option<usize>,
    ) -> anyhow::Result<Self> {
        let child = spawn(command, core, Stdio::null())?;
        for _ in 0..2_000 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(Self { child, address, tls_port: None });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::bail!("{command:?} does not accept on {address} after 10 s")
    }

    /// Asks it to end, as an operator would, and waits for that; what goes on regardless is killed.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            // Whoever has gone already needs no asking.
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
        }
        let _ = tokio::time::timeout(STOP, self.child.wait()).await;
    }

    /// What the process has used so far.
    ///
    /// # Errors
    /// When `/proc` does not say, as when the process has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let pid = self.child.id().context("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Ok(Usage {
            cpu_us: tree(pid)?.into_iter().map(on_processor).sum::<u64>() / 1000,
            peak_kib: field("VmHWM:").unwrap_or(0),
            resident_kib: field("VmRSS:").unwrap_or(0),
        })
    }
}

/// The process and every living process that descends from it.
fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ended meanwhile is nobody's child.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name may hold blanks; the fields after its closing parenthesis do not.
        let parent =
            stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(1)?.parse().ok());
        parents.extend(parent.map(|parent: u32| (pid, parent)));
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(tree)
}

/// Nanoseconds that the living threads of a process have run; 0 when it has ended.
///
/// The scheduler counts in nanoseconds, `/proc/PID/stat` in hundredths of a second, too coarse for a short round.
fn on_processor(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let ran = threads.flatten().filter_map(|thread| {
        let ran = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        ran.split_whitespace().next()?.parse::<u64>().ok()
    });
    ran.sum()
}

fn spawn(command: &[String], core: Option<usize>, stdout: Stdio) -> anyhow::Result<Child> {
    let mut words = Vec::new();
    if let Some(core) = core.filter(|_| can_pin()) {
        words.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
    }
    words.extend_from_slice(command);
    Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {words:?}"))
}

/// Whether processes can be pinned to cores here.
pub fn can_pin() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
        && std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("taskset").is_file()))
}

/// A port that is free now.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
