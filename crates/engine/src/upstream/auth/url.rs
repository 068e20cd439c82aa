//! The little that authorization needs of URLs, forms and challenges.

use std::net::IpAddr;

use http::Uri;

/// Form-encoding (`application/x-www-form-urlencoded`) of one value.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A form.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    fields.join("&")
}

/// The canonical URI of a server: without query, without the slash of an empty path.
pub(super) fn canonical(uri: &Uri) -> String {
    format!("{}{}", origin(uri), uri.path().trim_end_matches('/'))
}

/// Scheme and authority.
pub(super) fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let authority =
        uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()).unwrap_or_default();
    format!("{scheme}://{authority}")
}

/// Whether we ask there on a server's word: https outside of our own network, or plain loopback if the server itself
/// is there.
///
/// # Errors
/// One sentence.
pub(super) fn permitted(uri: &Uri, resource: &Uri) -> Result<(), String> {
    match uri.scheme_str() {
        Some("https") if !is_inside(uri) || is_inside(resource) => Ok(()),
        Some("http") if is_loopback(uri) && is_loopback(resource) => Ok(()),
        _ => Err(format!("the server names an address for authorization that is not asked: {}", origin(uri))),
    }
}

fn is_loopback(uri: &Uri) -> bool {
    host(uri) == "localhost" || host(uri).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the host is written as an address that only we, or our neighbours, can reach.
fn is_inside(uri: &Uri) -> bool {
    is_loopback(uri)
        || match host(uri).parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                address.is_private() || address.is_link_local() || address.is_unspecified()
            }
            Ok(IpAddr::V6(address)) => {
                address.is_unique_local() || address.is_unicast_link_local() || address.is_unspecified()
            }
            Err(_) => false,
        }
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// A parameter of a `WWW-Authenticate` challenge (RFC 9110 §11.6.1).
pub(super) fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    while let Some(at) = rest.find('=') {
        let key = rest[..at].rsplit([' ', ',']).next().unwrap_or_default();
        let after = rest[at + 1..].trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find([',', ' ']).unwrap_or(after.len())),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}
