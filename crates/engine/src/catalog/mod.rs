//! The catalogue: every tool of an endpoint's upstreams, names resolved, immutable.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use mpe_mcp_protocol::tool::Tool;
use mpe_mcp_protocol::version::ProtocolVersion;

use crate::{ArgumentChecker, EndpointId, UpstreamKey};

pub(crate) mod build;
mod item;
pub(crate) mod listing;
pub(crate) mod memory;
pub(crate) mod naming;
mod route;
mod uri;

pub use item::{CataloguePrompt, CatalogueResource, CatalogueTemplate};
use listing::Digests;
pub use memory::Memory;
use route::{Items, Routing};

/// One tool under the name the endpoint shows.
#[derive(Clone)]
pub struct CatalogueTool {
    /// The tool, already under its exposed name.
    pub tool: Tool,
    /// Whose it is.
    pub upstream: UpstreamKey,
    /// Its name at the upstream.
    pub original_name: Arc<str>,
    /// Its compiled `inputSchema`, where a factory is installed and the schema compiles.
    pub checker: Option<Arc<dyn ArgumentChecker>>,
    /// Its compiled `outputSchema`, likewise.
    pub output_checker: Option<Arc<dyn ArgumentChecker>>,
}

impl std::fmt::Debug for CatalogueTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogueTool")
            .field("tool", &self.tool.name())
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

/// A name that several upstreams claim, and how it was resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// What the name belongs to.
    pub kind: CollisionKind,
    /// The claimed name.
    pub name: String,
    /// The upstreams that claim it, in configuration order.
    pub upstreams: Vec<UpstreamKey>,
    /// The names under which the tools are shown, in the same order; empty for one that is not shown.
    pub resolved: Vec<String>,
}

/// What a claimed name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollisionKind {
    /// A prompt.
    Prompt,
    /// A tool.
    Tool,
}

/// How an upstream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// No discovery has ended yet.
    Discovering,
    /// The last discovery failed; tools of an earlier one are still listed.
    Stale {
        /// Why it failed.
        error: String,
    },
    /// The last discovery succeeded.
    Up,
    /// No discovery has ever succeeded.
    Down {
        /// Why it failed.
        error: String,
    },
}

/// One upstream's share of the catalogue.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    /// The operator's key.
    pub key: UpstreamKey,
    /// How it stands.
    pub state: UpstreamState,
    /// The revision spoken with it.
    pub version: Option<ProtocolVersion>,
    /// How many tools it has.
    pub tools: usize,
    /// How many prompts it has.
    pub prompts: usize,
    /// How many resources it lists.
    pub resources: usize,
    /// How many resource templates it lists.
    pub resource_templates: usize,
    /// `serverInfo` as it introduced itself.
    pub server_info: Option<Arc<serde_json::value::RawValue>>,
    /// Its capabilities.
    pub capabilities: Option<Arc<serde_json::value::RawValue>>,
    /// Its instructions.
    pub instructions: Option<Arc<str>>,
    /// Tools left out, each with the reason.
    pub rejected: Vec<(String, String)>,
}

/// An endpoint's tools, prompts and resources at one revision.
#[derive(Debug)]
pub struct Catalogue {
    pub(crate) endpoint: EndpointId,
    pub(crate) revision: String,
    pub(crate) tools: Vec<CatalogueTool>,
    /// This and the two below are shared by catalogues that do not differ in them.
    pub(crate) by_name: Arc<HashMap<Arc<str>, usize, RandomState>>,
    items: Arc<Items>,
    routing: Arc<Routing>,
    pub(crate) upstreams: Vec<UpstreamStatus>,
    pub(crate) collisions: Vec<Collision>,
    pub(crate) digests: Digests,
}

impl Catalogue {
    /// The tenant.
    pub fn endpoint(&self) -> &EndpointId {
        &self.endpoint
    }

    /// A hash of everything shown: equal content, equal revision, on every replica. 16 hex digits.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Every tool: configuration order of upstreams, then each upstream's own order.
    pub fn tools(&self) -> &[CatalogueTool] {
        &self.tools
    }

    /// The tool of that exposed name.
    pub fn tool(&self, name: &str) -> Option<&CatalogueTool> {
        self.by_name.get(name).map(|&index| &self.tools[index])
    }

    /// Every upstream, in configuration order.
    pub fn upstreams(&self) -> &[UpstreamStatus] {
        &self.upstreams
    }

    /// Names that several upstreams claim.
    pub fn collisions(&self) -> &[Collision] {
        &self.collisions
    }
}

/// Whatever a face computes from a catalogue.
pub type Derived = Arc<dyn Any + Send + Sync>;

/// Computes a face's artefacts whenever a catalogue is about to be published.
pub trait Derive: Send + Sync {
    /// Everything derived from `catalogue`. Runs off the request path; must not block on IO.
    fn derive(&self, catalogue: &Arc<Catalogue>) -> Derived;
}

/// A catalogue and everything derived from it, swapped together. Load once per request.
#[derive(Clone)]
pub struct Snapshot {
    /// The catalogue.
    pub catalogue: Arc<Catalogue>,
    /// What [`Derive`] made of it; `()` without one.
    pub derived: Derived,
}
