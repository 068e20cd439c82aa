//! Endpoints that no file names: `internal_mcp` with `{endpoint_id}` in its address makes one for every name, and so does a
//! source with `on_demand`.

use mpe_engine::source::SourceConfig;
use mpe_engine::{EndpointConfig, EndpointId, EndpointSource, Limits, Naming, Target};
use mpe_transport::{PoolConfig, Wire};

use super::resolve::is_endpoint_id;
use super::server::{INTERNAL, internal_server, parse_headers, parse_url, upstream};
use super::shape::InternalMcp;

/// What every such endpoint has in common.
pub(super) struct OnDemand {
    pub(super) internal: Option<InternalMcp>,
    pub(super) sources: Vec<SourceConfig>,
    pub(super) pool: PoolConfig,
    pub(super) naming: Naming,
    pub(super) limits: Limits,
}

impl EndpointSource for OnDemand {
    /// Only names that stay one segment of a path: a caller chooses them.
    fn endpoint(&self, id: &EndpointId) -> Option<EndpointConfig> {
        if !is_endpoint_id(id.as_str()) {
            return None;
        }
        let mut upstreams = Vec::new();
        if let Some(internal) = &self.internal {
            let server = internal_server(internal, id.as_str());
            let url = parse_url(server.url.as_deref()?).ok()?;
            let headers = parse_headers(&server.headers).ok()?;
            let target = Target::Http { url, headers, wire: Wire::Auto };
            upstreams.push(upstream(INTERNAL, target, &server, &self.pool));
        }
        let mut endpoint = EndpointConfig::new(id.clone(), upstreams);
        endpoint.sources.clone_from(&self.sources);
        endpoint.naming = self.naming;
        endpoint.limits = self.limits.clone();
        Some(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use mpe_engine::{EndpointId, EndpointSource, Limits, Naming, Target};
    use mpe_transport::PoolConfig;

    use super::OnDemand;
    use crate::config::InternalMcp;

    fn address(id: &str) -> Option<String> {
        let source = OnDemand {
            internal: Some(InternalMcp {
                base_url: "https://mcp.example.com/{endpoint_id}/mcp".to_owned(),
                bearer_token: None,
                headers: indexmap::IndexMap::new(),
                on_demand: None,
            }),
            sources: Vec::new(),
            pool: PoolConfig::default(),
            naming: Naming::Auto,
            limits: Limits::default(),
        };
        let endpoint = source.endpoint(&EndpointId::new(id))?;
        let Target::Http { url, .. } = &endpoint.upstreams[0].target else { panic!("an address") };
        Some(url.to_string())
    }

    #[test]
    fn every_name_has_an_address_of_its_own() {
        assert_eq!(address("acme").as_deref(), Some("https://mcp.example.com/acme/mcp"));
    }

    #[test]
    fn a_name_that_would_leave_its_segment_is_no_endpoint() {
        for name in ["", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "@evil"] {
            assert_eq!(address(name), None, "{name:?}");
        }
    }
}
