use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::{Decoder, Event, TooLong, encode};

fn decode(chunks: &[&[u8]]) -> Vec<Event> {
    let mut decoder = Decoder::new(1 << 20);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk).unwrap();
        events.extend(std::iter::from_fn(|| decoder.next_event()));
    }
    events
}

fn data(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| std::str::from_utf8(&event.data).unwrap()).collect()
}

#[test]
fn every_line_end_of_the_standard_is_understood() {
    assert_eq!(data(&decode(&[b"data: a\n\ndata: b\r\rdata: c\r\n\r\ndata:d\n\n"])), ["a", "b", "c", "d"]);
}

#[test]
fn a_chunk_may_end_anywhere() {
    let stream =
        "\u{feff}: hello\r\nevent: message\r\nid: 7\r\ndata: {\"a\":\"ü\"}\r\ndata: x\r\n\r\n".as_bytes();
    let whole = decode(&[stream]);
    assert_eq!(data(&whole), ["{\"a\":\"ü\"}\nx"]);
    for cut in 0..stream.len() {
        assert_eq!(decode(&[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(decode(&single), whole);
}

#[test]
fn a_primer_is_an_event_but_no_message() {
    let events = decode(&[b"id: e1\nretry: 500\ndata:\n\n"]);
    assert_eq!(events.len(), 1);
    assert!(!events[0].is_message());
    assert_eq!(events[0].id.as_deref(), Some("e1"));
}

#[test]
fn id_and_retry_count_even_without_data() {
    let mut decoder = Decoder::new(100);
    decoder.push(b"id: e2\nretry: 250\n\nretry: soon\n\nid: a\0b\n\n").unwrap();
    assert_eq!(decoder.next_event(), None);
    assert_eq!(decoder.last_event_id(), Some("e2"));
    assert_eq!(decoder.retry(), Some(Duration::from_millis(250)));
}

#[test]
fn the_id_of_an_event_that_was_cut_off_does_not_count() {
    let mut decoder = Decoder::new(100);
    decoder.push(b"id: e1\ndata: 1\n\nid: e2\ndata: 2\n").unwrap();
    assert_eq!(decoder.last_event_id(), Some("e1"));
    decoder.push(b"\n").unwrap();
    assert_eq!(decoder.last_event_id(), Some("e2"));
}

#[test]
fn other_events_are_no_messages() {
    let events = decode(&[b"event: endpoint\ndata: /x\n\nevent: message\ndata: 1\n\ndata: 2\n\n"]);
    let messages: Vec<_> = events.iter().map(Event::is_message).collect();
    assert_eq!(messages, [false, true, true]);
}

#[test]
fn an_endless_line_ends_at_the_limit() {
    let mut decoder = Decoder::new(1000);
    let outcome = (0..).find_map(|n: usize| decoder.push(&[b'a'; 64]).err().map(|error| (n, error)));
    assert_eq!(outcome, Some((15, TooLong { limit: 1000 })));
}

#[test]
fn endless_data_lines_end_at_the_limit() {
    let mut decoder = Decoder::new(1000);
    let outcome = (0..).find_map(|n: usize| decoder.push(b"data: 0123456789\n").err().map(|_| n));
    assert!(outcome.unwrap() < 100);
}

#[test]
fn an_unfinished_event_is_not_delivered() {
    assert_eq!(decode(&[b"data: a\n"]), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_encoded_is_decoded_however_it_is_cut(text in "[ -~\u{e4}\n]{0,60}", cut in any::<prop::sample::Index>()) {
        let mut wire = Vec::new();
        encode(&mut wire, Some("x"), Some("9"), text.as_bytes());
        let cut = cut.index(wire.len());
        let events = decode(&[&wire[..cut], &wire[cut..]]);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].data, text.as_bytes());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder = Decoder::new(64);
        let _ = decoder.push(&bytes);
        while decoder.next_event().is_some() {}
    }
}

#[test]
fn a_line_over_the_limit_is_refused_wherever_the_chunks_end() {
    for field in ["data: ", "event: ", "id: ", ": ", "unknown: "] {
        let stream = format!("data: ok\n\n{field}{}\ndata: late\n\n", "x".repeat(64));
        for size in [1, 3, 7, stream.len()] {
            let mut decoder = Decoder::new(64);
            let outcome = stream.as_bytes().chunks(size).try_for_each(|chunk| decoder.push(chunk));
            assert_eq!(outcome, Err(TooLong { limit: 64 }), "{field:?} in chunks of {size}");
            assert_eq!(decoder.next_event().unwrap().data, b"ok");
            assert!(decoder.next_event().is_none(), "{field:?} in chunks of {size}");
        }
    }
}
