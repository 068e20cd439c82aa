//! Real processes as peers. They are shells: what is tested is what the operating system does with them.
#![cfg(unix)]

use std::time::Duration;

use bytes::Bytes;
use mpe_transport::stdio::{InheritEnv, LineReader, LineWriter, StdioConfig, StdioProcess};
use mpe_transport::{ErrorKind, Sent};

use crate::support::soon;

fn shell(script: &str) -> StdioConfig {
    let mut config = StdioConfig::new("sh");
    config.args = vec!["-c".into(), script.into()];
    config
}

fn spawn(config: &StdioConfig) -> (StdioProcess, LineWriter, LineReader) {
    StdioProcess::spawn(config).expect("sh is everywhere")
}

async fn line(reader: &mut LineReader) -> String {
    let line = soon(reader.next()).await.expect("a line").expect("a good one");
    String::from_utf8(line.to_vec()).unwrap()
}

/// Whether a process still runs. A killed one that nobody has waited for yet does not.
fn is_running(pid: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, Some('Z' | 'X'))
}

async fn ends(pid: &str) {
    soon(async {
        while is_running(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn lines_go_in_and_come_out() {
    let (mut process, writer, mut reader) = spawn(&shell("while read -r line; do echo \"got $line\"; done"));
    for word in ["one", "two"] {
        soon(writer.write(Bytes::from(word))).await.unwrap();
        assert_eq!(line(&mut reader).await, format!("got {word}"));
    }
    drop(writer);
    assert!(soon(reader.next()).await.is_none(), "the end of its input ends it");
    assert!(soon(process.exited()).await.unwrap().success());
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_named() {
    let error = StdioProcess::spawn(&StdioConfig::new("/no/such/server")).expect_err("cannot start");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::Connect, Sent::No));
    assert_eq!(error.to_string(), "cannot start `/no/such/server`: No such file or directory (os error 2)");
}

#[tokio::test]
async fn the_last_words_on_stderr_are_kept() {
    let mut config = shell("echo 'first words' >&2; echo 'last words' >&2; exit 3");
    config.stderr_bytes = 11;
    let (mut process, _writer, _reader) = spawn(&config);
    // The process is over before anybody reads: it has ended when its words are still in the pipe.
    let pid = process.id().unwrap().to_string();
    while is_running(&pid) {
        std::thread::yield_now();
    }
    assert_eq!(soon(process.exited()).await.unwrap().code(), Some(3));
    soon(process.stderr_ended()).await;
    assert_eq!(process.stderr_tail(), "last words\n");
}

#[tokio::test]
async fn a_flood_on_stderr_does_not_stop_the_process() {
    let (_process, _writer, mut reader) = spawn(&shell("head -c 1000000 /dev/zero >&2; echo done"));
    assert_eq!(line(&mut reader).await, "done");
}

#[tokio::test]
async fn a_line_over_the_limit_is_skipped() {
    let mut config = shell("head -c 100000 /dev/zero; echo; echo short");
    config.max_line_bytes = 1000;
    let (_process, _writer, mut reader) = spawn(&config);
    let error = soon(reader.next()).await.expect("a report").expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(line(&mut reader).await, "short");
}

#[tokio::test]
async fn dropping_the_process_ends_its_whole_group() {
    let (process, _writer, mut reader) = spawn(&shell("sleep 1000 & echo $!; echo $$; wait"));
    let (grandchild, child) = (line(&mut reader).await, line(&mut reader).await);
    assert!(is_running(&grandchild) && is_running(&child));
    drop(process);
    ends(&grandchild).await;
    ends(&child).await;
}

#[tokio::test]
async fn what_a_process_leaves_behind_is_killed_when_it_has_ended() {
    let (mut process, _writer, mut reader) = spawn(&shell("sleep 1000 >/dev/null 2>&1 & echo $!"));
    let grandchild = line(&mut reader).await;
    assert!(soon(process.exited()).await.unwrap().success());
    ends(&grandchild).await;
}

#[tokio::test]
async fn ending_asks_before_it_kills() {
    let polite = shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let (process, writer, mut reader) = spawn(&polite);
    assert_eq!(line(&mut reader).await, "ready");
    drop(writer);
    let status = soon(process.end(Duration::from_millis(200))).await.expect("a status");
    assert_eq!(status.code(), Some(7));
    assert_eq!(line(&mut reader).await, "bye");

    let stubborn = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    let (process, _writer, mut reader) = spawn(&stubborn);
    assert_eq!(line(&mut reader).await, "ready");
    let status = soon(process.end(Duration::from_millis(100))).await.expect("a status");
    assert_eq!(status.code(), None, "killed by a signal");
}

#[tokio::test]
async fn a_process_that_ended_reads_no_more() {
    let (mut process, writer, _reader) = spawn(&shell("exit 0"));
    soon(process.exited()).await.unwrap();
    let error = soon(writer.write(Bytes::from_static(b"too late"))).await.expect_err("nobody reads");
    assert_eq!((error.kind(), error.sent()), (ErrorKind::ConnectionLost, Sent::No));
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for() {
    let mut config = shell("echo \"$GIVEN|${CARGO_MANIFEST_DIR-unset}|${PATH:+set}\"; pwd");
    config.env = vec![("GIVEN".into(), "yes".into())];
    config.cwd = Some("/".into());
    let (_process, _writer, mut reader) = spawn(&config);
    assert_eq!(line(&mut reader).await, "yes|unset|set", "the basics, and nothing of ours");
    assert_eq!(line(&mut reader).await, "/");
    config.inherit_env = InheritEnv::All;
    let (_process, _writer, mut reader) = spawn(&config);
    assert!(line(&mut reader).await.starts_with("yes|/"), "cargo sets CARGO_MANIFEST_DIR for tests");
}

/// Not a test of its own: the process that another one kills. Without a role it has nothing to do.
#[tokio::test]
async fn owner() {
    if std::env::var_os(OWNER).is_some() {
        let (_process, _writer, mut reader) = spawn(&shell("echo $$; cat"));
        println!("\nowns {}", line(&mut reader).await);
        std::future::pending::<()>().await;
    }
}

const OWNER: &str = "MPE_STDIO_OWNER";

/// Killed without a chance to do anything, we cannot kill in turn: asking the kernel to do it for us
/// (`PR_SET_PDEATHSIG`) takes code between fork and exec, which is `unsafe`. What is certain is that its input ends.
#[tokio::test]
async fn a_process_whose_owner_is_killed_sees_the_end_of_its_input() {
    use std::io::{BufRead as _, BufReader};

    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stdio::owner", "--nocapture", "--test-threads=1"])
        .env(OWNER, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let pid = lines.find_map(|line| line.unwrap().strip_prefix("owns ").map(str::to_owned)).unwrap();
    assert!(is_running(&pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    ends(&pid).await;
}
