//! Bytes to a peer and back: a multiplexing HTTP/2 connection pool over rustls, with HTTP/1.1 fallback.
//!
//! The crate knows nothing of JSON or MCP and never sends anything twice. What it can know about a failed
//! exchange it says: see [`Error::sent`].

mod config;
mod error;
mod origin;
mod pool;

pub use config::{PoolConfig, Preset, TlsConfig};
pub use error::{Error, ErrorKind, Sent};
pub use origin::{Origin, Scheme, Wire};
pub use pool::{Body, ConnectionId, ExchangeInfo, OriginSnapshot, Pool, PoolSnapshot, Protocol};
