//! Follows `nextCursor` to the end of a list.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::jsonrpc::DecodeError;
use crate::object::{Object, array_of, raw_of};

/// The lists of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    ResourceTemplates,
    /// `tools/list`.
    Tools,
}

impl List {
    /// The method.
    pub fn method(self) -> &'static str {
        match self {
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::ResourceTemplates => "resources/templates/list",
            Self::Tools => "tools/list",
        }
    }

    /// The member of the result that holds the items.
    pub fn member(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
            Self::Tools => "tools",
        }
    }
}

/// How much of a list is read.
#[derive(Clone, Copy, Debug)]
pub struct PagerLimits {
    /// Pages, at most. Default: 1000.
    pub pages: usize,
    /// Items over all pages, at most. Default: 100 000.
    pub items: usize,
    /// Bytes of all items together, at most. Default: 64 MiB.
    pub bytes: usize,
}

impl Default for PagerLimits {
    fn default() -> Self {
        Self { pages: 1000, items: 100_000, bytes: 64 << 20 }
    }
}

/// Reads a paged list. Ask [`Pager::next_params`], send that, hand the result to [`Pager::accept`].
#[derive(Debug)]
pub struct Pager {
    list: List,
    limits: PagerLimits,
    next: Next,
    seen: HashSet<String>,
    pages: usize,
    bytes: usize,
    items: Vec<Box<RawValue>>,
}

#[derive(Debug)]
enum Next {
    First,
    Cursor(String),
    End,
}

impl Pager {
    /// Begins at the first page.
    pub fn new(list: List, limits: PagerLimits) -> Self {
        Self { list, limits, next: Next::First, seen: HashSet::new(), pages: 0, bytes: 0, items: Vec::new() }
    }

    /// The list being read.
    pub fn list(&self) -> List {
        self.list
    }

    /// Params of the next request: `None` at the end, `Some(None)` for the first page.
    pub fn next_params(&self) -> Option<Option<Box<RawValue>>> {
        match &self.next {
            Next::First => Some(None),
            Next::Cursor(cursor) => Some(Some(raw_of(&serde_json::json!({ "cursor": cursor })))),
            Next::End => None,
        }
    }

    /// Takes in one page.
    ///
    /// An empty string is a cursor like any other (2026-07-28, pagination); only its absence ends the list.
    ///
    /// # Errors
    /// Invalid shape: no object, no array of items, a cursor that is no string or came before; too large: a limit
    /// is broken. The pager stays where it was.
    pub fn accept(&mut self, result: &RawValue) -> Result<(), DecodeError> {
        let within = |error: DecodeError| error.within(self.list.method());
        let object = Object::parse(result).map_err(within)?;
        let member = self.list.member();
        let Some(items) = object.get(member).and_then(array_of) else {
            return Err(within(DecodeError::shape(format!("{member:?} must be an array"))));
        };
        let cursor = object.string("nextCursor").map_err(within)?;
        let bytes = items.iter().fold(self.bytes, |sum, item| sum + item.get().len());
        if self.items.len() + items.len() > self.limits.items || bytes > self.limits.bytes {
            return Err(within(too_large(format!(
                "more than {} items or {} bytes",
                self.limits.items, self.limits.bytes
            ))));
        }
        let next = match cursor {
            None => Next::End,
            Some(_) if self.pages + 1 >= self.limits.pages => {
                return Err(within(too_large(format!("more than {} pages", self.limits.pages))));
            }
            Some(cursor) => {
                if !self.seen.insert(cursor.clone().into_owned()) {
                    return Err(within(DecodeError::shape(format!("the cursor {cursor:?} came before"))));
                }
                Next::Cursor(cursor.into_owned())
            }
        };
        self.items.extend(items.into_iter().map(ToOwned::to_owned));
        self.bytes = bytes;
        self.pages += 1;
        self.next = next;
        Ok(())
    }

    /// Forgets every page and begins again: what a client does when its cursor is refused (-32602).
    pub fn restart(&mut self) {
        *self = Self::new(self.list, self.limits);
    }

    /// How many pages were taken in.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Every item, in order.
    pub fn into_items(self) -> Vec<Box<RawValue>> {
        self.items
    }
}

fn too_large(message: String) -> DecodeError {
    DecodeError { kind: crate::jsonrpc::DecodeErrorKind::TooLarge, message, id: None }
}

#[cfg(test)]
mod tests;
