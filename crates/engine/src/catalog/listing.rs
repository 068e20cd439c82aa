//! What one upstream offers, as its last good discovery found it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mpe_mcp_protocol::header::{MirroredParams, without_annotations};
use mpe_mcp_protocol::object::raw_of;
use mpe_mcp_protocol::tool::Tool;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tracing::{debug, warn};

use super::item::{ItemKind, ListedItem, with_member, with_raw_member};
use crate::eras::Divide;
use crate::upstream::Introduction;
use crate::{ArgumentChecker, CheckerFactory, Target, ToolOverride, UpstreamConfig};

/// One discovery's result. Immutable; the catalogue is put together from these.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) introduction: Introduction,
    /// Under their original names, unique, in the server's order; so are the lists below.
    pub(crate) tools: Vec<ListedTool>,
    pub(crate) prompts: Vec<ListedItem>,
    pub(crate) resources: Vec<ListedItem>,
    pub(crate) templates: Vec<ListedItem>,
    /// Names left out, with the reason.
    pub(crate) rejected: Vec<(String, String)>,
    /// What one of the server's eras alone lists.
    pub(crate) divide: Divide,
    pub(crate) digests: Digests,
}

/// Hashes of everything shown, by kind, so that one look tells what has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) about: [u8; 32],
    pub(crate) tools: [u8; 32],
    pub(crate) prompts: [u8; 32],
    pub(crate) resources: [u8; 32],
}

/// One tool with what calls of it need.
#[derive(Clone)]
pub(crate) struct ListedTool {
    /// As it is shown, but for a name that several servers claim.
    pub(crate) tool: Tool,
    pub(crate) original_name: Arc<str>,
    pub(crate) checker: Option<Arc<dyn ArgumentChecker>>,
    pub(crate) output_checker: Option<Arc<dyn ArgumentChecker>>,
    /// Which arguments headers repeat.
    pub(crate) mirrored: Arc<MirroredParams>,
    /// What the operator changed, and the server's own words.
    overridden: Option<(ToolOverride, Arc<RawValue>)>,
}

impl ListedTool {
    /// The server's own words.
    fn source(&self) -> &RawValue {
        self.overridden.as_ref().map_or(self.tool.raw(), |(_, source)| source)
    }
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
    pub(crate) prompts: Vec<Box<RawValue>>,
    pub(crate) resources: Vec<Box<RawValue>>,
    pub(crate) templates: Vec<Box<RawValue>>,
    /// Which of it one of the server's eras alone lists.
    pub(crate) divide: Divide,
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
        let mut reader = Reader { config, checkers, previous, rejected: Vec::new() };
        let mut listing = Self {
            introduction: found.introduction,
            tools: reader.tools(&found.tools),
            prompts: reader.items(ItemKind::Prompt, &found.prompts),
            resources: reader.items(ItemKind::Resource, &found.resources),
            templates: reader.items(ItemKind::ResourceTemplate, &found.templates),
            rejected: reader.rejected,
            divide: found.divide,
            digests: Digests::default(),
        };
        listing.digests = Digests::of(&listing);
        listing
    }

    /// Whether nobody could tell the two apart.
    pub(crate) fn shows_the_same_as(&self, other: &Self) -> bool {
        self.digests == other.digests && self.rejected == other.rejected && self.divide == other.divide
    }

    /// What it was read from.
    pub(crate) fn found(&self) -> Found {
        let sources = |items: &[ListedItem]| items.iter().map(|item| (*item.raw).to_owned()).collect();
        Found {
            introduction: self.introduction.clone(),
            tools: self.tools.iter().map(|listed| listed.source().to_owned()).collect(),
            prompts: sources(&self.prompts),
            resources: sources(&self.resources),
            templates: sources(&self.templates),
            divide: self.divide.clone(),
        }
    }
}

/// Reads lists, and remembers what it left out.
struct Reader<'a> {
    config: &'a UpstreamConfig,
    checkers: Option<&'a dyn CheckerFactory>,
    previous: Option<&'a Listing>,
    rejected: Vec<(String, String)>,
}

