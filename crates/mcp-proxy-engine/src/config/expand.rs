//! `${VARIABLE}` and `${VARIABLE:-default}` in strings.

use super::node::{KeyPath, Node, Value};

/// Where variables come from.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces every reference in every string below `node`; what cannot be replaced is reported with its path and the
/// string stays as it is. `$${` stands for a literal `${`.
pub(crate) fn expand(node: &mut Node, lookup: Lookup<'_>) -> Vec<(KeyPath, String)> {
    let mut problems = Vec::new();
    walk(node, &KeyPath::default(), lookup, &mut problems);
    problems
}

fn walk(node: &mut Node, path: &KeyPath, lookup: Lookup<'_>, problems: &mut Vec<(KeyPath, String)>) {
    match &mut node.value {
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &path.index(index), lookup, problems);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                walk(&mut entry.node, &path.key(entry.key.as_str()), lookup, problems);
            }
        }
        Value::String { text, expanded } if text.contains("${") => match expand_text(text, lookup) {
            Ok(replaced) => {
                *text = replaced;
                *expanded = true;
            }
            Err(message) => problems.push((path.clone(), message)),
        },
        _ => {}
    }
}

/// One string with every reference replaced.
fn expand_text(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err("`${` opens a variable that no `}` closes; write `$${` for a literal `${`".to_owned());
        };
        let inner = &reference[2..end];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let name_is_valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !name_is_valid {
            // The text is not repeated: it may be part of a secret.
            return Err(
                "`${…}` must name an environment variable (letters, digits and underscores, optionally \
                        followed by `:-` and a default); write `$${` for a literal `${`"
                    .to_owned(),
            );
        }
        // As in a shell: `:-` also replaces a variable that is set but empty.
        let value = lookup(name).filter(|value| default.is_none() || !value.is_empty());
        match value.or_else(|| default.map(str::to_owned)) {
            Some(value) => out.push_str(&value),
            None => {
                return Err(format!(
                    "the environment variable `{name}` is not set; set it, or give a default: `${{{name}:-…}}`"
                ));
            }
        }
        rest = &reference[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
