//! Rows, their ratios, and how they are printed.

use serde::Serialize;

/// One measured cell.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario's letter.
    pub scenario: String,
    /// How it was asked: era, wire in front, wire behind, and what was switched on beside.
    pub variant: String,
    /// Who was measured: `engine`, a yardstick, `direct`, or a peer's name.
    pub gateway: String,
    /// Answers per second.
    pub rps: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// CPU time of the measured process per request; 0 for `direct`.
    pub cpu_us_per_req: f64,
    /// The most memory it held.
    pub rss_peak_mib: f64,
    /// Answers that were not what was expected.
    pub errors: u64,
    /// Connections the upstream accepted while this was measured.
    pub upstream_connections: u64,
    /// The first error, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

/// Prints the heading.
pub fn heading() {
    println!(
        "{:<4} {:<9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>8} {:>7} {:>6}  ratio of CPU",
        "", "gateway", "req/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU us/req", "RSS MiB", "errors", "conns"
    );
}

/// Prints one row, with its ratio to `yardstick` where there is one.
pub fn line(row: &Row, yardstick: Option<&Row>) {
    let ratio = match yardstick {
        Some(base) if base.cpu_us_per_req > 0.0 && row.cpu_us_per_req > 0.0 => {
            format!("{:.2}x {}", row.cpu_us_per_req / base.cpu_us_per_req, base.gateway)
        }
        _ => String::new(),
    };
    println!(
        "{:<4} {:<9} {:>9.0} {:>9.3} {:>9.3} {:>9.3} {:>10.1} {:>8.1} {:>7} {:>6}  {ratio}",
        row.scenario,
        row.gateway,
        row.rps,
        row.p50_ms,
        row.p99_ms,
        row.p999_ms,
        row.cpu_us_per_req,
        row.rss_peak_mib,
        row.errors,
        row.upstream_connections
    );
    if let Some(error) = &row.first_error {
        println!("     first error: {error}");
    }
}
