//! Server-sent events: an incremental decoder with limits, and an encoder.
//!
//! The grammar is the WHATWG HTML standard's, §9.2.6: lines end in LF, CR or CRLF, a leading byte order mark and
//! comments are skipped, several `data:` lines form one datum.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `event:`; `None` means `message`.
    pub name: Option<String>,
    /// `id:`, if this event had one.
    pub id: Option<String>,
    /// `data:`, lines joined by LF. Not checked to be UTF-8: what reads it does that.
    pub data: Vec<u8>,
}

impl Event {
    /// Whether this carries a message: named `message` or unnamed, and not an empty primer.
    pub fn is_message(&self) -> bool {
        !self.data.is_empty() && self.name.as_deref().is_none_or(|name| name == "message")
    }
}

/// The stream broke a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Bytes one event may have, its longest line included.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one event of the stream is longer than {} bytes", self.limit)
    }
}

impl std::error::Error for TooLong {}

/// Turns chunks of a stream, cut anywhere, into events.
///
/// Memory is bounded by twice the limit and the events not yet taken, which are no longer than the chunk pushed.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    at_start: bool,
    event: Event,
    has_data: bool,
    ready: VecDeque<Event>,
    last_id: Option<String>,
    retry: Option<Duration>,
}

impl Decoder {
    /// A decoder whose events have at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            event: Event::default(),
            has_data: false,
            ready: VecDeque::new(),
            last_id: None,
            retry: None,
        }
    }

    /// Takes in a chunk. Events it completes wait in [`Decoder::next_event`].
    ///
    /// # Errors
    /// [`TooLong`]; the stream cannot be read any further.
    pub fn push(&mut self, mut chunk: &[u8]) -> Result<(), TooLong> {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) {
            let (line, mut rest) = (&chunk[..end], &chunk[end + 1..]);
            if chunk[end] == b'\r' {
                // CRLF is one line end, also when a chunk ends between the two.
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            if self.line.is_empty() {
                // As where the line comes in pieces: what is refused does not depend on where chunks end.
                if line.len() > self.limit {
                    return Err(TooLong { limit: self.limit });
                }
                self.take_line(line)?;
            } else {
                self.extend(line)?;
                let whole = std::mem::take(&mut self.line);
                self.take_line(&whole)?;
                // The next partial line uses the same memory, unless this one was unusually long.
                if whole.capacity() <= KEPT_CAPACITY {
                    self.line = whole;
                    self.line.clear();
                }
            }
            chunk = rest;
        }
        self.extend(chunk)
    }

    /// The next complete event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// The last event id seen, events without data included; to be sent as `Last-Event-ID`.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The last `retry:` seen: how long to wait before reconnecting.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + part.len() > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), TooLong> {
        let line =
            if std::mem::take(&mut self.at_start) { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => return self.add_data(value),
            b"event" => self.event.name = Some(String::from_utf8_lossy(value).into_owned()),
            // §9.2.6: an id with a NUL is ignored.
            b"id" if !value.contains(&0) => {
                self.event.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"retry" => {
                if let Some(millis) = digits(value) {
                    self.retry = Some(Duration::from_millis(millis));
                }
            }
            // Comments (an empty field name) and unknown fields.
            _ => {}
        }
        Ok(())
    }

    fn add_data(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.event.data.len() + value.len() + 1 > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        if self.has_data {
            self.event.data.push(b'\n');
        }
        self.event.data.extend_from_slice(value);
        self.has_data = true;
        Ok(())
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        // §9.2.6: the id counts once its event is complete; a stream that breaks before is taken up before it.
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
        // §9.2.6: without any data line there is no event; the id counts all the same.
        if std::mem::take(&mut self.has_data) {
            self.ready.push_back(event);
        }
    }
}

/// Digits alone, as `retry:` demands; `None` for anything else or anything absurd.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Buffers up to this many bytes are used again for the next line.
const KEPT_CAPACITY: usize = 64 << 10;

/// Appends one event: name if not `message`, id if any, one `data:` line per line of `data`.
///
/// `name` and `id` must hold no line break.
pub fn encode(out: &mut Vec<u8>, name: Option<&str>, id: Option<&str>, data: &[u8]) {
    for (field, value) in [("event: ", name), ("id: ", id)] {
        if let Some(value) = value {
            debug_assert!(!value.contains(['\n', '\r', '\0']));
            out.extend_from_slice(field.as_bytes());
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        }
    }
    out.reserve(data.len() + 16);
    let mut rest = data;
    loop {
        let end = memchr::memchr(b'\n', rest);
        out.extend_from_slice(b"data: ");
        rest[..end.unwrap_or(rest.len())]
            .split(|&byte| byte == b'\r')
            .for_each(|part| out.extend_from_slice(part));
        out.push(b'\n');
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => break,
        }
    }
    out.push(b'\n');
}

/// A comment: what keeps an idle stream open.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

#[cfg(test)]
mod tests;
