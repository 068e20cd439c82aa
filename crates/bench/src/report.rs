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
    /// CPU time of the measured process and its children per request; 0 for `direct`.
    pub cpu_us_per_req: f64,
    /// The same in the round in which it was least: what others on the machine took away is not in it.
    pub cpu_us_least: f64,
    /// The CPU per request beside the yardstick's, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ratio: Option<Ratio>,
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

/// How many times the yardstick's CPU a request took, round by round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The yardstick.
    pub to: String,
    /// The median of the rounds.
    pub median: f64,
    /// The least and the most of them.
    pub range: (f64, f64),
    /// Each one's cheapest round beside the other's.
    pub of_least: f64,
}

impl Ratio {
    /// What came of `rounds`, each of them the CPU per request of the measured and of the yardstick.
    ///
    /// Each round is compared on its own, since a machine that others use is faster in one minute than in the next.
    pub fn of(to: &str, rounds: &[(f64, f64)]) -> Option<Self> {
        let rounds = || rounds.iter().filter(|(_, yardstick)| *yardstick > 0.0);
        let mut ratios: Vec<f64> = rounds().map(|(ours, yardstick)| ours / yardstick).collect();
        ratios.sort_by(f64::total_cmp);
        let (&least, &most) = (ratios.first()?, ratios.last()?);
        let median = f64::midpoint(ratios[(ratios.len() - 1) / 2], ratios[ratios.len() / 2]);
        let of_least = smallest(rounds().map(|round| round.0)) / smallest(rounds().map(|round| round.1));
        Some(Self { to: to.to_owned(), median, range: (least, most), of_least })
    }
}

/// The smallest of them; infinity if there is none.
pub fn smallest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (least, most) = self.range;
        write!(f, "{:.2}x {} ({least:.2} to {most:.2}; least {:.2})", self.median, self.to, self.of_least)
    }
}

/// Prints the heading.
pub fn heading() {
    println!(
        "{:<4} {:<9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>6} {:>8} {:>7} {:>6}  ratio of CPU",
        "",
        "gateway",
        "req/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU us/req",
        "least",
        "RSS MiB",
        "errors",
        "conns"
    );
}

/// Prints one row.
pub fn line(row: &Row) {
    let ratio = row.cpu_ratio.as_ref().map(Ratio::to_string).unwrap_or_default();
    println!(
        "{:<4} {:<9} {:>9.0} {:>9.3} {:>9.3} {:>9.3} {:>10.1} {:>6.1} {:>8.1} {:>7} {:>6}  {ratio}",
        row.scenario,
        row.gateway,
        row.rps,
        row.p50_ms,
        row.p99_ms,
        row.p999_ms,
        row.cpu_us_per_req,
        row.cpu_us_least,
        row.rss_peak_mib,
        row.errors,
        row.upstream_connections
    );
    if let Some(error) = &row.first_error {
        println!("     first error: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::Ratio;

    #[test]
    fn a_ratio_is_the_median_of_its_rounds_and_tells_how_far_they_lie_apart() {
        let ratio =
            Ratio::of("mcp", &[(30.0, 20.0), (60.0, 24.0), (26.0, 20.0), (5.0, 0.0)]).expect("rounds");
        assert_eq!(ratio.to_string(), "1.50x mcp (1.30 to 2.50; least 1.30)");
        assert_eq!(Ratio::of("mcp", &[(3.0, 2.0), (4.0, 2.0)]).expect("two rounds").median, 1.75);
        assert_eq!(Ratio::of("mcp", &[]), None, "nothing was measured");
    }
}
