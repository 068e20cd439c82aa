//! End to end: every test arranges scripted servers, a gateway and clients, all in this process, over real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect by unwrapping it, as tests do")]

mod calls;
mod corpora;
mod deaths;
mod discovery;
mod eras;
mod faces;

mod fixtures;
mod fuzz;
mod interop;
mod layering;
mod life;
mod matrix;
mod replicas;
mod requests;
mod retries;
mod rounds;
mod spec;
mod storm;
mod tidy;
mod wires;
