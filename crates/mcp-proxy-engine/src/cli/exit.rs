//! How a command ends.

use std::process::ExitCode;

use mcp_proxy_engine::config::ConfigError;
use mcp_proxy_engine::engine::{Blame, CallError, CallErrorKind};
use mcp_proxy_engine::{Error, ErrorKind};

/// What the shell is told. The numbers are part of the interface: scripts read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    ToolFailed = 1,
    Usage = 2,
    Config = 3,
    Unreachable = 4,
    CallFailed = 5,
    System = 6,
}

/// A command that cannot go on: what the shell and what people are told.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn system(message: impl Into<String>) -> Self {
        Self::new(Exit::System, message)
    }
}

/// A reader that has gone away (`| head`) wants no message.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, "");
        }
        Self::system(format!("standard output: {error}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if let Some(config) = error.config() {
            return Self::new(Exit::Config, config.to_string());
        }
        let exit = match error.kind() {
            ErrorKind::Demo => Exit::System,
            _ => Exit::Config,
        };
        Self::new(exit, chain(&error))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let exit = match (error.kind, error.blame) {
            (CallErrorKind::Rejected, _) => Exit::CallFailed,
            (CallErrorKind::DeadlineExceeded, _) | (_, Blame::Upstream) => Exit::Unreachable,
            _ => Exit::CallFailed,
        };
        let mut message = chain(&error);
        // A lone violation stands in the message already.
        if error.violations.len() > 1 {
            for violation in &error.violations {
                let at =
                    if violation.pointer.is_empty() { "the arguments" } else { violation.pointer.as_str() };
                message.push_str(&format!("\n  {at}: {}", violation.message));
            }
        }
        Self::new(exit, message)
    }
}

/// An error and its causes, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}
