//! Why an engine does not start.

use std::fmt;

use mpe_engine::CallError;

use crate::config::ConfigError;

/// Why an engine does not start.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What kind of reason it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The configuration; the message has one line per problem.
    Config,
    /// The demo server found no loopback port.
    Demo,
    /// An environment variable that names a proxy.
    Environment,
    /// The engine refused its parts (TLS material, duplicate names).
    Start,
}

impl Error {
    /// What kind of reason it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn demo(error: std::io::Error) -> Self {
        Self { kind: ErrorKind::Demo, source: error.into() }
    }

    pub(crate) fn environment(error: mpe_transport::Error) -> Self {
        Self { kind: ErrorKind::Environment, source: error.into() }
    }

    pub(crate) fn start(error: CallError) -> Self {
        Self { kind: ErrorKind::Start, source: error.into() }
    }

    /// The problems, when it is the configuration.
    pub fn config(&self) -> Option<&ConfigError> {
        self.source.downcast_ref()
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self { kind: ErrorKind::Config, source: error.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::Config => f.write_str("the configuration cannot be used"),
            ErrorKind::Environment => f.write_str("the environment names a proxy that cannot be used"),
            ErrorKind::Demo => f.write_str("the demo server cannot listen"),
            ErrorKind::Start => f.write_str("the engine cannot start"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
