//! JSON-RPC answers, and the HTTP status each carries.

use std::sync::LazyLock;

use bytes::{Buf, Bytes};
use http::StatusCode;
use mpe_engine::{CallError, CallErrorKind};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id, code};
use mpe_mcp_protocol::meta::key;
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use serde_json::value::RawValue;

use super::identity::{META, OURSELVES};
use crate::json::{Members, ObjectWriter};
use crate::problem::{Problem, VENDOR_KEY};
use crate::{Body, body};

/// How a request ends, and the status it has when that is the first thing said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The result in pieces, or the error.
    pub(crate) outcome: Result<Vec<Bytes>, ErrorObject>,
}

/// An error on its way to becoming an [`Answer`].
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) error: ErrorObject,
}

impl Answer {
    /// A result.
    pub(crate) fn result(result: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, outcome: Ok(vec![result.into()]) }
    }

    /// The whole message.
    pub(crate) fn message(self, id: Option<&Id>) -> Vec<u8> {
        match self.outcome {
            Ok(result) => {
                let n_bytes: usize = result.iter().map(Bytes::len).sum();
                let mut message = before_result(id, n_bytes + 1);
                result.iter().for_each(|piece| message.extend_from_slice(piece));
                message.push(b'}');
                message
            }
            Err(error) => failure(id, &error),
        }
    }

    /// The whole message as a body. A large result is not copied.
    fn into_body(self, id: Option<&Id>) -> Body {
        match self.outcome {
            Ok(result) if body::is_worth_pieces(&result) => {
                let head = Bytes::from(before_result(id, 0));
                let pieces = std::iter::once(head).chain(result).chain([Bytes::from_static(b"}")]);
                body::pieces(pieces.collect())
            }
            _ => body::full(self.message(id)),
        }
    }

    pub(crate) fn into_response(self, id: Option<&Id>) -> http::Response<Body> {
        let status = self.status;
        let mut response = http::Response::new(self.into_body(id));
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        response
    }
}

impl Refusal {
    /// An error whose status follows from its code.
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self::of(ErrorObject { code, message: message.into(), data: None })
    }

    pub(crate) fn of(error: ErrorObject) -> Self {
        Self { status: status_of(error.code), error }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_data(mut self, data: Box<RawValue>) -> Self {
        self.error.data = Some(data);
        self
    }

    pub(crate) fn into_response(self, id: Option<&Id>) -> http::Response<Body> {
        Answer::from(self).into_response(id)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status, outcome: Err(refusal.error) }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { status: problem.status, error: problem.to_error_object() }
    }
}

