//! The process's metrics recorder.

use std::time::Duration;

use mcp_proxy_engine::{engine, transport};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;

use super::exit::Failure;

/// Upper bounds of latency histograms, in seconds: a millisecond to a minute, denser where proxies live.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// How often histograms are drained; without it they would grow until somebody asks for `/metrics`.
const UPKEEP: Duration = Duration::from_secs(5);

/// The installed recorder's reader, and the task that keeps it small.
pub(crate) struct Metrics {
    pub(crate) handle: PrometheusHandle,
    upkeep: JoinHandle<()>,
}

/// Installs the recorder. Must happen before the engine starts: it keeps its counters' handles.
///
/// # Errors
/// There is one already.
pub(crate) fn install() -> Result<Metrics, Failure> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(|error| Failure::system(format!("metrics: {error}")))?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| Failure::system(format!("metrics: {error}")))?;
    describe();
    let reader = handle.clone();
    let upkeep = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            reader.run_upkeep();
        }
    });
    Ok(Metrics { handle, upkeep })
}

/// Gives every metric its `# HELP`.
fn describe() {
    for metric in engine::METRICS.iter().chain(transport::METRICS) {
        match metric.kind {
            "counter" => metrics::describe_counter!(metric.name, metric.help),
            "gauge" => metrics::describe_gauge!(metric.name, metric.help),
            _ => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}
