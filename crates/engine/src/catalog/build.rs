//! Puts the catalogue together from what each upstream lists.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use mpe_mcp_protocol::header::MirroredParams;
use mpe_mcp_protocol::version::Era;
use sha2::{Digest, Sha256};

use super::item::{CataloguePrompt, CatalogueResource, CatalogueTemplate, ItemKind, ListedItem};
use super::listing::{Digests, ListedTool, Listing};
use super::naming::{self, Claims, Names};
use super::route::{Items, Routing};
use super::{Catalogue, CatalogueTool, CollisionKind, UpstreamState, UpstreamStatus, uri};
use crate::eras::Kind;
use crate::{EndpointId, Naming, UpstreamKey};

/// One upstream's part in a catalogue that is being built.
pub(crate) struct Share {
    pub(crate) key: UpstreamKey,
    pub(crate) state: UpstreamState,
    pub(crate) listing: Option<Arc<Listing>>,
}

/// A catalogue, for each of its tools the way to it, and what the next build takes over.
pub(crate) struct Built {
    pub(crate) catalogue: Catalogue,
    pub(crate) ways: Vec<Way>,
    pub(crate) kept: Kept,
}

/// The way to one tool.
#[derive(Clone)]
pub(crate) struct Way {
    /// The index of the upstream that answers.
    pub(crate) owner: usize,
    /// Which arguments headers repeat.
    pub(crate) mirrored: Arc<MirroredParams>,
    /// The only era in which its server lists it; `None`: any.
    pub(crate) only_in: Option<Era>,
}

/// What a build was made from, so that the next one does anew only what has changed.
pub(crate) struct Kept {
    naming: Naming,
    shares: Vec<KeptShare>,
    tools: Arc<Named>,
    prompts: Arc<Named>,
}

/// One upstream's part in a build.
struct KeptShare {
    key: UpstreamKey,
    listing: Option<Arc<Listing>>,
    /// Where its tools are in the catalogue.
    tools: Range<usize>,
}

/// The names of one kind of thing, and a hash of them.
struct Named {
    names: Names,
    digest: [u8; 32],
}

/// The last build, as the next one sees it.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) ways: &'a [Way],
    pub(crate) kept: &'a Kept,
}

/// Builds the catalogue of `shares`, which stand in configuration order. One server's change costs what that server lists
/// and a walk over the others' references: names, tools, tables and hashes that it cannot have touched are taken over from
/// the build `before`.
pub(crate) fn build(
    endpoint: &EndpointId,
    naming: Naming,
    shares: &[Share],
    before: Option<Before<'_>>,
) -> Built {
    let mut upstreams: Vec<_> = shares.iter().map(status).collect();
    // With the same servers in the same order only their listings can have changed.
    let same = before.filter(|before| before.kept.has_the_same_servers(naming, shares));
    let named = |kind| match same {
        Some(same) if same.kept.has_the_same_names(kind, shares) => Arc::clone(same.kept.named(kind)),
        _ => Arc::new(Named::of(naming::assign(naming, &claims(shares, kind)))),
    };
    let (tool_names, prompt_names) = (named(CollisionKind::Tool), named(CollisionKind::Prompt));
    report_hidden(shares, &tool_names, &prompt_names, &mut upstreams);
    let (tools, ways, ranges) = tools(shares, &tool_names.names, before);
    let by_name = match same {
        Some(same) if Arc::ptr_eq(&same.kept.tools, &tool_names) => Arc::clone(&same.catalogue.by_name),
        _ => Arc::new(tools.iter().enumerate().map(|(n, entry)| (Arc::from(entry.tool.name()), n)).collect()),
    };
    let (items, routing) = match same {
        Some(same) if same.kept.has_the_same_items(shares) => {
            (Arc::clone(&same.catalogue.items), Arc::clone(&same.catalogue.routing))
        }
        _ => {
            let items = items(shares, &prompt_names.names);
            let transparent = match shares {
                [only] if naming == Naming::Auto => Some(only.key.clone()),
                _ => None,
            };
            let routing = Routing::of(&items, &upstreams, transparent);
            (Arc::new(items), Arc::new(routing))
        }
    };
    let digests = Digests {
        about: hash(shares, |listing| listing.digests.about, None),
        tools: hash(shares, |listing| listing.digests.tools, Some(tool_names.digest)),
        prompts: hash(shares, |listing| listing.digests.prompts, Some(prompt_names.digest)),
        // How URIs are shown follows from the listings and the order of the keys.
        resources: hash(shares, |listing| listing.digests.resources, None),
    };
    let collisions = tool_names.names.collisions.iter().chain(&prompt_names.names.collisions);
    let catalogue = Catalogue {
        endpoint: endpoint.clone(),
        revision: revision(&digests),
        tools,
        by_name,
        routing,
        items,
        upstreams,
        collisions: collisions.cloned().collect(),
        digests,
    };
    let shares = shares.iter().zip(ranges);
    let shares = shares
        .map(|(share, tools)| KeptShare { key: share.key.clone(), listing: share.listing.clone(), tools })
        .collect();
    let kept = Kept { naming, shares, tools: tool_names, prompts: prompt_names };
    Built { catalogue, ways, kept }
}

