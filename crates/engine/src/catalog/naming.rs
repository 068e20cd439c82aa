//! Under which names the tools of several servers are shown.
//!
//! A name depends only on the configuration and on what the servers list, so every replica arrives at the same ones; the
//! way back goes through the catalogue, never through cutting strings apart. Names are portable: at most
//! [`MAX_NAME`] characters of `A–Z a–z 0–9 _ - .` (MCP 2026-07-28, server/tools, "Tool Names" allows 128; LLM vendors
//! allow 64).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Collision, CollisionKind};
use crate::{Naming, UpstreamKey};

/// Characters of an exposed name, at most.
pub(crate) const MAX_NAME: usize = 64;

/// Characters of the hash that makes a changed name unique, and the underscore before it.
const HASH: usize = 9;

/// The exposed names, upstream by upstream in the order given; `None`: hidden.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) exposed: Vec<Vec<Option<String>>>,
    pub(crate) collisions: Vec<Collision>,
}

/// What one upstream lists.
pub(crate) struct Claims<'a> {
    pub(crate) upstream: &'a UpstreamKey,
    pub(crate) kind: CollisionKind,
    pub(crate) names: Vec<Arc<str>>,
}

/// Names every tool of every upstream.
pub(crate) fn assign(naming: Naming, upstreams: &[Claims<'_>]) -> Names {
    if naming == Naming::Auto && upstreams.len() == 1 {
        let untouched = upstreams[0].names.iter().map(|name| Some(name.to_string())).collect();
        return Names { exposed: vec![untouched], collisions: Vec::new() };
    }
    let claimants = claimants(upstreams);
    let mut assignment = Assignment { taken: HashMap::new(), stolen: Vec::new() };
    let mut exposed: Vec<Vec<Option<String>>> =
        upstreams.iter().map(|upstream| vec![None; upstream.names.len()]).collect();
    // Names that stay as they are go first, so that nobody's prefixed name can push them aside.
    for untouched in [true, false] {
        for (u, upstream) in upstreams.iter().enumerate() {
            for (n, name) in upstream.names.iter().enumerate() {
                let Some(wanted) = wanted(naming, u, upstream.upstream, name, &claimants) else { continue };
                if (wanted == **name) == untouched {
                    exposed[u][n] = Some(assignment.take(u, upstream.upstream, name, wanted));
                }
            }
        }
    }
    let mut collisions = shared_names(upstreams, &exposed, &claimants);
    collisions.extend(assignment.stolen.into_iter().map(|(name, owner, late, resolved)| Collision {
        kind: upstreams[owner].kind,
        upstreams: vec![upstreams[owner].upstream.clone(), upstreams[late].upstream.clone()],
        resolved: vec![name.clone(), resolved],
        name,
    }));
    Names { exposed, collisions }
}

/// Who claims each name, in configuration order.
fn claimants<'a>(upstreams: &'a [Claims<'_>]) -> HashMap<&'a str, Vec<usize>> {
    let mut claimants: HashMap<&str, Vec<usize>> = HashMap::new();
    for (u, upstream) in upstreams.iter().enumerate() {
        for name in &upstream.names {
            claimants.entry(name).or_default().push(u);
        }
    }
    claimants
}

/// The name a tool would like to have; `None`: it is hidden.
fn wanted(
    naming: Naming,
    u: usize,
    key: &UpstreamKey,
    name: &str,
    claimants: &HashMap<&str, Vec<usize>>,
) -> Option<String> {
    let claimed_by = &claimants[name];
    let is_prefixed = match naming {
        Naming::Auto => claimed_by.len() > 1,
        Naming::Prefix => true,
        Naming::Plain if claimed_by[0] != u => return None,
        Naming::Plain => false,
    };
    let wish = if is_prefixed { format!("{key}_{name}") } else { name.to_owned() };
    Some(portable(&wish, key, name))
}

struct Assignment {
    taken: HashMap<String, usize>,
    /// Wanted name, who has it, who wanted it too, what the latter got.
    stolen: Vec<(String, usize, usize, String)>,
}

impl Assignment {
    fn take(&mut self, u: usize, key: &UpstreamKey, name: &str, wanted: String) -> String {
        let Some(&owner) = self.taken.get(&wanted) else {
            self.taken.insert(wanted.clone(), u);
            return wanted;
        };
        // A server may list the very name that the hash gives; counting on finds a free one.
        let unique = (0_u32..)
            .map(|salt| hashed(&wanted, key, name, salt))
            .find(|unique| !self.taken.contains_key(unique))
            .expect("finitely many names are taken");
        self.taken.insert(unique.clone(), u);
        self.stolen.push((wanted, owner, u, unique.clone()));
        unique
    }
}

/// The names that several upstreams claim, sorted.
fn shared_names(
    upstreams: &[Claims<'_>],
    exposed: &[Vec<Option<String>>],
    claimants: &HashMap<&str, Vec<usize>>,
) -> Vec<Collision> {
    let mut shared: Vec<Collision> = Vec::new();
    let mut seen = HashSet::new();
    for upstream in upstreams {
        for name in upstream.names.iter().map(|name| &**name) {
            let claimed_by = &claimants[name];
            if claimed_by.len() < 2 || !seen.insert(name) {
                continue;
            }
            let resolved = claimed_by.iter().map(|&u| {
                let n = upstreams[u].names.iter().position(|other| **other == *name);
                n.and_then(|n| exposed[u][n].clone()).unwrap_or_default()
            });
            shared.push(Collision {
                kind: upstream.kind,
                name: name.to_owned(),
                upstreams: claimed_by.iter().map(|&u| upstreams[u].upstream.clone()).collect(),
                resolved: resolved.collect(),
            });
        }
    }
    shared.sort_by(|a, b| a.name.cmp(&b.name));
    shared
}

/// `wish` if it is portable, else the nearest portable name with a hash of whose it is, so that what was replaced or cut
/// off still tells names apart.
fn portable(wish: &str, key: &UpstreamKey, name: &str) -> String {
    let is_portable = wish.len() <= MAX_NAME && wish.chars().all(is_portable_char);
    if is_portable { wish.to_owned() } else { hashed(wish, key, name, 0) }
}

fn hashed(wish: &str, key: &UpstreamKey, name: &str, salt: u32) -> String {
    let digest = Sha256::new()
        .chain_update(key.as_str())
        .chain_update([0])
        .chain_update(name)
        .chain_update(salt.to_be_bytes())
        .finalize();
    let kept: String =
        wish.chars().map(|c| if is_portable_char(c) { c } else { '_' }).take(MAX_NAME - HASH).collect();
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    format!("{kept}_{hash:08x}")
}

fn is_portable_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use proptest::{collection, prop_assert, prop_assert_eq};

    use std::sync::Arc;

    use super::{Claims, CollisionKind, MAX_NAME, Names, assign, is_portable_char};
    use crate::{Naming, UpstreamKey};

    fn claims<'a>(upstream: &'a UpstreamKey, names: &[&str]) -> Claims<'a> {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        Claims { upstream, kind: CollisionKind::Tool, names }
    }

    fn names(naming: Naming, servers: &[(&str, &[&str])]) -> Names {
        let keys: Vec<_> = servers.iter().map(|(key, _)| UpstreamKey::new(*key)).collect();
        let claims: Vec<_> =
            servers.iter().zip(&keys).map(|((_, names), upstream)| claims(upstream, names)).collect();
        assign(naming, &claims)
    }

    fn exposed(names: &Names) -> Vec<Vec<&str>> {
        let shown = |name: &'_ Option<String>| name.is_some();
        names
            .exposed
            .iter()
            .map(|list| list.iter().filter(|name| shown(name)).flatten().map(String::as_str).collect())
            .collect()
    }

    #[test]
    fn one_server_keeps_every_name_even_unportable_ones() {
        let names = names(Naming::Auto, &[("a", &["get user/é", "b"])]);
        assert_eq!(exposed(&names), [["get user/é", "b"]]);
    }

    #[test]
    fn auto_prefixes_only_names_that_several_servers_have_and_reports_them() {
        let names = names(Naming::Auto, &[("a", &["echo", "add"]), ("b", &["echo", "sub"])]);
        assert_eq!(exposed(&names), [["a_echo", "add"], ["b_echo", "sub"]]);
        assert_eq!(names.collisions.len(), 1);
        assert_eq!(names.collisions[0].name, "echo");
        assert_eq!(names.collisions[0].resolved, ["a_echo", "b_echo"]);
    }

    #[test]
    fn prefix_prefixes_everything_even_of_one_server() {
        assert_eq!(exposed(&names(Naming::Prefix, &[("a", &["echo"])])), [["a_echo"]]);
    }

    #[test]
    fn plain_gives_a_name_to_the_first_server_and_hides_the_others() {
        let names = names(Naming::Plain, &[("a", &["echo"]), ("b", &["echo", "sub"])]);
        assert_eq!(exposed(&names), [vec!["echo"], vec!["sub"]]);
        assert_eq!(names.collisions[0].resolved, ["echo", ""]);
    }

    #[test]
    fn a_prefixed_name_never_pushes_an_untouched_one_aside() {
        let names = names(Naming::Auto, &[("a", &["b"]), ("c", &["b", "a_b"])]);
        assert_eq!(names.exposed[1][1].as_deref(), Some("a_b"), "untouched");
        let moved = names.exposed[0][0].as_deref().expect("shown");
        assert!(moved.starts_with("a_b_") && moved.len() == "a_b_".len() + 8, "{moved}");
        assert!(names.collisions.iter().any(|collision| collision.name == "a_b"));
    }

    #[test]
    fn long_names_are_cut_to_64_characters_and_stay_apart() {
        let (one, two) = ("x".repeat(80) + "1", "x".repeat(80) + "2");
        let names = names(Naming::Prefix, &[("server", &[&one, &two])]);
        let shown = exposed(&names);
        assert!(shown[0].iter().all(|name| name.len() == MAX_NAME), "{shown:?}");
        assert_ne!(shown[0][0], shown[0][1]);
    }

    #[test]
    fn a_name_does_not_depend_on_the_other_tools_of_its_server() {
        let long = "é".repeat(80);
        let alone = names(Naming::Prefix, &[("s", &[&long])]);
        let among = names(Naming::Prefix, &[("s", &["a", &long, "b"])]);
        assert_eq!(alone.exposed[0][0], among.exposed[0][1]);
    }

    proptest! {
        #[test]
        fn shown_names_are_portable_and_unique(
            lists in collection::vec(collection::hash_set("[ab_/é]{1,3}|[a-b]{60,70}", 0..8), 2..5),
            prefix in any::<bool>(),
        ) {
            let keys: Vec<_> = (0..lists.len()).map(|n| UpstreamKey::new(["a", "b", "a_b", "ä", "_"][n])).collect();
            let claims: Vec<_> = lists.iter().zip(&keys)
                .map(|(list, upstream)| {
                    let mut names: Vec<&str> = list.iter().map(String::as_str).collect();
                    names.sort_unstable();
                    claims(upstream, &names)
                })
                .collect();
            let naming = if prefix { Naming::Prefix } else { Naming::Auto };
            let names = assign(naming, &claims);
            let shown: Vec<_> = names.exposed.iter().flatten().flatten().collect();
            let total: usize = lists.iter().map(std::collections::HashSet::len).sum();
            prop_assert_eq!(shown.len(), total, "nothing is hidden");
            let unique: std::collections::HashSet<_> = shown.iter().collect();
            prop_assert_eq!(unique.len(), total);
            for name in shown {
                prop_assert!(name.len() <= MAX_NAME && name.chars().all(is_portable_char), "{}", name);
            }
        }
    }
}
