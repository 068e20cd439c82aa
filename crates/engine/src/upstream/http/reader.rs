//! Response bodies as messages: one JSON value, several, or an event stream.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use mpe_mcp_protocol::object::array_of;
use mpe_mcp_protocol::sse::{Decoder, Event};
use mpe_transport::{Body, Sent};
use serde_json::value::RawValue;

use super::super::UpstreamError;
use crate::CallErrorKind;

/// Bytes of one message, at most: what the pool lets a whole body have.
const MAX_MESSAGE: usize = 64 << 20;
/// Bytes that an announced length makes us reserve, at most: an announcement costs its sender nothing.
const MAX_RESERVED: usize = 1 << 20;

/// Messages of one response body, in order.
#[derive(Debug)]
pub(super) struct Messages {
    body: Option<Body>,
    format: Format,
    ready: VecDeque<Bytes>,
}

#[derive(Debug)]
enum Format {
    Events(Box<Decoder>),
    Json(Splitter),
}

impl Messages {
    /// Reads an event stream.
    pub(super) fn events(body: Body) -> Self {
        let format = Format::Events(Box::new(Decoder::new(MAX_MESSAGE)));
        Self { body: Some(body), format, ready: VecDeque::new() }
    }

    /// Reads JSON. Some servers label several values, one after the other, as `application/json`.
    pub(super) fn json(body: Body) -> Self {
        let announced = usize::try_from(http_body::Body::size_hint(&body).exact().unwrap_or(0));
        let splitter = Splitter::expecting(announced.unwrap_or(0).min(MAX_RESERVED));
        Self { body: Some(body), format: Format::Json(splitter), ready: VecDeque::new() }
    }

    pub(super) fn is_event_stream(&self) -> bool {
        matches!(self.format, Format::Events(_))
    }

    /// The next message's bytes; `None` at the end of the body.
    ///
    /// Cancel safe: nothing that was read is lost.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            if let Some(message) = self.take_ready() {
                return Ok(Some(message));
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data()
                        && let Some(whole) = self.push(chunk)?
                    {
                        return Ok(Some(whole));
                    }
                }
                Some(Err(error)) => {
                    self.body = None;
                    return Err(lost(error));
                }
                None => {
                    self.body = None;
                    if let Format::Json(splitter) = &mut self.format {
                        self.ready.extend(splitter.rest());
                    }
                }
            }
        }
    }

    /// The next event of an event stream, whatever its name; `None` at the end of the body.
    ///
    /// Cancel safe.
    pub(super) async fn next_event(&mut self) -> Result<Option<Event>, UpstreamError> {
        loop {
            if let Format::Events(decoder) = &mut self.format
                && let Some(event) = decoder.next_event()
            {
                return Ok(Some(event));
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        let whole = self.push(chunk)?;
                        self.ready.extend(whole);
                    }
                }
                Some(Err(error)) => {
                    self.body = None;
                    return Err(lost(error));
                }
                None => self.body = None,
            }
        }
    }

    /// Where a broken event stream may be taken up again, and after how long, as far as the server said.
    pub(super) fn resume_point(&self) -> Option<(String, Option<Duration>)> {
        match &self.format {
            Format::Events(decoder) => Some((decoder.last_event_id()?.to_owned(), decoder.retry())),
            Format::Json(_) => None,
        }
    }

    /// Takes what came. Most answers are one value in one piece: that is handed on, not copied.
    fn push(&mut self, chunk: Bytes) -> Result<Option<Bytes>, UpstreamError> {
        let is_all = self.body.as_ref().is_none_or(http_body::Body::is_end_stream);
        match &mut self.format {
            Format::Json(splitter) if is_all && splitter.is_empty() && is_one_object(&chunk) => {
                return Ok(Some(chunk));
            }
            Format::Events(decoder) => {
                decoder.push(&chunk).map_err(|error| UpstreamError::protocol(error.to_string()))?;
            }
            Format::Json(splitter) => splitter.push(&chunk)?,
        }
        Ok(None)
    }

    fn take_ready(&mut self) -> Option<Bytes> {
        if let Some(message) = self.ready.pop_front() {
            return Some(message);
        }
        match &mut self.format {
            Format::Events(decoder) => std::iter::from_fn(|| decoder.next_event())
                .find(Event::is_message)
                .map(|event| event.data.into()),
            Format::Json(splitter) => {
                let value = splitter.next()?;
                // 2025-03-26 knows batches; we never send one, but one may come back.
                match value.first() == Some(&b'[') {
                    true => {
                        self.ready.extend(elements(&value));
                        self.ready.pop_front()
                    }
                    false => Some(value),
                }
            }
        }
    }
}

fn lost(error: mpe_transport::Error) -> UpstreamError {
    let mut error = UpstreamError::from(error);
    // The head of the answer was here: the server has seen the request.
    error.sent = Sent::Maybe;
    if error.kind == CallErrorKind::UpstreamUnreachable {
        error.kind = CallErrorKind::UpstreamLost;
    }
    error
}