// === impl Kept ===

impl Kept {
    fn has_the_same_servers(&self, naming: Naming, shares: &[Share]) -> bool {
        self.naming == naming
            && self.shares.len() == shares.len()
            && self.shares.iter().zip(shares).all(|(kept, share)| kept.key == share.key)
    }

    /// Whether all of them list the same names in the same order. They are the same servers.
    fn has_the_same_names(&self, kind: CollisionKind, shares: &[Share]) -> bool {
        self.each(shares, |kept, listing| match kind {
            CollisionKind::Prompt => {
                let ids = |listing: &Listing| {
                    listing.prompts.iter().map(|prompt| Arc::clone(&prompt.id)).collect::<Vec<_>>()
                };
                ids(kept) == ids(listing)
            }
            CollisionKind::Tool => {
                let (kept, listed) = (kept.tools.iter(), listing.tools.iter());
                kept.map(|listed| listed.tool.name()).eq(listed.map(|listed| listed.tool.name()))
            }
        })
    }

    /// Whether all of them list the same prompts and resources. They are the same servers.
    fn has_the_same_items(&self, shares: &[Share]) -> bool {
        self.each(shares, |kept, listing| {
            let (kept, listed) = (&kept.digests, &listing.digests);
            kept.about == listed.about && kept.prompts == listed.prompts && kept.resources == listed.resources
        })
    }

    /// Whether every listing is the same one, or alike.
    fn each(&self, shares: &[Share], alike: impl Fn(&Listing, &Listing) -> bool) -> bool {
        self.shares.iter().zip(shares).all(|(kept, share)| match (&kept.listing, &share.listing) {
            (None, None) => true,
            (Some(kept), Some(listing)) => Arc::ptr_eq(kept, listing) || alike(kept, listing),
            _ => false,
        })
    }

    fn named(&self, kind: CollisionKind) -> &Arc<Named> {
        match kind {
            CollisionKind::Prompt => &self.prompts,
            CollisionKind::Tool => &self.tools,
        }
    }
}

impl Named {
    fn of(names: Names) -> Self {
        let mut hash = Sha256::new();
        for list in &names.exposed {
            hash.update(list.len().to_be_bytes());
            for name in list {
                let name = name.as_deref().unwrap_or_default();
                hash.update(name.len().to_be_bytes());
                hash.update(name);
            }
        }
        Self { digest: hash.finalize().into(), names }
    }
}

fn listings(shares: &[Share]) -> impl Iterator<Item = (usize, &Share, &Listing)> {
    shares.iter().enumerate().filter_map(|(n, share)| Some((n, share, share.listing.as_deref()?)))
}

