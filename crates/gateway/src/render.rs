//! A tool's result as an HTTP answer or as a JSON value.
//!
//! `structuredContent` counts first. Without it, one text block is its text — as JSON where the whole text is JSON —,
//! one image, audio or embedded resource is itself under its own media type, and anything else is the envelope
//! `{"content":[…]}` with the blocks as the server wrote them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use mpe_engine::{OutcomeKind, ToolOutcome};
use serde_json::value::RawValue;

use crate::json::{Members, ObjectWriter, bytes_of, raw_value, write_string};
use crate::problem::{Problem, ProblemType};
use crate::{Body, body};

/// What a result comes to.
enum Rendered {
    Bytes { media_type: String, bytes: Vec<u8> },
    Json(Box<RawValue>),
    Text(String),
}

/// The HTTP answer of an outcome: 200 with its value, 422 when the tool failed or wants input.
pub(crate) fn response(outcome: &ToolOutcome) -> http::Response<Body> {
    if outcome.kind != OutcomeKind::Complete {
        return failure(outcome).into_response();
    }
    match rendered(&outcome.result) {
        Rendered::Json(json) => body::response(StatusCode::OK, "application/json", bytes_of(&json)),
        Rendered::Text(text) => body::response(StatusCode::OK, "text/plain; charset=utf-8", text),
        Rendered::Bytes { media_type, bytes } => {
            let mut response = body::response(StatusCode::OK, "application/octet-stream", bytes);
            if let Ok(media_type) = HeaderValue::try_from(media_type) {
                response.headers_mut().insert(header::CONTENT_TYPE, media_type);
            }
            // The media type is the upstream's word: a browser is not to guess a livelier one, and a page or an SVG of
            // an upstream must not run with the rights of our origin, which may call every tool.
            let nosniff = HeaderValue::from_static("nosniff");
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
            let sandbox = HeaderValue::from_static("sandbox; default-src 'none'");
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, sandbox);
            response
        }
    }
}

/// The value of a result where everything is JSON: text that is no JSON becomes a string, a block of bytes stays the
/// block it is.
pub(crate) fn value(result: &RawValue) -> Box<RawValue> {
    match rendered(result) {
        Rendered::Json(json) => json,
        Rendered::Text(text) => {
            let mut json = Vec::with_capacity(text.len() + 2);
            write_string(&mut json, &text);
            raw_value(json)
        }
        Rendered::Bytes { .. } => envelope(Members::of(result).as_ref()),
    }
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

fn rendered(result: &RawValue) -> Rendered {
    let Some(members) = Members::of(result) else { return Rendered::Json(result.to_owned()) };
    if let Some(structured) = members.get("structuredContent").filter(|value| value.get() != "null") {
        return Rendered::Json(structured.to_owned());
    }
    let alone = match blocks(&members)[..] {
        [block] => Members::of(block).and_then(|block| rendered_block(&block)),
        _ => None,
    };
    alone.unwrap_or_else(|| Rendered::Json(envelope(Some(&members))))
}

fn rendered_block(block: &Members<'_>) -> Option<Rendered> {
    match block.string("type")?.as_str() {
        "text" => Some(text(block.string("text")?)),
        "image" | "audio" => bytes(block.string("data")?.as_str(), block.string("mimeType")),
        "resource" => {
            let resource = Members::of(block.get("resource")?)?;
            let media_type = resource.string("mimeType");
            match (resource.string("text"), resource.string("blob")) {
                (Some(content), _) => Some(match media_type {
                    Some(media_type) => Rendered::Bytes { media_type, bytes: content.into_bytes() },
                    None => text(content),
                }),
                (None, Some(blob)) => bytes(&blob, media_type),
                (None, None) => None,
            }
        }
        _ => None,
    }
}

/// A text, as JSON where all of it is.
fn text(text: String) -> Rendered {
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(json) => Rendered::Json(json.to_owned()),
        Err(_) => Rendered::Text(text),
    }
}

/// Decoded bytes; `None`, and so the envelope, when they cannot be decoded.
fn bytes(base64: &str, media_type: Option<String>) -> Option<Rendered> {
    let bytes = STANDARD.decode(base64).ok()?;
    Some(Rendered::Bytes {
        media_type: media_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
        bytes,
    })
}

/// `{"content":[…]}`.
fn envelope(members: Option<&Members<'_>>) -> Box<RawValue> {
    let mut envelope = ObjectWriter::new();
    let content = members.and_then(|members| members.get("content")).map_or("[]", RawValue::get);
    envelope.raw("content", content);
    envelope.finish_raw()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mpe_engine::{OutcomeKind, ToolOutcome, UpstreamKey};
    use serde_json::value::RawValue;

    use super::{Rendered, rendered, response, value};

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn structured_content_counts_first_and_keeps_its_bytes() {
        let result = raw(r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"n" : 1.50}}"#);
        assert_eq!(value(&result).get(), r#"{"n" : 1.50}"#);
    }

    #[test]
    fn one_text_is_json_where_all_of_it_is_json() {
        let json = raw(r#"{"content":[{"type":"text","text":"{\"id\": 12345678901234567890}"}]}"#);
        assert_eq!(value(&json).get(), r#"{"id": 12345678901234567890}"#);
        let plain = raw(r#"{"content":[{"type":"text","text":"{not json"}]}"#);
        assert!(matches!(rendered(&plain), Rendered::Text(text) if text == "{not json"));
    }

    #[test]
    fn an_image_is_its_bytes_under_its_own_media_type() {
        let image = raw(r#"{"content":[{"type":"image","data":"AQID","mimeType":"image/png"}]}"#);
        let Rendered::Bytes { media_type, bytes } = rendered(&image) else { panic!("no bytes") };
        assert_eq!((media_type.as_str(), &bytes[..]), ("image/png", &[1, 2, 3][..]));
        assert_eq!(
            value(&image).get(),
            r#"{"content":[{"type":"image","data":"AQID","mimeType":"image/png"}]}"#
        );
    }

    #[test]
    fn a_page_of_an_upstream_runs_without_the_rights_of_our_origin() {
        let page = r#"{"content":[{"type":"resource","resource":
            {"uri":"x:y","mimeType":"text/html","text":"<script>fetch('/mcp')</script>"}}]}"#;
        let outcome = ToolOutcome {
            result: raw(page),
            kind: OutcomeKind::Complete,
            upstream: UpstreamKey::new("up"),
            protocol: None,
            attempts: Vec::new(),
            elapsed: Duration::ZERO,
        };
        let response = response(&outcome);
        assert_eq!(response.headers()["content-type"], "text/html");
        assert_eq!(response.headers()["content-security-policy"], "sandbox; default-src 'none'");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }

    #[test]
    fn several_blocks_and_none_are_the_envelope() {
        for content in [r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#, "[]"] {
            let result = raw(&format!("{{\"content\":{content},\"other\":1}}"));
            assert_eq!(value(&result).get(), format!("{{\"content\":{content}}}"));
        }
    }

    #[test]
    fn broken_base64_stays_in_the_envelope() {
        let broken = raw(r#"{"content":[{"type":"image","data":"*","mimeType":"image/png"}]}"#);
        assert!(matches!(rendered(&broken), Rendered::Json(json) if json.get().contains("\"data\":\"*\"")));
    }
}
