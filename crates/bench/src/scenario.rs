//! The scenarios: what is asked, of which upstream, with how much in flight.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::load::{self, Shape};
use crate::message;

/// The era the load speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Era {
    /// 2025-11-25, with a session.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// The face a scenario asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// A batch of so many calls.
    Batch(usize),
    /// A GraphQL query.
    Graphql,
    /// `tools/call`.
    McpCall,
    /// `tools/list`.
    McpList,
    /// `POST /tools/echo`.
    Rest,
}

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its letter.
    pub letter: &'static str,
    /// The face it asks.
    pub face: Face,
    /// Requests in flight.
    pub in_flight: usize,
    /// The yardstick it is compared with.
    pub yardstick: Option<&'static str>,
    /// Options of the upstream.
    options: &'static [&'static str],
    /// A piece of text every good answer contains.
    expect: &'static str,
}

/// What the upstream counted.
#[derive(Debug, Deserialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
}

/// Every scenario, in the order of the report.
pub fn all() -> Vec<Scenario> {
    let call = |letter, in_flight, options| Scenario {
        letter,
        face: Face::McpCall,
        in_flight,
        yardstick: Some("mcp"),
        options,
        expect: r#""id":{id}"#,
    };
    let rest = |letter, in_flight, options| Scenario {
        letter,
        face: Face::Rest,
        in_flight,
        yardstick: Some("rest"),
        options,
        expect: "xxxx",
    };
    let batch = |letter, calls| Scenario {
        letter,
        face: Face::Batch(calls),
        in_flight: 1,
        yardstick: None,
        options: &["--delay", "100"],
        expect: "xxxx",
    };
    vec![
        call("A", 64, &[]),
        call("A1", 1, &[]),
        call("B", 256, &["--delay", "20"]),
        call("C", 64, &["--payload", "65536"]),
        call("S", 64, &["--sse"]),
        rest("E", 64, &[]),
        rest("EB", 256, &["--delay", "20"]),
        rest("EC", 64, &["--payload", "65536"]),
        Scenario { face: Face::Graphql, yardstick: None, ..rest("Q", 64, &[]) },
        Scenario {
            letter: "F",
            face: Face::McpList,
            in_flight: 16,
            yardstick: Some("pass"),
            options: &["--tools", "1000"],
            expect: "tool_00999",
        },
        batch("D1", 1),
        batch("D10", 10),
        batch("D50", 50),
        batch("D500", 500),
        call("X1", 64, &["--goaway-every", "1000"]),
        call("X2", 64, &["--refuse-every", "100"]),
        call("X3", 64, &["--max-streams", "8"]),
    ]
}

impl Scenario {
    /// True when any MCP gateway could be asked this.
    pub fn speaks_mcp(&self) -> bool {
        matches!(self.face, Face::McpCall | Face::McpList)
    }

    /// The arguments that start the upstream.
    pub fn upstream(&self) -> Vec<String> {
        std::iter::once("upstream").chain(self.options.iter().copied()).map(str::to_owned).collect()
    }

    /// The request; a legacy one carries a session that is opened at `address` first.
    ///
    /// # Errors
    /// When that session cannot be opened.
    pub async fn shape(&self, era: Era, address: SocketAddr) -> anyhow::Result<Shape> {
        let arguments = r#"{"text":"hello","n":7}"#;
        let shape = match self.face {
            Face::Batch(calls) => {
                let calls = vec![format!(r#"{{"tool":"echo","arguments":{arguments}}}"#); calls].join(",");
                self.plain("/batch", format!("[{calls}]"))
            }
            Face::Graphql => self.plain("/graphql", r#"{"query":"{ echo(text: \"hello\") }"}"#.to_owned()),
            Face::Rest => self.plain("/tools/echo", arguments.to_owned()),
            Face::McpCall | Face::McpList => self.mcp(era, address, arguments).await?,
        };
        Ok(shape)
    }

    async fn mcp(&self, era: Era, address: SocketAddr, arguments: &str) -> anyhow::Result<Shape> {
        let is_list = self.face == Face::McpList;
        let mut headers = Vec::new();
        let body = match (era, is_list) {
            (Era::Modern, false) => {
                modern_body("tools/call", &format!(r#""name":"echo","arguments":{arguments},"#))
            }
            (Era::Modern, true) => modern_body("tools/list", ""),
            (Era::Legacy, false) => {
                message::legacy_call(0, "echo", arguments).replacen(r#""id":0"#, r#""id":{id}"#, 1)
            }
            (Era::Legacy, true) => {
                r#"{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{}}"#.to_owned()
            }
        };
        match era {
            Era::Modern => {
                headers.push(("mcp-protocol-version", message::MODERN.to_owned()));
                headers.push(("mcp-method", if is_list { "tools/list" } else { "tools/call" }.to_owned()));
                if !is_list {
                    headers.push(("mcp-name", "echo".to_owned()));
                }
            }
            Era::Legacy => {
                headers.push(("mcp-protocol-version", message::LEGACY.to_owned()));
                if let Some(session) = open_session(address).await? {
                    headers.push(("mcp-session-id", session));
                }
            }
        }
        Ok(Shape {
            path: "/mcp".to_owned(),
            accept: load::MCP,
            headers,
            body,
            expect: self.expect.to_owned(),
        })
    }

    fn plain(&self, path: &str, body: String) -> Shape {
        Shape {
            path: path.to_owned(),
            accept: load::JSON,
            headers: Vec::new(),
            body,
            expect: self.expect.to_owned(),
        }
    }
}

fn modern_body(method: &str, params: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{{id}},"method":"{method}","params":{{{params}"_meta":{}}}}}"#,
        message::META
    )
}

async fn open_session(address: SocketAddr) -> anyhow::Result<Option<String>> {
    let response = request(address, "POST", "/mcp", message::initialize()).await?;
    let session = response.headers().get("mcp-session-id");
    Ok(session.map(|value| value.to_str().map(str::to_owned)).transpose()?)
}

/// What the upstream at `address` counted.
pub async fn stats(address: SocketAddr) -> anyhow::Result<Stats> {
    let response = request(address, "GET", "/stats", String::new()).await?;
    Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
}

async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: String,
) -> anyhow::Result<http::Response<hyper::body::Incoming>> {
    let stream = TcpStream::connect(address).await.context("the server does not accept")?;
    let (mut client, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::new(Bytes::from(body)))?;
    Ok(client.send_request(request).await?)
}
