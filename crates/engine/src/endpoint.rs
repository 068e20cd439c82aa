//! The names of tenants and of upstream servers.

use std::fmt;
use std::sync::Arc;

/// A tenant's name. [`EndpointId::default`] is `default`, the one at the root of every face.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(Arc<str>);

/// The operator's name for an upstream server, unique within its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamKey(Arc<str>);

impl EndpointId {
    /// The endpoint of that name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EndpointId {
    fn default() -> Self {
        Self::new("default")
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl UpstreamKey {
    /// The upstream of that name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
