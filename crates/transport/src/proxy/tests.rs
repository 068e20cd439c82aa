use http::Uri;

use super::{ProxyConfig, percent_decoded};
use crate::{Origin, Wire};

fn proxy_of(config: &ProxyConfig, uri: &'static str) -> Option<String> {
    let origin = Origin::of(&Uri::from_static(uri), Wire::Auto).unwrap();
    config.of(&origin).map(|proxy| proxy.origin.to_string())
}

#[test]
fn each_scheme_has_its_own_proxy() {
    let config = ProxyConfig::new(Some("http://plain:3128"), Some("secure:8443"), None).unwrap();
    assert_eq!(proxy_of(&config, "http://host/").as_deref(), Some("http://plain:3128"));
    assert_eq!(proxy_of(&config, "https://host/").as_deref(), Some("http://secure:8443"));
    let none = ProxyConfig::new(Some(""), None, None).unwrap();
    assert_eq!(proxy_of(&none, "http://host/"), None);
}

#[test]
fn no_proxy_covers_a_host_and_everything_below_it() {
    let list = "internal.test, .corp.test,*.wild.test,ported.test:8080, ::1 ,10.0.0.1";
    let config = ProxyConfig::new(Some("http://proxy"), None, Some(list)).unwrap();
    for direct in [
        "http://internal.test/",
        "http://a.INTERNAL.test/",
        "http://a.corp.test/",
        "http://b.wild.test/",
        "http://ported.test:8080/",
        "http://[::1]/",
        "http://10.0.0.1:99/",
    ] {
        assert_eq!(proxy_of(&config, direct), None, "{direct}");
    }
    for proxied in ["http://notinternal.test/", "http://ported.test/", "http://test/", "http://10.0.0.11/"] {
        assert!(proxy_of(&config, proxied).is_some(), "{proxied}");
    }
    let all = ProxyConfig::new(Some("http://proxy"), None, Some("*")).unwrap();
    assert_eq!(proxy_of(&all, "http://host/"), None);
}

#[test]
fn a_bad_proxy_is_named_by_its_variable_and_its_password_stays_hidden() {
    let error = ProxyConfig::new(None, Some("ftp://me:secret@host"), None).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("HTTPS_PROXY: not the URI of an HTTP proxy; expected http://host:port"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
    let config = ProxyConfig::new(Some("http://me:secret@host"), None, None).unwrap();
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn logins_are_percent_decoded() {
    assert_eq!(percent_decoded("us%40er:p%3Aw%"), b"us@er:p:w%");
    assert_eq!(percent_decoded("%zz%4"), b"%zz%4");
}
