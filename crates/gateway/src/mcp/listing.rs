//! Lists as MCP shows them, serialized once per catalogue: pages, cursors, capabilities.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use mpe_engine::Catalogue;
use mpe_mcp_protocol::jsonrpc::code;
use mpe_mcp_protocol::version::Era;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::identity::META;
use super::rpc::Refusal;
use crate::json::{Members, ObjectWriter};
use crate::seal::{Purpose, Sealer};
use crate::service::Inbound;

/// One list in pages. A clone shares them.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// The name of the member that holds the items: `tools`, `prompts` and so on.
    key: &'static str,
    revision: String,
    pages: Vec<Page>,
}

/// A part of a list: `"key":[…]`, and `,"nextCursor":"…"` where another follows.
#[derive(Clone, Debug)]
struct Page {
    items: Bytes,
}

/// Every list of a catalogue, and what the endpoint says of itself.
#[derive(Debug)]
pub(crate) struct Listings {
    pub(crate) tools: Listing,
    /// For legacy clients, where it differs: before 2026-07-28 an `outputSchema` is an object's.
    pub(crate) legacy_tools: Listing,
    pub(crate) prompts: Listing,
    pub(crate) resources: Listing,
    pub(crate) templates: Listing,
    offers: Offers,
    instructions: Option<String>,
}

/// One of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    Prompts,
    ResourceTemplates,
    Resources,
    Tools,
}

/// What the upstreams offer together, and this gateway relays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offers {
    pub(crate) completions: bool,
    pub(crate) logging: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
    pub(crate) subscribe: bool,
}

/// Where in a list a page starts.
#[derive(Serialize, Deserialize)]
struct Cursor {
    list: String,
    revision: String,
    page: usize,
}

impl Listing {
    /// Splits `items`, each of them JSON, into pages of at most `page_size`.
    pub(crate) fn of<'a>(
        key: &'static str,
        items: impl Iterator<Item = &'a str>,
        catalogue: &Catalogue,
        page_size: usize,
        sealer: &Sealer,
    ) -> Self {
        let items: Vec<&str> = items.collect();
        let revision = catalogue.revision().to_owned();
        let n_pages = items.len().div_ceil(page_size.max(1)).max(1);
        let pages = (0..n_pages)
            .map(|page| {
                let from = page * page_size.max(1);
                let part = &items[from..items.len().min(from + page_size.max(1))];
                let mut bytes = format!("\"{key}\":[").into_bytes();
                bytes.extend_from_slice(part.join(",").as_bytes());
                bytes.push(b']');
                if page + 1 < n_pages {
                    let cursor = Cursor { list: key.to_owned(), revision: revision.clone(), page: page + 1 };
                    let plain = serde_json::to_vec(&cursor).expect("a cursor is JSON");
                    let token = sealer.seal(Purpose::Cursor, catalogue.endpoint().as_str(), &plain);
                    bytes.extend_from_slice(format!(",\"nextCursor\":\"{token}\"").as_bytes());
                }
                Page { items: Bytes::from(bytes) }
            })
            .collect();
        Self { key, revision, pages }
    }

    /// The page a cursor names; without one, the first.
    ///
    /// # Errors
    /// -32602 for a cursor that is not ours, of another list, or of a catalogue that has been replaced.
    pub(crate) fn page(
        &self,
        cursor: Option<&str>,
        endpoint: &str,
        sealer: &Sealer,
    ) -> Result<Bytes, Refusal> {
        let Some(token) = cursor else { return Ok(self.pages[0].items.clone()) };
        let opened = sealer.open(Purpose::Cursor, endpoint, token);
        let cursor = opened.and_then(|plain| serde_json::from_slice::<Cursor>(&plain).ok());
        cursor
            .filter(|cursor| cursor.list == self.key && cursor.revision == self.revision)
            .and_then(|cursor| self.pages.get(cursor.page))
            .map(|page| page.items.clone())
            .ok_or_else(|| {
                let message = "unknown or outdated cursor; list again from the start";
                Refusal::new(code::INVALID_PARAMS, message)
            })
    }
}

