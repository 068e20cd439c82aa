//! A configuration as a tree in which every value knows where it stands in its file.
//!
//! TOML, YAML and JSON are all read into this one tree, so that expansion, decoding and error messages
//! exist once and say the same whatever the spelling.

use std::fmt;

/// Where something stands in a file. Both count from one; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a configuration file can say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Float(f64),
    Integer(i128),
    List(Vec<Node>),
    Map(Vec<Entry>),
    Null,
    /// `expanded`: the text came out of a `${VARIABLE}`, so that it may also stand for a number or a boolean.
    String {
        text: String,
        expanded: bool,
    },
}

/// One `key: value` of a map, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Position,
    pub(crate) node: Node,
}

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Index(usize),
    Key(String),
}

/// The way from the root to a value, as `mcp_servers.weather.args[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyPath(pub(crate) Vec<Step>);

// === impl Node ===

impl Node {
    /// Whether there is anything at `path`.
    pub(crate) fn has(&self, path: &KeyPath) -> bool {
        path.0.iter().try_fold(self, |node, step| node.child(step)).is_some()
    }

    /// The node at `path`, or the nearest one on the way there.
    pub(crate) fn nearest(&self, path: &KeyPath) -> &Self {
        let mut node = self;
        for step in &path.0 {
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }

    /// Where `path` stands: its key where it has one, else its value, else the nearest thing around it.
    pub(crate) fn locate(&self, path: &KeyPath) -> Position {
        let Some((last, parents)) = path.0.split_last() else {
            return self.at;
        };
        let parent = self.nearest(&KeyPath(parents.to_vec()));
        match (&parent.value, last) {
            (Value::Map(entries), Step::Key(key)) => {
                entries.iter().find(|entry| entry.key == *key).map_or(parent.at, |entry| entry.key_at)
            }
            _ => parent.child(last).map_or(parent.at, |child| child.at),
        }
    }

    /// Takes the value at `path` out of the tree. False when there is none, or when it is the root.
    pub(crate) fn remove(&mut self, path: &KeyPath) -> bool {
        let Some((last, parents)) = path.0.split_last() else {
            return false;
        };
        let mut node = self;
        for step in parents {
            match node.child_mut(step) {
                Some(child) => node = child,
                None => return false,
            }
        }
        match (&mut node.value, last) {
            (Value::List(items), Step::Index(index)) if *index < items.len() => {
                items.remove(*index);
                true
            }
            (Value::Map(entries), Step::Key(key)) => {
                let before = entries.len();
                entries.retain(|entry| entry.key != *key);
                entries.len() < before
            }
            _ => false,
        }
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::List(items), Step::Index(index)) => items.get(*index),
            (Value::Map(entries), Step::Key(key)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.node)
            }
            _ => None,
        }
    }

    fn child_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.value, step) {
            (Value::List(items), Step::Index(index)) => items.get_mut(*index),
            (Value::Map(entries), Step::Key(key)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            _ => None,
        }
    }
}

// === impl KeyPath ===

impl KeyPath {
    /// The path of these keys.
    pub(crate) fn of<const N: usize>(keys: [&str; N]) -> Self {
        Self(keys.into_iter().map(|key| Step::Key(key.to_owned())).collect())
    }

    /// This path, one key further.
    pub(crate) fn key(&self, key: impl Into<String>) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// This path, one list item further.
    pub(crate) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// This path as far as its first list. A list is cut out whole: without one item, the indices of all that follow
    /// would name other items than the file does.
    pub(crate) fn up_to_list(&self) -> Self {
        Self(self.0.iter().take_while(|step| matches!(step, Step::Key(_))).cloned().collect())
    }

    /// Whether `other` is this path or lies below it.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if n > 0 {
                        f.write_str(".")?;
                    }
                    let plain = !key.is_empty()
                        && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
                    if plain { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}