impl Reader<'_> {
    fn tools(&mut self, found: &[Box<RawValue>]) -> Vec<ListedTool> {
        let known = self.previous.map_or(&[][..], |listing| &listing.tools);
        let known: HashMap<&str, &ListedTool> =
            known.iter().map(|listed| (listed.source().get(), listed)).collect();
        let mut tools: Vec<ListedTool> = Vec::with_capacity(found.len());
        let mut names = HashSet::with_capacity(found.len());
        for raw in found {
            let listed = match known.get(raw.get()) {
                Some(&listed) if self.is_overridden_alike(listed) => listed.clone(),
                _ => match read_tool(raw, self.config, self.checkers) {
                    Ok(listed) => listed,
                    Err((name, reason)) => {
                        self.reject(&name, reason);
                        continue;
                    }
                },
            };
            let name = listed.tool.name();
            if !is_wanted(self.config, &listed.original_name) {
                continue;
            }
            if names.insert(name.to_owned()) {
                tools.push(listed);
            } else {
                self.reject(name, LISTED_TWICE.to_owned());
            }
        }
        tools
    }

    /// Whether the operator still wants what was done to a tool when it was read.
    fn is_overridden_alike(&self, listed: &ListedTool) -> bool {
        let applied = listed.overridden.as_ref().map(|(applied, _)| applied);
        applied == self.config.overrides.get(&*listed.original_name)
    }

    fn items(&mut self, kind: ItemKind, found: &[Box<RawValue>]) -> Vec<ListedItem> {
        let mut items: Vec<ListedItem> = Vec::with_capacity(found.len());
        let mut ids = HashSet::with_capacity(found.len());
        for raw in found {
            match ListedItem::read(kind, raw) {
                Ok(item) if ids.insert(Arc::clone(&item.id)) => items.push(item),
                Ok(item) => self.reject(&item.id, LISTED_TWICE.to_owned()),
                Err(reason) => self.reject(&name_of(raw), reason),
            }
        }
        items
    }

    fn reject(&mut self, name: &str, reason: String) {
        warn!(upstream = %self.config.key, name, reason, "left out of the catalogue");
        self.rejected.push((name.to_owned(), reason));
    }
}

const LISTED_TWICE: &str = "the server lists it twice; the first one is kept";

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
    let original_name = Arc::from(tool.name());
    let wish = config.overrides.get(tool.name());
    let overridden = wish.map(|wish| (wish.clone(), Arc::from(raw.to_owned())));
    let mut tool = match wish {
        None => tool,
        Some(wish) => Tool::parse(&changed(raw, wish)).map_err(|error| (name_of(raw), error.message))?,
    };
    let mirrored = match (MirroredParams::of(tool.input_schema()), &config.target) {
        (Ok(mirrored), Target::Balanced { .. } | Target::Http { .. }) => mirrored,
        // A client must not use such a tool over HTTP (MCP 2026-07-28, basic/transports/streamable-http).
        (Err(error), Target::Balanced { .. } | Target::Http { .. }) => {
            return Err((tool.name().to_owned(), error.to_string()));
        }
        // Without headers there is nothing to repeat, and a broken annotation no reason to lose the tool.
        (Ok(_), Target::Custom(_) | Target::Stdio { .. }) => MirroredParams::default(),
        (Err(error), Target::Custom(_) | Target::Stdio { .. }) => {
            debug!(upstream = %config.key, tool = tool.name(), %error, "its annotations are left out");
            let schema = raw_of(&without_annotations(tool.input_schema()));
            let stripped = with_raw_member(tool.raw(), "inputSchema", &schema);
            tool = Tool::parse(&stripped).map_err(|error| (name_of(raw), error.message))?;
            MirroredParams::default()
        }
    };
    let checker = checkers.and_then(|factory| match factory.compile(&tool) {
        Ok(checker) => Some(checker),
        Err(reason) => {
            warn!(upstream = %config.key, tool = tool.name(), reason, "arguments of this tool stay unchecked");
            None
        }
    });
    let output_checker = checkers.filter(|_| tool.output_schema().is_some()).and_then(|factory| {
        factory.compile_output(&tool).unwrap_or_else(|reason| {
            warn!(upstream = %config.key, tool = tool.name(), reason, "results of this tool stay unchecked");
            None
        })
    });
    let mirrored = Arc::new(mirrored);
    Ok(ListedTool { tool, original_name, checker, output_checker, mirrored, overridden })
}

/// A tool's description as the operator wants it.
fn changed(raw: &RawValue, wish: &ToolOverride) -> Arc<RawValue> {
    let ToolOverride { name, title, description } = wish;
    let mut changed: Arc<RawValue> = Arc::from(raw.to_owned());
    for (member, value) in [("name", name), ("title", title), ("description", description)] {
        if let Some(value) = value {
            changed = with_member(&changed, member, value);
        }
    }
    changed
}

/// The name of something that is no tool, as far as it has one.
fn name_of(raw: &RawValue) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(raw.get()).map(|named| named.name).unwrap_or_default()
}

impl Digests {
    fn of(listing: &Listing) -> Self {
        let Introduction { version, capabilities, server_info, instructions } = &listing.introduction;
        let raws = |items: &[ListedItem]| hash_of(items.iter().map(|item| item.raw.get()));
        Self {
            about: hash_of([
                version.as_str(),
                capabilities.get(),
                server_info.as_ref().map_or("", |info| info.get()),
                instructions.as_deref().unwrap_or_default(),
            ]),
            tools: hash_of(listing.tools.iter().map(|listed| listed.tool.raw().get())),
            prompts: raws(&listing.prompts),
            resources: hash_of(listing.resources.iter().chain(&listing.templates).map(|item| item.raw.get())),
        }
    }
}

/// A hash of parts that no other division into parts shares.
fn hash_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
