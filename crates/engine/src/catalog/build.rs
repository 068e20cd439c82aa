//! Puts the catalogue together from what each upstream lists.

use std::fmt::Write as _;
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

/// A catalogue, and for each of its tools the way to it.
pub(crate) struct Built {
    pub(crate) catalogue: Catalogue,
    pub(crate) ways: Vec<Way>,
}

/// The way to one tool.
pub(crate) struct Way {
    /// The index of the upstream that answers.
    pub(crate) owner: usize,
    /// Which arguments headers repeat.
    pub(crate) mirrored: Arc<MirroredParams>,
    /// The only era in which its server lists it; `None`: any.
    pub(crate) only_in: Option<Era>,
}

/// Builds the catalogue of `shares`, which stand in configuration order.
pub(crate) fn build(endpoint: &EndpointId, naming: Naming, shares: &[Share]) -> Built {
    let names = naming::assign(naming, &claims(shares, CollisionKind::Tool));
    let mut upstreams: Vec<_> = shares.iter().map(status).collect();
    let (tools, ways) = tools(shares, &names, &mut upstreams);
    let prompt_names = naming::assign(naming, &claims(shares, CollisionKind::Prompt));
    let (resource_uris, templates) =
        (uris(shares, |listing| &listing.resources), uris(shares, |l| &l.templates));
    let items = Items {
        prompts: prompts(shares, &prompt_names, &mut upstreams),
        resources: resources(shares, &resource_uris),
        templates: resource_templates(shares, &templates),
    };
    let digests = Digests {
        about: hash(shares, |listing| listing.digests.about, |_, _| ()),
        tools: hash(shares, |listing| listing.digests.tools, |n, part| each(&names.exposed[n], part)),
        prompts: hash(
            shares,
            |listing| listing.digests.prompts,
            |n, part| each(&prompt_names.exposed[n], part),
        ),
        // How URIs are shown follows from the listings and the order of the keys.
        resources: hash(shares, |listing| listing.digests.resources, |_, _| ()),
    };
    let by_name = tools.iter().enumerate().map(|(n, entry)| (Arc::from(entry.tool.name()), n)).collect();
    let mut collisions = names.collisions;
    collisions.extend(prompt_names.collisions);
    let transparent = match shares {
        [only] if naming == Naming::Auto => Some(only.key.clone()),
        _ => None,
    };
    let catalogue = Catalogue {
        endpoint: endpoint.clone(),
        revision: revision(&digests),
        tools,
        by_name,
        routing: Routing::of(&items, &upstreams, transparent),
        items,
        upstreams,
        collisions,
        digests,
    };
    Built { catalogue, ways }
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

fn tools(
    shares: &[Share],
    names: &Names,
    upstreams: &mut [UpstreamStatus],
) -> (Vec<CatalogueTool>, Vec<Way>) {
    let mut tools = Vec::new();
    let mut ways = Vec::new();
    for (owner, share, listing) in listings(shares) {
        for (listed, exposed) in listing.tools.iter().zip(&names.exposed[owner]) {
            let Some(exposed) = exposed else {
                upstreams[owner].rejected.push((listed.tool.name().to_owned(), HIDDEN.to_owned()));
                continue;
            };
            tools.push(catalogue_tool(share, listed, exposed));
            let only_in = listing.divide.only_in(Kind::Tool, &listed.original_name);
            ways.push(Way { owner, mirrored: Arc::clone(&listed.mirrored), only_in });
        }
    }
    (tools, ways)
}

fn prompts(shares: &[Share], names: &Names, upstreams: &mut [UpstreamStatus]) -> Vec<CataloguePrompt> {
    let mut prompts = Vec::new();
    for (owner, share, listing) in listings(shares) {
        for (listed, exposed) in listing.prompts.iter().zip(&names.exposed[owner]) {
            let Some(exposed) = exposed else {
                upstreams[owner].rejected.push((listed.id.to_string(), HIDDEN.to_owned()));
                continue;
            };
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

/// A hash of one kind of everything. The listings bring their own hashes, so that one server's change does not cost
/// reading the other servers' tools again.
fn hash(
    shares: &[Share],
    digest: impl Fn(&Listing) -> [u8; 32],
    shown: impl Fn(usize, &mut dyn FnMut(&[u8])),
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (n, share, listing) in listings(shares) {
        let mut part = |bytes: &[u8]| {
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        };
        part(share.key.as_str().as_bytes());
        part(&digest(listing));
        shown(n, &mut part);
    }
    hash.finalize().into()
}

fn each(names: &[Option<String>], part: &mut dyn FnMut(&[u8])) {
    for name in names {
        part(name.as_deref().unwrap_or_default().as_bytes());
    }
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
