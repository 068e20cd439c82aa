//! URIs in results, as the endpoint shows them: where two servers have a resource of one URI, what the second one says of its
//! own must not lead to the first one's.

use mpe_engine::{Catalogue, UpstreamKey};
use serde_json::value::RawValue;

use crate::json::{Members, ObjectWriter, raw_value};

/// The result of an upstream with its URIs as the endpoint shows them: of `resource_link` and embedded `resource` blocks in
/// `content` and `messages`, and of `contents`. Anything else keeps its bytes.
pub(crate) fn shown(result: Box<RawValue>, catalogue: &Catalogue, upstream: &UpstreamKey) -> Box<RawValue> {
    // With one server, or without resources, every URI is shown as it is.
    let can_differ = catalogue.upstreams().len() > 1 && !catalogue.resources().is_empty();
    if !can_differ || !result.get().contains("\"uri\"") {
        return result;
    }
    let shower = Shower { catalogue, upstream };
    shower.result(&result).unwrap_or(result)
}

struct Shower<'a> {
    catalogue: &'a Catalogue,
    upstream: &'a UpstreamKey,
}

/// What became of a value; `None`: it stays as it is.
type Changed = Option<Box<RawValue>>;

impl Shower<'_> {
    fn result(&self, result: &RawValue) -> Changed {
        self.member(result, |key, value| match key {
            "content" => self.each(value, |block| self.block(block)),
            "contents" => self.each(value, |contents| self.holder(contents)),
            "messages" => self.each(value, |message| {
                self.member(message, |key, value| match key {
                    "content" if value.get().starts_with('[') => self.each(value, |block| self.block(block)),
                    "content" => self.block(value),
                    _ => None,
                })
            }),
            _ => None,
        })
    }

    /// One block of content.
    fn block(&self, block: &RawValue) -> Changed {
        match Members::of(block)?.text("type")?.as_ref() {
            "resource_link" => self.holder(block),
            "resource" => self.member(block, |key, value| match key {
                "resource" => self.holder(value),
                _ => None,
            }),
            // A tool's result among a model's messages (2025-11-25, client/sampling).
            "tool_result" => self.member(block, |key, value| match key {
                "content" => self.each(value, |block| self.block(block)),
                _ => None,
            }),
            _ => None,
        }
    }

    /// An object with a `uri`.
    fn holder(&self, holder: &RawValue) -> Changed {
        self.member(holder, |key, value| {
            let uri = (key == "uri").then(|| serde_json::from_str::<String>(value.get()).ok()).flatten()?;
            let shown = self.catalogue.exposed_uri(self.upstream, &uri);
            (*shown != *uri).then(|| raw_value(serde_json::to_vec(&*shown).expect("a text is JSON")))
        })
    }

    /// The object with members as `change` makes them.
    fn member(&self, object: &RawValue, change: impl Fn(&str, &RawValue) -> Changed) -> Changed {
        let members = Members::of(object)?;
        let changed: Vec<Changed> = members.iter().map(|(key, value)| change(key, value)).collect();
        if changed.iter().all(Option::is_none) {
            return None;
        }
        let mut writer = ObjectWriter::with_capacity(object.get().len() + 64);
        for ((key, value), changed) in members.iter().zip(&changed) {
            writer.raw(key, changed.as_deref().unwrap_or(value).get());
        }
        Some(writer.finish_raw())
    }

    /// The array with items as `change` makes them.
    fn each(&self, array: &RawValue, change: impl Fn(&RawValue) -> Changed) -> Changed {
        let items: Vec<&RawValue> = serde_json::from_str(array.get()).ok()?;
        let changed: Vec<Changed> = items.iter().map(|item| change(item)).collect();
        if changed.iter().all(Option::is_none) {
            return None;
        }
        let shown: Vec<&str> = items
            .iter()
            .zip(&changed)
            .map(|(item, changed)| changed.as_deref().unwrap_or(item).get())
            .collect();
        Some(raw_value(format!("[{}]", shown.join(",")).into_bytes()))
    }
}
