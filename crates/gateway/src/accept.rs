//! What a caller's `Accept` says of media types (RFC 9110 §12.5.1).

use http::{HeaderMap, header};

/// The weight of the heaviest range that is one of `ranges`, from 0 (not acceptable) to 1; `None`: it names none of them.
pub(crate) fn weight(headers: &HeaderMap, ranges: &[&str]) -> Option<f32> {
    let mut heaviest: Option<f32> = None;
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        if !ranges.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)) {
            continue;
        }
        let said = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
        });
        // A weight that is none is as good as none.
        let weight = said.and_then(|said| said.parse::<f32>().ok()).unwrap_or(1.0).clamp(0.0, 1.0);
        heaviest = Some(heaviest.map_or(weight, |heaviest| heaviest.max(weight)));
    }
    heaviest
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn the_heaviest_range_that_is_meant_counts() {
        for (accept, expected) in [
            ("text/event-stream", Some(1.0)),
            ("application/json, Text/Event-Stream ; Q=0.5", Some(0.5)),
            ("text/event-stream;q=0", Some(0.0)),
            ("text/event-stream;q=0, text/*;q=0.2", Some(0.2)),
            ("text/event-stream;q=much", Some(1.0)),
            ("application/json, */*", None),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert("accept", accept.parse().unwrap());
            assert_eq!(weight(&headers, &["text/event-stream", "text/*"]), expected, "{accept}");
        }
    }
}
