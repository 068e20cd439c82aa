use std::time::Duration;

use mpe_mcp_protocol::tool::ToolAnnotations;
use mpe_transport::Sent;
use tokio::time::advance;

use super::{Budget, Decision, Repeatability, RetryConfig, Schedule, decide, table};
use crate::CallErrorKind;

const NO_HINTS: ToolAnnotations =
    ToolAnnotations { read_only: false, destructive: true, idempotent: false, open_world: true };

#[test]
fn the_table_covers_every_combination_once() {
    let rows = table();
    assert_eq!(rows.len(), 9 * 2 * 4);
    for row in &rows {
        let twins = rows.iter().filter(|other| {
            (other.failure, other.repeatability, other.sent) == (row.failure, row.repeatability, row.sent)
        });
        assert_eq!(twins.count(), 1, "{row:?}");
    }
}

#[test]
fn a_call_that_must_run_once_is_sent_again_only_when_it_provably_did_not_run() {
    for row in table().iter().filter(|row| row.repeatability == Repeatability::Once) {
        if row.decision == Decision::Retry {
            assert_eq!(row.sent, Sent::No, "{row:?}");
        }
    }
    let lost = |sent| decide(CallErrorKind::UpstreamLost, Repeatability::Once, sent);
    assert_eq!(lost(Sent::No), Decision::Retry);
    assert_eq!(lost(Sent::Maybe), Decision::GiveUp);
}

#[test]
fn hints_count_only_when_trusted_and_reading_beats_idempotent() {
    let reads = ToolAnnotations { read_only: true, idempotent: true, ..NO_HINTS };
    let idempotent = ToolAnnotations { idempotent: true, ..NO_HINTS };
    assert_eq!(Repeatability::of(reads, true), Repeatability::ReadOnly);
    assert_eq!(Repeatability::of(idempotent, true), Repeatability::Idempotent);
    assert_eq!(Repeatability::of(NO_HINTS, true), Repeatability::Once);
    assert_eq!(Repeatability::of(reads, false), Repeatability::Once);
}

#[tokio::test(start_paused = true)]
async fn pauses_are_drawn_from_zero_to_a_doubling_range_up_to_the_cap() {
    let (first, max) = (Duration::from_millis(100), Duration::from_millis(400));
    let mut longest = [Duration::ZERO; 5];
    for _ in 0..400 {
        let mut schedule = Schedule::full_jitter(first, max);
        for slot in &mut longest {
            *slot = (*slot).max(schedule.next());
        }
    }
    let limits = [100, 200, 400, 400, 400].map(Duration::from_millis);
    for (longest, limit) in longest.into_iter().zip(limits) {
        assert!(longest <= limit + Duration::from_millis(1), "{longest:?} is beyond {limit:?}");
        assert!(longest > limit * 3 / 4, "{longest:?} never came near {limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_schedule_starts_over() {
    let mut schedule = Schedule::steady(Duration::from_millis(250), Duration::from_secs(5));
    for _ in 0..10 {
        schedule.next();
    }
    assert!(schedule.next() > Duration::from_secs(3));
    schedule.reset();
    assert!(schedule.next() <= Duration::from_millis(301));
}

#[tokio::test(start_paused = true)]
async fn the_budget_runs_dry_and_calls_and_time_fill_it_again() {
    let budget = Budget::new(&RetryConfig { budget: 2, calls_per_retry: 10, ..RetryConfig::default() });
    assert!(budget.spend() && budget.spend());
    assert!(!budget.spend(), "two were all");
    for _ in 0..10 {
        budget.earn();
    }
    assert!(budget.spend(), "ten calls earn one");
    assert!(!budget.spend());
    advance(Duration::from_secs(1)).await;
    assert!(budget.spend(), "a second brings one");
    advance(Duration::from_secs(3600)).await;
    assert!(budget.spend() && budget.spend());
    assert!(!budget.spend(), "never more than its capacity");
}
