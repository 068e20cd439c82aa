use http::HeaderMap;
use serde_json::value::RawValue;

use super::{Reading, accepts_streams, era_of};
use crate::json::Members;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn the_first_rule_that_fits_decides_the_era() {
    let meta = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    for (method, params, version, expected) in [
        ("initialize", meta, None, Reading::Modern),
        ("tools/list", meta, Some("2025-11-25"), Reading::Modern),
        ("initialize", "{}", Some("2026-07-28"), Reading::Handshake),
        ("tools/list", "{}", None, Reading::Legacy),
        ("tools/list", "{}", Some("2025-06-18"), Reading::Legacy),
        ("tools/list", "{}", Some("2026-07-28"), Reading::Modern),
        ("tools/list", "{}", Some("v999"), Reading::Modern),
        ("tools/list", r#"{"_meta":{"progressToken":1}}"#, None, Reading::Legacy),
    ] {
        let headers =
            version.map(|version| headers(&[("mcp-protocol-version", version)])).unwrap_or_default();
        let params = RawValue::from_string(params.to_owned()).unwrap();
        let meta = Members::of(&params).unwrap().get("_meta").and_then(Members::of);
        let reading = era_of(method, meta.as_ref(), &headers);
        assert_eq!(reading, expected, "{method} {params} {version:?}");
    }
}

#[test]
fn who_says_nothing_is_taken_to_read_streams() {
    assert!(accepts_streams(&HeaderMap::new()));
    assert!(accepts_streams(&headers(&[("accept", "application/json, text/event-stream;q=0.5")])));
    assert!(accepts_streams(&headers(&[("accept", "*/*")])));
    assert!(!accepts_streams(&headers(&[("accept", "application/json")])));
}
