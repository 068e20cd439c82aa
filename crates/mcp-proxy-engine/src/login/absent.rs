//! Nobody to ask: a server process.

use futures_util::future::BoxFuture;
use mpe_engine::upstream::Person;

/// A process without a person: it uses logins, and says how one is made.
#[derive(Clone, Debug)]
pub struct Absent {
    hint: String,
}

impl Absent {
    /// Nobody is there; `command` is what somebody can run instead.
    pub fn new(command: &str) -> Self {
        Self { hint: format!("somebody has to log in: run `{command}`") }
    }
}

impl Person for Absent {
    fn available(&self) -> Result<(), String> {
        Err(self.hint.clone())
    }

    fn redirect_uri<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async { Err(self.hint.clone()) })
    }

    fn authorize<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async { Err(self.hint.clone()) })
    }
}
