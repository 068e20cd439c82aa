use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Idleness, Pipe, Write, Writer};
use crate::upstream::UpstreamError;

struct Nowhere;

impl Write for Nowhere {
    fn write(&self, _: Vec<u8>) -> BoxFuture<'_, Result<(), UpstreamError>> {
        Box::pin(async { Ok(()) })
    }
}

fn pipe() -> Arc<Pipe> {
    Pipe::new(
        Writer::Other(Arc::new(Nowhere)),
        &Arc::default(),
        &TaskTracker::new(),
        CancellationToken::new(),
    )
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// After how long the pipe is idle, if it is within an hour.
async fn idle_after(pipe: &Pipe, after_use: Option<Duration>, unused: Option<Duration>) -> Option<Duration> {
    let start = Instant::now();
    let idle = timeout(seconds(3600), pipe.idle(Idleness { after_use, unused })).await;
    idle.ok().map(|()| start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_idle_after_its_limit_and_lets_nobody_in_then() {
    let pipe = pipe();
    assert_eq!(idle_after(&pipe, Some(seconds(30)), Some(seconds(30))).await, Some(seconds(30)));
    assert!(pipe.is_closed() && pipe.was_idle());
    assert!(pipe.enter(true).is_none());
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_a_channel_is_never_idle() {
    let pipe = pipe();
    drop(pipe.enter(true));
    assert_eq!(idle_after(&pipe, None, None).await, None);
    assert_eq!(idle_after(&pipe, None, Some(seconds(5))).await, None, "a call has been made");
}

#[tokio::test(start_paused = true)]
async fn a_use_starts_the_limit_anew_and_a_listing_does_not() {
    let pipe = pipe();
    let user = Arc::clone(&pipe);
    tokio::spawn(async move {
        drop(user.enter(true));
        sleep(seconds(20)).await;
        drop(user.enter(true));
        loop {
            sleep(seconds(7)).await;
            if user.enter(false).is_none() {
                break;
            }
        }
    });
    sleep(seconds(1)).await;
    // The last use was after 20 s.
    assert_eq!(idle_after(&pipe, Some(seconds(30)), Some(seconds(30))).await, Some(seconds(49)));
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_keeps_the_channel() {
    let pipe = pipe();
    let turn = pipe.enter(true);
    let held = Arc::clone(&pipe);
    tokio::spawn(async move {
        sleep(seconds(100)).await;
        assert!(!held.is_closed());
        drop(turn);
    });
    assert_eq!(idle_after(&pipe, Some(seconds(30)), Some(seconds(30))).await, Some(seconds(130)));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_never_used_has_a_limit_of_its_own_from_its_last_listing() {
    let pipe = pipe();
    advance(seconds(60)).await;
    drop(pipe.enter(false));
    assert_eq!(idle_after(&pipe, None, Some(seconds(5))).await, Some(seconds(5)));
}
