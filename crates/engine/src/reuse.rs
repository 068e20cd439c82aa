//! Answers that are used more than once: identical calls of read-only tools at the same moment, or within a while. Both
//! are off unless the operator asks for them.
//!
//! Only calls that nobody could tell apart share an answer: the same tool, the same bytes of arguments, the same declared
//! capabilities; nothing that wants progress or log messages, and no round of a longer exchange. Only complete results
//! are kept. All of it belongs to one upstream of one endpoint.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mpe_mcp_protocol::meta::key;
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::result::CallToolResult;
use mpe_mcp_protocol::version::Era;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::attempt::Answer;
use crate::{CallContext, CallError, CallErrorKind, Executed, OutcomeKind, outcome};

/// Which answers of read-only tools are used more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReuseConfig {
    /// Identical calls that are under way at once become one. Default: off.
    pub coalesce: bool,
    /// How long a complete result answers identical calls. Default: never.
    pub cache: Option<Duration>,
    /// Bytes of results kept for one upstream, at most; the oldest go first. Default: 16 MiB.
    pub cache_bytes: usize,
}

impl Default for ReuseConfig {
    fn default() -> Self {
        Self { coalesce: false, cache: None, cache_bytes: 16 << 20 }
    }
}

/// What makes two calls the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallKey([u8; 32]);

impl CallKey {
    /// The key of a call, or `None` when its answer is for its caller alone.
    pub(crate) fn of(tool: &str, arguments: &RawValue, context: &CallContext) -> Option<Self> {
        let is_personal = context.wants_progress
            || context.log_level.is_some()
            || context.input_responses.is_some()
            || context.request_state.is_some()
            || context.meta.as_deref().is_some_and(has_more_than_a_trace);
        if is_personal {
            return None;
        }
        let mut hash = Sha256::new();
        let capabilities = context.capabilities.as_ref().map_or("{}", |raw| raw.get());
        // A server of both eras may answer each in its own way.
        let era = match context.era {
            None => "",
            Some(Era::Legacy) => "legacy",
            Some(Era::Modern) => "modern",
        };
        for part in [tool, arguments.get(), capabilities, era] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Some(Self(hash.finalize().into()))
    }
}

/// Whether `_meta` says anything that could change an answer.
fn has_more_than_a_trace(meta: &RawValue) -> bool {
    let is_trace = |name: &str| [key::TRACEPARENT, key::TRACESTATE, key::BAGGAGE].contains(&name);
    Object::parse(meta).map_or(true, |object| object.iter().any(|(name, _)| !is_trace(name)))
}

/// The answers of one upstream that are used more than once.
#[derive(Debug)]
pub(crate) struct Reuse {
    config: ReuseConfig,
    kept: Mutex<Kept>,
    flights: Mutex<HashMap<CallKey, watch::Receiver<Option<Answer>>>>,
}

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<CallKey, (Instant, Answer)>,
    /// In the order they came; some may be gone from `answers` or be there anew.
    order: VecDeque<(CallKey, Instant)>,
    bytes: usize,
}

impl Reuse {
    /// `None`: nothing is to be used twice.
    pub(crate) fn new(config: ReuseConfig) -> Option<Self> {
        let is_wanted = config.coalesce || config.cache.is_some();
        is_wanted.then(|| Self { config, kept: Mutex::default(), flights: Mutex::default() })
    }

    /// The answer of an identical call, or else of `call`.
    pub(crate) async fn answer(
        &self,
        key: CallKey,
        deadline: Instant,
        call: impl Future<Output = Result<Answer, CallError>>,
    ) -> Result<Answer, CallError> {
        if let Some(kept) = self.kept(key) {
            return Ok(kept.again());
        }
        if !self.config.coalesce {
            return self.keep(key, call.await);
        }
        match self.join(key) {
            Joined::Leader(flight) => {
                let answer = self.keep(key, call.await);
                flight.land(answer.as_ref().ok());
                answer
            }
            Joined::Follower(mut flight) => {
                let landed = timeout_at(deadline, flight.wait_for(Option::is_some)).await;
                let landed =
                    landed.map(|landed| landed.ok().and_then(|answer| answer.as_ref().map(Answer::again)));
                match landed {
                    Ok(Some(answer)) => Ok(answer),
                    // The leader failed or was dropped. Everybody on his own now: one after the other would take too long.
                    Ok(None) => call.await,
                    Err(_) => Err(overdue()),
                }
            }
        }
    }

