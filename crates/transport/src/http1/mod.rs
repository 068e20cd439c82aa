//! HTTP/1.1 on one connection, for peers without HTTP/2: one exchange at a time.

mod driver;
mod exchange;
mod message;

pub(crate) use driver::{Link, drive};
pub(crate) use exchange::{MessageBody, send};
