//! What one upstream offers, as its last good discovery found it.

use std::collections::HashMap;
use std::sync::Arc;

use mpe_mcp_protocol::header::MirroredParams;
use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::upstream::Introduction;
use crate::{ArgumentChecker, CheckerFactory, Target, UpstreamConfig};

/// One discovery's result. Immutable; the catalogue is put together from these.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) introduction: Introduction,
    /// Under their original names, unique, in the server's order.
    pub(crate) tools: Vec<ListedTool>,
    /// Names left out, with the reason.
    pub(crate) rejected: Vec<(String, String)>,
    /// A hash of everything shown.
    pub(crate) digest: [u8; 32],
}

impl Listing {
    /// The same listing as far as another configuration lets it through.
    pub(crate) fn filtered(&self, config: &UpstreamConfig) -> Self {
        let wanted = self.tools.iter().filter(|listed| is_wanted(config, listed.tool.name()));
        let tools: Vec<_> = wanted.cloned().collect();
        Self {
            digest: digest(&self.introduction, &tools),
            introduction: self.introduction.clone(),
            rejected: self.rejected.clone(),
            tools,
        }
    }
}

/// One tool with what calls of it need.
#[derive(Clone)]
pub(crate) struct ListedTool {
    pub(crate) tool: Tool,
    pub(crate) checker: Option<Arc<dyn ArgumentChecker>>,
    /// Which arguments headers repeat.
    pub(crate) mirrored: Arc<MirroredParams>,
}

impl std::fmt::Debug for ListedTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ListedTool").field(&self.tool.name()).finish()
    }
}

/// What a discovery brought, unread.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) introduction: Introduction,
    pub(crate) tools: Vec<Box<RawValue>>,
}

impl Listing {
    /// Reads what was found: filters by the operator's lists, drops what no call could use, compiles schemas. Tools whose
    /// bytes have not changed since `previous` keep what was compiled for them.
    pub(crate) fn read(
        found: Found,
        config: &UpstreamConfig,
        checkers: Option<&dyn CheckerFactory>,
        previous: Option<&Listing>,
    ) -> Self {
        let known: HashMap<&str, &ListedTool> = previous
            .map(|listing| listing.tools.iter().map(|listed| (listed.tool.raw().get(), listed)).collect())
            .unwrap_or_default();
        let mut tools: Vec<ListedTool> = Vec::with_capacity(found.tools.len());
        let mut rejected = Vec::new();
        let mut names = std::collections::HashSet::with_capacity(found.tools.len());
        for raw in &found.tools {
            let listed = match known.get(raw.get()) {
                Some(&listed) => listed.clone(),
                None => match read_tool(raw, config, checkers) {
                    Ok(listed) => listed,
                    Err((name, reason)) => {
                        warn!(upstream = %config.key, tool = name, reason, "tool left out");
                        rejected.push((name, reason));
                        continue;
                    }
                },
            };
            let name = listed.tool.name();
            if !is_wanted(config, name) {
                continue;
            }
            if !names.insert(name.to_owned()) {
                rejected.push((
                    name.to_owned(),
                    "the server lists the name twice; the first one is kept".to_owned(),
                ));
                continue;
            }
            tools.push(listed);
        }
        let digest = digest(&found.introduction, &tools);
        Self { introduction: found.introduction, tools, rejected, digest }
    }
}

/// Whether the operator lets a tool through.
pub(crate) fn is_wanted(config: &UpstreamConfig, name: &str) -> bool {
    let is_allowed = config.allow.is_empty() || config.allow.iter().any(|allowed| allowed == name);
    is_allowed && !config.deny.iter().any(|denied| denied == name)
}

fn read_tool(
    raw: &RawValue,
    config: &UpstreamConfig,
    checkers: Option<&dyn CheckerFactory>,
) -> Result<ListedTool, (String, String)> {
    let tool = Tool::parse(raw).map_err(|error| (name_of(raw), error.message))?;
    if tool.name().is_empty() {
        return Err((String::new(), "the name is empty".to_owned()));
    }
    let mirrored = match (MirroredParams::of(tool.input_schema()), &config.target) {
        (Ok(mirrored), Target::Http { .. }) => mirrored,
        // A client must not use such a tool over HTTP (MCP 2026-07-28, basic/transports/streamable-http).
        (Err(error), Target::Http { .. }) => return Err((tool.name().to_owned(), error.to_string())),
        // Without headers there is nothing to repeat.
        (_, Target::Custom(_) | Target::Stdio { .. }) => MirroredParams::default(),
    };
    let checker = checkers.and_then(|factory| match factory.compile(&tool) {
        Ok(checker) => Some(checker),
        Err(reason) => {
            warn!(upstream = %config.key, tool = tool.name(), reason, "arguments of this tool stay unchecked");
            None
        }
    });
    Ok(ListedTool { tool, checker, mirrored: Arc::new(mirrored) })
}

/// The name of something that is no tool, as far as it has one.
fn name_of(raw: &RawValue) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(raw.get()).map(|named| named.name).unwrap_or_default()
}

fn digest(introduction: &Introduction, tools: &[ListedTool]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_be_bytes());
        hash.update(bytes);
    };
    part(introduction.version.as_str().as_bytes());
    part(introduction.capabilities.get().as_bytes());
    part(introduction.server_info.as_ref().map_or(b"", |info| info.get().as_bytes()));
    part(introduction.instructions.as_deref().unwrap_or_default().as_bytes());
    for listed in tools {
        part(listed.tool.raw().get().as_bytes());
    }
    hash.finalize().into()
}
