use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::{HAND_OVER, deadline};

const NOON: u64 = 1_773_342_238_000;

#[tokio::test(start_paused = true)]
async fn the_invocations_deadline_leaves_time_for_the_reply() {
    let wall = UNIX_EPOCH + Duration::from_millis(NOON);
    let now = Instant::now();
    assert_eq!(deadline(NOON + 3000, wall, now), Some(now + Duration::from_secs(3) - HAND_OVER));
    assert_eq!(deadline(NOON + 100, wall, now), Some(now), "too late already, but never in the past");
    assert_eq!(deadline(NOON - 100, wall, now), Some(now));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_no_time_is_none() {
    assert_eq!(deadline(600_000, UNIX_EPOCH + Duration::from_millis(NOON), Instant::now()), None);
}

#[tokio::test]
async fn outside_lambda_the_missing_variable_is_named() {
    assert_eq!(super::missing_variable(|_| false), Some("AWS_LAMBDA_RUNTIME_API"));
    assert_eq!(
        super::missing_variable(|name| name == "AWS_LAMBDA_RUNTIME_API"),
        Some("AWS_LAMBDA_FUNCTION_NAME")
    );
    assert_eq!(super::missing_variable(|_| true), None);
}
