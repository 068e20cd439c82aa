//! The last known good catalogue as bytes, so that a later run can begin with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mpe_mcp_protocol::version::ProtocolVersion;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::listing::Found;
use crate::UpstreamKey;
use crate::eras::Divide;
use crate::tenant::Roster;
use crate::upstream::Introduction;

/// What is remembered of one endpoint.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Memory {
    format: u32,
    upstreams: BTreeMap<String, Remembered>,
}

/// The only layout so far. Another one is refused: an empty start beats a wrong one.
const FORMAT: u32 = 1;

/// What is remembered of one upstream, in the words of the protocol.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    protocol_version: String,
    capabilities: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<String>,
    tools: Vec<Box<RawValue>>,
    #[serde(default)]
    prompts: Vec<Box<RawValue>>,
    #[serde(default)]
    resources: Vec<Box<RawValue>>,
    #[serde(default)]
    resource_templates: Vec<Box<RawValue>>,
}

impl Memory {
    /// # Errors
    /// One sentence: not JSON, not this layout.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let memory: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match memory.format {
            FORMAT => Ok(memory),
            other => Err(format!("it has the format {other}; this version reads {FORMAT}")),
        }
    }

    /// What the upstreams of a roster offer.
    pub(crate) fn of_roster(roster: &Roster) -> Vec<u8> {
        let mut upstreams = BTreeMap::new();
        for upstream in &roster.upstreams {
            if let Some(listing) = upstream.listing() {
                upstreams.insert(upstream.config.key.as_str().to_owned(), Remembered::from(listing.found()));
            }
        }
        serde_json::to_vec(&Self { format: FORMAT, upstreams }).expect("strings and raw JSON are JSON")
    }

    /// What is remembered of one upstream; `None` also when it spoke a revision that this version does not.
    pub(crate) fn of(&self, key: &UpstreamKey) -> Option<Found> {
        let remembered = self.upstreams.get(key.as_str())?;
        Some(Found {
            introduction: Introduction {
                version: ProtocolVersion::parse(&remembered.protocol_version)?,
                capabilities: Arc::from(remembered.capabilities.clone()),
                server_info: remembered.server_info.clone().map(Arc::from),
                instructions: remembered.instructions.as_deref().map(Arc::from),
            },
            tools: remembered.tools.clone(),
            prompts: remembered.prompts.clone(),
            resources: remembered.resources.clone(),
            templates: remembered.resource_templates.clone(),
            divide: Divide::default(),
        })
    }
}

impl From<Found> for Remembered {
    fn from(found: Found) -> Self {
        let found = found.of_one_era();
        let Introduction { version, capabilities, server_info, instructions } = found.introduction;
        Self {
            protocol_version: version.as_str().to_owned(),
            capabilities: (*capabilities).to_owned(),
            server_info: server_info.map(|info| (*info).to_owned()),
            instructions: instructions.map(|text| text.to_string()),
            tools: found.tools,
            prompts: found.prompts,
            resources: found.resources,
            resource_templates: found.templates,
        }
    }
}
