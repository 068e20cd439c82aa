//! Many calls at once: results as they finish or in input order, errors as values.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::{CallError, CallErrorKind, EndpointId, Engine, Executed, Limits, ToolCall, ToolOutcome};

/// What a call came to.
type Ended = Result<ToolOutcome, CallError>;

/// What one call of a batch came to.
#[derive(Debug)]
pub struct BatchResult {
    /// The place of the call in what was handed in, from 0.
    pub index: usize,
    /// What it came to.
    pub outcome: Result<ToolOutcome, CallError>,
}

/// The results of a batch as they finish, each exactly once. Made by [`Engine::call_many_stream`].
///
/// The calls run inside the task that polls the stream; nothing goes on while nobody polls. Where the reader may be slow (a
/// socket), poll from a task of its own and hand the results on through a bounded channel.
///
/// Dropping the stream cancels every call that is still under way.
#[must_use = "nothing is called before the stream is polled"]
pub struct BatchStream {
    engine: Engine,
    /// Answers of calls that go nowhere.
    refused: VecDeque<BatchResult>,
    lanes: FuturesUnordered<BoxFuture<'static, (BatchResult, Lane)>>,
    cancel: BatchCancel,
    unanswered: usize,
}

/// Cancels calls of one batch, from anywhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BatchCancel {
    all: CancellationToken,
    each: std::sync::Arc<[CancellationToken]>,
}

/// Calls that run one after the other: a single one where the endpoint allows concurrency.
type Lane = VecDeque<(usize, ToolCall)>;

impl Engine {
    /// Runs the calls inside this task: the concurrent ones each on its own, those of an endpoint without concurrency one
    /// after the other.
    pub(crate) async fn run_batch(&self, calls: Vec<ToolCall>) -> Vec<Ended> {
        let mut results: Vec<Option<Ended>> = calls.iter().map(|_| None).collect();
        let mut ended = BatchStream::new(self.clone(), calls);
        while let Some(BatchResult { index, outcome }) = ended.next().await {
            results[index] = Some(outcome);
        }
        results.into_iter().map(|result| result.expect("every call is answered once")).collect()
    }
}

// === impl BatchStream ===

impl BatchStream {
    pub(crate) fn new(engine: Engine, calls: Vec<ToolCall>) -> Self {
        let all = CancellationToken::new();
        let each = calls.iter().map(|_| all.child_token()).collect();
        let mut stream = Self {
            refused: VecDeque::new(),
            lanes: FuturesUnordered::new(),
            cancel: BatchCancel { all, each },
            unanswered: calls.len(),
            engine,
        };
        for lane in stream.sort(calls) {
            stream.go_on(lane);
        }
        stream
    }

    /// What cancels calls of this batch while somebody else polls the stream.
    pub fn canceller(&self) -> BatchCancel {
        self.cancel.clone()
    }

    /// How many results are still to come.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Sorts the calls into lanes, and answers those that go nowhere.
    fn sort(&mut self, calls: Vec<ToolCall>) -> Vec<Lane> {
        let n_calls = calls.len();
        let mut limits: HashMap<EndpointId, Option<Limits>> = HashMap::new();
        let mut sequential: HashMap<EndpointId, usize> = HashMap::new();
        let mut lanes: Vec<Lane> = Vec::new();
        for (index, call) in calls.into_iter().enumerate() {
            let limits = limits.entry(call.endpoint.clone()).or_insert_with_key(|id| self.engine.limits(id));
            let refusal = match limits {
                None => Some(unknown_endpoint(&call.endpoint)),
                Some(limits) if n_calls > limits.max_batch => Some(too_many(n_calls, limits.max_batch)),
                Some(_) => None,
            };
            if let Some(error) = refusal {
                self.refused.push_back(BatchResult { index, outcome: Err(error) });
                continue;
            }
            if limits.as_ref().is_some_and(|limits| limits.concurrent) {
                lanes.push(Lane::from([(index, call)]));
                continue;
            }
            let lane = *sequential.entry(call.endpoint.clone()).or_insert(lanes.len());
            if lane == lanes.len() {
                lanes.push(Lane::new());
            }
            lanes[lane].push_back((index, call));
        }
        lanes
    }

    /// Begins the next call of a lane, if there is one.
    fn go_on(&self, mut lane: Lane) {
        let Some((index, call)) = lane.pop_front() else { return };
        let engine = self.engine.clone();
        let cancelled = self.cancel.each[index].clone();
        self.lanes.push(Box::pin(async move {
            if cancelled.is_cancelled() {
                return (BatchResult { index, outcome: Err(cancelled_call(Executed::No)) }, lane);
            }
            let outcome = cancelled.run_until_cancelled(engine.call(call)).await;
            // Where the call was when it was dropped, nobody can say any more.
            let outcome = outcome.unwrap_or_else(|| Err(cancelled_call(Executed::Unknown)));
            (BatchResult { index, outcome }, lane)
        }));
    }
}

impl Stream for BatchStream {
    type Item = BatchResult;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<BatchResult>> {
        let result = match self.refused.pop_front() {
            Some(refused) => Some(refused),
            None => ready!(self.lanes.poll_next_unpin(context)).map(|(result, rest)| {
                self.go_on(rest);
                result
            }),
        };
        self.unanswered -= usize::from(result.is_some());
        Poll::Ready(result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.unanswered, Some(self.unanswered))
    }
}

impl std::fmt::Debug for BatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchStream").field("unanswered", &self.unanswered).finish_non_exhaustive()
    }
}

// === impl BatchCancel ===

impl BatchCancel {
    /// Cancels the call at that place. Its result is [`Cancelled`](CallErrorKind::Cancelled), unless it has ended already;
    /// the others go on.
    pub fn one(&self, index: usize) {
        if let Some(token) = self.each.get(index) {
            token.cancel();
        }
    }

    /// Cancels every call that has not ended.
    pub fn all(&self) {
        self.all.cancel();
    }
}

pub(crate) fn unknown_endpoint(id: &EndpointId) -> CallError {
    CallError::new(CallErrorKind::UnknownEndpoint, format!("no endpoint '{id}'"))
}

fn too_many(n_calls: usize, limit: usize) -> CallError {
    let message = format!("the batch has {n_calls} calls; this endpoint takes {limit} at once");
    let mut error = CallError::new(CallErrorKind::Overloaded, message);
    error.blame = crate::Blame::Caller;
    error
}

fn cancelled_call(executed: Executed) -> CallError {
    let mut error = CallError::new(CallErrorKind::Cancelled, "the call was cancelled by whoever made it");
    error.executed = executed;
    error
}
