//! What is wrong with a configuration, and where.

use std::fmt;

use super::node::Position;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or whatever stands for it (`<setting>`).
    pub file: String,
    /// Where in the file; `None` when the file could not be read at all.
    pub position: Option<Position>,
    /// The key path, such as `mcp_servers.weather.timeout`; empty for the whole file.
    pub key: String,
    /// What is wrong, what was expected and what to do, in one sentence without a full stop.
    pub message: String,
}

/// Everything that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

// === impl Problem ===

impl fmt::Display for Problem {
    /// `proxy.toml:3:1: mcp_servers.weather.ulr: unknown key; did you mean `url`?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

// === impl ConfigError ===

impl ConfigError {
    /// An error of these problems, put into the order of the file.
    ///
    /// # Panics
    /// Never: an empty list would be a mistake of this crate and is caught in tests.
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "an error without a problem");
        problems.sort_by_key(|problem| problem.position);
        Self { problems }
    }

    /// One problem with the file as a whole.
    pub(crate) fn whole(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(vec![Problem {
            file: file.into(),
            position: None,
            key: String::new(),
            message: message.into(),
        }])
    }

    /// Every problem, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
