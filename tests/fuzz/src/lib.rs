//! What must hold for any bytes at all. libFuzzer runs these with inputs of its own making; a test of the workspace
//! replays the corpora, so that what was found once is looked for in every build.
//!
//! Each target panics when something does not hold.

use mpe_mcp_protocol::header::{MirroredParams, decode_value, encode_value};
use mpe_mcp_protocol::jsonrpc::{Envelope, Message};
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::params::RequestParams;
use mpe_mcp_protocol::sse::{self, Decoder, Event};
use mpe_transport::stdio::lines_of;
use serde_json::Value;
use serde_json::value::RawValue;

/// One of the targets.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 4] =
    [("headers", headers), ("jsonrpc", jsonrpc), ("lines", lines), ("sse", sse)];

/// Bytes of one event or line, at most, where a target needs a limit.
const LIMIT: usize = 64;

/// Messages: whatever is read is JSON, and reads the same after it was written.
pub fn jsonrpc(data: &[u8]) {
    let Ok(message) = Message::parse(data) else {
        // A refusal says something, and what it says is one line.
        let error = Message::parse(data).expect_err("it was refused a moment ago");
        assert!(!error.to_string().is_empty());
        return;
    };
    assert!(serde_json::from_slice::<&RawValue>(data).is_ok(), "a message is JSON");
    let written = message.to_bytes();
    assert!(!written.contains(&b'\n') || data.contains(&b'\n'), "a line stays a line");
    let again = Message::parse(&written).expect("what we write, we read");
    assert_eq!(again.to_bytes(), written, "writing is stable");
    // Payloads may hold what JSON's grammar allows and no string can hold, such as half a surrogate pair.
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        assert_eq!(value["jsonrpc"], "2.0");
        let rewritten: Value = serde_json::from_slice(&written).expect("what we write is JSON");
        // What is not of a message's kind, such as the params of a response, is not passed on.
        let is_call = value.get("method").is_some();
        let members: &[&str] = if is_call { &["id", "method", "params"] } else { &["id", "result"] };
        for member in members {
            let (before, after) = (value.get(*member), rewritten.get(*member));
            assert!(before == after || before == Some(&Value::Null), "{member}: {before:?} became {after:?}");
        }
    }
    if let Ok(Envelope::Request { params, .. }) = Envelope::parse(data) {
        // Refusing is fine.
        let _ = RequestParams::parse(params).map(|params| params.passed_on());
    }
}

/// Event streams: where the chunks end does not matter, limits hold, and what is written is read.
pub fn sse(data: &[u8]) {
    let whole = decoded(std::iter::once(data));
    let bytes = decoded(data.chunks(1));
    let pieces = decoded(data.chunks(7));
    assert_eq!(whole, bytes, "one chunk, or one byte at a time");
    assert_eq!(whole, pieces, "one chunk, or seven bytes at a time");
    for event in &whole.0 {
        assert!(event.data.len() <= LIMIT);
        // We name events ourselves, and never with a NUL.
        if event.name.as_ref().is_some_and(|name| name.contains('\0')) {
            continue;
        }
        let mut written = Vec::new();
        let id = event.id.as_deref().filter(|id| !id.is_empty());
        sse::encode(&mut written, event.name.as_deref(), id, &event.data);
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(&written).expect("far below the limit");
        let again = decoder.next_event().expect("one event was written");
        assert_eq!((&again.name, again.id.as_deref()), (&event.name, id));
        assert_eq!(again.data, event.data);
        assert!(decoder.next_event().is_none());
    }
}

/// The events of a stream, and whether it broke a limit.
fn decoded<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, bool) {
    let mut decoder = Decoder::new(LIMIT);
    let mut events = Vec::new();
    for chunk in chunks {
        let is_over = decoder.push(chunk).is_err();
        events.extend(std::iter::from_fn(|| decoder.next_event()));
        if is_over {
            return (events, true);
        }
    }
    (events, false)
}

/// Lines of a process: where the reads end does not matter, none is empty, holds a line feed or is over the limit.
pub fn lines(data: &[u8]) {
    let read = |chunk: usize| -> Vec<Result<Vec<u8>, String>> {
        let lines = lines_of(data.chunks(chunk), LIMIT);
        lines
            .into_iter()
            .map(|line| line.map(|line| line.to_vec()).map_err(|error| error.to_string()))
            .collect()
    };
    let whole = read(usize::MAX);
    assert_eq!(whole, read(1), "one read, or one byte at a time");
    assert_eq!(whole, read(5), "one read, or five bytes at a time");
    let mut expected = Vec::new();
    let mut parts: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    parts.pop();
    for part in parts {
        let line = part.strip_suffix(b"\r").unwrap_or(part);
        match line.len() {
            0 => {}
            1..=LIMIT => expected.push(Some(line.to_vec())),
            _ => expected.push(None),
        }
    }
    let mut read: Vec<_> = whole.into_iter().map(Result::ok).collect();
    // What stands behind the last line feed: nothing, a line that is cut off, or one that is too long as well.
    let rest = data.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if !rest.is_empty() {
        assert_eq!(read.pop(), Some(None), "the rest is no line");
    }
    assert_eq!(read, expected);
}

/// Header values and `x-mcp-header` annotations: what is encoded is a header value, and is decoded to what it was.
pub fn headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let encoded = encode_value(&text);
    assert!(encoded.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "no header value: {encoded:?}");
    assert_eq!(decode_value(&encoded).expect("what we encode, we decode"), text);
    if let Ok(decoded) = decode_value(&text) {
        let again = encode_value(&decoded).into_owned();
        assert_eq!(decode_value(&again).expect("what we encode, we decode"), decoded);
    }
    // The input as a schema and as arguments of a tool.
    let Ok(raw) = serde_json::from_slice::<&RawValue>(data) else { return };
    let Ok(schema) = serde_json::from_str::<Value>(raw.get()) else { return };
    if let Ok(mirrored) = MirroredParams::of(&schema) {
        for param in mirrored.iter() {
            assert!(
                !param.header.is_empty() && param.header.bytes().all(|byte| byte.is_ascii_graphic()),
                "no token: {:?}",
                param.header
            );
        }
        if let Ok(headers) = mirrored.mirror(raw) {
            for (_, value) in headers {
                assert!(encode_value(&value).bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            }
        }
    }
    // Refusing is fine.
    let _ = Object::parse(raw).map(|object| object.iter().count());
}
