//! Reads an answer until the reply to one request: what comes before goes to whom it belongs.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use mpe_mcp_protocol::jsonrpc::{Envelope, ErrorObject, Id};
use serde_json::value::RawValue;
use tracing::debug;

use super::super::{Notices, UpstreamError, listener::Listener};
use super::reader::Messages;

/// What a call came to: the result, or the server's own error.
pub(super) type Outcome = Result<Box<RawValue>, ErrorObject>;

/// How an answer ended.
pub(super) enum End {
    /// With the reply.
    Reply(Outcome),
    /// Without it.
    Closed,
}

/// Answers the requests that a server sends while a call is under way.
pub(super) trait Answering {
    /// A future that answers the request, to be driven beside the stream.
    fn answer(
        &self,
        id: Id,
        method: &str,
        params: Option<&RawValue>,
        listener: &Listener,
    ) -> Option<BoxFuture<'static, ()>>;
}

/// For eras in which a server never asks on its own.
pub(super) struct NoAnswers;

impl Answering for NoAnswers {
    fn answer(
        &self,
        _: Id,
        method: &str,
        _: Option<&RawValue>,
        _: &Listener,
    ) -> Option<BoxFuture<'static, ()>> {
        debug!(method, "a request of the server, which this era does not have, is ignored");
        None
    }
}

/// Requests of the server that one call answers at the same time.
pub(super) const MAX_ANSWERS: usize = 16;

/// Reads until the reply to `id`.
///
/// Dropping the future ends the answers that are under way.
pub(super) async fn pump(
    messages: &mut Messages,
    id: &Id,
    listener: &mut Listener,
    answering: &impl Answering,
    notices: &Notices,
) -> Result<End, UpstreamError> {
    // Made when the server asks: few do.
    let mut answers: Option<FuturesUnordered<_>> = None;
    loop {
        let message = match &mut answers {
            Some(answers) if !answers.is_empty() => tokio::select! {
                biased;
                Some(()) = answers.next() => continue,
                message = messages.next(), if answers.len() < MAX_ANSWERS => message?,
            },
            _ => messages.next().await?,
        };
        let Some(message) = message else { return Ok(End::Closed) };
        match read(&message)? {
            Envelope::Response { id: Some(other), .. } if other != *id => {
                debug!(%other, "a reply to nothing we asked here is ignored");
            }
            // An error without an id, on the answer to one request, is about that request.
            Envelope::Response { outcome, .. } => return Ok(End::Reply(outcome.map(ToOwned::to_owned))),
            Envelope::Notification { method, params } => {
                if !notices.hear(&method, params) {
                    listener.hear(&method, params);
                }
            }
            Envelope::Request { id, method, params } => {
                if let Some(answer) = answering.answer(id, &method, params, listener) {
                    answers.get_or_insert_default().push(answer);
                }
            }
        }
    }
}

fn read(message: &Bytes) -> Result<Envelope<'_>, UpstreamError> {
    Envelope::parse(message)
        .map_err(|error| UpstreamError::protocol(format!("the server sent what is no message: {error}")))
}
