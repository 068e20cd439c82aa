//! What a gateway is built from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mpe_engine::EndpointId;
use mpe_schema::ResponseMapping;
use mpe_schema::openapi::DocumentInfo;

/// How one tenant looks from outside.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Title, version and servers of its documents.
    pub info: DocumentInfo,
    /// Paths the operator mapped.
    pub mappings: Vec<ResponseMapping>,
}

/// What a gateway is built from.
#[derive(Clone)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// How each tenant looks; a tenant without an entry gets defaults.
    pub endpoints: HashMap<EndpointId, EndpointView>,
    /// Bytes of a request body. Default: 4 MiB.
    pub max_body_bytes: usize,
    /// Requests under way at once; more get 503. Default: 4096.
    pub max_requests: usize,
    /// `Host` values accepted beside loopback names; empty: any when bound to a public address.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values accepted beside loopback ones.
    pub allowed_origins: Vec<String>,
    /// How long a drain may take. Default: 30 s.
    pub drain: Duration,
    /// Check arguments of known tools over MCP too. Default: no.
    pub check_mcp_arguments: bool,
    /// Renders `/metrics`; `None`: 404.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            endpoints: HashMap::new(),
            max_body_bytes: 4 << 20,
            max_requests: 4096,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            drain: Duration::from_secs(30),
            check_mcp_arguments: false,
            metrics: None,
        }
    }
}
