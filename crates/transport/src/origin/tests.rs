use super::{Origin, Scheme, Wire};

fn origin(uri: &'static str) -> Origin {
    Origin::of(&http::Uri::from_static(uri), Wire::Auto).expect("a good URI")
}

#[test]
fn the_default_port_is_left_out() {
    assert_eq!(origin("https://api.example/v1").to_string(), "https://api.example");
    assert_eq!(origin("https://api.example:443/v1").to_string(), "https://api.example");
    assert_eq!(origin("http://api.example:8080").to_string(), "http://api.example:8080");
    assert_eq!(origin("http://api.example:443").to_string(), "http://api.example:443");
}

#[test]
fn hosts_are_compared_without_case() {
    assert_eq!(origin("http://API.example/a"), origin("http://api.EXAMPLE/b"));
}

#[test]
fn an_ipv6_host_loses_its_brackets_and_gets_them_back_in_the_authority() {
    let origin = origin("http://[::1]:8080/");
    assert_eq!(origin.host(), "::1");
    assert_eq!(origin.port(), 8080);
    assert_eq!(origin.to_string(), "http://[::1]:8080");
}

#[test]
fn the_scheme_and_the_wire_are_kept() {
    let origin = Origin::of(&http::Uri::from_static("http://h/"), Wire::H2c).expect("a good URI");
    assert_eq!((origin.scheme(), origin.wire()), (Scheme::Http, Wire::H2c));
}

#[test]
fn what_a_uri_lacks_is_said() {
    let said = |uri: &'static str, wire| {
        Origin::of(&http::Uri::from_static(uri), wire).expect_err("must be refused").to_string()
    };
    assert_eq!(said("/path", Wire::Auto), "`/path`: an absolute URI is needed, such as https://host/path");
    assert_eq!(said("host", Wire::Auto), "`host`: an absolute URI is needed, such as https://host/path");
    assert_eq!(said("ftp://host/", Wire::Auto), "`ftp://host/`: the scheme must be http or https");
    assert_eq!(
        said("https://host/", Wire::H2c),
        "`https://host/`: h2c is HTTP/2 over plaintext, so the scheme must be http"
    );
    assert_eq!(
        said("http://host:99999/", Wire::Auto),
        "`http://host:99999/`: the port must be a number up to 65535"
    );
}

#[test]
fn what_may_be_secret_in_a_uri_is_not_repeated() {
    for uri in ["http://me:secret@host/", "ftp://me:secret@host/", "ftp://host/?key=secret"] {
        let error = Origin::of(&http::Uri::from_static(uri), Wire::Auto).expect_err("must be refused");
        assert!(error.to_string().contains("host") && !error.to_string().contains("secret"), "{error}");
    }
}
