//! One request over a pipe, with everything that belongs to it.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, code, encode};
use mpe_mcp_protocol::object::{Object, raw_of};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use mpe_transport::Sent;
use tokio::time::timeout_at;
use tracing::debug;

use std::sync::Arc;

use super::super::listener::{Listener, LogLevel};
use super::super::{UpstreamError, UpstreamReply, UpstreamRequest, message};
use super::{Aside, Host, Outcome, Pipe, Waiting};

/// Questions of the server that one call answers at the same time.
const MAX_ANSWERS: usize = 16;

/// Sends one request and reads its reply. Dropping the future tells the server that it is cancelled.
pub(in crate::upstream) async fn request(
    host: &dyn Host,
    pipe: &Arc<Pipe>,
    version: ProtocolVersion,
    request: &UpstreamRequest,
) -> Result<UpstreamReply, UpstreamError> {
    let id = host.next_id();
    let mut listener = Listener::new(&request.context, &id);
    if version.era() == Era::Legacy
        && let Some(level) = listener.level()
        && let Err(error) = raise_level(host, pipe, level, request).await
    {
        debug!(%error, "the server's log level could not be set");
    }
    let line = match version.era() {
        Era::Legacy => message::legacy(&id, request, &listener),
        Era::Modern => message::modern(version, &id, request, &listener),
    };
    let wants_logs = listener.level().is_some();
    let written = timeout_at(request.deadline, pipe.call(&id, line, wants_logs, true)).await;
    // A line that waits for a process that does not read may still be written later.
    let mut waiting = written.map_err(|_| UpstreamError::deadline(Sent::Maybe, "the process to read"))??;
    let reply = timeout_at(request.deadline, until_reply(&mut waiting, &mut listener)).await;
    let outcome = reply.map_err(|_| UpstreamError::deadline(Sent::Maybe, "the reply"))??;
    host.works(pipe);
    own_error(host, outcome).map(|outcome| UpstreamReply { outcome, protocol: None, address: None })
}

/// A server that no longer speaks what it spoke is found out anew; the caller need not know.
fn own_error(host: &dyn Host, outcome: Outcome) -> Result<Outcome, UpstreamError> {
    match &outcome {
        Err(error) if error.code == code::UNSUPPORTED_PROTOCOL_VERSION => {
            host.forget();
            let message = format!("the server no longer speaks the revision it spoke: {}", error.message);
            Err(UpstreamError::protocol(message).before_sending())
        }
        _ => Ok(outcome),
    }
}

async fn until_reply(waiting: &mut Waiting, listener: &mut Listener) -> Result<Outcome, UpstreamError> {
    let mut answers = FuturesUnordered::new();
    let pipe = Arc::clone(waiting.pipe());
    let (mut asides, mut is_open) = (waiting.take_asides(), true);
    let outcome = loop {
        tokio::select! {
            biased;
            Some((id, answer)) = answers.next(), if !answers.is_empty() => pipe.respond(id, answer),
            aside = asides.recv(), if is_open && answers.len() < MAX_ANSWERS => match aside {
                None => is_open = false,
                Some(Aside::Notification { method, params }) => listener.hear(&method, params.as_deref()),
                Some(Aside::Request { id, method, params }) => {
                    let answerer = listener.answerer(&method, params.as_deref());
                    answers.push(async move {
                        let answer: Result<_, ErrorObject> = match answerer {
                            Ok(events) => events.ask(&method, params).await,
                            Err(refusal) => Err(refusal),
                        };
                        (id, answer)
                    });
                }
            },
            outcome = waiting.reply() => break outcome,
        }
    };
    // What came before the reply is heard before it.
    while let Ok(Aside::Notification { method, params }) = asides.try_recv() {
        listener.hear(&method, params.as_deref());
    }
    outcome
}

/// Makes a legacy server at least as talkative as one call wants it.
async fn raise_level(
    host: &dyn Host,
    pipe: &Arc<Pipe>,
    wanted: LogLevel,
    request: &UpstreamRequest,
) -> Result<(), UpstreamError> {
    let has_logging = host.found().is_some_and(|found| {
        Object::parse(&found.server.capabilities).is_ok_and(|server| server.present("logging").is_some())
    });
    if !has_logging {
        return Ok(());
    }
    let lock = timeout_at(request.deadline, pipe.level.lock()).await;
    let mut level = lock.map_err(|_| UpstreamError::deadline(Sent::No, "the log level"))?;
    if level.is_some_and(|level| level <= wanted) {
        return Ok(());
    }
    let id = host.next_id();
    let params = raw_of(&serde_json::json!({ "level": wanted.as_str() }));
    let mut waiting = pipe.ask(&id, encode::request(&id, "logging/setLevel", Some(&params))).await?;
    let reply = timeout_at(request.deadline, waiting.reply()).await;
    match reply.map_err(|_| UpstreamError::deadline(Sent::No, "the log level"))?? {
        Ok(_) => {
            *level = Some(wanted);
            Ok(())
        }
        Err(error) => Err(UpstreamError::protocol(error.message)),
    }
}
