//! Requests as each era wants them written.

use mpe_mcp_protocol::jsonrpc::Id;
use mpe_mcp_protocol::jsonrpc::encode::{notification, request, request_with};
use mpe_mcp_protocol::meta::RequestMeta;
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
    let meta = RequestMeta {
        protocol_version: Some(version.as_str().to_owned()),
        client_capabilities: Some(context.capabilities.clone().unwrap_or_else(empty_object)),
        client_info: Some(context.client_info.clone().unwrap_or_else(client_info)),
        log_level: context.log_level.clone().filter(|_| context.events.is_some()),
        progress_token: listener.token().cloned(),
        rest: context.meta.clone(),
    };
    let meta = meta.to_raw();
    let state = context.request_state.as_deref().map(raw_of);
    let mut extra: Vec<(&str, &RawValue)> = Vec::with_capacity(3);
    extra.push(("_meta", &meta));
    extra.extend(context.input_responses.as_deref().map(|responses| ("inputResponses", responses)));
    extra.extend(state.as_deref().map(|state| ("requestState", state)));
    request_with(id, &asked.method, asked.params.as_deref(), &extra)
}

/// A legacy request: its context is the session's, `_meta` holds the progress token and what the caller put there.
pub(super) fn legacy(id: &Id, asked: &UpstreamRequest, listener: &Listener) -> Vec<u8> {
    let meta = RequestMeta {
        progress_token: listener.token().cloned(),
        rest: asked.context.meta.clone(),
        ..RequestMeta::default()
    };
    if meta.is_empty() {
        return request(id, &asked.method, asked.params.as_deref());
    }
    request_with(id, &asked.method, asked.params.as_deref(), &[("_meta", &meta.to_raw())])
}

/// The legacy handshake.
pub(super) fn initialize(id: &Id, version: ProtocolVersion, capabilities: &str) -> Vec<u8> {
    let capabilities: &RawValue = serde_json::from_str(capabilities).expect("capabilities were read as JSON");
    let (version, info) = (raw_of(version.as_str()), client_info());
    let members = [("protocolVersion", &*version), ("capabilities", capabilities), ("clientInfo", &*info)];
    request_with(id, "initialize", None, &members)
}

/// Tells a server that nobody waits for a reply any more.
pub(super) fn cancelled(id: &Id) -> Vec<u8> {
    let params = raw_of(&serde_json::json!({ "requestId": id, "reason": "the caller went away" }));
    notification("notifications/cancelled", Some(&params))
}

/// Who we say we are, where the caller does not say who it is.
fn client_info() -> Box<RawValue> {
    raw_of(&serde_json::json!({ "name": "mcp-proxy-engine", "version": env!("CARGO_PKG_VERSION") }))
}

pub(super) fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}
