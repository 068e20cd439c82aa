//! The rows of one sitting as pictures: what a request costs beside the yardstick, and how long it takes.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use plotters::prelude::{
    ChartBuilder, Color as _, IntoDrawingArea as _, IntoFont as _, RGBColor, Rectangle, SVGBackend, Text,
    WHITE,
};

use crate::report::Row;

/// One bar: what it stands for, and how high it is.
struct Bar {
    label: String,
    value: f64,
    color: RGBColor,
}

/// The colours of the engine, of whatever else was measured, and of the line that marks the yardstick.
const OURS: RGBColor = RGBColor(0, 98, 155);
const OTHERS: RGBColor = RGBColor(160, 160, 160);

/// Writes `cpu.svg` and `latency.svg` into `folder`.
///
/// # Errors
/// The folder cannot be written to.
pub fn draw(rows: &[Row], folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // A request of scenario D is a batch of up to 500 calls, beside which no other bar could be seen.
    let is_measured =
        |row: &&Row| row.cpu_us_per_req > 0.0 && row.rps > 0.0 && !row.scenario.starts_with('D');
    let cpu: Vec<Bar> = rows.iter().filter(is_measured).map(|row| bar(row, row.cpu_us_per_req)).collect();
    chart(&folder.join("cpu.svg"), "CPU per request, µs", &cpu)?;
    let latency: Vec<Bar> = rows.iter().filter(is_measured).map(|row| bar(row, row.p50_ms)).collect();
    chart(&folder.join("latency.svg"), "median latency, ms", &latency)
}

fn bar(row: &Row, value: f64) -> Bar {
    let is_ours = row.gateway == "engine";
    Bar {
        label: format!("{} {} ({})", row.scenario, row.gateway, row.variant),
        value,
        color: if is_ours { OURS } else { OTHERS },
    }
}

/// Horizontal bars, one a line, each with its value at its end.
fn chart(path: &Path, title: &str, bars: &[Bar]) -> anyhow::Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    let n_bars = i32::try_from(bars.len()).context("too many rows for one picture")?;
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let height = 60 + 22 * u32::try_from(bars.len())?;
    let root = SVGBackend::new(path, (900, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 16).into_font())
        .margin(10)
        .x_label_area_size(0)
        .y_label_area_size(0)
        // Labels stand on the left, in the part below zero.
        .build_cartesian_2d(-longest * 0.6..longest * 1.15, n_bars..0)?;
    for (line, bar) in (0..).zip(bars) {
        let area = Rectangle::new([(0.0, line), (bar.value, line + 1)], bar.color.mix(0.85).filled());
        let font = || ("sans-serif", 12).into_font();
        let label = Text::new(bar.label.clone(), (-longest * 0.6, line), font());
        let value = Text::new(format!("{:.2}", bar.value), (bar.value + longest * 0.01, line), font());
        chart.draw_series([area])?;
        chart.draw_series([label, value])?;
    }
    root.present().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::report::Row;

    #[test]
    fn every_measured_row_is_in_the_picture() {
        let row = |gateway: &str, cpu| Row {
            scenario: "A".to_owned(),
            variant: "modern h2c>h2c".to_owned(),
            gateway: gateway.to_owned(),
            rps: 1000.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            p999_ms: 3.0,
            cpu_us_per_req: cpu,
            cpu_us_least: cpu,
            cpu_ratio: None,
            rss_peak_mib: 10.0,
            errors: 0,
            upstream_connections: 1,
            first_error: None,
        };
        let folder = std::env::temp_dir().join(format!("mpe-bench-plot-{}", std::process::id()));
        draw(&[row("direct", 0.0), row("mcp", 20.0), row("engine", 30.0)], &folder).expect("drawn");
        let picture = std::fs::read_to_string(folder.join("cpu.svg")).expect("a picture");
        assert!(picture.contains("A engine (modern h2c&gt;h2c)"), "{picture}");
        assert!(picture.contains("30.00") && !picture.contains("A direct"));
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
