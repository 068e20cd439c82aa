//! What a carrier other than our own sockets may say of a request, through the request's extensions.

use tokio::time::Instant;

/// When whoever carried the request stops waiting for its answer. The earlier of this and any other deadline counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// What carried a request that did not come over a socket of ours. Absent: a socket did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// An HTTP request relayed by a service that addressed us itself: `Host` and `Origin` are not checked, because no
    /// browser can reach us by another name.
    Http,
    /// A bare body without headers of its own: beyond that, MCP's headers are not compared with it.
    Message,
}
