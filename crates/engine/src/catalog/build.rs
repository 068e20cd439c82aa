//! Puts the catalogue together from what each upstream lists.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use mpe_mcp_protocol::header::MirroredParams;
use sha2::{Digest, Sha256};

use super::listing::{ListedTool, Listing};
use super::naming::{self, Claims, Names};
use super::{Catalogue, CatalogueTool, UpstreamState, UpstreamStatus};
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
}

/// Builds the catalogue of `shares`, which stand in configuration order.
pub(crate) fn build(endpoint: &EndpointId, naming: Naming, shares: &[Share]) -> Built {
    let names = naming::assign(naming, &claims(shares));
    let revision = revision(shares, &names);
    let mut tools = Vec::new();
    let mut ways = Vec::new();
    let mut upstreams = Vec::with_capacity(shares.len());
    for (owner, (share, exposed)) in shares.iter().zip(&names.exposed).enumerate() {
        let mut status = status(share);
        for (listed, exposed) in listed(share).iter().zip(exposed) {
            let Some(exposed) = exposed else {
                let name = listed.tool.name().to_owned();
                status.rejected.push((name, "an upstream further up has a tool of this name".to_owned()));
                continue;
            };
            tools.push(catalogue_tool(share, listed, exposed));
            ways.push(Way { owner, mirrored: Arc::clone(&listed.mirrored) });
        }
        upstreams.push(status);
    }
    let by_name: HashMap<Arc<str>, usize> =
        tools.iter().enumerate().map(|(index, entry)| (Arc::from(entry.tool.name()), index)).collect();
    let catalogue = Catalogue {
        endpoint: endpoint.clone(),
        revision,
        tools,
        by_name,
        upstreams,
        collisions: names.collisions,
    };
    Built { catalogue, ways }
}

fn listed(share: &Share) -> &[ListedTool] {
    share.listing.as_ref().map_or(&[], |listing| &listing.tools)
}

fn claims(shares: &[Share]) -> Vec<Claims<'_>> {
    shares
        .iter()
        .map(|share| Claims {
            upstream: &share.key,
            names: listed(share).iter().map(|listed| listed.tool.name()).collect(),
        })
        .collect()
}

fn catalogue_tool(share: &Share, listed: &ListedTool, exposed: &str) -> CatalogueTool {
    let original = &listed.tool;
    let tool = if original.name() == exposed { original.clone() } else { original.renamed(exposed) };
    CatalogueTool {
        tool,
        upstream: share.key.clone(),
        original_name: Arc::from(original.name()),
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
        server_info: introduction.and_then(|introduction| introduction.server_info.clone()),
        capabilities: introduction.map(|introduction| Arc::clone(&introduction.capabilities)),
        instructions: introduction.and_then(|introduction| introduction.instructions.clone()),
        rejected: listing.map(|listing| listing.rejected.clone()).unwrap_or_default(),
    }
}

/// A hash of everything shown. The listings bring their own hashes, so that one server's change does not cost reading the
/// other servers' tools again.
fn revision(shares: &[Share], names: &Names) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_be_bytes());
        hash.update(bytes);
    };
    for (share, exposed) in shares.iter().zip(&names.exposed) {
        let Some(listing) = &share.listing else { continue };
        part(share.key.as_str().as_bytes());
        part(&listing.digest);
        for name in exposed {
            part(name.as_deref().unwrap_or_default().as_bytes());
        }
    }
    let mut revision = String::with_capacity(16);
    for byte in hash.finalize().iter().take(8) {
        let _ = write!(revision, "{byte:02x}");
    }
    revision
}
