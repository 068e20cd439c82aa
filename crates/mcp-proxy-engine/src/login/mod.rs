//! Logging in at servers: where logins are kept, and who is asked for one.
//!
//! The engine speaks OAuth and touches neither files nor environment; this is its reach into both.

mod absent;
mod attempt;
mod browser;
mod file_store;
mod secret;

pub use absent::Absent;
pub use attempt::{LoginError, log_in, log_out};
pub use browser::Browser;
pub use file_store::{FileTokenStore, default_folder};
pub use secret::{FileSecret, GivenSecret};
