//! Which resource a URI means: URIs that two servers list, and URIs that nobody lists.

use std::collections::{HashMap, HashSet};

use crate::UpstreamKey;

/// In front of URIs that had to change because a server further up has the same one.
const SCHEME: &str = "mcp-proxy://";

/// The URIs or templates under which each upstream's items are shown, in the order given. The first upstream keeps a URI
/// that several list; the others get their key in front, so that the way back needs no table.
pub(crate) fn assign(upstreams: &[(&UpstreamKey, Vec<&str>)]) -> Vec<Vec<String>> {
    let mut taken: HashSet<&str> = HashSet::new();
    let mut shown = Vec::with_capacity(upstreams.len());
    for (key, uris) in upstreams {
        let show = |uri: &&'_ str| if taken.contains(uri) { prefixed(key, uri) } else { (*uri).to_owned() };
        shown.push(uris.iter().map(show).collect());
        taken.extend(uris);
    }
    shown
}

/// A URI with its upstream in front.
pub(crate) fn prefixed(key: &UpstreamKey, uri: &str) -> String {
    format!("{SCHEME}{}/{uri}", authority(key))
}

/// The upstream and its own URI behind a URI that had to change.
pub(crate) fn unprefixed<'a, 'u>(
    mut keys: impl Iterator<Item = &'a UpstreamKey>,
    uri: &'u str,
) -> Option<(&'a UpstreamKey, &'u str)> {
    let (host, original) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let key = keys.find(|key| authority(key) == host)?;
    Some((key, original))
}

/// A key as a URI's authority: what is not allowed there, percent-encoded (RFC 3986 §3.2.2).
fn authority(key: &UpstreamKey) -> String {
    let mut authority = String::with_capacity(key.as_str().len());
    for byte in key.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            authority.push(char::from(byte));
        } else {
            authority.push_str(&format!("%{byte:02X}"));
        }
    }
    authority
}

/// The scheme of a URI or of a template that begins with one.
pub(crate) fn scheme(uri: &str) -> Option<&str> {
    let (scheme, _) = uri.split_once(':')?;
    let is_scheme = scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some(scheme)
}

/// The only upstream that lists URIs of a scheme.
#[derive(Debug, Default)]
pub(crate) struct Schemes(HashMap<String, Option<UpstreamKey>>);

impl Schemes {
    pub(crate) fn add(&mut self, uri: &str, upstream: &UpstreamKey) {
        let Some(scheme) = scheme(uri) else { return };
        let owner = self.0.entry(scheme.to_ascii_lowercase()).or_insert_with(|| Some(upstream.clone()));
        if owner.as_ref() != Some(upstream) {
            *owner = None;
        }
    }

    pub(crate) fn owner(&self, uri: &str) -> Option<&UpstreamKey> {
        self.0.get(&scheme(uri)?.to_ascii_lowercase())?.as_ref()
    }
}

/// Whether `uri` may have come from expanding `template` (RFC 6570). Routing, not parsing: `{x}` stands for anything
/// without a slash, `{+x}`, `{#x}`, `{/x}`, `{x*}` for anything, `{?x}`, `{&x}`, `{;x}` and `{.x}` also for nothing.
pub(crate) fn matches(template: &str, uri: &str) -> bool {
    let Some(parts) = parts(template) else { return template == uri };
    // The offsets in `uri` that the parts so far can reach.
    let mut reached = vec![false; uri.len() + 1];
    reached[0] = true;
    for part in parts {
        let mut next = vec![false; uri.len() + 1];
        for at in (0..=uri.len()).filter(|&at| reached[at]) {
            match part {
                Part::Literal(text) if uri.as_bytes()[at..].starts_with(text.as_bytes()) => {
                    next[at + text.len()] = true;
                }
                Part::Literal(_) => {}
                Part::Expression { allows_slash, allows_nothing } => {
                    let end = uri.as_bytes()[at..].iter().position(|&byte| byte == b'/' && !allows_slash);
                    let end = end.map_or(uri.len(), |end| at + end);
                    let start = if allows_nothing { at } else { at + 1 };
                    next[start.min(end + 1)..=end].fill(true);
                }
            }
        }
        reached = next;
    }
    reached[uri.len()]
}

enum Part<'a> {
    Literal(&'a str),
    Expression { allows_slash: bool, allows_nothing: bool },
}

/// The parts of a template; `None` when its braces do not match.
fn parts(template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        let (expression, after) = after.split_once('}')?;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let operator = expression.bytes().next()?;
        parts.push(Part::Expression {
            allows_slash: !(operator.is_ascii_alphanumeric() || operator == b'_') || expression.contains('*'),
            allows_nothing: matches!(operator, b'?' | b'&' | b';' | b'.'),
        });
        rest = after;
    }
    if rest.contains('}') {
        return None;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::{Schemes, assign, matches, scheme, unprefixed};
    use crate::UpstreamKey;

    #[test]
    fn the_first_server_keeps_a_shared_uri_and_the_other_ones_way_back_is_its_prefix() {
        let (a, b) = (UpstreamKey::new("a"), UpstreamKey::new("b c"));
        let shown = assign(&[(&a, vec!["file:///x"]), (&b, vec!["file:///x", "file:///y"])]);
        assert_eq!(shown[0], ["file:///x"]);
        assert_eq!(shown[1], ["mcp-proxy://b%20c/file:///x", "file:///y"]);
        assert_eq!(unprefixed([&a, &b].into_iter(), &shown[1][0]), Some((&b, "file:///x")));
        assert_eq!(unprefixed([&a].into_iter(), &shown[1][0]), None);
    }

    #[test]
    fn templates_match_what_they_expand_to() {
        for (template, uri, expected) in [
            ("file:///{name}", "file:///a", true),
            ("file:///{name}", "file:///a/b", false),
            ("file:///{name}", "file:///", false),
            ("file:///{+path}", "file:///a/b", true),
            ("file:///{path*}", "file:///a/b", true),
            ("db://{table}/{id}.json", "db://users/7.json", true),
            ("db://{table}/{id}.json", "db://users/7.xml", false),
            ("search://q{?text,page}", "search://q", true),
            ("search://q{?text,page}", "search://q?text=a&page=2", true),
            ("a{b}b", "abbb", true),
            ("literal", "literal", true),
            ("broken{", "broken{", true),
            ("é{x}", "éü", true),
        ] {
            assert_eq!(matches(template, uri), expected, "{template} and {uri}");
        }
    }

    #[test]
    fn a_scheme_belongs_to_a_server_only_while_nobody_else_uses_it() {
        let (a, b) = (UpstreamKey::new("a"), UpstreamKey::new("b"));
        let mut schemes = Schemes::default();
        schemes.add("db://x", &a);
        schemes.add("DB://{y}", &a);
        schemes.add("file:///x", &a);
        schemes.add("file:///y", &b);
        assert_eq!(schemes.owner("db://unlisted"), Some(&a));
        assert_eq!(schemes.owner("file:///z"), None);
        assert_eq!(scheme("no scheme"), None);
    }
}
