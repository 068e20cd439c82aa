//! Collects a paged list to its end (MCP 2026-07-28, server/utilities/pagination).

use std::collections::{HashMap, HashSet};

use serde_json::value::{RawValue, to_raw_value};

/// Pages of one list and items of one list, at most. A server beyond either is broken or hostile.
const MAX_PAGES: usize = 1_000;
const MAX_ITEMS: usize = 20_000;

/// A list being collected.
pub(crate) struct Pages {
    items: Vec<Box<RawValue>>,
    next: Next,
    cursors: HashSet<String>,
}

enum Next {
    First,
    After(String),
    Done,
}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { items: Vec::new(), next: Next::First, cursors: HashSet::new() }
    }

    /// The params of the next page's request; `None` at the end.
    pub(crate) fn next_params(&self) -> Option<Option<Box<RawValue>>> {
        match &self.next {
            Next::First => Some(None),
            Next::After(cursor) => {
                let params = to_raw_value(&serde_json::json!({ "cursor": cursor }));
                Some(Some(params.expect("a string is JSON")))
            }
            Next::Done => None,
        }
    }

    /// Takes a page's result; its items stand under `field`. An empty cursor is a cursor.
    ///
    /// # Errors
    /// One sentence: the result has no such list, a cursor came twice, or there is no end.
    pub(crate) fn take(&mut self, result: &RawValue, field: &str) -> Result<(), String> {
        let mut page: HashMap<String, Box<RawValue>> =
            serde_json::from_str(result.get()).map_err(|error| format!("the page is malformed: {error}"))?;
        let items = page.remove(field).ok_or_else(|| format!("the page has no '{field}'"))?;
        let items: Vec<Box<RawValue>> = serde_json::from_str(items.get())
            .map_err(|error| format!("'{field}' of the page is malformed: {error}"))?;
        self.items.extend(items);
        if self.items.len() > MAX_ITEMS {
            return Err(format!("the list has more than {MAX_ITEMS} items"));
        }
        self.next = match page.remove("nextCursor") {
            None => Next::Done,
            Some(cursor) if cursor.get() == "null" => Next::Done,
            Some(cursor) => Next::After(self.cursor(&cursor)?),
        };
        Ok(())
    }

    fn cursor(&mut self, raw: &RawValue) -> Result<String, String> {
        let cursor: String = serde_json::from_str(raw.get())
            .map_err(|error| format!("'nextCursor' is no string: {error}"))?;
        if !self.cursors.insert(cursor.clone()) {
            return Err("the same cursor came twice; the list would never end".to_owned());
        }
        if self.cursors.len() >= MAX_PAGES {
            return Err(format!("the list has more than {MAX_PAGES} pages"));
        }
        Ok(cursor)
    }

    /// Whether nothing has been collected yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Everything collected, in order.
    pub(crate) fn into_items(self) -> Vec<Box<RawValue>> {
        self.items
    }
}
