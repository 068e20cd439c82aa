use serde_json::value::RawValue;

use super::{Carrier, Found, Heard, Probe, Step, Transport, Verdict};
use crate::jsonrpc::ErrorObject;
use crate::version::ProtocolVersion;

const MODERN: ProtocolVersion = ProtocolVersion::V2026_07_28;
const LEGACY: ProtocolVersion = ProtocolVersion::V2025_11_25;

fn result(text: &str) -> Result<Box<RawValue>, ErrorObject> {
    Ok(RawValue::from_string(text.to_owned()).unwrap())
}

fn error(code: i64) -> Result<Box<RawValue>, ErrorObject> {
    Err(ErrorObject::new(code, "no"))
}

fn versions(code: i64, supported: &[&str]) -> Result<Box<RawValue>, ErrorObject> {
    Err(ErrorObject::new(code, "no")
        .with_data(&serde_json::json!({ "supported": supported, "requested": "x" })))
}

fn reply(status: u16, outcome: &Result<Box<RawValue>, ErrorObject>) -> Heard<'_> {
    Heard::Reply { status: Some(status), outcome }
}

fn found(verdict: Verdict) -> Found {
    match verdict {
        Verdict::Found(found) => *found,
        other => panic!("{other:?}"),
    }
}

fn next(verdict: Verdict) -> Step {
    match verdict {
        Verdict::Next(step) => step,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_discover_result_means_modern() {
    let mut probe = Probe::new(Carrier::Http, None);
    assert_eq!(probe.step(), Step::Discover(MODERN));
    let answer = result(
        r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions":"hi",
            "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#,
    );
    let found = found(probe.hear(reply(200, &answer)));
    assert_eq!((found.version, found.transport), (MODERN, Transport::Streamable));
    assert_eq!(found.server.capabilities.get(), r#"{"tools":{}}"#);
    assert_eq!(found.server.server_info.unwrap().get(), r#"{"name":"s"}"#);
    assert_eq!(found.server.instructions.as_deref(), Some("hi"));
}

#[test]
fn every_refusal_seen_in_the_wild_means_legacy() {
    let refusals = [
        (Carrier::Http, Some(404), Some(-32601)),
        (Carrier::Http, Some(200), Some(-32601)),
        (Carrier::Http, Some(200), Some(-32602)),
        (Carrier::Http, Some(400), Some(-32000)),
        (Carrier::Http, Some(400), Some(-32600)),
        (Carrier::Http, Some(400), None),
        (Carrier::Http, Some(404), None),
        (Carrier::Http, Some(405), None),
        (Carrier::Http, Some(200), None),
        (Carrier::Stdio, None, Some(-32601)),
        (Carrier::Stdio, None, Some(-32602)),
        (Carrier::Stdio, None, Some(-32603)),
        (Carrier::Stdio, None, None),
    ];
    for (carrier, status, code) in refusals {
        let outcome = error(code.unwrap_or_default());
        let heard = match (status, code) {
            (status, Some(_)) => Heard::Reply { status, outcome: &outcome },
            (Some(status), None) => Heard::Status(status),
            (None, None) => Heard::Silence,
        };
        let mut probe = Probe::new(carrier, None);
        assert_eq!(next(probe.hear(heard)), Step::Initialize(LEGACY), "{carrier:?} {status:?} {code:?}");
    }
}

#[test]
fn a_result_that_is_no_discover_result_means_legacy() {
    let mut probe = Probe::new(Carrier::Http, None);
    assert_eq!(next(probe.hear(reply(200, &result("{}")))), Step::Initialize(LEGACY));
}

#[test]
fn a_refused_version_is_retried_with_one_the_server_names() {
    let mut probe = Probe::new(Carrier::Http, None);
    let refusal = versions(-32022, &["2026-07-28", "2030-01-01"]);
    assert_eq!(next(probe.hear(reply(400, &refusal))), Step::Discover(MODERN));
    let answer = result(r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#);
    assert_eq!(found(probe.hear(reply(200, &answer))).version, MODERN);
}

#[test]
fn a_server_that_refuses_what_it_names_is_given_up() {
    let mut probe = Probe::new(Carrier::Http, None);
    let refusal = versions(-32022, &["2026-07-28"]);
    next(probe.hear(reply(400, &refusal)));
    next(probe.hear(reply(400, &refusal)));
    assert!(matches!(probe.hear(reply(400, &refusal)), Verdict::Incompatible(_)));
}

#[test]
fn a_shared_legacy_version_is_initialized() {
    let mut probe = Probe::new(Carrier::Http, None);
    let refusal = versions(-32022, &["2030-01-01", "2025-06-18"]);
    assert_eq!(next(probe.hear(reply(400, &refusal))), Step::Initialize(ProtocolVersion::V2025_06_18));
    let mut probe = Probe::new(Carrier::Http, None);
    let nothing = versions(-32022, &["2030-01-01"]);
    assert!(
        matches!(probe.hear(reply(400, &nothing)), Verdict::Incompatible(why) if why.contains("2030-01-01"))
    );
}

#[test]
fn credentials_and_outages_give_no_verdict() {
    for status in [401, 403] {
        let mut probe = Probe::new(Carrier::Http, None);
        assert!(matches!(probe.hear(Heard::Status(status)), Verdict::Unauthorized(code) if code == status));
    }
    for status in [429, 500, 502, 503, 504] {
        let mut probe = Probe::new(Carrier::Http, None);
        assert!(matches!(probe.hear(Heard::Status(status)), Verdict::Unavailable(_)));
    }
    let mut probe = Probe::new(Carrier::Http, None);
    assert!(matches!(probe.hear(Heard::Silence), Verdict::Unavailable(_)));
}

#[test]
fn a_modern_error_is_never_taken_for_legacy() {
    for code in [-32020, -32021] {
        let mut probe = Probe::new(Carrier::Http, None);
        assert!(matches!(probe.hear(reply(400, &error(code))), Verdict::Incompatible(_)));
    }
}

#[test]
fn initialize_settles_on_the_servers_version() {
    let mut probe = Probe::new(Carrier::Http, None);
    next(probe.hear(Heard::Status(400)));
    let answer =
        result(r#"{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"x"}}"#);
    let found = found(probe.hear(reply(200, &answer)));
    assert_eq!(found.version, ProtocolVersion::V2025_03_26);
    assert_eq!(found.server.server_info.unwrap().get(), r#"{"name":"x"}"#);
}

#[test]
fn an_unknown_version_is_an_error_that_names_it() {
    let mut probe = Probe::new(Carrier::Stdio, None);
    next(probe.hear(Heard::Silence));
    let answer = result(r#"{"protocolVersion":"1999-01-01","capabilities":{}}"#);
    let verdict = probe.hear(Heard::Reply { status: None, outcome: &answer });
    assert!(matches!(verdict, Verdict::Incompatible(why) if why.contains("1999-01-01")));
}

#[test]
fn the_oldest_transport_is_found_last() {
    for status in [400, 404, 405] {
        let mut probe = Probe::new(Carrier::Http, None);
        next(probe.hear(Heard::Status(status)));
        assert_eq!(next(probe.hear(Heard::Status(status))), Step::OpenEventStream);
        assert_eq!(next(probe.hear(Heard::Endpoint)), Step::Initialize(ProtocolVersion::V2024_11_05));
        let answer = result(r#"{"protocolVersion":"2024-11-05","capabilities":{}}"#);
        let found = found(probe.hear(reply(200, &answer)));
        assert_eq!(found.transport, Transport::EventStream);
    }
    let mut probe = Probe::new(Carrier::Http, None);
    next(probe.hear(Heard::Status(404)));
    next(probe.hear(Heard::Status(404)));
    assert!(
        matches!(probe.hear(Heard::Status(404)), Verdict::Incompatible(why) if why.contains("no MCP server"))
    );
}

#[test]
fn a_pin_holds() {
    let mut probe = Probe::new(Carrier::Http, Some(MODERN));
    assert!(matches!(probe.hear(Heard::Status(400)), Verdict::Incompatible(_)));
    let mut probe = Probe::new(Carrier::Http, Some(ProtocolVersion::V2025_06_18));
    assert_eq!(probe.step(), Step::Initialize(ProtocolVersion::V2025_06_18));
    let answer = result(r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#);
    assert!(
        matches!(probe.hear(reply(200, &answer)), Verdict::Incompatible(why) if why.contains("2025-06-18"))
    );
}

#[test]
fn a_legacy_server_may_name_the_versions_it_wants() {
    let mut probe = Probe::new(Carrier::Stdio, None);
    next(probe.hear(Heard::Silence));
    let refusal = versions(-32602, &["2024-11-05"]);
    let heard = Heard::Reply { status: None, outcome: &refusal };
    assert_eq!(next(probe.hear(heard)), Step::Initialize(ProtocolVersion::V2024_11_05));
}

#[test]
fn a_legacy_pin_is_what_is_asked_for_and_an_older_answer_is_taken() {
    let mut probe = Probe::new(Carrier::Http, Some(ProtocolVersion::V2025_06_18));
    let answer = result(r#"{"protocolVersion":"2025-03-26","capabilities":{}}"#);
    assert_eq!(found(probe.hear(reply(200, &answer))).version, ProtocolVersion::V2025_03_26);
}
