//! Query pairs as a tree: `a=1&a=2&b[c]=3` is `{a: [1, 2], b: {c: 3}}`.

use indexmap::IndexMap;

use crate::SchemaViolation;
use crate::local::escape;

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
    violations: &mut Vec<SchemaViolation>,
) -> IndexMap<String, Text> {
    let mut tree = IndexMap::new();
    for (name, value) in pairs {
        let Some(steps) = steps(name) else {
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

/// `a[b][c]` as `a`, `b`, `c`. A trailing `[]` says "one of several" and is no step.
fn steps(name: &str) -> Option<Vec<&str>> {
    let Some(open) = name.find('[').filter(|at| *at > 0) else {
        return Some(vec![name]);
    };
    let mut steps = vec![&name[..open]];
    let mut rest = &name[open..];
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[')?;
        let close = inner.find(']')?;
        let step = &inner[..close];
        rest = &inner[close + 1..];
        if step.is_empty() && rest.is_empty() {
            break;
        }
        steps.push(step);
        if steps.len() > MAX_BRACKETS {
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
        let tree = tree(&pairs, &mut violations);
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
    fn deep_nesting_is_refused() {
        let (_, violations) = read(&[(&format!("a{}", "[b]".repeat(1000)), "1")]);
        assert_eq!(violations.len(), 1);
    }
}
