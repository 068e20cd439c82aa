//! A child process as a peer: lines on its standard input and output.
//!
//! What the lines mean, and whether a process that ended is started again, is the caller's business.

mod lines;
mod process;
mod tail;

pub use lines::{LineReader, LineWriter, lines_of};
pub use process::{InheritEnv, StdioConfig, StdioProcess};
