//! Bytes to a peer and back.
#![doc = include_str!("../README.md")]

mod client;
mod pool;

mod connect;
mod dial;
mod gather;
mod proxy;
mod reach;
mod tls;

mod h2;
mod http1;

pub mod stdio;

mod body;
mod control;
mod deadline;
mod request;

mod config;
mod error;
mod info;
mod metrics;
mod origin;

pub use body::Body;
pub use client::{ExchangeOptions, Pool};
pub use config::{PoolConfig, Preset, TlsConfig};
pub use connect::{ByteStream, Dial, Dialing};
pub use deadline::BodyDeadline;
pub use error::{Error, ErrorKind, Sent};
pub use gather::{Gathered, Turns, gather};
pub use info::{ConnectTimes, ConnectionId, ExchangeInfo, OriginSnapshot, PoolSnapshot, Protocol};
pub use metrics::{METRICS, Metric};
pub use origin::{Origin, Scheme, Wire};
pub use proxy::ProxyConfig;
pub use reach::is_public;