fn claims(shares: &[Share], kind: CollisionKind) -> Vec<Claims<'_>> {
    let names = |listing: &'_ Arc<Listing>| -> Vec<Arc<str>> {
        match kind {
            CollisionKind::Prompt => listing.prompts.iter().map(|prompt| Arc::clone(&prompt.id)).collect(),
            CollisionKind::Tool => listing.tools.iter().map(|listed| Arc::from(listed.tool.name())).collect(),
        }
    };
    let claim = |share: &'_ Share| share.listing.as_ref().map(names).unwrap_or_default();
    shares.iter().map(|share| Claims { upstream: &share.key, kind, names: claim(share) }).collect()
}

fn uris<'a>(shares: &'a [Share], items: impl Fn(&'a Listing) -> &'a Vec<ListedItem>) -> Vec<Vec<String>> {
    let of = |share: &'a Share| -> Vec<&'a str> {
        share
            .listing
            .as_deref()
            .map(|listing| items(listing).iter().map(|item| &*item.id).collect())
            .unwrap_or_default()
    };
    let claims: Vec<_> = shares.iter().map(|share| (&share.key, of(share))).collect();
    uri::assign(&claims)
}

/// Every tool that is shown, the way to it, and which of them each upstream has.
fn tools(
    shares: &[Share],
    names: &Names,
    before: Option<Before<'_>>,
) -> (Vec<CatalogueTool>, Vec<Way>, Vec<Range<usize>>) {
    let n_tools = names.exposed.iter().map(Vec::len).sum();
    let (mut tools, mut ways) = (Vec::with_capacity(n_tools), Vec::with_capacity(n_tools));
    let mut ranges = Vec::with_capacity(shares.len());
    let known: HashMap<&UpstreamKey, (usize, &KeptShare)> = before.map_or_else(HashMap::new, |before| {
        before.kept.shares.iter().enumerate().map(|(n, kept)| (&kept.key, (n, kept))).collect()
    });
    for (owner, share) in shares.iter().enumerate() {
        let start = tools.len();
        let exposed = &names.exposed[owner];
        let kept = before.and_then(|before| {
            let (n, kept) = *known.get(&share.key)?;
            let (Some(listing), Some(known)) = (&share.listing, &kept.listing) else { return None };
            let is_same = Arc::ptr_eq(listing, known) && before.kept.tools.names.exposed[n] == *exposed;
            is_same.then(|| (&before.catalogue.tools[kept.tools.clone()], &before.ways[kept.tools.clone()]))
        });
        if let Some((same_tools, same_ways)) = kept {
            tools.extend_from_slice(same_tools);
            ways.extend(same_ways.iter().map(|way| Way { owner, ..way.clone() }));
        } else if let Some(listing) = &share.listing {
            for (listed, exposed) in listing.tools.iter().zip(exposed) {
                let Some(exposed) = exposed else { continue };
                tools.push(catalogue_tool(share, listed, exposed));
                let only_in = listing.divide.only_in(Kind::Tool, &listed.original_name);
                ways.push(Way { owner, mirrored: Arc::clone(&listed.mirrored), only_in });
            }
        }
        ranges.push(start..tools.len());
    }
    (tools, ways, ranges)
}

/// Says of each tool and prompt that is not shown why it is not.
fn report_hidden(shares: &[Share], tools: &Named, prompts: &Named, upstreams: &mut [UpstreamStatus]) {
    for (owner, _, listing) in listings(shares) {
        let tools = listing.tools.iter().map(|listed| listed.tool.name()).zip(&tools.names.exposed[owner]);
        let prompts = listing.prompts.iter().map(|prompt| &*prompt.id).zip(&prompts.names.exposed[owner]);
        let hidden = tools.chain(prompts).filter(|(_, exposed)| exposed.is_none());
        upstreams[owner].rejected.extend(hidden.map(|(name, _)| (name.to_owned(), HIDDEN.to_owned())));
    }
}

fn items(shares: &[Share], prompt_names: &Names) -> Items {
    let (resource_uris, templates) =
        (uris(shares, |listing| &listing.resources), uris(shares, |listing| &listing.templates));
    Items {
        prompts: prompts(shares, prompt_names),
        resources: resources(shares, &resource_uris),
        templates: resource_templates(shares, &templates),
    }
}

