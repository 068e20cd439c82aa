//! Is anybody there? PING in intervals (RFC 9113 §6.7), and the connection is given up when one is not answered.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Asks the peer for signs of life.
pub(super) struct KeepAlive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    is_waiting_for_pong: bool,
}

impl KeepAlive {
    pub(super) fn new(pings: PingPong, interval: Duration, timeout: Duration) -> Self {
        Self { pings, interval, timeout, timer: Box::pin(sleep(interval)), is_waiting_for_pong: false }
    }

    /// Ready once the peer has not answered in time.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_waiting_for_pong {
                // Waiting => (Resting | Dead). A failed ping means that the connection ends; it says so itself.
                if self.pings.poll_pong(cx).is_ready() {
                    self.is_waiting_for_pong = false;
                    self.timer.as_mut().reset(Instant::now() + self.interval);
                    continue;
                }
                return self.timer.as_mut().poll(cx);
            }
            // Resting => Waiting
            std::task::ready!(self.timer.as_mut().poll(cx));
            if self.pings.send_ping(Ping::opaque()).is_ok() {
                self.is_waiting_for_pong = true;
            }
            self.timer.as_mut().reset(Instant::now() + self.timeout);
        }
    }
}
