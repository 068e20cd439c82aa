//! Messages as bytes: compact JSON on one line, payloads copied as they are.

use serde_json::value::RawValue;

use super::{ErrorObject, Id};
use crate::meta::MetaView;

/// A request. `params` is an object.
pub fn request(id: &Id, method: &str, params: Option<&RawValue>) -> Vec<u8> {
    request_with(id, method, params, &[])
}

/// A request whose params get further members in front of their own.
///
/// Members of `params` with one of the `extra` names must not be there: the result would name them twice.
pub fn request_with(
    id: &Id,
    method: &str,
    params: Option<&RawValue>,
    extra: &[(&str, &RawValue)],
) -> Vec<u8> {
    let mut out = begin(64 + method.len() + size(params, extra));
    out.extend_from_slice(b",\"id\":");
    push_id(&mut out, id);
    push_call(&mut out, method, params, extra);
    out
}

/// A request whose params get `_meta` and further members in front of their own.
///
/// Members of `params` named `_meta` or as one of `extra` must not be there: the result would name them twice.
pub fn request_with_meta(
    id: &Id,
    method: &str,
    params: Option<&RawValue>,
    meta: &MetaView<'_>,
    extra: &[(&str, &RawValue)],
) -> Vec<u8> {
    let mut out = begin(80 + method.len() + meta.size() + size(params, extra));
    out.extend_from_slice(b",\"id\":");
    push_id(&mut out, id);
    out.extend_from_slice(b",\"method\":");
    push_string(&mut out, method);
    out.extend_from_slice(b",\"params\":{\"_meta\":");
    meta.write(&mut out);
    for (name, value) in extra {
        out.push(b',');
        push_string(&mut out, name);
        out.push(b':');
        push_raw(&mut out, value.get());
    }
    let members = params.map_or("", |params| inside(params.get()));
    if !members.is_empty() {
        out.push(b',');
        push_raw(&mut out, members);
    }
    out.extend_from_slice(b"}}");
    out
}

/// A notification. `params` is an object.
pub fn notification(method: &str, params: Option<&RawValue>) -> Vec<u8> {
    let mut out = begin(48 + method.len() + size(params, &[]));
    push_call(&mut out, method, params, &[]);
    out
}

/// A success response; `result` is JSON.
pub fn result(id: Option<&Id>, result: &str) -> Vec<u8> {
    let mut out = begin(64 + result.len());
    push_response_id(&mut out, id);
    out.extend_from_slice(b",\"result\":");
    push_raw(&mut out, result);
    out.push(b'}');
    out
}

/// An error response.
pub fn error(id: Option<&Id>, error: &ErrorObject) -> Vec<u8> {
    let mut out = begin(96 + error.message.len() + error.data.as_ref().map_or(0, |data| data.get().len()));
    push_response_id(&mut out, id);
    out.extend_from_slice(b",\"error\":{\"code\":");
    out.extend_from_slice(error.code.to_string().as_bytes());
    out.extend_from_slice(b",\"message\":");
    push_string(&mut out, &error.message);
    if let Some(data) = &error.data {
        out.extend_from_slice(b",\"data\":");
        push_raw(&mut out, data.get());
    }
    out.extend_from_slice(b"}}");
    out
}

/// An object with `extra` members in front of those of `base`, each of which must be an object.
///
/// Members of `base` with one of the `extra` names must not be there.
pub fn object_with(base: Option<&RawValue>, extra: &[(&str, &RawValue)]) -> Box<RawValue> {
    let mut out = Vec::with_capacity(16 + size(base, extra));
    push_object(&mut out, base, extra);
    let text = String::from_utf8(out).expect("JSON texts joined by ASCII are UTF-8");
    RawValue::from_string(text).expect("members of valid objects form a valid object")
}

/// Appends a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string into memory cannot fail");
}

/// Appends JSON on one line: a line break outside a string is white space, and inside one it cannot stand.
pub fn push_raw(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    put_on_one_line(&mut out[start..]);
}

/// Puts JSON on one line, where it stands, as [`push_raw`] does.
pub fn put_on_one_line(json: &mut [u8]) {
    for byte in json {
        // Written in any case: that way many go at once.
        *byte = if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
}

fn begin(capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    out
}

pub(crate) fn push_id(out: &mut Vec<u8>, id: &Id) {
    match id {
        Id::Integer(number) => {
            serde_json::to_writer(out, number).expect("writing a number into memory cannot fail");
        }
        Id::String(text) => push_string(out, text),
    }
}

fn push_response_id(out: &mut Vec<u8>, id: Option<&Id>) {
    // JSON-RPC 2.0 §5 wants null where the request's id could not be read; MCP lets it be absent.
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        push_id(out, id);
    }
}

fn push_call(out: &mut Vec<u8>, method: &str, params: Option<&RawValue>, extra: &[(&str, &RawValue)]) {
    out.extend_from_slice(b",\"method\":");
    push_string(out, method);
    if params.is_some() || !extra.is_empty() {
        out.extend_from_slice(b",\"params\":");
        push_object(out, params, extra);
    }
    out.push(b'}');
}

fn push_object(out: &mut Vec<u8>, base: Option<&RawValue>, extra: &[(&str, &RawValue)]) {
    let members = base.map_or("", |base| inside(base.get()));
    out.push(b'{');
    for (at, (name, value)) in extra.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_raw(out, value.get());
    }
    if !extra.is_empty() && !members.is_empty() {
        out.push(b',');
    }
    push_raw(out, members);
    out.push(b'}');
}

/// The text between an object's braces.
pub(crate) fn inside(object: &str) -> &str {
    object
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .map_or("", |members| members.trim_matches([' ', '\t', '\r', '\n']))
}

fn size(params: Option<&RawValue>, extra: &[(&str, &RawValue)]) -> usize {
    let base = params.map_or(0, |params| params.get().len());
    extra.iter().fold(base, |sum, (name, value)| sum + name.len() + value.get().len() + 4)
}
