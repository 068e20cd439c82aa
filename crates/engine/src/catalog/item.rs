//! Prompts, resources and resource templates: what a gateway lists and routes, and otherwise leaves alone.

use std::sync::Arc;

use mpe_mcp_protocol::object::{Object, raw_of};
use serde_json::value::RawValue;

use crate::UpstreamKey;

/// One prompt under the name the endpoint shows.
#[derive(Clone, Debug)]
pub struct CataloguePrompt {
    /// The whole description as the server wrote it, but for the name.
    pub raw: Arc<RawValue>,
    /// Its name, as shown.
    pub name: Arc<str>,
    /// Its name at the upstream.
    pub original_name: Arc<str>,
    /// Whose it is.
    pub upstream: UpstreamKey,
}

/// One resource under the URI the endpoint shows.
#[derive(Clone, Debug)]
pub struct CatalogueResource {
    /// The whole description as the server wrote it, but for a URI that a server further up has too.
    pub raw: Arc<RawValue>,
    /// Its URI, as shown.
    pub uri: Arc<str>,
    /// Its URI at the upstream.
    pub original_uri: Arc<str>,
    /// Whose it is.
    pub upstream: UpstreamKey,
}

/// One resource template under the URI template the endpoint shows.
#[derive(Clone, Debug)]
pub struct CatalogueTemplate {
    /// The whole description as the server wrote it, but for a template that a server further up has too.
    pub raw: Arc<RawValue>,
    /// Its `uriTemplate`, as shown (RFC 6570).
    pub uri_template: Arc<str>,
    /// Its `uriTemplate` at the upstream.
    pub original_template: Arc<str>,
    /// Whose it is.
    pub upstream: UpstreamKey,
}

/// The kinds of items, by the member that identifies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Prompt,
    Resource,
    ResourceTemplate,
}

/// An item as a server lists it.
#[derive(Clone, Debug)]
pub(crate) struct ListedItem {
    pub(crate) raw: Arc<RawValue>,
    pub(crate) id: Arc<str>,
}

impl ItemKind {
    fn member(self) -> &'static str {
        match self {
            Self::Prompt => "name",
            Self::Resource => "uri",
            Self::ResourceTemplate => "uriTemplate",
        }
    }
}

impl ListedItem {
    /// # Errors
    /// One sentence: it has no id.
    pub(crate) fn read(kind: ItemKind, raw: &RawValue) -> Result<Self, String> {
        let member = kind.member();
        let object = Object::parse(raw).map_err(|error| error.message)?;
        let id = object.string(member).map_err(|error| error.message)?;
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| format!("it has no {member:?}"))?;
        Ok(Self { id: Arc::from(id.as_ref()), raw: Arc::from(raw.to_owned()) })
    }

    /// Description and id as the endpoint shows them.
    pub(crate) fn shown(&self, kind: ItemKind, id: &str) -> (Arc<RawValue>, Arc<str>) {
        if *self.id == *id {
            return (Arc::clone(&self.raw), Arc::clone(&self.id));
        }
        (with_member(&self.raw, kind.member(), id), Arc::from(id))
    }
}

/// The same object with another string under `member`, put first where it was absent; every other byte stays.
pub(crate) fn with_member(raw: &RawValue, member: &str, value: &str) -> Arc<RawValue> {
    with_raw_member(raw, member, &raw_of(value))
}

/// The same object with another value under `member`, put first where it was absent; every other byte stays.
pub(crate) fn with_raw_member(raw: &RawValue, member: &str, new: &RawValue) -> Arc<RawValue> {
    let text = raw.get();
    let object = Object::parse(raw).expect("it was read before");
    let changed = match object.get(member).map(RawValue::get) {
        Some(old) => {
            // `old` is a slice of `text`.
            let at = old.as_ptr() as usize - text.as_ptr() as usize;
            [&text[..at], new.get(), &text[at + old.len()..]].concat()
        }
        None => {
            let comma = if object.is_empty() { "" } else { "," };
            let inside = text.trim_start().strip_prefix('{').expect("an object begins with a brace");
            format!("{{{}:{}{comma}{inside}", raw_of(member).get(), new.get())
        }
    };
    Arc::from(RawValue::from_string(changed).expect("JSON in place of JSON keeps the text JSON"))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{ItemKind, ListedItem};

    #[test]
    fn only_the_bytes_of_the_id_change() {
        let text = r#"{ "size": 1.0, "uri": "file:\/\/\/a", "x-uri":"file:///a" }"#;
        let raw = RawValue::from_string(text.to_owned()).expect("JSON");
        let item = ListedItem::read(ItemKind::Resource, &raw).expect("a resource");
        let (shown, _) = item.shown(ItemKind::Resource, "file:///b");
        assert_eq!(shown.get(), r#"{ "size": 1.0, "uri": "file:///b", "x-uri":"file:///a" }"#);
        let (same, _) = item.shown(ItemKind::Resource, "file:///a");
        assert_eq!(same.get(), text);
    }

    #[test]
    fn an_item_without_id_is_refused() {
        let raw = RawValue::from_string(r#"{"name":"x"}"#.to_owned()).expect("JSON");
        let reason = ListedItem::read(ItemKind::Resource, &raw).expect_err("no uri");
        assert!(reason.contains("uri"), "{reason}");
    }
}
