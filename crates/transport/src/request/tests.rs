use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::end_to_end;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[test]
fn headers_of_one_connection_are_left_out() {
    let mut given = headers(&[
        ("accept", "*/*"),
        ("connection", "x-first, close"),
        ("content-length", "7"),
        ("host", "elsewhere"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("x-first", "1"),
        ("x-kept", "3"),
        ("x-second", "2"),
    ]);
    given.append("connection", HeaderValue::from_static("x-second"));
    assert_eq!(end_to_end(given.clone()), headers(&[("accept", "*/*"), ("x-kept", "3")]));
}

#[test]
fn repeated_headers_and_the_wish_for_trailers_stay() {
    let mut given = headers(&[("te", "trailers"), ("x", "1")]);
    given.append("x", HeaderValue::from_static("2"));
    assert_eq!(end_to_end(given.clone()), given);
}
