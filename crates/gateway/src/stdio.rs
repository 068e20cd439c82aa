//! The whole gateway as one MCP server on a pipe: a line in, a line out.

use std::io;

use bytes::Bytes;
use mpe_engine::EndpointId;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Gateway;
use crate::mcp::conversation::Conversation;

/// Messages that may wait for a slow reader; more hold back the calls they come from.
const OUT_QUEUE: usize = 64;

/// Serves the MCP face of `endpoint` over a pipe: one message a line, both eras. Returns when `reader` ends or `stop` is
/// cancelled, once what was under way has been answered or the configured drain time is over.
///
/// # Errors
/// What makes reading or writing impossible. A line over the body limit, or one that is no UTF-8, is answered with a
/// JSON-RPC error and ends nothing.
///
/// # Cancel safety
/// Dropping the future ends every request under way.
pub async fn serve<R, W>(
    gateway: Gateway,
    endpoint: EndpointId,
    reader: R,
    writer: W,
    stop: CancellationToken,
) -> io::Result<()>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let (out, lines) = mpsc::channel(OUT_QUEUE);
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let conversation = Conversation::new(gateway.clone(), endpoint, out, ended);
    let limit = gateway.config().max_body_bytes;
    let reading = async {
        tokio::select! {
            read = read_lines(reader, limit, &conversation) => read,
            () = stop.cancelled() => Ok(()),
        }?;
        gateway.begin_drain();
        // What is not answered by then is cancelled by the guard.
        let _ = tokio::time::timeout(gateway.config().drain, conversation.drained()).await;
        drop(guard);
        drop(conversation);
        Ok(())
    };
    let (read, written) = tokio::join!(reading, write_lines(writer, lines));
    read.and(written)
}

async fn read_lines<R>(reader: R, limit: usize, conversation: &std::sync::Arc<Conversation>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than allowed tells a line that is too long from one that just fits.
        let bound = limit as u64 + 1;
        let n_read = (&mut reader).take(bound).read_until(b'\n', &mut line).await?;
        if n_read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && n_read as u64 == bound {
            skip_line(&mut reader).await?;
        }
        if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
            conversation.take(Bytes::copy_from_slice(&line)).await;
        }
    }
}

/// Reads the rest of a line without keeping it.
async fn skip_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(());
        }
        match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                reader.consume(at + 1);
                return Ok(());
            }
            None => {
                let all = buffer.len();
                reader.consume(all);
            }
        }
    }
}

async fn write_lines<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut lines: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    while let Some(line) = lines.recv().await {
        writer.write_all(&line).await?;
        writer.write_all(b"\n").await?;
        if lines.is_empty() {
            writer.flush().await?;
        }
    }
    writer.flush().await
}
