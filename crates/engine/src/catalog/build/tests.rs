//! A catalogue that is built from the one before it is the one that would be built from nothing.

use std::sync::Arc;

use mpe_mcp_protocol::version::ProtocolVersion;
use proptest::prelude::{Strategy, prop_oneof, proptest};
use proptest::{collection, prop_assert, prop_assert_eq};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Before, Built, Share, build};
use crate::catalog::listing::{Found, Listing};
use crate::eras::Divide;
use crate::upstream::Introduction;
use crate::{EndpointId, Naming, Target, UpstreamConfig, UpstreamKey, UpstreamState};

const KEYS: [&str; 4] = ["a", "b", "c", "a_b"];
const NAMES: [&str; 5] = ["x", "y", "b_x", "a_b_x", "née"];

/// What one server lists: tools with a description, prompts, resources.
#[derive(Clone, Debug)]
struct Server {
    key: usize,
    tools: Vec<(usize, u8)>,
    prompts: Vec<usize>,
    resources: Vec<usize>,
    is_known: bool,
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn listing(server: &Server) -> Arc<Listing> {
    let tool = |(name, text): &(usize, u8)| {
        raw(
            &json!({ "name": NAMES[*name], "description": text.to_string(), "inputSchema": { "type": "object" } }),
        )
    };
    let found = Found {
        introduction: Introduction {
            version: ProtocolVersion::LATEST,
            capabilities: Arc::from(raw(&json!({ "tools": {}, "resources": {} }))),
            server_info: None,
            instructions: None,
        },
        tools: server.tools.iter().map(tool).collect(),
        prompts: server.prompts.iter().map(|name| raw(&json!({ "name": NAMES[*name] }))).collect(),
        resources: server
            .resources
            .iter()
            .map(|n| raw(&json!({ "uri": format!("file:///{}", NAMES[*n]), "name": "r" })))
            .collect(),
        templates: Vec::new(),
        divide: Divide::default(),
    };
    let nowhere = Target::Stdio { command: String::new(), args: Vec::new(), env: Vec::new(), cwd: None };
    Arc::new(Listing::read(found, &UpstreamConfig::new(KEYS[server.key], nowhere), None, None))
}

/// The shares of servers; a server that has not changed keeps its very listing, as it does while the engine runs.
fn shares(servers: &[Server], known: &mut Vec<(Server, Arc<Listing>)>) -> Vec<Share> {
    servers
        .iter()
        .map(|server| {
            let same = known.iter().find(|(old, _)| format!("{old:?}") == format!("{server:?}"));
            let listing = same.map_or_else(|| listing(server), |(_, listing)| Arc::clone(listing));
            known.push((server.clone(), Arc::clone(&listing)));
            Share {
                key: UpstreamKey::new(KEYS[server.key]),
                state: UpstreamState::Up,
                listing: server.is_known.then_some(listing),
            }
        })
        .collect()
}

/// Everything that a catalogue shows.
fn shown(built: &Built) -> String {
    let catalogue = &built.catalogue;
    let tools = catalogue
        .tools
        .iter()
        .zip(&built.ways)
        .map(|(entry, way)| (entry.tool.raw().get(), &entry.upstream, &entry.original_name, way.owner));
    format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?}",
        catalogue.revision,
        tools.collect::<Vec<_>>(),
        catalogue.prompts(),
        catalogue.resources(),
        catalogue.collisions,
        catalogue.upstreams,
        catalogue.digests,
    )
}

fn servers() -> impl Strategy<Value = Vec<Server>> {
    let list =
        || collection::btree_set(0..NAMES.len(), 0..4).prop_map(|list| list.into_iter().collect::<Vec<_>>());
    let server = (list(), list(), list(), 0..2_u8, proptest::bool::weighted(0.9));
    collection::vec(server, 0..=KEYS.len()).prop_map(|servers| {
        let server =
            |(key, (tools, prompts, resources, text, is_known)): (usize, (Vec<usize>, _, _, _, _))| {
                let tools = tools.into_iter().map(|name| (name, text)).collect();
                Server { key, tools, prompts, resources, is_known }
            };
        servers.into_iter().enumerate().map(server).collect()
    })
}

/// One thing that happens between two builds.
#[derive(Clone, Debug)]
enum Event {
    /// One server says something else of its tools, under the same names.
    Describe(usize),
    /// All are replaced.
    Replace(Vec<Server>),
    /// The last becomes the first.
    Rotate,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0..KEYS.len()).prop_map(Event::Describe),
        2 => servers().prop_map(Event::Replace),
        1 => proptest::strategy::Just(Event::Rotate),
    ];
    collection::vec(event, 1..8)
}

proptest! {
    #[test]
    fn building_on_what_was_gives_what_building_anew_gives(
        first in servers(),
        events in events(),
        naming in prop_oneof![
            proptest::strategy::Just(Naming::Auto),
            proptest::strategy::Just(Naming::Prefix),
            proptest::strategy::Just(Naming::Plain),
        ],
    ) {
        let id = EndpointId::default();
        let mut known = Vec::new();
        let mut servers = first;
        let mut last = build(&id, naming, &shares(&servers, &mut known), None);
        for event in events {
            match event {
                Event::Describe(n) if n < servers.len() => {
                    servers[n].tools.iter_mut().for_each(|(_, text)| *text = text.wrapping_add(1));
                }
                Event::Describe(_) => {}
                Event::Replace(others) => servers = others,
                Event::Rotate if servers.is_empty() => {}
                Event::Rotate => servers.rotate_right(1),
            }
            let shares = shares(&servers, &mut known);
            let anew = build(&id, naming, &shares, None);
            let before = Before { catalogue: &last.catalogue, ways: &last.ways, kept: &last.kept };
            let built = build(&id, naming, &shares, Some(before));
            prop_assert_eq!(shown(&built), shown(&anew));
            for (n, entry) in built.catalogue.tools.iter().enumerate() {
                prop_assert_eq!(built.catalogue.by_name.get(entry.tool.name()), Some(&n));
            }
            prop_assert_eq!(built.catalogue.by_name.len(), built.catalogue.tools.len());
            last = built;
        }
    }

    #[test]
    fn a_change_that_keeps_the_names_keeps_the_tables(first in servers(), n in 0..KEYS.len()) {
        let id = EndpointId::default();
        let mut known = Vec::new();
        let mut servers = first;
        let last = build(&id, Naming::Prefix, &shares(&servers, &mut known), None);
        if let Some(server) = servers.get_mut(n) {
            server.tools.iter_mut().for_each(|(_, text)| *text = text.wrapping_add(1));
        }
        let before = Before { catalogue: &last.catalogue, ways: &last.ways, kept: &last.kept };
        let built = build(&id, Naming::Prefix, &shares(&servers, &mut known), Some(before));
        prop_assert!(Arc::ptr_eq(&built.catalogue.by_name, &last.catalogue.by_name));
        prop_assert!(Arc::ptr_eq(&built.catalogue.items, &last.catalogue.items));
    }
}
