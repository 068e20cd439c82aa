//! Requests as each era wants them written.

use std::sync::LazyLock;

use mpe_mcp_protocol::jsonrpc::Id;
use mpe_mcp_protocol::jsonrpc::encode::{notification, request, request_with, request_with_meta};
use mpe_mcp_protocol::meta::MetaView;
use mpe_mcp_protocol::object::raw_of;
use mpe_mcp_protocol::version::ProtocolVersion;
use serde_json::value::RawValue;

use super::UpstreamRequest;
use super::listener::Listener;

/// A modern request: its context stands in `_meta`.
pub(super) fn modern(
    version: ProtocolVersion,
    id: &Id,
    asked: &UpstreamRequest,
    listener: &Listener,
) -> Vec<u8> {
    let context = &asked.context;
    let meta = MetaView {
        protocol_version: Some(version.as_str()),
        client_capabilities: Some(context.capabilities.as_deref().unwrap_or(&NOTHING)),
        client_info: Some(context.client_info.as_deref().unwrap_or(&CLIENT_INFO)),
        log_level: context.log_level.as_deref().filter(|_| context.events.is_some()),
        progress_token: listener.token(),
        rest: context.meta.as_deref(),
    };
    let state = context.request_state.as_deref().map(raw_of);
    let mut extra: Vec<(&str, &RawValue)> = Vec::new();
    extra.extend(context.input_responses.as_deref().map(|responses| ("inputResponses", responses)));
    extra.extend(state.as_deref().map(|state| ("requestState", state)));
    request_with_meta(id, &asked.method, asked.params.as_deref(), &meta, &extra)
}

/// A legacy request: its context is the session's, `_meta` holds the progress token and what the caller put there.
pub(super) fn legacy(id: &Id, asked: &UpstreamRequest, listener: &Listener) -> Vec<u8> {
    let meta = MetaView {
        progress_token: listener.token(),
        rest: asked.context.meta.as_deref(),
        ..MetaView::default()
    };
    if meta.progress_token.is_none() && meta.rest.is_none() {
        return request(id, &asked.method, asked.params.as_deref());
    }
    request_with_meta(id, &asked.method, asked.params.as_deref(), &meta, &[])
}

/// The legacy handshake.
pub(super) fn initialize(id: &Id, version: ProtocolVersion, capabilities: &str) -> Vec<u8> {
    let capabilities: &RawValue = serde_json::from_str(capabilities).expect("capabilities were read as JSON");
    let version = raw_of(version.as_str());
    let info: &RawValue = &CLIENT_INFO;
    let members = [("protocolVersion", &*version), ("capabilities", capabilities), ("clientInfo", info)];
    request_with(id, "initialize", None, &members)
}

/// Tells a server that nobody waits for a reply any more.
pub(super) fn cancelled(id: &Id) -> Vec<u8> {
    let params = raw_of(&serde_json::json!({ "requestId": id, "reason": "the caller went away" }));
    notification("notifications/cancelled", Some(&params))
}

/// Who we say we are, where the caller does not say who it is.
static CLIENT_INFO: LazyLock<Box<RawValue>> = LazyLock::new(|| {
    raw_of(&serde_json::json!({ "name": "mcp-proxy-engine", "version": env!("CARGO_PKG_VERSION") }))
});

/// What a caller can do that does not say it.
static NOTHING: LazyLock<Box<RawValue>> = LazyLock::new(empty_object);

pub(super) fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}
