//! Many calls at once: results in input order, errors as values.

use std::collections::HashMap;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::{CallError, CallErrorKind, EndpointId, Engine, Limits, ToolCall, ToolOutcome};

/// What a call came to.
type Ended = Result<ToolOutcome, CallError>;

impl Engine {
    /// Runs the calls inside this task: the concurrent ones each on its own, those of an endpoint without concurrency one
    /// after the other.
    pub(crate) async fn run_batch(&self, calls: Vec<ToolCall>) -> Vec<Ended> {
        let mut results: Vec<Option<Ended>> = calls.iter().map(|_| None).collect();
        let mut lanes = FuturesUnordered::new();
        for (indexes, calls) in self.lanes(calls, &mut results) {
            lanes.push(self.run_lane(indexes, calls));
        }
        while let Some(ended) = lanes.next().await {
            for (index, result) in ended {
                results[index] = Some(result);
            }
        }
        results.into_iter().map(|result| result.expect("every call is in one lane")).collect()
    }

    /// Sorts the calls into lanes, and answers those that go nowhere.
    fn lanes(&self, calls: Vec<ToolCall>, results: &mut [Option<Ended>]) -> Vec<(Vec<usize>, Vec<ToolCall>)> {
        let n_calls = calls.len();
        let mut limits: HashMap<EndpointId, Option<Limits>> = HashMap::new();
        let mut sequential: HashMap<EndpointId, usize> = HashMap::new();
        let mut lanes: Vec<(Vec<usize>, Vec<ToolCall>)> = Vec::new();
        for (index, call) in calls.into_iter().enumerate() {
            let limits = limits.entry(call.endpoint.clone()).or_insert_with_key(|id| self.limits(id));
            let Some(limits) = limits else {
                results[index] = Some(Err(unknown_endpoint(&call.endpoint)));
                continue;
            };
            if n_calls > limits.max_batch {
                results[index] = Some(Err(too_many(n_calls, limits.max_batch)));
                continue;
            }
            if limits.concurrent {
                lanes.push((vec![index], vec![call]));
                continue;
            }
            let lane = *sequential.entry(call.endpoint.clone()).or_insert(lanes.len());
            if lane == lanes.len() {
                lanes.push((Vec::new(), Vec::new()));
            }
            lanes[lane].0.push(index);
            lanes[lane].1.push(call);
        }
        lanes
    }

    async fn run_lane(&self, indexes: Vec<usize>, calls: Vec<ToolCall>) -> Vec<(usize, Ended)> {
        let mut ended = Vec::with_capacity(calls.len());
        for (index, call) in indexes.into_iter().zip(calls) {
            ended.push((index, self.call(call).await));
        }
        ended
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
