//! The page that a browser finds at `/graphql`: write a query, run it, read the schema. It loads nothing from elsewhere, and
//! its policy lets nothing else run in it.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{Body, body};

const PAGE: &str = include_str!("graphql_page.html");

/// Whether the caller is a browser that opens a page, not a client that wants data.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|range| range.trim().starts_with("text/html"))
}

pub(crate) fn page() -> http::Response<Body> {
    let mut response = body::response(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(POLICY.as_str()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Only this very script and style, and requests to where the page came from.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let script = hash_of("script");
    let style = hash_of("style");
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The digest of the only element of that name, as a policy spells it.
fn hash_of(element: &str) -> String {
    let text = PAGE
        .split_once(&format!("<{element}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    let text = text.map_or("", |(text, _)| text);
    STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{PAGE, hash_of};

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_its_parts_are_hashed() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://") && !PAGE.contains(" src="));
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        assert_ne!(hash_of("script"), hash_of("nothing"));
        assert_ne!(hash_of("style"), hash_of("nothing"));
    }
}