impl Listed {
    /// The list that a method asks for, where it is offered.
    pub(crate) fn parse(method: &str, offers: Offers) -> Option<Self> {
        match method {
            "prompts/list" if offers.prompts => Some(Self::Prompts),
            "resources/list" if offers.resources => Some(Self::Resources),
            "resources/templates/list" if offers.resources => Some(Self::ResourceTemplates),
            "tools/list" => Some(Self::Tools),
            _ => None,
        }
    }

    /// The page that `params` ask for.
    ///
    /// # Errors
    /// -32602 for a cursor that is no string, or none of ours.
    pub(crate) fn page(self, inbound: &Inbound, params: &Members<'_>, era: Era) -> Result<Bytes, Refusal> {
        let cursor = match params.get("cursor") {
            None => None,
            Some(_) => Some(
                params
                    .string("cursor")
                    .ok_or_else(|| Refusal::new(code::INVALID_PARAMS, "params.cursor is no string"))?,
            ),
        };
        let lists = &inbound.view.lists;
        let listing = match (self, era) {
            (Self::Prompts, _) => &lists.prompts,
            (Self::ResourceTemplates, _) => &lists.templates,
            (Self::Resources, _) => &lists.resources,
            (Self::Tools, Era::Modern) => &lists.tools,
            (Self::Tools, Era::Legacy) => &lists.legacy_tools,
        };
        listing.page(cursor.as_deref(), inbound.endpoint.as_str(), inbound.gateway.sealer())
    }
}

impl Listings {
    pub(crate) fn of(catalogue: &Catalogue, page_size: usize, sealer: &Sealer) -> Self {
        let tools = Listing::of(
            "tools",
            catalogue.tools().iter().map(|tool| tool.tool.raw().get()),
            catalogue,
            page_size,
            sealer,
        );
        let legacy: Vec<Cow<'_, str>> =
            catalogue.tools().iter().map(|tool| legacy_tool(&tool.tool)).collect();
        let legacy_tools = match legacy.iter().all(|tool| matches!(tool, Cow::Borrowed(_))) {
            true => tools.clone(),
            false => Listing::of("tools", legacy.iter().map(|tool| &**tool), catalogue, page_size, sealer),
        };
        let listing =
            |key, items: Vec<&str>| Listing::of(key, items.into_iter(), catalogue, page_size, sealer);
        let prompts = catalogue.prompts().iter().map(|prompt| prompt.raw.get()).collect();
        let resources = catalogue.resources().iter().map(|resource| resource.raw.get()).collect();
        let templates = catalogue.resource_templates().iter().map(|template| template.raw.get()).collect();
        Self {
            tools,
            legacy_tools,
            prompts: listing("prompts", prompts),
            resources: listing("resources", resources),
            templates: listing("resourceTemplates", templates),
            offers: Offers::of(catalogue),
            instructions: instructions(catalogue),
        }
    }

    /// What works through this gateway.
    pub(crate) fn offers(&self) -> Offers {
        self.offers
    }

