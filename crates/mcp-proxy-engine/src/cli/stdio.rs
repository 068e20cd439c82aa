//! `stdio`: the whole engine as one MCP server on standard input and output.

use std::io::{Read, Write};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::args::{LogArgs, StdioArgs};
use super::exit::{Exit, Failure};
use super::source::Choice;
use super::{logging, output, serve};

/// How long the first answer may wait for the servers' tools, so that a client's first list is not empty.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Bytes that may lie between the pipe and the gateway, each way.
const BUFFER: usize = 64 << 10;

/// Blocks that may wait for a slow reader.
const BLOCKS: usize = 16;

pub(crate) async fn run(args: StdioArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let choice = Choice {
        config: args.config.as_deref(),
        urls: &args.urls,
        command: &args.command,
        h2c: args.h2c,
        headers: &args.header,
    };
    let chosen = choice.read()?;
    logging::install(log, chosen.source.config.log.as_ref(), "error")?;
    let engine = chosen.builder().wait(FIRST_LOOK).start().await?;
    let endpoint = match &args.endpoint {
        Some(name) => mcp_proxy_engine::engine::EndpointId::new(name.as_str()),
        None => engine.default_endpoint().clone(),
    };
    if engine.engine().snapshot(&endpoint).is_none() {
        return Err(Failure::usage(format!("there is no endpoint `{endpoint}`")));
    }
    for notice in engine.notices() {
        output::note(&format!("note: {notice}"));
    }

    let stop = CancellationToken::new();
    let signals = tokio::spawn(serve::signals(stop.clone()));
    let (reader, from_pipe) = tokio::io::duplex(BUFFER);
    let (writer, to_pipe) = tokio::io::duplex(BUFFER);
    let reading = tokio::spawn(standard_input(from_pipe));
    let writing = tokio::spawn(standard_output(to_pipe));
    let gateway = engine.gateway().clone();
    let served = mcp_proxy_engine::gateway::stdio::serve(gateway, endpoint, reader, writer, stop).await;
    // The gateway has dropped its end: what is left is written, then the task ends.
    let written = writing.await;
    reading.abort();
    signals.abort();
    engine.close().await;
    served.map_err(|error| Failure::system(format!("standard input and output: {error}")))?;
    match written {
        Ok(Err(error)) => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}

/// Copies standard input until it ends. Reading it blocks, whatever it is, so a thread does it.
async fn standard_input(mut pipe: DuplexStream) {
    let (sender, mut blocks) = mpsc::channel::<Vec<u8>>(BLOCKS);
    tokio::task::spawn_blocking(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; BUFFER];
        while let Ok(n @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    while let Some(block) = blocks.recv().await {
        if pipe.write_all(&block).await.is_err() {
            break;
        }
    }
    // Dropping the pipe is how the gateway learns of the end.
}

/// Copies to standard output until the gateway's end is dropped.
async fn standard_output(mut pipe: DuplexStream) -> std::io::Result<()> {
    let (sender, mut blocks) = mpsc::channel::<Vec<u8>>(BLOCKS);
    let writing = tokio::task::spawn_blocking(move || {
        let mut stdout = std::io::stdout().lock();
        while let Some(block) = blocks.blocking_recv() {
            stdout.write_all(&block)?;
            stdout.flush()?;
        }
        Ok(())
    });
    let mut buffer = vec![0; BUFFER];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        if sender.send(buffer[..n].to_vec()).await.is_err() {
            break;
        }
    }
    drop(sender);
    writing.await.unwrap_or(Ok(()))
}
