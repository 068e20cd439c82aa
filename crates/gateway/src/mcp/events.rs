//! The ear of a call: what an upstream sends while it runs becomes messages of the caller's stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mpe_engine::{Asking, CallEvents};
use mpe_mcp_protocol::capability::may_ask;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification, code};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::exchange::{Ask, Emitted};
use super::outbox::Outbox;
use super::rpc;
use super::sessions::Session;
use crate::json::{Members, ObjectWriter};

/// The severities of RFC 5424 as MCP spells them, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(usize);

const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Who answers what the upstream asks.
pub(crate) enum Asks {
    /// The client of this legacy session, on the call's stream; with this replica's name, where there are several.
    Client(Arc<Session>, Option<String>),
    /// The caller's next request (2026-07-28, multi-round requests).
    NextRequest,
    /// Nobody.
    Nobody,
}

/// Puts what arrives on the call's stream.
pub(crate) struct StreamEvents {
    outbox: Outbox,
    asks: Asks,
    asking: Asking,
    wishes: Mutex<Wishes>,
}

/// What the request that listens wants to hear.
struct Wishes {
    /// Its progress token, as it wrote it; `None`: it wants none.
    token: Option<Box<RawValue>>,
    last: f64,
    /// The mildest log message; `None`: none.
    level: Option<Level>,
    /// What it declares, where it is not the request that began the call: the engine knows that one's.
    lent: Option<Option<Box<RawValue>>>,
}

impl Level {
    /// The level of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        LEVELS.iter().position(|level| *level == name).map(Self)
    }

    pub(crate) fn as_str(self) -> &'static str {
        LEVELS[self.0]
    }
}

impl StreamEvents {
    /// `level` is the mildest log message the caller wants; `None`: none.
    pub(crate) fn new(
        outbox: Outbox,
        progress_token: Option<Box<RawValue>>,
        level: Option<Level>,
        asks: Asks,
    ) -> Self {
        let wishes = Wishes { token: progress_token, last: f64::NEG_INFINITY, level, lent: None };
        Self { outbox, asks, asking: Asking::default(), wishes: Mutex::new(wishes) }
    }

    pub(crate) fn wants_progress(&self) -> bool {
        self.lock().token.is_some()
    }

    /// Says something of ours on the call's stream; nobody may be there any more.
    pub(crate) async fn tell(&self, method: &str, params: &RawValue) {
        let _ = self.outbox.send(Emitted::Message(rpc::notification(method, Some(params)))).await;
    }

    /// Another request listens from now on, with wishes of its own. What the first one did not want, the upstream was not
    /// asked for and does not say.
    pub(crate) fn lend(
        &self,
        progress_token: Option<Box<RawValue>>,
        level: Option<Level>,
        capabilities: Option<Box<RawValue>>,
    ) {
        let lent = Some(capabilities);
        *self.lock() = Wishes { token: progress_token, last: f64::NEG_INFINITY, level, lent };
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the request that listens now may be asked this.
    fn refuses(&self, method: &str, params: Option<&RawValue>) -> Option<ErrorObject> {
        let wishes = self.lock();
        let declared = wishes.lent.as_ref()?;
        let refused = may_ask(declared.as_deref(), method, params).err()?;
        Some(ErrorObject::new(code::METHOD_NOT_FOUND, refused))
    }

    /// Progress under the caller's own token. What does not rise is dropped: relaying it would break the rule
    /// ourselves (2026-07-28, progress).
    fn progress(&self, params: Option<&RawValue>) -> Option<Vec<u8>> {
        let members = Members::of(params?)?;
        let progress: f64 = serde_json::from_str(members.get("progress")?.get()).ok()?;
        let mut heard = self.lock();
        if progress <= heard.last {
            return None;
        }
        let token = heard.token.clone()?;
        heard.last = progress;
        drop(heard);
        let mut params = ObjectWriter::new();
        params.raw("progressToken", token.get());
        for (key, value) in members.iter().filter(|(key, _)| *key != "progressToken") {
            params.raw(key, value.get());
        }
        Some(rpc::notification("notifications/progress", Some(&params.finish_raw())))
    }

    /// A log message at or above the wanted level.
    fn message(&self, params: Option<&RawValue>) -> Option<Vec<u8>> {
        let wanted = self.lock().level?;
        let level = Level::parse(&Members::of(params?)?.string("level")?)?;
        (level >= wanted).then(|| rpc::notification("notifications/message", params))
    }
}

impl CallEvents for StreamEvents {
    fn notify(&self, notification: Notification) {
        let params = notification.params.as_deref();
        let message = match notification.method.as_str() {
            "notifications/progress" => self.progress(params),
            "notifications/message" => self.message(params),
            // Anything else is not about this call, and nothing else may stand on its stream.
            _ => None,
        };
        let Some(message) = message else { return };
        if self.outbox.try_send(Emitted::Message(message)).is_err() {
            metrics::counter!("mpe_gateway_dropped_notifications_total").increment(1);
        }
    }

