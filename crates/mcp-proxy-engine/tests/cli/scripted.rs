//! A scripted HTTP server: what it answers is written down, what it was asked is kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// One request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// An answer: the status, behind it whatever else belongs into the head, and the body.
pub(crate) type Answer = (String, String);

/// A running server. Dropping it ends it.
pub(crate) struct Scripted {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    ends: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Seen {
    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body; null when it is no JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let (mut seen, mut line) = (Self::default(), String::new());
        reader.read_line(&mut line)?;
        seen.target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            seen.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = seen.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        seen.body = String::from_utf8(body).unwrap();
        Ok(seen)
    }
}

impl Scripted {
    /// Listens on a port of its own.
    pub(crate) fn new(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answer)
    }

    /// Listens where another one did.
    pub(crate) fn at(address: SocketAddr, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, ends) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let (journal, end, answer) = (Arc::clone(&seen), Arc::clone(&ends), Arc::new(answer));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (journal, answer) = (Arc::clone(&journal), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let Ok(seen) = Seen::read(&stream) else { return };
                    journal.lock().unwrap().push(seen.clone());
                    let (head, body) = answer(&seen);
                    let length = body.len();
                    // Whoever is not there any more misses nothing.
                    let _ = write!(
                        &stream,
                        "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                    );
                });
            }
        });
        Self { address, seen, ends, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked under targets that begin so, in the order of arrival.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.target.starts_with(path)).cloned().collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // It looks once somebody comes.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// 200 with a document.
pub(crate) fn ok(document: &Value) -> Answer {
    ("200 OK\r\ncontent-type: application/json".to_owned(), document.to_string())
}

/// A status without a body.
pub(crate) fn status(line: &str) -> Answer {
    (line.to_owned(), String::new())
}

/// A stateless MCP server with these tools; each answers with its name.
pub(crate) fn mcp(tools: &'static [&'static str]) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    move |seen| {
        let request = seen.json();
        let result = match request["method"].as_str() {
            Some("server/discover") => {
                json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } })
            }
            Some("tools/list") => {
                let tool = |name| json!({ "name": name, "inputSchema": { "type": "object" } });
                json!({ "tools": tools.iter().map(tool).collect::<Vec<_>>() })
            }
            Some("tools/call") => {
                let text = format!("{} was here", request["params"]["name"].as_str().unwrap_or_default());
                json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }] })
            }
            _ => return status("405 Method Not Allowed"),
        };
        ok(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }))
    }
}
