//! The transport against peers that follow a script. One file per subject, one test per sentence.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the finding")]

mod support;

mod crowd;
mod endings;
mod h2_exchange;
mod keep_alive;
mod metrics;
mod pooling;
mod proxy;
mod stdio;
mod streaming;
mod tls;
