//! The catalogue that a client's capabilities open.

use mpe_engine::Wish;
use mpe_mcp_protocol::version::Era;
use serde_json::value::RawValue;

use crate::json::{Members, is_object};
use crate::service::Inbound;
use crate::view::view_of;

/// The capabilities of a client that declares any.
pub(crate) fn any(capabilities: Option<&RawValue>) -> Option<&RawValue> {
    capabilities.filter(|declared| declared.get() != "{}" && is_object(declared))
}

/// Puts the view in place that a request for `method` needs from a client that declares `capabilities`.
pub(crate) async fn look(
    inbound: &mut Inbound,
    method: &str,
    params: Option<&Members<'_>>,
    capabilities: &RawValue,
) {
    let engine = inbound.gateway.engine();
    let tool = (method == "tools/call").then(|| params?.string("name")).flatten();
    let wish = match method {
        "tools/call" => Wish::Tool(tool.as_deref().unwrap_or_default()),
        "completion/complete" | "prompts/get" | "resources/read" | "resources/subscribe" => Wish::Item,
        // The pages of one list are of one catalogue.
        "prompts/list" | "resources/list" | "resources/templates/list" | "tools/list" => {
            let is_first = params.is_none_or(|params| params.get("cursor").is_none());
            if is_first { Wish::Lists } else { Wish::Item }
        }
        "server/discover" => return engine.meet(&inbound.endpoint, Era::Modern, Some(capabilities)),
        _ => return,
    };
    let snapshot = engine.snapshot_declaring(&inbound.endpoint, capabilities, wish, inbound.deadline).await;
    if let Some(view) = snapshot.as_deref().and_then(view_of) {
        inbound.view = view;
    }
}
