//! Query pairs as a tree: `a=1&a=2&b[c]=3` is `{a: [1, 2], b: {c: 3}}`.

use indexmap::IndexMap;
use mpe_mcp_protocol::pointer::escape;

use crate::SchemaViolation;

/// What the query says of one argument, still as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// `name[x]=…`: members by name, in order of first mention.
    Members(IndexMap<String, Text>),
    /// `name=…`, once or more often.
    Values(Vec<String>),
}

/// Reads pairs whose names and values are percent-decoded.
///
/// # Errors
/// Names whose brackets do not pair, or that are both a value and an object; nesting over [`MAX_BRACKETS`].
pub(crate) fn tree(
    pairs: &[(String, String)],
    is_known: &dyn Fn(&str) -> bool,
    violations: &mut Vec<SchemaViolation>,
) -> IndexMap<String, Text> {
    let mut tree = IndexMap::new();
    for (name, value) in pairs {
        let Some(steps) = steps_of(name, is_known) else {
            violations.push(SchemaViolation::new(
                format!("/{}", escape(name)),
                "the brackets of this query name do not pair; expected `name`, `name[member]` or `name[]`",
            ));
            continue;
        };
        if let Err(pointer) = insert(&mut tree, &steps, value) {
            violations.push(SchemaViolation::new(
                pointer,
                "the query gives both a value and members for this argument; send one of the two",
            ));
        }
    }
    tree
}

/// Pairs of brackets in one name, at most.
const MAX_BRACKETS: usize = 32;

/// The steps of a name, whose first may have brackets of its own: that of an argument that is called so.
fn steps_of<'a>(name: &'a str, is_known: &dyn Fn(&str) -> bool) -> Option<Vec<&'a str>> {
    let ends = name.char_indices().filter(|(_, c)| *c == ']').map(|(at, _)| at + 1);
    // The longest one counts.
    let own = ends.filter(|end| is_known(&name[..*end])).last();
    let Some(end) = own else { return steps(name) };
    if end == name.len() {
        return Some(vec![name]);
    }
    let rest = steps_behind(&name[end..])?;
    Some(std::iter::once(&name[..end]).chain(rest).collect())
}

/// `a[b][c]` as `a`, `b`, `c`. A trailing `[]` says "one of several" and is no step.
fn steps(name: &str) -> Option<Vec<&str>> {
    let Some(open) = name.find('[').filter(|at| *at > 0) else {
        return Some(vec![name]);
    };
    let behind = steps_behind(&name[open..])?;
    Some(std::iter::once(&name[..open]).chain(behind).collect())
}

/// `[b][c]` as `b`, `c`.
fn steps_behind(brackets: &str) -> Option<Vec<&str>> {
    let mut steps = Vec::new();
    let mut rest = brackets;
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[')?;
        let close = inner.find(']')?;
        let step = &inner[..close];
        rest = &inner[close + 1..];
        if step.is_empty() && rest.is_empty() {
            break;
        }
        steps.push(step);
        if steps.len() >= MAX_BRACKETS {
            return None;
        }
    }
    Some(steps)
}

fn insert(tree: &mut IndexMap<String, Text>, steps: &[&str], value: &str) -> Result<(), String> {
    let (step, rest) = steps.split_first().expect("a name has at least one step");
    let place = || format!("/{}", escape(step));
    if rest.is_empty() {
        let entry = tree.entry((*step).to_owned()).or_insert_with(|| Text::Values(Vec::new()));
        let Text::Values(values) = entry else {
            return Err(place());
        };
        values.push(value.to_owned());
        return Ok(());
    }
    let entry = tree.entry((*step).to_owned()).or_insert_with(|| Text::Members(IndexMap::new()));
    let Text::Members(members) = entry else {
        return Err(place());
    };
    insert(members, rest, value).map_err(|inner| format!("{}{inner}", place()))
}

#[cfg(test)]
mod tests {
    use super::{Text, tree};

    fn read(query: &[(&str, &str)]) -> (Vec<(String, Text)>, Vec<String>) {
        let pairs: Vec<(String, String)> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut violations = Vec::new();
        let tree = tree(&pairs, &|name| name == "page[size]" || name == "q[]", &mut violations);
        (tree.into_iter().collect(), violations.into_iter().map(|v| v.pointer).collect())
    }

    fn values(values: &[&str]) -> Text {
        Text::Values(values.iter().map(|v| (*v).to_owned()).collect())
    }

    #[test]
    fn repetition_makes_a_list_and_brackets_make_members() {
        let (tree, violations) = read(&[("a", "1"), ("b[c]", "2"), ("a[]", "3"), ("b[d][e]", "4")]);
        assert_eq!(violations, Vec::<String>::new());
        assert_eq!(tree[0], ("a".to_owned(), values(&["1", "3"])));
        let Text::Members(members) = &tree[1].1 else { panic!("members") };
        assert_eq!(members["c"], values(&["2"]));
        assert!(matches!(&members["d"], Text::Members(inner) if inner["e"] == values(&["4"])));
    }

    #[test]
    fn a_value_beside_members_and_unpaired_brackets_are_violations() {
        let (_, violations) = read(&[("a", "1"), ("a[b]", "2"), ("c[d", "3"), ("e[f]g", "4")]);
        assert_eq!(violations, ["/a", "/c[d", "/e[f]g"]);
    }

    #[test]
    fn an_argument_whose_own_name_has_brackets_is_found_by_it() {
        let (tree, violations) =
            read(&[("page[size]", "1"), ("page[size][x]", "2"), ("q[]", "3"), ("page[no]", "4")]);
        assert_eq!(violations, ["/page[size]"], "a value and members at once");
        assert_eq!(tree[0], ("page[size]".to_owned(), values(&["1"])));
        assert_eq!(tree[1], ("q[]".to_owned(), values(&["3"])));
        assert_eq!(tree[2].0, "page");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let (_, violations) = read(&[(&format!("a{}", "[b]".repeat(1000)), "1")]);
        assert_eq!(violations.len(), 1);
    }
}