    fn kept(&self, key: CallKey) -> Option<Answer> {
        let ttl = self.config.cache?;
        let kept = lock(&self.kept);
        let (since, answer) = kept.answers.get(&key)?;
        (since.elapsed() < ttl).then(|| answer.clone())
    }

    fn keep(&self, key: CallKey, answer: Result<Answer, CallError>) -> Result<Answer, CallError> {
        let Some(ttl) = self.config.cache else { return answer };
        if let Ok(answer) = &answer
            && CallToolResult::peek(&answer.result)
                .is_ok_and(|head| outcome::kind_of(&head) == OutcomeKind::Complete)
        {
            lock(&self.kept).put(key, answer.clone(), ttl, self.config.cache_bytes);
        }
        answer
    }

    fn join(&self, key: CallKey) -> Joined<'_> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return Joined::Follower(flight.clone());
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key, receiver);
        Joined::Leader(Flight { reuse: self, key, sender })
    }
}

impl Kept {
    fn put(&mut self, key: CallKey, answer: Answer, ttl: Duration, max_bytes: usize) {
        let now = Instant::now();
        self.bytes += answer.result.get().len();
        self.order.push_back((key, now));
        if let Some((_, replaced)) = self.answers.insert(key, (now, answer)) {
            self.bytes -= replaced.result.get().len();
        }
        while let Some(&(oldest, since)) = self.order.front() {
            let is_over = self.bytes > max_bytes || now - since >= ttl;
            if !is_over {
                break;
            }
            self.order.pop_front();
            // An answer that came anew has a later place in the order.
            if self.answers.get(&oldest).is_some_and(|(kept_since, _)| *kept_since == since)
                && let Some((_, gone)) = self.answers.remove(&oldest)
            {
                self.bytes -= gone.result.get().len();
            }
        }
    }
}

enum Joined<'a> {
    Follower(watch::Receiver<Option<Answer>>),
    Leader(Flight<'a>),
}

/// A call that others may wait for. Dropped without landing, it lets them go.
struct Flight<'a> {
    reuse: &'a Reuse,
    key: CallKey,
    sender: watch::Sender<Option<Answer>>,
}

impl Flight<'_> {
    fn land(self, answer: Option<&Answer>) {
        if let Some(answer) = answer {
            self.sender.send_replace(Some(answer.clone()));
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        // Later calls begin a flight of their own; those who wait already hold the receiver.
        lock(&self.reuse.flights).remove(&self.key);
    }
}

impl Answer {
    /// The same answer for another call, which made no attempt of its own.
    fn again(&self) -> Self {
        Self { attempts: Vec::new(), ..self.clone() }
    }
}

fn overdue() -> CallError {
    let message = "the deadline passed while an identical call was under way";
    let mut error = CallError::new(CallErrorKind::DeadlineExceeded, message);
    error.executed = Executed::Unknown;
    error
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::value::RawValue;

    use super::CallKey;
    use crate::CallContext;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn calls_are_the_same_only_byte_for_byte_and_under_the_same_capabilities() {
        let plain = CallContext::default();
        let key = |tool, arguments: &str, context| CallKey::of(tool, &raw(arguments), context);
        assert_eq!(key("t", "{}", &plain), key("t", "{}", &plain));
        assert_ne!(key("t", "{}", &plain), key("t", "{ }", &plain));
        assert_ne!(key("t", "{}", &plain), key("u", "{}", &plain));
        let capable = CallContext { capabilities: Some(raw(r#"{"roots":{}}"#)), ..CallContext::default() };
        assert_ne!(key("t", "{}", &plain), key("t", "{}", &capable));
    }

    #[test]
    fn what_is_for_one_caller_alone_has_no_key() {
        let personal = [
            CallContext { wants_progress: true, ..CallContext::default() },
            CallContext { log_level: Some("info".to_owned()), ..CallContext::default() },
            CallContext { request_state: Some("s".to_owned()), ..CallContext::default() },
            CallContext { meta: Some(raw(r#"{"example.com/user":1}"#)), ..CallContext::default() },
        ];
        for context in personal {
            assert_eq!(CallKey::of("t", &raw("{}"), &context), None, "{context:?}");
        }
        let traced =
            CallContext { meta: Some(raw(r#"{"traceparent":"00-1-2-01"}"#)), ..CallContext::default() };
        assert!(CallKey::of("t", &raw("{}"), &Arc::new(traced)).is_some());
    }
}
