//! `serve` as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long anything here may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running `serve`, ended with the test.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// Its first lines.
    pub(crate) lines: Vec<String>,
    /// Those after them.
    pub(crate) rest: Receiver<String>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `serve` on a free port and reads its first lines.
pub(crate) fn serve(args: &[&str]) -> Served {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("mcp-proxy-engine"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(if args.contains(&"--log") { &[][..] } else { &["--log", "warn"] })
        .args(args)
        .env_remove("MPE_CONFIG")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, rest) = std::sync::mpsc::sync_channel(16_384);
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut lines: Vec<String> = Vec::new();
    while !lines.last().is_some_and(|line| line.starts_with("Stop with")) {
        let line = rest.recv_timeout(PATIENCE);
        lines.push(line.unwrap_or_else(|error| panic!("{error}: {lines:?}")));
    }
    let mcp = lines.iter().find_map(|line| line.trim().strip_prefix("MCP")).unwrap().trim().to_owned();
    let address = mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    Served { child, address, lines, rest }
}

impl Served {
    /// One HTTP/1.1 request, as `curl` would send it; the whole answer.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks until the answer has `part`; at most twenty seconds.
    pub(crate) fn until(&self, path: &str, part: &str) -> String {
        self.until_that(path, part, |answer| answer.contains(part))
    }

    /// Asks until the answer is as wanted; at most twenty seconds.
    pub(crate) fn until_that(&self, path: &str, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut answer = String::new();
        for _ in 0..200 {
            answer = self.request("GET", path, "");
            if holds(&answer) {
                return answer;
            }
            wait(Duration::from_millis(100));
        }
        panic!("{path} never had {what}: {answer}");
    }

    /// Sends SIGTERM and waits for the end. The lines it wrote since its first ones.
    #[cfg(unix)]
    pub(crate) fn terminate(mut self) -> Vec<String> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let rest = std::iter::from_fn(|| self.rest.recv_timeout(PATIENCE).ok()).collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{rest:?}");
        rest
    }
}

/// Waits for something outside of this process, whose clock nobody can advance.
pub(crate) fn wait(time: Duration) {
    let (_never, receiver) = std::sync::mpsc::sync_channel::<()>(1);
    let _ = receiver.recv_timeout(time);
}
