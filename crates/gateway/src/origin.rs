//! Whose pages may talk to us: `Host` and `Origin` checks against DNS rebinding, and CORS for the origins allowed.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::problem::{Problem, ProblemType};
use crate::{Body, GatewayConfig, body};

/// Checks `Host` where it matters and `Origin` wherever it stands (2026-07-28, Streamable HTTP).
///
/// # Errors
/// 403 naming the header.
pub(crate) fn check(parts: &Parts, on_loopback: bool, config: &GatewayConfig) -> Result<(), Problem> {
    let host = authority(parts);
    if on_loopback || !config.allowed_hosts.is_empty() {
        let name = host.map(host_name).unwrap_or_default();
        if !is_loopback(name) && !is_allowed(&config.allowed_hosts, name, host) {
            let detail = "the Host header names a host that is not allowed here";
            return Err(Problem::new(ProblemType::Forbidden, detail));
        }
    }
    match parts.headers.get(header::ORIGIN) {
        Some(origin) if !is_trusted(origin, host, config) => Err(Problem::new(
            ProblemType::Forbidden,
            "the Origin header names an origin that is not allowed here",
        )),
        _ => Ok(()),
    }
}

/// Whether pages of `origin` may talk to us: loopback ones, our own, and those the operator names.
fn is_trusted(origin: &HeaderValue, host: Option<&str>, config: &GatewayConfig) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    if config.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((_, authority)) = origin.split_once("://") else { return false };
    // Where Host is checked, an equal Origin is as good as it; where it is not, we are public anyway.
    is_loopback(host_name(authority)) || host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

/// Lets a page of an allowed origin read the answer. Called only after [`check`] let the request in or refused it;
/// a refused one is not exposed.
pub(crate) fn expose(response: &mut http::Response<Body>, origin: &HeaderValue, config: &GatewayConfig) {
    if response.status() == StatusCode::FORBIDDEN || !is_trusted(origin, None, config) {
        return;
    }
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let exposed = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, X-Request-Id, ETag, Retry-After";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
}

/// Answers OPTIONS for a resource with these methods: 204, with what a browser wants to know before it sends the real request.
pub(crate) fn preflight(parts: &Parts, methods: &[Method], config: &GatewayConfig) -> http::Response<Body> {
    let mut response = body::status_only(StatusCode::NO_CONTENT);
    let methods = methods.iter().chain([&Method::OPTIONS]).map(Method::as_str).collect::<Vec<_>>().join(", ");
    let Ok(methods) = HeaderValue::try_from(methods) else { return response };
    response.headers_mut().insert(header::ALLOW, methods.clone());
    let origin = parts.headers.get(header::ORIGIN);
    if origin.is_none_or(|origin| !is_trusted(origin, None, config)) {
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Ok(allowed) = HeaderValue::try_from(allowed_headers(&parts.headers)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

/// The headers our faces read, and the mirrored arguments the page asks for.
fn allowed_headers(headers: &HeaderMap) -> String {
    const READ: &str = "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Method, Mcp-Name, \
                        Mcp-Session-Id, Last-Event-ID, Idempotency-Key, If-None-Match, Prefer, X-Request-Id, \
                        X-Request-Timeout";
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok());
    let mirrored = asked.unwrap_or_default().split(',').map(str::trim).filter(|name| {
        name.len() < 128
            && name.to_ascii_lowercase().starts_with("mcp-param-")
            && http::HeaderName::from_bytes(name.as_bytes()).is_ok()
    });
    std::iter::once(READ).chain(mirrored).collect::<Vec<_>>().join(", ")
}

/// `:authority` of HTTP/2, else `Host`.
fn authority(parts: &Parts) -> Option<&str> {
    let host = || parts.headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(host)
}

/// The name in `name:port` or `[address]:port`.
fn host_name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_allowed(allowed: &[String], name: &str, authority: Option<&str>) -> bool {
    allowed.iter().any(|host| {
        host == "*"
            || host.eq_ignore_ascii_case(name)
            || authority.is_some_and(|authority| host.eq_ignore_ascii_case(authority))
    })
}

#[cfg(test)]
mod tests {
    use super::{check, host_name, is_loopback};
    use crate::GatewayConfig;

    fn is_let_in(host: &str, origin: Option<&str>, on_loopback: bool, config: &GatewayConfig) -> bool {
        let mut request = http::Request::get("/mcp").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        check(&request.body(()).unwrap().into_parts().0, on_loopback, config).is_ok()
    }

    #[test]
    fn a_foreign_host_is_refused_on_a_loopback_bind() {
        let config = GatewayConfig::default();
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.0.0.2"] {
            assert!(is_let_in(host, Some(&format!("http://{host}")), true, &config), "{host}");
        }
        for host in ["evil.example.com", "localhost.evil.example.com", "", "[::2]:80"] {
            assert!(!is_let_in(host, None, true, &config), "{host}");
        }
    }

    #[test]
    fn a_foreign_origin_is_refused_anywhere() {
        let config = GatewayConfig::default();
        assert!(!is_let_in("api.example.com", Some("http://evil.example.com"), false, &config));
        assert!(!is_let_in("localhost", Some("null"), true, &config));
        assert!(is_let_in("api.example.com", Some("https://api.example.com"), false, &config));
        let config = GatewayConfig { allowed_origins: vec!["https://app.example.com".into()], ..config };
        assert!(is_let_in("api.example.com", Some("https://app.example.com"), false, &config));
    }

    #[test]
    fn named_hosts_pass_and_no_other() {
        let config =
            GatewayConfig { allowed_hosts: vec!["api.example.com".into()], ..GatewayConfig::default() };
        assert!(is_let_in("api.example.com:443", None, false, &config));
        assert!(!is_let_in("other.example.com", None, false, &config));
    }

    #[test]
    fn names_are_taken_out_of_authorities() {
        assert_eq!(host_name("[::1]:80"), "::1");
        assert_eq!(host_name("a:80"), "a");
        assert!(is_loopback("LOCALHOST") && !is_loopback("localhos"));
    }
}
