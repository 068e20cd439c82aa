//! What a `subscriptions/listen` asks for, and what its acknowledgement grants.

use std::collections::BTreeSet;

use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::params::strings_of;
use mpe_mcp_protocol::probe::Found;
use serde_json::json;
use serde_json::value::RawValue;

/// What a `subscriptions/listen` asks for: all that the server says it announces.
pub(super) fn filter(found: &Found, wanted: &BTreeSet<String>) -> serde_json::Value {
    let mut filter = json!({});
    for (kind, member) in [
        ("tools", "toolsListChanged"),
        ("prompts", "promptsListChanged"),
        ("resources", "resourcesListChanged"),
    ] {
        if found.server.declares(kind, "listChanged") {
            filter[member] = json!(true);
        }
    }
    if !wanted.is_empty() && found.server.declares("resources", "subscribe") {
        filter["resourceSubscriptions"] = json!(wanted);
    }
    filter
}

/// The resources that an acknowledgement names.
pub(super) fn agreed_resources(params: &RawValue) -> Option<Vec<String>> {
    let filter = Object::parse(params).ok()?.get("notifications")?;
    strings_of(Object::parse(filter).ok()?.get("resourceSubscriptions")?)
}
