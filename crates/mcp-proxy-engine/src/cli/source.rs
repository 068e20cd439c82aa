//! From the command line to an engine: a file, addresses, a command, or the demo.

use std::collections::HashSet;
use std::path::Path;

use mcp_proxy_engine::config::{Config, Secret, Server, Source};
use mcp_proxy_engine::engine::source::{SourceState, SourceStatus};
use mcp_proxy_engine::engine::{Catalogue, EndpointId, Snapshot, UpstreamState};
use mcp_proxy_engine::{McpProxyEngine, McpProxyEngineBuilder};
use std::sync::Arc;

use super::args::{LogArgs, SourceArgs};
use super::exit::{Exit, Failure};
use super::{logging, output};

/// What a command works on, before it starts.
pub(crate) struct Chosen {
    pub(crate) source: Source,
    pub(crate) is_demo: bool,
}

/// What may name servers on a command line.
pub(crate) struct Choice<'a> {
    pub(crate) config: Option<&'a Path>,
    pub(crate) urls: &'a [String],
    pub(crate) command: &'a [String],
    pub(crate) h2c: bool,
    pub(crate) headers: &'a [String],
}

impl Choice<'_> {
    /// Reads the file, or makes a configuration of addresses and command.
    ///
    /// # Errors
    /// [`Exit::Config`] for the file, [`Exit::Usage`] for the rest.
    pub(crate) fn read(&self) -> Result<Chosen, Failure> {
        let has_servers = !self.urls.is_empty() || !self.command.is_empty();
        if let Some(path) = self.config {
            if has_servers {
                return Err(Failure::usage(
                    "--config and addresses exclude each other: put the addresses into the file",
                ));
            }
            if self.h2c || !self.headers.is_empty() {
                return Err(Failure::usage(
                    "--h2c and --header go with addresses; a file says both for each server",
                ));
            }
            return Ok(Chosen { source: Source::open(path)?, is_demo: false });
        }
        if self.urls.is_empty() && (self.h2c || !self.headers.is_empty()) {
            return Err(Failure::usage("--h2c and --header need an address: the server's URL"));
        }
        let mut config = Config::default();
        let mut taken = HashSet::new();
        for url in self.urls {
            let server = Server {
                url: Some(url.clone()),
                h2c: self.h2c,
                headers: self.headers.iter().map(|header| parse_header(header)).collect::<Result<_, _>>()?,
                ..Server::default()
            };
            config.mcp_servers.insert(key_of(url, &mut taken), server);
        }
        if let Some((program, arguments)) = self.command.split_first() {
            let name = Path::new(program).file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
            let server =
                Server { command: Some(program.clone()), args: arguments.to_vec(), ..Server::default() };
            config.mcp_servers.insert(key_of(&name, &mut taken), server);
        }
        Ok(Chosen { source: Source::of(config), is_demo: !has_servers })
    }
}

impl Chosen {
    /// The builder of an engine over it.
    pub(crate) fn builder(self) -> McpProxyEngineBuilder {
        let builder = McpProxyEngine::builder().source(self.source);
        if self.is_demo { builder.demo() } else { builder }
    }
}

/// Starts an engine for a command that ends by itself.
///
/// # Errors
/// As [`Choice::read`] and [`McpProxyEngineBuilder::start`].
pub(crate) async fn start(args: &SourceArgs, log: &LogArgs) -> Result<McpProxyEngine, Failure> {
    let choice = Choice {
        config: args.config.as_deref(),
        urls: &args.url,
        command: &[],
        h2c: args.h2c,
        headers: &args.header,
    };
    let mut chosen = choice.read()?;
    logging::install(log, chosen.source.config.log.as_ref(), "error")?;
    // Who asks once wants to know what the servers say now.
    chosen.source.config.catalogue_store = None;
    let engine = chosen.builder().wait(args.wait).start().await?;
    for notice in engine.notices() {
        output::note(&format!("note: {notice}"));
    }
    Ok(engine)
}

/// An endpoint's catalogue, with a word about every server that has none.
///
/// # Errors
/// [`Exit::Usage`] for no such endpoint; [`Exit::Unreachable`] when no server at all has answered.
pub(crate) fn snapshot(engine: &McpProxyEngine, endpoint: Option<&str>) -> Result<Arc<Snapshot>, Failure> {
    let id = endpoint.map_or_else(|| engine.default_endpoint().clone(), EndpointId::new);
    let snapshot = engine.engine().snapshot(&id).ok_or_else(|| {
        let known: Vec<String> = engine.engine().endpoints().iter().map(ToString::to_string).collect();
        Failure::usage(format!("there is no endpoint `{id}`; there are: {}", known.join(", ")))
    })?;
    let absent = absent(&snapshot.catalogue);
    let statuses = snapshot.catalogue.upstreams();
    let silent = silent_sources(engine, &id);
    let has_nobody = absent.len() == statuses.len() && !(statuses.is_empty() && silent.is_empty());
    let absent: Vec<String> = silent.into_iter().chain(absent).collect();
    if has_nobody {
        return Err(Failure::new(Exit::Unreachable, absent.join("\n")));
    }
    for line in absent {
        output::note(&format!("warning: {line}"));
    }
    Ok(snapshot)
}

/// Every server whose tools are unknown, one sentence each.
pub(crate) fn absent(catalogue: &Catalogue) -> Vec<String> {
    let sentence = |key: &dyn std::fmt::Display, state: &UpstreamState| match state {
        UpstreamState::Discovering => Some(format!("the server `{key}` has not answered yet")),
        UpstreamState::Down { error } => Some(format!("the server `{key}` does not answer: {error}")),
        UpstreamState::Stale { .. } | UpstreamState::Up => None,
    };
    catalogue.upstreams().iter().filter_map(|status| sentence(&status.key, &status.state)).collect()
}

/// Every source of servers that cannot be asked, one sentence each.
pub(crate) fn silent_sources(engine: &McpProxyEngine, id: &EndpointId) -> Vec<String> {
    let sentence = |status: SourceStatus| match status.state {
        SourceState::Failing { error } => {
            Some(format!("the source `{}` cannot be asked for servers: {error}", status.name))
        }
        SourceState::Waiting => Some(format!("the source `{}` has not answered yet", status.name)),
        SourceState::Good => None,
    };
    engine.engine().sources(id).into_iter().filter_map(sentence).collect()
}

/// A server's key, made of its address: the host, and the port where it is no usual one.
fn key_of(url: &str, taken: &mut HashSet<String>) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let words: Vec<&str> =
        authority.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let base = if words.is_empty() { "server".to_owned() } else { words.join("-") };
    let key = std::iter::once(base.clone())
        .chain((2..).map(|n| format!("{base}-{n}")))
        .find(|key| !taken.contains(key))
        .expect("there is always a next number");
    taken.insert(key.clone());
    key
}

fn parse_header(header: &str) -> Result<(String, Secret), Failure> {
    // The value may be a secret: it is never repeated.
    let (name, value) =
        header.split_once(':').ok_or_else(|| Failure::usage("--header: expected `Name: value`"))?;
    Ok((name.trim().to_owned(), Secret::new(value.trim())))
}
