//! TOML to a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Lines, SyntaxError};
use crate::config::node::{Entry, Node, Value};

pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| SyntaxError {
        at: lines.position(error.span().map_or(0, |span| span.start)),
        message: format!("this is not TOML: {}", error.message().trim_end().replace('\n', ", ")),
    })?;
    let at = lines.position(0);
    Ok(Node { at, value: map(table.into_inner(), &lines)? })
}

fn map(table: DeTable<'_>, lines: &Lines<'_>) -> Result<Value, SyntaxError> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let offset = key.span().start;
        let entry = Entry {
            key: key.into_inner().into_owned(),
            key_at: lines.position(offset),
            node: node(value, lines)?,
        };
        entries.push((offset, entry));
    }
    // The parser sorts by name; the order of the file is the order in which tools are listed.
    entries.sort_by_key(|(offset, _)| *offset);
    Ok(Value::Map(entries.into_iter().map(|(_, entry)| entry).collect()))
}

fn node(value: Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Result<Node, SyntaxError> {
    let at = lines.position(value.span().start);
    let unreadable =
        |what: &str, text: &str| SyntaxError { at, message: format!("the {what} {text} is out of range") };
    let value = match value.into_inner() {
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| node(item, lines)).collect::<Result<_, _>>()?)
        }
        DeValue::Boolean(flag) => Value::Bool(flag),
        // TOML's dates are no part of any setting, but may stand in a schema's example.
        DeValue::Datetime(date) => Value::String { text: date.to_string(), expanded: false },
        DeValue::Float(float) => Value::Float(
            float.as_str().replace('_', "").parse().map_err(|_| unreadable("number", float.as_str()))?,
        ),
        DeValue::Integer(integer) => Value::Integer(
            i128::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
                .map_err(|_| unreadable("integer", integer.as_str()))?,
        ),
        DeValue::String(text) => Value::String { text: text.into_owned(), expanded: false },
        DeValue::Table(table) => map(table, lines)?,
    };
    Ok(Node { at, value })
}
