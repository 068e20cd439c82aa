//! The last known good catalogue as bytes, so that a later run can begin with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mpe_mcp_protocol::version::ProtocolVersion;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::listing::Found;
use crate::eras::Divide;
use crate::tenant::Roster;
use crate::upstream::Introduction;
use crate::{CallError, CallErrorKind, UpstreamKey};

/// What the upstreams of one endpoint offered when they were last discovered, for a later run to begin with
/// ([`EngineBuilder::remember`](crate::EngineBuilder::remember)). In the servers' own words, without their addresses,
/// headers or tokens.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Memory {
    format: u32,
    upstreams: BTreeMap<String, Remembered>,
}

/// The only layout so far. Another one is refused: an empty start beats a wrong one.
const FORMAT: u32 = 1;

/// What is remembered of one upstream, in the words of the protocol.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// Reads what [`Memory::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Misconfigured`](CallErrorKind::Misconfigured): these are no such bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, CallError> {
        let refused = |reason: String| {
            CallError::new(CallErrorKind::Misconfigured, format!("no catalogue of an earlier run: {reason}"))
        };
        let memory: Self = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
        match memory.format {
            FORMAT => Ok(memory),
            other => Err(refused(format!("it has the format {other}; this version reads {FORMAT}"))),
        }
    }

    /// JSON. Equal memories give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and raw JSON are JSON")
    }

    /// Whether no upstream is remembered.
    pub fn is_empty(&self) -> bool {
        self.upstreams.is_empty()
    }

    /// What the upstreams of a roster offer, and what `earlier` knows of those that are not among them.
    pub(crate) fn of_roster(roster: &Roster, earlier: Option<&Self>) -> Self {
        let mut upstreams = earlier.map(|earlier| earlier.upstreams.clone()).unwrap_or_default();
        for upstream in &roster.upstreams {
            if let Some(listing) = upstream.listing() {
                upstreams.insert(upstream.config.key.as_str().to_owned(), Remembered::from(listing.found()));
            }
        }
        Self { format: FORMAT, upstreams }
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
