//! A tool's result as an HTTP answer or as a JSON value; [`ResultValue`] says what it comes to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use mpe_engine::{OutcomeKind, ToolOutcome};
use mpe_schema::{Media, MediaContent, ResultValue};
use serde_json::value::RawValue;

use crate::json::{Members, bytes_of};
use crate::problem::{Problem, ProblemType};
use crate::{Body, body};

/// The HTTP answer of an outcome: 200 with its value, 422 when the tool failed or wants input.
pub(crate) fn response(outcome: &ToolOutcome) -> http::Response<Body> {
    if outcome.kind != OutcomeKind::Complete {
        return failure(outcome).into_response();
    }
    match ResultValue::of(&outcome.result) {
        ResultValue::Json(json) => json_response(&json),
        ResultValue::Media(media) => media_response(media),
        ResultValue::Text(text) => body::response(StatusCode::OK, "text/plain; charset=utf-8", text),
    }
}

fn json_response(json: &RawValue) -> http::Response<Body> {
    body::response(StatusCode::OK, "application/json", bytes_of(json))
}

/// A medium under its own media type; in its envelope when its base64 is none.
fn media_response(media: Media) -> http::Response<Body> {
    let bytes = match media.content {
        MediaContent::Base64(text) => match STANDARD.decode(text) {
            Ok(bytes) => bytes,
            Err(_) => return json_response(&media.envelope),
        },
        MediaContent::Text(text) => text.into_bytes(),
    };
    let mut response = body::response(StatusCode::OK, "application/octet-stream", bytes);
    let headers = response.headers_mut();
    if let Some(Ok(media_type)) = media.media_type.map(HeaderValue::try_from) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    // The media type is the upstream's word: a browser is not to guess a livelier one, and a page or an SVG of
    // an upstream must not run with the rights of our origin, which may call every tool.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let sandbox = HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
    response
}

/// The value of a result where everything is JSON.
pub(crate) fn value(result: &RawValue) -> Box<RawValue> {
    ResultValue::of(result).into_json()
}

/// The problem of an outcome that is no value.
pub(crate) fn failure(outcome: &ToolOutcome) -> Problem {
    let members = Members::of(&outcome.result).unwrap_or_default();
    let upstream = outcome.upstream.as_str();
    match &outcome.kind {
        OutcomeKind::InputRequired | OutcomeKind::Other(_) => {
            let methods = asked_methods(&members);
            let detail = format!("the tool asks for {methods}, which only an MCP client can answer");
            Problem::new(ProblemType::InputRequired, detail).with_value("upstream", upstream)
        }
        OutcomeKind::Complete | OutcomeKind::Failed => {
            let detail = first_text(&members).unwrap_or_else(|| "the tool says that it failed".to_owned());
            let mut problem = Problem::new(ProblemType::ToolFailed, detail).with_value("upstream", upstream);
            for key in ["content", "structuredContent"] {
                if let Some(value) = members.get(key) {
                    problem = problem.with(key, value.to_owned());
                }
            }
            problem
        }
    }
}

fn asked_methods(members: &Members<'_>) -> String {
    let requests = members.get("inputRequests").and_then(Members::of).unwrap_or_default();
    let methods: Vec<_> =
        requests.iter().filter_map(|(_, request)| Members::of(request)?.string("method")).collect();
    if methods.is_empty() { "another round".to_owned() } else { methods.join(", ") }
}

fn first_text(members: &Members<'_>) -> Option<String> {
    let blocks = blocks(members);
    blocks.iter().find_map(|block| {
        let block = Members::of(block)?;
        (block.string("type").as_deref() == Some("text")).then(|| block.string("text"))?
    })
}

fn blocks<'a>(members: &Members<'a>) -> Vec<&'a RawValue> {
    members.get("content").and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mpe_engine::{OutcomeKind, ToolOutcome, UpstreamKey};
    use serde_json::value::RawValue;

    use super::response;

    fn answer(result: &str) -> http::Response<crate::Body> {
        response(&ToolOutcome {
            result: RawValue::from_string(result.to_owned()).unwrap(),
            kind: OutcomeKind::Complete,
            names_its_type: false,
            has_meta: false,
            upstream: UpstreamKey::new("up"),
            protocol: None,
            address: None,
            attempts: Vec::new(),
            violations: Vec::new(),
            elapsed: Duration::ZERO,
        })
    }

    #[test]
    fn a_page_of_an_upstream_runs_without_the_rights_of_our_origin() {
        let response = answer(
            r#"{"content":[{"type":"resource","resource":
            {"uri":"x:y","mimeType":"text/html","text":"<script>fetch('/mcp')</script>"}}]}"#,
        );
        assert_eq!(response.headers()["content-type"], "text/html");
        assert_eq!(response.headers()["content-security-policy"], "sandbox; default-src 'none'");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }

    #[test]
    fn broken_base64_stays_in_the_envelope() {
        let response = answer(r#"{"content":[{"type":"image","data":"*","mimeType":"image/png"}]}"#);
        assert_eq!(response.headers()["content-type"], "application/json");
    }

    #[test]
    fn bytes_without_a_usable_media_type_are_just_bytes() {
        for mime in ["", r#","mimeType":"a\nb""#] {
            let response = answer(&format!(
                r#"{{"content":[{{"type":"resource","resource":{{"uri":"x:y","blob":"AQID"{mime}}}}}]}}"#
            ));
            assert_eq!(response.headers()["content-type"], "application/octet-stream");
        }
    }
}