/// The HTTP status of a modern error (2026-07-28, Streamable HTTP). Errors that are not about the shape of the
/// request stay 200: dual-era clients take a 400 they do not know for a legacy server.
pub(crate) fn status_of(error_code: i64) -> StatusCode {
    match error_code {
        code::PARSE_ERROR
        | code::INVALID_REQUEST
        | code::HEADER_MISMATCH
        | code::MISSING_CLIENT_CAPABILITY
        | code::UNSUPPORTED_PROTOCOL_VERSION => StatusCode::BAD_REQUEST,
        code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}

/// `{"jsonrpc":"2.0","id":…,"result":`, with room for what follows.
fn before_result(id: Option<&Id>, n_following: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(64 + n_following);
    head.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    serde_json::to_writer(&mut head, &id).expect("an id is JSON");
    head.extend_from_slice(br#","result":"#);
    head
}

/// `{"jsonrpc":"2.0","id":…,"error":…}`; without a readable id, it is null (JSON-RPC 2.0 §5).
fn failure(id: Option<&Id>, error: &ErrorObject) -> Vec<u8> {
    let mut writer = ObjectWriter::new();
    writer.string("jsonrpc", "2.0").value("id", &id).value("error", error);
    writer.finish()
}

/// A notification.
pub(crate) fn notification(method: &str, params: Option<&RawValue>) -> Vec<u8> {
    let mut writer = ObjectWriter::new();
    writer.string("jsonrpc", "2.0").string("method", method);
    if let Some(params) = params {
        writer.raw("params", params.get());
    }
    writer.finish()
}

/// A request of ours to a legacy client.
pub(crate) fn request(id: &str, method: &str, params: Option<&RawValue>) -> Vec<u8> {
    let mut writer = ObjectWriter::new();
    writer.string("jsonrpc", "2.0").string("id", id).string("method", method);
    if let Some(params) = params {
        writer.raw("params", params.get());
    }
    writer.finish()
}

/// What an MCP client of `era` reads of a call's error.
///
/// The upstream's own error passes with code, message and data where the client's era knows the code; errors of the
/// hop behind us never look like the upstream's answer to this client.
pub(crate) fn refusal_of_call(error: &CallError, era: Era, uri: Option<&str>) -> Refusal {
    let refusal = match (&error.kind, &error.rejection) {
        (CallErrorKind::Rejected, Some(rejection)) => Refusal::of(relayed(rejection, era, uri)),
        _ => Refusal::of(Problem::of_call(error).to_error_object()),
    };
    match era {
        Era::Modern => refusal,
        Era::Legacy => refusal.with_status(StatusCode::OK),
    }
}

/// An upstream's error in the words of the client's era (notes on error codes: 2026-07-28 basic, versioning).
fn relayed(rejection: &ErrorObject, era: Era, uri: Option<&str>) -> ErrorObject {
    match (era, rejection.code) {
        (Era::Modern, code::LEGACY_RESOURCE_NOT_FOUND) => {
            missing_resource(rejection, code::INVALID_PARAMS, uri)
        }
        (Era::Modern, code::INVALID_PARAMS) if uri.is_some() && !has_other_data(rejection) => {
            missing_resource(rejection, code::INVALID_PARAMS, uri)
        }
        // A legacy server that refuses parameters says so in the same words, but for the URI.
        (Era::Legacy, code::INVALID_PARAMS) if uri.is_some() && names_a_uri(rejection) => {
            ErrorObject { code: code::LEGACY_RESOURCE_NOT_FOUND, ..rejection.clone() }
        }
        // -32020 and -32022 concern the hop between us and the upstream, never this client.
        (_, code::HEADER_MISMATCH | code::UNSUPPORTED_PROTOCOL_VERSION) => wrapped(rejection),
        // Codes that older servers made up, and 2025-11-25's URL elicitation, mean nothing to a modern client.
        (Era::Modern, -32019..=-32000 | -32042) => wrapped(rejection),
        (Era::Legacy, code::MISSING_CLIENT_CAPABILITY) => {
            let mut error = wrapped(rejection);
            error.message =
                format!("the tool needs a capability this client did not declare: {}", rejection.message);
            error
        }
        _ => rejection.clone(),
    }
}

/// Whether the error says which resource it is about, as one of 2026-07-28 about a missing one does.
fn names_a_uri(rejection: &ErrorObject) -> bool {
    rejection.data.as_deref().and_then(Members::of).is_some_and(|data| data.get("uri").is_some())
}

/// Whether the error has data to which nothing can be added.
fn has_other_data(rejection: &ErrorObject) -> bool {
    rejection.data.as_deref().is_some_and(|data| Members::of(data).is_none())
}

/// A missing resource, which both eras want to name its URI.
fn missing_resource(rejection: &ErrorObject, code: i64, uri: Option<&str>) -> ErrorObject {
    let mut data = ObjectWriter::new();
    let members = rejection.data.as_deref().and_then(Members::of).unwrap_or_default();
    for (key, value) in members.iter() {
        data.raw(key, value.get());
    }
    if let (None, Some(uri)) = (members.get("uri"), uri) {
        data.string("uri", uri);
    }
    ErrorObject { code, message: rejection.message.clone(), data: Some(data.finish_raw()) }
}

/// An error that is ours to report, the upstream's own kept in its data.
fn wrapped(rejection: &ErrorObject) -> ErrorObject {
    let mut original = ObjectWriter::new();
    original.value("upstreamError", rejection);
    let mut data = ObjectWriter::new();
    data.raw(VENDOR_KEY, original.finish_raw().get());
    ErrorObject {
        code: code::INTERNAL_ERROR,
        message: rejection.message.clone(),
        data: Some(data.finish_raw()),
    }
}

/// What is known of a result, an object, without reading it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// `resultType` is there.
    pub(crate) is_typed: bool,
    /// `_meta` is there.
    pub(crate) has_meta: bool,
}

/// `resultType` and our `serverInfo` added to a result for a modern client; everything else as it was. `extra` members
/// replace those of the same name. What is `known` of the result need not be found out.
///
/// # Errors
/// A result that is no object.
pub(crate) fn modern_result(
    result: Box<RawValue>,
    known: Option<Known>,
    extra: &[(&str, &str)],
) -> Result<Vec<Bytes>, Refusal> {
    if let Some(Known { is_typed, has_meta: false }) = known
        && extra.is_empty()
    {
        return Ok(wrapped_result(result, is_typed));
    }
    let Some(members) = Members::of(&result) else {
        return Err(Refusal::new(code::INTERNAL_ERROR, "the upstream's result is no object"));
    };
    let typed = members.get("resultType").is_some();
    if members.get("_meta").is_none() && extra.is_empty() {
        return Ok(wrapped_result(result, typed));
    }
    let mut writer = ObjectWriter::with_capacity(result.get().len() + 256);
    if !typed {
        writer.string("resultType", "complete");
    }
    for (key, value) in
        members.iter().filter(|(key, _)| *key != "_meta" && !extra.iter().any(|(k, _)| k == key))
    {
        writer.raw(key, value.get());
    }
    for (key, value) in extra {
        writer.raw(key, value);
    }
    let upstream_meta = members.get("_meta").and_then(Members::of).unwrap_or_default();
    let mut meta = ObjectWriter::new();
    for (key, value) in upstream_meta.iter().filter(|(key, _)| *key != key::SERVER_INFO) {
        meta.raw(key, value.get());
    }
    meta.raw(key::SERVER_INFO, OURSELVES);
    writer.raw("_meta", meta.finish_raw().get());
    Ok(vec![Bytes::from(writer.finish())])
}

/// A result without `_meta` behind what we add to it: its own bytes are handed on, not copied.
fn wrapped_result(result: Box<RawValue>, typed: bool) -> Vec<Bytes> {
    static TYPED: LazyLock<String> = LazyLock::new(|| format!("{{\"_meta\":{},", *META));
    static UNTYPED: LazyLock<String> =
        LazyLock::new(|| format!("{{\"resultType\":\"complete\",\"_meta\":{},", *META));
    let mut rest = owned_bytes(result);
    rest.advance(1);
    let is_empty = rest.trim_ascii_start().starts_with(b"}");
    let head: &'static str = if typed { &TYPED } else { &UNTYPED };
    let head = if is_empty { &head[..head.len() - 1] } else { head };
    vec![Bytes::from_static(head.as_bytes()), rest]
}

/// A raw value's bytes, not copied.
fn owned_bytes(raw: Box<RawValue>) -> Bytes {
    let text: Box<str> = raw.into();
    Bytes::from(text.into_string())
}

/// A result for a client of a legacy revision: what only the modern era knows is taken off, and
/// `structuredContent` that is no object, unknown before 2026-07-28, stands as text instead.
pub(crate) fn legacy_result(result: Box<RawValue>, version: ProtocolVersion) -> Bytes {
    let Some(members) = Members::of(&result) else { return owned_bytes(result) };
    let foreign = |key: &str| matches!(key, "resultType" | "ttlMs" | "cacheScope");
    let meta = members.get("_meta").and_then(Members::of);
    let stamped = meta.as_ref().is_some_and(|meta| meta.get(key::SERVER_INFO).is_some());
    let structured = members.get("structuredContent").filter(|value| !value.get().starts_with('{'));
    let before_links = version < ProtocolVersion::V2025_06_18 && result.get().contains("resource_link");
    if !stamped && structured.is_none() && !before_links && !members.iter().any(|(key, _)| foreign(key)) {
        return owned_bytes(result);
    }
    let mut writer = ObjectWriter::with_capacity(result.get().len());
    for (key, value) in members.iter().filter(|(key, _)| !foreign(key)) {
        match key {
            "_meta" if stamped => {
                let kept = meta.iter().flat_map(Members::iter).filter(|(key, _)| *key != key::SERVER_INFO);
                let mut meta = ObjectWriter::new();
                kept.for_each(|(key, value)| {
                    meta.raw(key, value.get());
                });
                let meta = meta.finish_raw();
                if meta.get() != "{}" {
                    writer.raw("_meta", meta.get());
                }
            }
            "structuredContent" if structured.is_some() => {}
            "content" if before_links => {
                writer.raw("content", without_links(value).get());
            }
            _ => {
                writer.raw(key, value.get());
            }
        }
    }
    Bytes::from(writer.finish())
}

/// Content whose links, unknown before 2025-06-18, are text blocks with the URI.
fn without_links(content: &RawValue) -> Box<RawValue> {
    let Ok(blocks) = serde_json::from_str::<Vec<&RawValue>>(content.get()) else { return content.to_owned() };
    let mut out = vec![b'['];
    for block in blocks {
        if out.len() > 1 {
            out.push(b',');
        }
        let members = Members::of(block).unwrap_or_default();
        match (members.string("type").as_deref(), members.string("uri")) {
            (Some("resource_link"), Some(uri)) => {
                let mut text = ObjectWriter::new();
                text.string("type", "text").string("text", &uri);
                out.extend(text.finish());
            }
            _ => out.extend_from_slice(block.get().as_bytes()),
        }
    }
    out.push(b']');
    crate::json::raw_value(out)
}

#[cfg(test)]
mod tests {
    use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id};
    use mpe_mcp_protocol::result::CallToolResult;
    use mpe_mcp_protocol::version::{Era, ProtocolVersion};
    use serde_json::value::RawValue;

    use super::{Answer, Known, OURSELVES, Refusal, legacy_result, modern_result, relayed};

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn text(bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8(bytes.as_ref().to_vec()).unwrap()
    }

    fn modern(result: &str) -> String {
        text(modern_result(raw(result), None, &[]).unwrap().concat())
    }

    #[test]
    fn a_modern_result_keeps_its_bytes_and_gains_type_and_server() {
        let server = format!(r#""io.modelcontextprotocol/serverInfo":{OURSELVES}"#);
        for (result, expected) in [
            (
                r#"{ "z":1.50,"content":[ ]}"#,
                format!(r#"{{"resultType":"complete","_meta":{{{server}}}, "z":1.50,"content":[ ]}}"#),
            ),
            (
                r#"{"z":1.50,"_meta":{"a":1e2}}"#,
                format!(r#"{{"resultType":"complete","z":1.50,"_meta":{{"a":1e2,{server}}}}}"#),
            ),
            ("{}", format!(r#"{{"resultType":"complete","_meta":{{{server}}}}}"#)),
            (r#"{"resultType":"x"}"#, format!(r#"{{"_meta":{{{server}}},"resultType":"x"}}"#)),
        ] {
            assert_eq!(modern(result), expected);
        }
    }

    #[test]
    fn what_is_known_of_a_result_changes_nothing() {
        for result in [
            r#"{"content":[]}"#,
            r#"{"resultType":"complete","content":[]}"#,
            r#"{"resultType":null}"#,
            r#"{ "_meta":{"a":1} }"#,
            "{ }",
        ] {
            let raw = raw(result);
            let head = CallToolResult::peek(&raw).unwrap();
            let known = Known { is_typed: head.names_its_type, has_meta: head.has_meta };
            drop(head);
            let given = modern_result(raw, Some(known), &[]).unwrap();
            assert_eq!(text(given.concat()), modern(result));
        }
    }

    #[test]
    fn a_legacy_client_is_told_which_capability_is_missing() {
        let data = Some(raw(r#"{"requiredCapabilities":{"sampling":{}}}"#));
        let theirs = ErrorObject { code: -32021, message: "sampling is needed".to_owned(), data };
        let ours = relayed(&theirs, Era::Legacy, None);
        assert_eq!(ours.code, -32603);
        assert!(ours.message.contains("capability") && ours.message.contains("sampling"), "{}", ours.message);
        assert_eq!(relayed(&theirs, Era::Modern, None).code, -32021);
    }

    #[test]
    fn a_legacy_result_without_modern_members_is_untouched() {
        let result = r#"{ "content" : [ ], "structuredContent":{"n":12345678901234567890} }"#;
        assert_eq!(text(legacy_result(raw(result), ProtocolVersion::V2025_11_25)), result);
    }

    #[test]
    fn a_legacy_result_loses_what_only_the_modern_era_knows() {
        let result = raw(
            r#"{"resultType":"complete","content":[],"structuredContent":[1],"_meta":{"io.modelcontextprotocol/serverInfo":{}}}"#,
        );
        assert_eq!(text(legacy_result(result, ProtocolVersion::V2025_11_25)), r#"{"content":[]}"#);
    }

    #[test]
    fn a_link_becomes_text_for_a_revision_without_links() {
        let result = raw(r#"{"content":[{"type":"resource_link","uri":"a://b","name":"n"}]}"#);
        let expected = r#"{"content":[{"type":"text","text":"a://b"}]}"#;
        assert_eq!(text(legacy_result(result, ProtocolVersion::V2025_03_26)), expected);
    }

    #[test]
    fn ids_keep_their_type() {
        let result = |id| text(Answer::result("{}").message(Some(&id)));
        assert_eq!(result(Id::Integer(7)), r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
        assert_eq!(result(Id::String("7".into())), r#"{"jsonrpc":"2.0","id":"7","result":{}}"#);
        assert_eq!(
            text(Answer::from(Refusal::new(-32700, "m")).message(None)),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#
        );
    }

    #[test]
    fn a_missing_resource_is_said_in_the_words_of_the_clients_era() {
        let legacy = ErrorObject { code: -32002, message: "gone".into(), data: None };
        let modern = relayed(&legacy, Era::Modern, Some("x://y"));
        assert_eq!((modern.code, modern.data.unwrap().get()), (-32602, r#"{"uri":"x://y"}"#));
        let modern =
            ErrorObject { code: -32602, message: "gone".into(), data: Some(raw(r#"{"uri":"x://y"}"#)) };
        let legacy = relayed(&modern, Era::Legacy, Some("x://y"));
        assert_eq!((legacy.code, legacy.data.unwrap().get()), (-32002, r#"{"uri":"x://y"}"#));
    }

    #[test]
    fn parameters_that_a_server_refuses_are_no_missing_resource_to_a_legacy_client() {
        for data in [None, Some(raw(r#"{"why": 1.0}"#)), Some(raw(r#""text""#))] {
            let refused = ErrorObject { code: -32602, message: "no".into(), data };
            let legacy = relayed(&refused, Era::Legacy, Some("x://y"));
            assert_eq!(legacy.code, -32602);
            let text = |data: &Option<Box<RawValue>>| data.as_ref().map(|data| data.get().to_owned());
            assert_eq!(text(&legacy.data), text(&refused.data));
        }
        let refused = ErrorObject { code: -32602, message: "no".into(), data: Some(raw(r#""text""#)) };
        assert_eq!(relayed(&refused, Era::Modern, Some("x://y")).data.unwrap().get(), r#""text""#);
    }

    #[test]
    fn codes_older_servers_made_up_are_wrapped_for_a_modern_client() {
        let old = ErrorObject { code: -32001, message: "m".into(), data: None };
        let wrapped = relayed(&old, Era::Modern, None);
        assert_eq!(wrapped.code, -32603);
        assert!(wrapped.data.unwrap().get().contains(r#""code":-32001"#));
        assert_eq!(relayed(&old, Era::Legacy, None).code, -32001);
    }
}
