//! End to end: every test arranges scripted servers, a gateway and clients, all in this process, over real sockets.

mod layering;
mod tidy;
