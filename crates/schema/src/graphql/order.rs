//! The order of an answer's fields: that of the query (GraphQL October 2021 §7.2.2), whichever tool answered first.

use std::collections::HashSet;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Request, Response, Value};
use indexmap::{IndexMap, IndexSet};

/// The response keys of the operation's own fields, in the order of the query. None for a request that cannot be read.
pub(super) fn of(request: &mut Request) -> IndexSet<Name> {
    let name = request.operation_name.clone();
    let Ok(document) = request.parsed_query() else { return IndexSet::new() };
    let mut reading = Reading { document, fragments: HashSet::new(), keys: IndexSet::new() };
    if let Some(operation) = operation(document, name.as_deref()) {
        reading.collect(&operation.selection_set.node, 0);
    }
    reading.keys
}

/// Puts the fields of `response` into that order. What is not in it, stands behind.
pub(super) fn restore(response: &mut Response, order: &IndexSet<Name>) {
    // Where every field is skipped, there is an answer, and nothing in it.
    if response.errors.is_empty() && response.data == Value::Null {
        response.data = Value::Object(IndexMap::new());
    }
    let Value::Object(fields) = &mut response.data else { return };
    fields.sort_by_cached_key(|key, _| order.get_index_of(key).unwrap_or(order.len()));
}

fn operation<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Option<&'a OperationDefinition> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), _) => Some(&operation.node),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name).map(|it| &it.node),
        (DocumentOperations::Multiple(operations), None) => operations.values().next().map(|it| &it.node),
    }
}

/// Selections inside one another, at most: what nests deeper is refused before anything runs, but read here all the same.
const MAX_DEPTH: usize = super::MAX_FIELD_DEPTH;

struct Reading<'a> {
    document: &'a ExecutableDocument,
    /// Those that were read. One that is used again brings nothing new, and may use itself.
    fragments: HashSet<&'a Name>,
    keys: IndexSet<Name>,
}

impl<'a> Reading<'a> {
    fn collect(&mut self, selections: &'a SelectionSet, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(field) => {
                    self.keys.insert(field.node.response_key().node.clone());
                }
                Selection::FragmentSpread(spread) => self.spread(&spread.node.fragment_name.node, depth),
                Selection::InlineFragment(fragment) => {
                    self.collect(&fragment.node.selection_set.node, depth + 1);
                }
            }
        }
    }

    fn spread(&mut self, name: &'a Name, depth: usize) {
        if !self.fragments.insert(name) {
            return;
        }
        if let Some(fragment) = self.document.fragments.get(name) {
            self.collect(&fragment.node.selection_set.node, depth + 1);
        }
    }
}
