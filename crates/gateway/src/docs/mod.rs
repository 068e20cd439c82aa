//! `/docs`: the page that shows the OpenAPI document and runs its operations, for every endpoint.
//!
//! The viewer is Swagger UI, built in as its package has it (`assets/swagger-ui`, checked by `cargo xtask docs-page`). The page loads
//! nothing from elsewhere, and its policy lets nothing else run in it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::{HeaderValue, StatusCode, header};

use crate::document::Document;
use crate::service::Inbound;
use crate::{Body, body};

/// A file beside the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asset {
    Licenses,
    Page,
    Script,
    Style,
    Viewer,
    ViewerStyle,
}

static PAGE: LazyLock<Document> =
    LazyLock::new(|| Document::of("text/html; charset=utf-8", include_str!("page.html")));
static SCRIPT: LazyLock<Document> = LazyLock::new(|| Document::of(JAVASCRIPT, include_str!("page.js")));
static STYLE: LazyLock<Document> = LazyLock::new(|| Document::of(CSS, include_str!("page.css")));
static LICENSES: LazyLock<Document> = LazyLock::new(|| {
    Document::of("text/plain; charset=utf-8", include_str!("../../assets/swagger-ui/LICENSES.txt"))
});
static VIEWER: LazyLock<Document> = LazyLock::new(|| {
    Document::of_gzip(JAVASCRIPT, include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz"))
});
static VIEWER_STYLE: LazyLock<Document> =
    LazyLock::new(|| Document::of_gzip(CSS, include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz")));

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// The page or one of its files.
pub(crate) fn handle(inbound: &Inbound, asset: Asset) -> http::Response<Body> {
    let document: &Document = match asset {
        Asset::Licenses => &LICENSES,
        Asset::Page => &PAGE,
        Asset::Script => &SCRIPT,
        Asset::Style => &STYLE,
        Asset::Viewer => &VIEWER,
        Asset::ViewerStyle => &VIEWER_STYLE,
    };
    let mut response = document.response(&inbound.parts.headers);
    if asset == Asset::Page {
        let servers = inbound.view.servers().map(|(url, _)| url.as_str());
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::try_from(policy(servers)) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}

/// `/docs/` is another place for whatever is relative to it, so it leads to `/docs`.
pub(crate) fn without_slash() -> http::Response<Body> {
    let mut response = body::status_only(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("../docs"));
    response
}

/// Scripts and styles of our own alone, none inline and none made of text; requests to us and to the servers that the document names,
/// which is where its operations are run. What a tool answers may be shown as an image.
fn policy<'a>(servers: impl Iterator<Item = &'a str>) -> String {
    let elsewhere: BTreeSet<String> = servers.filter_map(origin).collect();
    let connect = std::iter::once("'self'".to_owned()).chain(elsewhere).collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; \
         connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The origin of an absolute URL. One with a variable in it, or any character that means something in a policy, has none.
fn origin(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    (matches!(scheme, "http" | "https") && authority.chars().all(is_plain))
        .then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::{LICENSES, PAGE, SCRIPT, STYLE, VIEWER, VIEWER_STYLE, policy};

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_holds_no_code() {
        for own in [&*PAGE, &*SCRIPT, &*STYLE] {
            let text = std::str::from_utf8(own.plain()).unwrap();
            assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
        }
        let page = std::str::from_utf8(PAGE.plain()).unwrap();
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"docs/").count());
        assert!(!page.contains("<style") && !page.contains("style=") && !page.contains(" on"), "{page}");
    }

    #[test]
    fn the_viewer_is_whole_and_its_licences_are_with_it() {
        assert!(VIEWER.plain().len() > 1_000_000 && VIEWER_STYLE.plain().len() > 100_000);
        let licenses = std::str::from_utf8(LICENSES.plain()).unwrap();
        assert!(licenses.contains("Apache License") && licenses.contains("SmartBear"));
    }

    #[test]
    fn requests_may_go_to_the_servers_of_the_document_and_nowhere_else() {
        let servers = [
            "/",
            "https://api.example.com/v1",
            "https://api.example.com/v2",
            "http://10.0.0.1:8080",
            "https://{region}.example.com",
            "https://user:pass@example.com",
            "javascript:alert(1)",
        ];
        let policy = policy(servers.into_iter());
        let connect = policy.split("; ").find(|part| part.starts_with("connect-src")).unwrap();
        assert_eq!(connect, "connect-src 'self' http://10.0.0.1:8080 https://api.example.com");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
