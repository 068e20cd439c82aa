//! As much HTTP/1.1 as asking our own gateway on the loopback interface takes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long the gateway may take until it has discovered its upstreams.
const READY: Duration = Duration::from_secs(120);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// The body of `GET path`.
///
/// # Errors
/// When the answer is not 200; the message holds what came instead.
pub(crate) fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let (status, body) = exchange(port, path)?;
    if status != 200 {
        bail!("GET {path} answers {status}: {body}");
    }
    Ok(body)
}

/// Waits until `/readyz` says 200.
///
/// # Errors
/// When it still says something else after half a minute.
pub(crate) fn ready(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        let (status, body) = exchange(port, "/readyz")?;
        if status == 200 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("/readyz still answers {status} after {READY:?}: {body}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// HTTP/1.0 spares us chunks: the body ends with the connection.
fn exchange(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("port {port}"))?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the answer is no UTF-8")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer has no status")?;
    Ok((status, body.to_owned()))
}
