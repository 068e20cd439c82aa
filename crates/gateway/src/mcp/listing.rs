//! Lists as MCP shows them, serialized once per catalogue: pages, cursors, capabilities, identity.

use bytes::Bytes;
use mpe_engine::Catalogue;
use mpe_mcp_protocol::jsonrpc::code;
use mpe_mcp_protocol::meta::key::SERVER_INFO;
use mpe_mcp_protocol::version::Era;
use serde::{Deserialize, Serialize};

use super::rpc::Refusal;
use crate::json::ObjectWriter;
use crate::seal::{Purpose, Sealer};

/// One list in pages.
#[derive(Debug)]
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
    server_info: String,
    instructions: Option<String>,
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

impl Listings {
    pub(crate) fn of(catalogue: &Catalogue, page_size: usize, sealer: &Sealer) -> Self {
        let tools = Listing::of(
            "tools",
            catalogue.tools().iter().map(|tool| tool.tool.raw().get()),
            catalogue,
            page_size,
            sealer,
        );
        let legacy: Vec<String> = catalogue.tools().iter().map(|tool| legacy_tool(&tool.tool)).collect();
        let legacy_tools =
            Listing::of("tools", legacy.iter().map(String::as_str), catalogue, page_size, sealer);
        let mut server_info = ObjectWriter::new();
        server_info.string("name", "mcp-proxy-engine").string("version", env!("CARGO_PKG_VERSION"));
        Self {
            tools,
            legacy_tools,
            server_info: server_info.finish_raw().get().to_owned(),
            instructions: instructions(catalogue),
        }
    }

    /// `serverInfo`.
    pub(crate) fn server_info(&self) -> &str {
        &self.server_info
    }

    /// `capabilities`: what works through this gateway, in the words of an era.
    pub(crate) fn capabilities(&self, era: Era) -> &'static str {
        match era {
            Era::Legacy => r#"{"logging":{},"tools":{}}"#,
            Era::Modern => r#"{"tools":{}}"#,
        }
    }

    /// What the servers tell a model about themselves, each under its key; at most [`MAX_INSTRUCTIONS`] bytes.
    pub(crate) fn instructions(&self) -> Option<&str> {
        self.instructions.as_deref()
    }

    /// What stands after the items in a modern list result, and closes it.
    pub(crate) fn modern_tail(&self) -> Bytes {
        let server_info = &self.server_info;
        Bytes::from(format!(
            ",\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{{\"{SERVER_INFO}\":{server_info}}}}}"
        ))
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
fn legacy_tool(tool: &mpe_mcp_protocol::tool::Tool) -> String {
    let is_object =
        |schema: &serde_json::Value| schema.get("type").and_then(|t| t.as_str()) == Some("object");
    if tool.output_schema().is_none_or(is_object) {
        return tool.raw().get().to_owned();
    }
    let mut writer = ObjectWriter::with_capacity(tool.raw().get().len());
    let members = crate::json::Members::of(tool.raw()).unwrap_or_default();
    for (key, value) in members.iter().filter(|(key, _)| *key != "outputSchema") {
        writer.raw(key, value.get());
    }
    writer.finish_raw().get().to_owned()
}
