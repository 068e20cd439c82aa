//! Multi-round requests: our sealed envelope around the upstream's `requestState`.
//!
//! The envelope names the upstream that asked and the request it asked about, so that any replica can route the
//! retry, and a state cannot be used for another request (2026-07-28, multi-round requests).

use std::sync::Arc;
use std::time::Duration;

use mpe_engine::UpstreamKey;
use mpe_mcp_protocol::jsonrpc::code;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::rpc::Refusal;
use super::sessions::now;
use crate::seal::{Purpose, Sealer, fingerprint};

/// What a request state of ours says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The upstream that asked.
    #[serde(rename = "u")]
    upstream: String,
    /// The upstream's own state, if it gave one.
    #[serde(rename = "s")]
    upstream_state: Option<String>,
    /// Which of its addresses gave it, where it has several.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The request it was asked about.
    #[serde(rename = "d")]
    digest: String,
    /// The call this replica holds for it.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<String>,
    /// The replica that holds it, where there are several.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) replica: Option<String>,
    /// Seconds since the epoch after which it is no longer good.
    #[serde(rename = "x")]
    expires: u64,
}

/// What an upstream's round leaves for the next one.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The upstream's own state, if it gave one.
    pub(crate) state: Option<String>,
    /// Which of its addresses gave it, where it has several.
    pub(crate) address: Option<Arc<str>>,
}

impl State {
    pub(crate) fn new(upstream: &UpstreamKey, round: Round, digest: String, lifetime: Duration) -> Self {
        let expires = now().saturating_add(lifetime.as_secs());
        Self {
            upstream: upstream.as_str().to_owned(),
            upstream_state: round.state,
            address: round.address.as_deref().map(str::to_owned),
            digest,
            held: None,
            replica: None,
            expires,
        }
    }

    /// The state of a call that is held open here, at `replica`.
    pub(crate) fn held(handle: String, replica: Option<String>, digest: String, lifetime: Duration) -> Self {
        let expires = now().saturating_add(lifetime.as_secs());
        let held = Some(handle);
        Self { upstream: String::new(), upstream_state: None, address: None, digest, held, replica, expires }
    }

    /// What the next round begins with.
    pub(crate) fn round(self) -> Round {
        Round { state: self.upstream_state, address: self.address.map(Arc::from) }
    }

    pub(crate) fn seal(&self, sealer: &Sealer, endpoint: &str) -> String {
        let plain = serde_json::to_vec(self).expect("a state is JSON");
        sealer.seal(Purpose::RequestState, endpoint, &plain)
    }

    /// The state a caller repeats.
    ///
    /// # Errors
    /// -32602 without any detail for what is not ours, has expired, or belongs to another request.
    pub(crate) fn open(sealer: &Sealer, endpoint: &str, token: &str, digest: &str) -> Result<Self, Refusal> {
        let plain = sealer.open(Purpose::RequestState, endpoint, token);
        plain
            .and_then(|plain| serde_json::from_slice::<Self>(&plain).ok())
            .filter(|state| state.digest == digest && state.expires > now())
            .ok_or_else(|| {
                Refusal::new(code::INVALID_PARAMS, "the requestState is not valid for this request")
            })
    }
}

/// A digest of what a request asks for, the same for any spelling of the same JSON.
pub(crate) fn digest(method: &str, name: &str, arguments: Option<&RawValue>) -> String {
    let arguments = arguments.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let arguments = arguments.map(canonical).unwrap_or_default();
    fingerprint(&[method, name, &arguments.to_string()])
}

/// The same value with its members in alphabetical order.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(members.into_iter().map(|(key, value)| (key, canonical(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mpe_engine::UpstreamKey;
    use serde_json::value::RawValue;

    use super::{Round, State, digest};
    use crate::seal::Sealer;

    const MINUTE: Duration = Duration::from_secs(60);

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_state_opens_for_its_own_request_only() {
        let sealer = Sealer::new(None);
        let ours = digest("tools/call", "t", Some(&raw(r#"{"a":1,"b":{"c":2,"d":3}}"#)));
        let round = Round { state: Some("theirs".into()), address: Some("there".into()) };
        let token = State::new(&UpstreamKey::new("up"), round, ours, MINUTE).seal(&sealer, "e");
        let respelled = digest("tools/call", "t", Some(&raw(r#"{ "b":{"d":3,"c":2}, "a":1 }"#)));
        let opened = State::open(&sealer, "e", &token, &respelled).unwrap();
        let round = opened.round();
        assert_eq!((round.state.as_deref(), round.address.as_deref()), (Some("theirs"), Some("there")));
        let other = digest("tools/call", "t", Some(&raw(r#"{"a":2}"#)));
        assert_eq!(State::open(&sealer, "e", &token, &other).unwrap_err().error.code, -32602);
        assert!(State::open(&sealer, "f", &token, &respelled).is_err());
        assert!(State::open(&sealer, "e", &format!("{token}x"), &respelled).is_err());
    }

    #[test]
    fn an_expired_state_does_not_open() {
        let sealer = Sealer::new(None);
        let token = State::new(&UpstreamKey::new("up"), Round::default(), "d".into(), Duration::ZERO)
            .seal(&sealer, "e");
        assert!(State::open(&sealer, "e", &token, "d").is_err());
    }
}