    fn ask<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<Box<RawValue>, ErrorObject>> {
        async move {
            if let Some(refusal) = self.refuses(method, params.as_deref()) {
                return Err(refusal);
            }
            let _question = self.asking.begin();
            match &self.asks {
                Asks::Client(session, replica) => {
                    session.ask(&self.outbox, method, params, replica.as_deref()).await
                }
                Asks::NextRequest => {
                    let (reply, answer) = oneshot::channel();
                    let ask = Ask { method: method.to_owned(), params, reply };
                    if self.outbox.send(Emitted::Ask(ask)).await.is_err() {
                        return Err(gone());
                    }
                    answer.await.unwrap_or_else(|_| Err(gone()))
                }
                Asks::Nobody => Err(ErrorObject {
                    code: code::METHOD_NOT_FOUND,
                    message: format!("the caller cannot answer {method}"),
                    data: None,
                }),
            }
        }
        .boxed()
    }

    fn asking(&self) -> Option<&Asking> {
        Some(&self.asking)
    }
}

/// The answer to a request whose addressee is not there any more.
pub(crate) fn gone() -> ErrorObject {
    ErrorObject {
        code: code::INTERNAL_ERROR,
        message: "the client went away before it answered".to_owned(),
        data: None,
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use mpe_engine::CallEvents;
    use mpe_mcp_protocol::jsonrpc::Notification;
    use serde_json::value::RawValue;

    use super::{Asks, Level, StreamEvents};
    use crate::mcp::exchange::Emitted;
    use crate::mcp::outbox::outbox;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn notification(method: &str, params: &str) -> Notification {
        Notification { method: method.to_owned(), params: Some(raw(params)) }
    }

    fn heard(token: Option<&str>, level: Option<&str>, said: &[(&str, &str)]) -> Vec<String> {
        let (outbox, mut outgoing) = outbox(16);
        let level = level.map(|level| Level::parse(level).unwrap());
        let events = StreamEvents::new(outbox, token.map(raw), level, Asks::Nobody);
        for (method, params) in said {
            events.notify(notification(method, params));
        }
        drop(events);
        let mut cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match outgoing.poll_next(&mut cx) {
            Poll::Ready(Emitted::Message(message)) => Some(String::from_utf8(message).unwrap()),
            Poll::Ready(Emitted::Ask(ask)) => panic!("{ask:?}"),
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn progress_carries_the_callers_token_and_only_rises() {
        let said = ["1", "1", "0.5", "2"].map(|n| format!("{{\"progress\":{n},\"total\":9}}"));
        let said: Vec<_> = said.iter().map(|params| ("notifications/progress", params.as_str())).collect();
        let heard = heard(Some("\"t-1\""), None, &said);
        assert_eq!(heard.len(), 2);
        assert_eq!(
            heard[1],
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t-1","progress":2,"total":9}}"#
        );
    }

    #[test]
    fn progress_nobody_asked_for_is_dropped() {
        assert!(heard(None, None, &[("notifications/progress", "{\"progress\":1}")]).is_empty());
    }

    #[test]
    fn log_messages_come_at_or_above_the_wanted_level_only() {
        let said = [
            ("notifications/message", r#"{"level":"info","data":1}"#),
            ("notifications/message", r#"{"level":"error","data":2}"#),
        ];
        assert_eq!(heard(None, Some("warning"), &said).len(), 1);
        assert_eq!(heard(None, Some("debug"), &said).len(), 2);
        assert!(heard(None, None, &said).is_empty());
    }
}
