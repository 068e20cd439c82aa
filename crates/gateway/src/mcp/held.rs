//! Calls of legacy upstreams that are held open for modern clients.
//!
//! A legacy upstream asks while its call runs; a modern client answers with its next request. Between the two the call
//! is kept here, under a handle that stands sealed in the client's `requestState`: it is not run again, it goes on.
//! How many are held and for how long is bounded; what expires is cancelled upstream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mpe_engine::EndpointId;
use mpe_mcp_protocol::capability::may_ask;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, code};
use serde_json::value::RawValue;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::call::Operation;
use super::events::StreamEvents;
use super::exchange::{Ask, Holder, Running, Step};
use super::mrtr::State;
use super::rpc::{Answer, Refusal, modern_result};
use super::url;
use crate::Gateway;
use crate::json::{Members, ObjectWriter};
use crate::seal::random_name;

/// Calls held at a time.
const MAX_HELD: usize = 1000;

/// Questions that come this close together are asked in one round.
const TOGETHER: Duration = Duration::from_millis(20);

/// Every call that waits for its client's next request.
#[derive(Default)]
pub(crate) struct HeldCalls {
    by_handle: Mutex<HashMap<String, Held>>,
}

/// A call that waits.
pub(crate) struct Held {
    running: Running,
    asked: Vec<(String, Ask)>,
    /// The call's ear, which the next request's own wishes are put into.
    pub(crate) ear: Arc<StreamEvents>,
    rounds: u64,
    expiry: AbortHandle,
}

/// Holds one call as often as it asks.
pub(crate) struct CallHolder {
    pub(crate) gateway: Gateway,
    pub(crate) endpoint: EndpointId,
    pub(crate) operation: Arc<Operation>,
    pub(crate) ear: Arc<StreamEvents>,
    /// Questions asked in earlier rounds that the client left open.
    pub(crate) open: Mutex<Vec<(String, Ask)>>,
    pub(crate) rounds: u64,
}

impl HeldCalls {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        // Nothing here can be left half-done by a panic.
        self.by_handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels every call that is held: nobody could resume it any more.
    pub(crate) fn release(&self) {
        let held = std::mem::take(&mut *self.lock());
        for held in held.values() {
            held.expiry.abort();
        }
    }

    /// The call of a handle, taken out for its client's next request.
    ///
    /// # Errors
    /// -32603: it has expired, was taken already, or is held by another replica. It is never run again.
    pub(crate) fn take(&self, handle: &str) -> Result<Held, Refusal> {
        let held = self.lock().remove(handle);
        if let Some(held) = &held {
            held.expiry.abort();
        }
        held.ok_or_else(lost)
    }
}

/// -32603 for a call that is gone. It is never run again: it may have had effects.
pub(crate) fn lost() -> Refusal {
    Refusal::new(code::INTERNAL_ERROR, "the call that asked is not held here any more; start it anew")
}

impl Held {
    /// Hands the client's answers to the questions they belong to. Returns the call and what was not answered. What the
    /// client does not declare any more that it can be asked is refused.
    pub(crate) fn answer(
        mut self,
        responses: Option<&RawValue>,
        declared: Option<&RawValue>,
    ) -> (Running, Vec<(String, Ask)>, u64) {
        let responses = responses.and_then(Members::of).unwrap_or_default();
        let mut open = Vec::new();
        for (key, ask) in self.asked.drain(..) {
            match responses.get(&key) {
                // The upstream may have given up on the question meanwhile.
                Some(response) => drop(ask.reply.send(Ok(response.to_owned()))),
                None => match may_ask(declared, &ask.method, ask.params.as_deref()) {
                    Ok(()) => open.push((key, ask)),
                    Err(why) => drop(ask.reply.send(Err(ErrorObject::new(code::METHOD_NOT_FOUND, why)))),
                },
            }
        }
        (self.running, open, self.rounds)
    }
}

impl CallHolder {
    /// Asks again what the client left open, as if the upstream had asked just now.
    pub(crate) fn ask_again(&self, running: Running) -> Answer {
        self.keep(running, self.take_open())
    }

    fn take_open(&self) -> Vec<(String, Ask)> {
        std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn round(&self, mut running: Running, first: Ask) -> Answer {
        let mut asked = self.take_open();
        let add = |ask: Ask, asked: &mut Vec<(String, Ask)>| {
            let key = format!("input-{}-{}", self.rounds + 1, asked.len() + 1);
            asked.push((key, ask));
        };
        add(first, &mut asked);
        let until = Instant::now() + TOGETHER;
        while let Ok(step) = tokio::time::timeout_at(until, running.step()).await {
            match step {
                Step::Ask(ask) => add(ask, &mut asked),
                // There is no stream to say it on, and the answer is what this round waits for.
                Step::Message(_) => {}
                Step::Done(answer) => return answer,
            }
        }
        self.keep(running, asked)
    }

    /// Puts the call away and answers with what it asks.
    fn keep(&self, running: Running, asked: Vec<(String, Ask)>) -> Answer {
        let mut requests = ObjectWriter::new();
        for (key, ask) in &asked {
            let mut request = ObjectWriter::new();
            request.string("method", &ask.method);
            let unnamed = url::without_id(&ask.method, ask.params.as_deref());
            if let Some(params) = unnamed.as_ref().or(ask.params.as_ref()) {
                request.raw("params", params.get());
            }
            requests.raw(key, request.finish_raw().get());
        }
        let lifetime = self.gateway.config().input_lifetime;
        let handle = random_name();
        let held = {
            let gateway = self.gateway.clone();
            let handle = handle.clone();
            // Owned by the entry: taking the call out aborts it.
            let expiry = tokio::spawn(async move {
                tokio::time::sleep(lifetime).await;
                if gateway.held().lock().remove(&handle).is_some() {
                    tracing::debug!("a held call was not resumed in time and is cancelled");
                }
            });
            let expiry = expiry.abort_handle();
            Held { running, asked, ear: Arc::clone(&self.ear), rounds: self.rounds + 1, expiry }
        };
        {
            let mut by_handle = self.gateway.held().lock();
            let refusal = if by_handle.len() >= MAX_HELD {
                Some("too many calls wait for input")
            } else if self.gateway.draining().is_cancelled() {
                Some("the call wants input, and the gateway is about to stop")
            } else {
                None
            };
            if let Some(refusal) = refusal {
                held.expiry.abort();
                return Refusal::new(code::INTERNAL_ERROR, refusal).into();
            }
            by_handle.insert(handle.clone(), held);
        }
        let replica = self.gateway.replicas().map(|replicas| replicas.name.clone());
        let state = State::held(handle, replica, self.operation.digest(), lifetime);
        let mut result = ObjectWriter::new();
        result.string("resultType", "input_required").raw("inputRequests", requests.finish_raw().get());
        result.string("requestState", &state.seal(self.gateway.sealer(), self.endpoint.as_str()));
        match modern_result(result.finish_raw(), None, &[]) {
            Ok(pieces) => Answer { status: http::StatusCode::OK, outcome: Ok(pieces) },
            Err(refusal) => refusal.into(),
        }
    }
}

impl Holder for CallHolder {
    fn hold(self: Arc<Self>, running: Running, ask: Ask) -> BoxFuture<'static, Answer> {
        async move { self.round(running, ask).await }.boxed()
    }
}

impl std::fmt::Debug for HeldCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldCalls").field("held", &self.lock().len()).finish()
    }
}
