//! Whatever goes wrong, a call that must not run twice does not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mpe_engine::upstream::{Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{CallErrorKind, Executed, Target, UpstreamConfig};
use mpe_mcp_protocol::jsonrpc::ErrorObject;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::Sent;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::{collection, prop_assert, prop_assert_eq};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::scripted::{call_with, engine, hinted, raw, tool, within};

/// What goes wrong with one request. `runs` says whether the tool runs before it does.
#[derive(Clone, Debug)]
enum Fault {
    Hang { runs: bool },
    Lost { runs: bool },
    None,
    Refused,
    Rejected { runs: bool },
    Slow(u64),
    Status { runs: bool },
    Unreachable,
}

/// Tells the truth about what it knows, and counts what ran.
struct Faulty {
    faults: Mutex<Vec<Fault>>,
    executions: Mutex<HashMap<i64, usize>>,
}

impl Faulty {
    fn run(&self, id: i64, runs: bool) {
        if runs {
            *self.executions.lock().unwrap().entry(id).or_default() += 1;
        }
    }

    async fn call(&self, id: i64) -> Result<UpstreamReply, UpstreamError> {
        let fault = self.faults.lock().unwrap().pop().unwrap_or(Fault::None);
        let fail = |kind, sent| {
            Err(UpstreamError { kind, sent, message: String::new(), retry_after: None, source: None })
        };
        match fault {
            Fault::Hang { runs } => {
                self.run(id, runs);
                std::future::pending().await
            }
            Fault::Lost { runs } => {
                self.run(id, runs);
                fail(CallErrorKind::UpstreamLost, Sent::Maybe)
            }
            Fault::Refused => fail(CallErrorKind::UpstreamLost, Sent::No),
            Fault::Rejected { runs } => {
                self.run(id, runs);
                let error = ErrorObject { code: -32603, message: String::new(), data: None };
                Ok(UpstreamReply { outcome: Err(error), protocol: None, address: None })
            }
            Fault::Status { runs } => {
                self.run(id, runs);
                fail(CallErrorKind::UpstreamStatus, Sent::Maybe)
            }
            Fault::Unreachable => fail(CallErrorKind::UpstreamUnreachable, Sent::No),
            Fault::Slow(_) | Fault::None => {
                self.run(id, true);
                if let Fault::Slow(millis) = fault {
                    sleep(Duration::from_millis(millis)).await;
                }
                Ok(UpstreamReply {
                    outcome: Ok(raw(&json!({ "content": [] }))),
                    protocol: None,
                    address: None,
                })
            }
        }
    }
}

impl Upstream for Faulty {
    fn introduce(&self, _: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(async {
            Ok(Introduction {
                version: ProtocolVersion::LATEST,
                capabilities: Arc::from(raw(&json!({ "tools": {} }))),
                server_info: None,
                instructions: None,
            })
        })
    }

    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(async move {
            if request.method == "tools/list" {
                let tools = json!({ "tools": [tool("write"), hinted("read", "readOnlyHint")] });
                return Ok(UpstreamReply { outcome: Ok(raw(&tools)), protocol: None, address: None });
            }
            let params: Value = serde_json::from_str(request.params.unwrap().get()).unwrap();
            self.call(params["arguments"]["id"].as_i64().unwrap()).await
        })
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let runs = any::<bool>();
    let fault = prop_oneof![
        runs.prop_map(|runs| Fault::Hang { runs }),
        runs.prop_map(|runs| Fault::Lost { runs }),
        proptest::strategy::Just(Fault::None),
        proptest::strategy::Just(Fault::Refused),
        runs.prop_map(|runs| Fault::Rejected { runs }),
        (0..3000_u64).prop_map(Fault::Slow),
        runs.prop_map(|runs| Fault::Status { runs }),
        proptest::strategy::Just(Fault::Unreachable),
    ];
    collection::vec(fault, 0..60)
}

proptest! {
    #[test]
    fn no_call_that_must_run_once_runs_twice(
        faults in faults(),
        deadlines in collection::vec(1..5000_u64, 1..12),
        max_attempts in 1..6_u32,
        breaks in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let faulty = Arc::new(Faulty { faults: Mutex::new(faults), executions: Mutex::default() });
        let results = runtime.block_on(async {
            let mut config =
                UpstreamConfig::new("a", Target::Custom(Arc::clone(&faulty) as Arc<dyn Upstream>));
            config.retry.max_attempts = max_attempts;
            if !breaks {
                config.breaker.failures = 0;
            }
            let engine = engine(vec![config]).await;
            let calls = deadlines.iter().enumerate().map(|(id, &millis)| {
                let call = call_with("write", &json!({ "id": id }));
                engine.call(within(call, Duration::from_millis(millis)))
            });
            join_all(calls).await
        });
        let executions = faulty.executions.lock().unwrap();
        for (id, result) in results.iter().enumerate() {
            let n = executions.get(&i64::try_from(id).unwrap()).copied().unwrap_or_default();
            prop_assert!(n <= 1, "call {} ran {} times: {:?}", id, n, result);
            match result {
                Ok(_) => prop_assert_eq!(n, 1),
                Err(error) if error.executed == Executed::No => prop_assert_eq!(n, 0, "{:?}", error),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn what_is_said_not_to_have_run_did_not_run_for_repeatable_calls_either(
        faults in faults(),
        deadlines in collection::vec(1..5000_u64, 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let faulty = Arc::new(Faulty { faults: Mutex::new(faults), executions: Mutex::default() });
        let results = runtime.block_on(async {
            let config = UpstreamConfig::new("a", Target::Custom(Arc::clone(&faulty) as Arc<dyn Upstream>));
            let engine = engine(vec![config]).await;
            let calls = deadlines.iter().enumerate().map(|(id, &millis)| {
                let call = call_with("read", &json!({ "id": id }));
                engine.call(within(call, Duration::from_millis(millis)))
            });
            join_all(calls).await
        });
        let executions = faulty.executions.lock().unwrap();
        for (id, result) in results.iter().enumerate() {
            let n = executions.get(&i64::try_from(id).unwrap()).copied().unwrap_or_default();
            if let Err(error) = result {
                prop_assert!(error.executed == Executed::Unknown || n == 0, "{:?} ran {} times", error, n);
            }
        }
    }
}
