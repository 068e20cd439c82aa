//! The engine through its front door, in front of scripted upstreams and on paused time.

mod batch;
mod catalogue;
mod dispatch;
mod retry;
mod scripted;