    /// `capabilities`, in the words of an era. What we aggregate may change by our own doing, so every list says so;
    /// extensions are left out, because none of them is routed.
    pub(crate) fn capabilities(&self, era: Era) -> Box<RawValue> {
        let Offers { completions, logging, prompts, resources, subscribe } = self.offers;
        let mut capabilities = ObjectWriter::new();
        capabilities.raw("tools", r#"{"listChanged":true}"#);
        if prompts {
            capabilities.raw("prompts", r#"{"listChanged":true}"#);
        }
        if resources && subscribe {
            capabilities.raw("resources", r#"{"listChanged":true,"subscribe":true}"#);
        } else if resources {
            capabilities.raw("resources", r#"{"listChanged":true}"#);
        }
        if completions {
            capabilities.raw("completions", "{}");
        }
        // The level of a legacy session is kept here, whatever the upstreams do with it.
        if logging || era == Era::Legacy {
            capabilities.raw("logging", "{}");
        }
        capabilities.finish_raw()
    }

    /// What the servers tell a model about themselves, each under its key; at most [`MAX_INSTRUCTIONS`] bytes.
    pub(crate) fn instructions(&self) -> Option<&str> {
        self.instructions.as_deref()
    }

    /// What stands after the items in a modern list result, and closes it.
    pub(crate) fn modern_tail() -> Bytes {
        static TAIL: LazyLock<String> =
            LazyLock::new(|| format!(",\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{}}}", *META));
        Bytes::from_static(TAIL.as_bytes())
    }
}

impl Offers {
    fn of(catalogue: &Catalogue) -> Self {
        let mut offers = Self::default();
        for raw in catalogue.upstreams().iter().filter_map(|upstream| upstream.capabilities.as_deref()) {
            let Some(capabilities) = Members::of(raw) else { continue };
            let declares = |key: &str| capabilities.get(key).and_then(Members::of);
            offers.completions |= declares("completions").is_some();
            offers.logging |= declares("logging").is_some();
            offers.prompts |= declares("prompts").is_some();
            let resources = declares("resources");
            offers.resources |= resources.is_some();
            let subscribe = resources.as_ref().and_then(|resources| resources.get("subscribe"));
            offers.subscribe |= subscribe.is_some_and(|subscribe| subscribe.get() == "true");
        }
        offers
    }
}

/// Untrusted text that every client reads has a limit.
const MAX_INSTRUCTIONS: usize = 16 << 10;

fn instructions(catalogue: &Catalogue) -> Option<String> {
    let with_text =
        || catalogue.upstreams().iter().filter_map(|up| Some((up.key.as_str(), up.instructions.as_deref()?)));
    let mut text = match (catalogue.upstreams().len(), with_text().next()) {
        (_, None) => return None,
        (1, Some((_, only))) => only.to_owned(),
        _ => with_text().map(|(key, text)| format!("# {key}\n\n{text}")).collect::<Vec<_>>().join("\n\n"),
    };
    if text.len() > MAX_INSTRUCTIONS {
        let end = (0..=MAX_INSTRUCTIONS).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    Some(text)
}

/// A tool for a legacy client: an `outputSchema` whose root is no object is unknown there and left out.
fn legacy_tool(tool: &mpe_mcp_protocol::tool::Tool) -> Cow<'_, str> {
    let is_object =
        |schema: &serde_json::Value| schema.get("type").and_then(|t| t.as_str()) == Some("object");
    if tool.output_schema().is_none_or(is_object) {
        return Cow::Borrowed(tool.raw().get());
    }
    let mut writer = ObjectWriter::with_capacity(tool.raw().get().len());
    let members = Members::of(tool.raw()).unwrap_or_default();
    for (key, value) in members.iter().filter(|(key, _)| *key != "outputSchema") {
        writer.raw(key, value.get());
    }
    Cow::Owned(writer.finish_raw().get().to_owned())
}

#[cfg(test)]
mod tests {
    use mpe_mcp_protocol::tool::Tool;
    use serde_json::value::RawValue;

    use super::legacy_tool;

    #[test]
    fn a_legacy_client_sees_no_output_schema_that_is_no_objects() {
        for (schema, stays) in [(r#"{"type":"object","x":1.0}"#, true), (r#"{"type":"array"}"#, false)] {
            let raw = format!(
                r#"{{"name":"t","inputSchema":{{"type":"object"}},"outputSchema":{schema},"y":1e2}}"#
            );
            let tool = Tool::parse(&RawValue::from_string(raw.clone()).unwrap()).unwrap();
            let shown = legacy_tool(&tool);
            assert_eq!(shown == raw, stays, "{shown}");
            assert_eq!(shown.contains("outputSchema"), stays, "{shown}");
            assert!(shown.contains(r#""y":1e2"#), "{shown}");
        }
    }
}