fn elements(array: &Bytes) -> Vec<Bytes> {
    let elements = serde_json::from_slice::<&RawValue>(array).ok().and_then(array_of);
    // What is no array after all goes on as it is, to be refused by whoever parses it.
    elements.map_or_else(
        || vec![array.clone()],
        |elements| elements.into_iter().map(|element| array.slice_ref(element.get().as_bytes())).collect(),
    )
}

/// Whether `text` is one object from its first byte to its last, as far as quotes and brackets tell.
fn is_one_object(text: &[u8]) -> bool {
    let mut splitter = Scan::default();
    text.first() == Some(&b'{') && splitter.end_of_value(text) == Some(text.len())
}

/// Cuts a stream of JSON values apart without parsing them.
#[derive(Debug, Default)]
struct Splitter {
    buffer: BytesMut,
    /// How many bytes will come, as far as that is known. Room for them is made when the first are to be kept.
    expected: usize,
    scan: Scan,
}

impl Splitter {
    fn expecting(expected: usize) -> Self {
        Self { expected, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), UpstreamError> {
        if self.buffer.len() + chunk.len() > MAX_MESSAGE {
            return Err(UpstreamError::protocol(format!("a message longer than {MAX_MESSAGE} bytes")));
        }
        self.buffer.reserve(std::mem::take(&mut self.expected).max(chunk.len()));
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next complete object or array.
    fn next(&mut self) -> Option<Bytes> {
        let end = self.scan.end_of_value(&self.buffer)?;
        self.scan = Scan::default();
        let value = self.buffer.split_to(end).freeze();
        let start = value.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
        Some(value.slice(start..))
    }

    /// What is left at the end: nothing, or something that is no complete value.
    fn rest(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }
}

/// How far a text has been looked through for the end of its first value.
#[derive(Debug, Default)]
struct Scan {
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Where the first object or array ends; `None` when its end has not come yet. `text` is what was given before, and
    /// what has come since.
    fn end_of_value(&mut self, text: &[u8]) -> Option<usize> {
        loop {
            if self.in_string {
                self.leave_string(text)?;
            }
            let at = text[self.scanned..].iter().position(|byte| IS_STRUCTURE[usize::from(*byte)]);
            let Some(at) = at else {
                self.scanned = text.len();
                return None;
            };
            let byte = text[self.scanned + at];
            self.scanned += at + 1;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                _ => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.scanned);
                    }
                }
            }
        }
    }

    /// Goes on to the end of the string; `None` when it has not come yet.
    fn leave_string(&mut self, text: &[u8]) -> Option<()> {
        loop {
            if self.escaped && self.scanned < text.len() {
                self.escaped = false;
                self.scanned += 1;
            }
            // Strings are most of a large message, and nothing in them matters but these two.
            let Some(at) = memchr::memchr2(b'"', b'\\', &text[self.scanned..]) else {
                self.scanned = text.len();
                return None;
            };
            let byte = text[self.scanned + at];
            self.scanned += at + 1;
            if byte == b'"' {
                self.in_string = false;
                return Some(());
            }
            self.escaped = true;
        }
    }
}

/// The bytes that say where strings and values begin and end.
const IS_STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"\"{[}]";
    let mut n = 0;
    while n < bytes.len() {
        table[bytes[n] as usize] = true;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{Splitter, elements, is_one_object};

    fn split(chunks: &[&str]) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut values = Vec::new();
        for chunk in chunks {
            splitter.push(chunk.as_bytes()).unwrap();
            while let Some(value) = splitter.next() {
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
        values.extend(splitter.rest().map(|rest| String::from_utf8(rest.to_vec()).unwrap()));
        values
    }

    #[test]
    fn values_are_cut_apart_wherever_the_chunks_end() {
        let text = "{\"a\":\"}\\\"{\"}\n{\"b\":[{}]}  {}\r\n";
        let expected = ["{\"a\":\"}\\\"{\"}", "{\"b\":[{}]}", "{}"];
        assert_eq!(split(&[text]), expected);
        for cut in 0..text.len() {
            assert_eq!(split(&[&text[..cut], &text[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn one_object_is_told_from_several_and_from_a_part() {
        for text in ["{}", r#"{"a":"}\"{","b":[{}]}"#] {
            assert!(is_one_object(text.as_bytes()), "{text}");
        }
        for text in ["", "[]", "{}{}", "{} ", " {}", "{\"a\":{}", "{\"a}", "}"] {
            assert!(!is_one_object(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn an_unfinished_value_is_handed_on_to_be_refused() {
        assert_eq!(split(&["{} {\"a\":"]), ["{}", " {\"a\":"]);
        assert_eq!(split(&["  \n"]), Vec::<String>::new());
    }

    #[test]
    fn a_batch_becomes_its_messages() {
        let elements = elements(&bytes::Bytes::from_static(b"[{\"id\":1}, {\"id\":2}]"));
        assert_eq!(elements, [&b"{\"id\":1}"[..], &b"{\"id\":2}"[..]]);
    }
}
