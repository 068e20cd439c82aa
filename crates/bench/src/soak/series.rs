//! The process at several moments, each with nothing under way, and whether it grows.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::transport::resident_kib;

/// Samples taken on the way.
pub(super) const SAMPLES: u64 = 10;

/// The process at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Rounds that have ended by then.
    pub(super) rounds: u64,
    /// Memory held.
    pub(super) resident_kib: u64,
    /// Open file descriptors.
    pub(super) descriptors: usize,
    /// Tasks alive on the runtime.
    pub(super) tasks: usize,
    /// Processes alive that were started, and what those started; the unreaped ones too.
    pub(super) processes: usize,
}

impl Sample {
    /// Now, or as soon as the last processes are gone, which is not later than in 10 s.
    pub(super) async fn take(rounds: u64, mark: &str) -> anyhow::Result<Self> {
        let begun = Instant::now();
        while processes(mark)? > 0 && begun.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self {
            rounds,
            resident_kib: resident_kib()?,
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            processes: processes(mark)?,
        })
    }

    pub(super) fn print(&self) {
        println!(
            "{:>9} {:>9} {:>5} {:>6} {:>9}",
            self.rounds, self.resident_kib, self.descriptors, self.tasks, self.processes
        );
    }
}

pub(super) fn print_head(rounds: &str) {
    println!("{:>9} {:>9} {:>5} {:>6} {:>9}", rounds, "RSS KiB", "fds", "tasks", "processes");
}

/// Fails if anything is left over or grows: no process, no more descriptors and tasks than in the first sample, and no
/// more memory in the last third than in the one before, give or take 5 % and 1 MiB.
pub(super) fn check(series: &[Sample]) -> anyhow::Result<()> {
    let first = series.first().context("no sample")?;
    for sample in series {
        anyhow::ensure!(sample.processes == 0, "processes are left over: {sample:?}");
        let (descriptors, tasks) = (first.descriptors, first.tasks);
        anyhow::ensure!(sample.descriptors <= descriptors, "descriptors pile up: {sample:?} after {first:?}");
        anyhow::ensure!(sample.tasks <= tasks, "tasks pile up: {sample:?} after {first:?}");
    }
    let highest = |part: &[Sample]| part.iter().map(|sample| sample.resident_kib).max().unwrap_or(0);
    let third = series.len() / 3;
    let (middle, last) = (highest(&series[third..2 * third]), highest(&series[2 * third..]));
    anyhow::ensure!(last <= middle + middle / 20 + 1024, "memory rises: {middle} KiB, then {last} KiB");
    Ok(())
}

/// Processes with `mark` among their arguments, and children of ours that nobody has reaped.
fn processes(mark: &str) -> anyhow::Result<usize> {
    let ours = std::process::id().to_string();
    let mut n_found = 0;
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        // A process that ends while it is looked at is none.
        let arguments = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let is_marked = arguments.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes());
        n_found += usize::from(is_marked || is_unreaped_child(&folder, &ours));
    }
    Ok(n_found)
}

fn is_unreaped_child(folder: &std::path::Path, parent: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { return false };
    // The name may hold blanks; the fields after its closing parenthesis do not.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.next() == Some("Z") && fields.next() == Some(parent)
}

#[cfg(test)]
mod tests {
    use super::{Sample, check};

    fn sample(resident_kib: u64, descriptors: usize, tasks: usize, processes: usize) -> Sample {
        Sample { rounds: 1, resident_kib, descriptors, tasks, processes }
    }

    #[test]
    fn a_flat_series_passes_and_each_kind_of_growth_fails() {
        let flat = vec![sample(20_000, 12, 3, 0); 10];
        check(&flat).unwrap();
        for (grown, what) in [
            (sample(30_000, 12, 3, 0), "memory rises"),
            (sample(20_000, 13, 3, 0), "descriptors pile up"),
            (sample(20_000, 12, 4, 0), "tasks pile up"),
            (sample(20_000, 12, 3, 1), "processes are left over"),
        ] {
            let mut series = flat.clone();
            series[9] = grown;
            let error = check(&series).unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
    }
}