fn prompts(shares: &[Share], names: &Names) -> Vec<CataloguePrompt> {
    let mut prompts = Vec::new();
    for (owner, share, listing) in listings(shares) {
        for (listed, exposed) in listing.prompts.iter().zip(&names.exposed[owner]) {
            let Some(exposed) = exposed else { continue };
            let (raw, name) = listed.shown(ItemKind::Prompt, exposed);
            let (original_name, upstream) = (Arc::clone(&listed.id), share.key.clone());
            prompts.push(CataloguePrompt { raw, name, original_name, upstream });
        }
    }
    prompts
}

fn resources(shares: &[Share], uris: &[Vec<String>]) -> Vec<CatalogueResource> {
    let mut resources = Vec::new();
    for (owner, share, listing) in listings(shares) {
        for (listed, uri) in listing.resources.iter().zip(&uris[owner]) {
            let (raw, uri) = listed.shown(ItemKind::Resource, uri);
            let (original_uri, upstream) = (Arc::clone(&listed.id), share.key.clone());
            resources.push(CatalogueResource { raw, uri, original_uri, upstream });
        }
    }
    resources
}

fn resource_templates(shares: &[Share], templates: &[Vec<String>]) -> Vec<CatalogueTemplate> {
    let mut shown = Vec::new();
    for (owner, share, listing) in listings(shares) {
        for (listed, template) in listing.templates.iter().zip(&templates[owner]) {
            let (raw, uri_template) = listed.shown(ItemKind::ResourceTemplate, template);
            let (original_template, upstream) = (Arc::clone(&listed.id), share.key.clone());
            shown.push(CatalogueTemplate { raw, uri_template, original_template, upstream });
        }
    }
    shown
}

const HIDDEN: &str = "an upstream further up has one of this name";

fn catalogue_tool(share: &Share, listed: &ListedTool, exposed: &str) -> CatalogueTool {
    let original = &listed.tool;
    let tool = if original.name() == exposed { original.clone() } else { original.renamed(exposed) };
    CatalogueTool {
        tool,
        upstream: share.key.clone(),
        original_name: Arc::clone(&listed.original_name),
        checker: listed.checker.clone(),
        output_checker: listed.output_checker.clone(),
    }
}

fn status(share: &Share) -> UpstreamStatus {
    let listing = share.listing.as_deref();
    let introduction = listing.map(|listing| &listing.introduction);
    UpstreamStatus {
        key: share.key.clone(),
        state: share.state.clone(),
        version: introduction.map(|introduction| introduction.version),
        tools: listing.map_or(0, |listing| listing.tools.len()),
        prompts: listing.map_or(0, |listing| listing.prompts.len()),
        resources: listing.map_or(0, |listing| listing.resources.len()),
        resource_templates: listing.map_or(0, |listing| listing.templates.len()),
        server_info: introduction.and_then(|introduction| introduction.server_info.clone()),
        capabilities: introduction.map(|introduction| Arc::clone(&introduction.capabilities)),
        instructions: introduction.and_then(|introduction| introduction.instructions.clone()),
        rejected: listing.map(|listing| listing.rejected.clone()).unwrap_or_default(),
    }
}

/// A hash of one kind of everything, with the names it is shown under. The listings bring their own hashes, so that one
/// server's change does not cost reading the other servers' tools again.
fn hash(shares: &[Share], digest: impl Fn(&Listing) -> [u8; 32], shown: Option<[u8; 32]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (_, share, listing) in listings(shares) {
        let key = share.key.as_str();
        hash.update(key.len().to_be_bytes());
        hash.update(key);
        hash.update(digest(listing));
    }
    hash.update(shown.unwrap_or_default());
    hash.finalize().into()
}

fn revision(digests: &Digests) -> String {
    let Digests { about, tools, prompts, resources } = digests;
    let mut hash = Sha256::new();
    for digest in [about, tools, prompts, resources] {
        hash.update(digest);
    }
    let mut revision = String::with_capacity(16);
    for byte in hash.finalize().iter().take(8) {
        let _ = write!(revision, "{byte:02x}");
    }
    revision
}

#[cfg(test)]
mod tests;
