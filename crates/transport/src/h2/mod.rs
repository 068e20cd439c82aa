//! HTTP/2 on one connection: the task that drives it, exchanges on its streams, their bodies.

mod body;
mod driver;
mod error;
mod exchange;
mod keep_alive;
mod upload;

pub(crate) use body::StreamBody;
pub(crate) use driver::{Link, drive};
pub(crate) use exchange::send;
