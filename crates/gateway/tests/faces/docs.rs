//! `/docs`, and the encodings and tags of documents.

use std::io::Read as _;

use serde_json::json;

use crate::fixture::{Answer, Fixture};

async fn get(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = http::Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fixture.send(request.body("").unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn the_page_and_everything_it_loads_is_served_at_every_endpoint() {
    let fixture = Fixture::new().await;
    for base in ["", "/endpoints/other"] {
        let page = fixture.get(&format!("{base}/docs")).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let loaded = page.body.split(['"']).filter(|text| text.starts_with("docs/"));
        let mut n_loaded = 0;
        for file in loaded {
            let answer = fixture.get(&format!("{base}/{file}")).await;
            assert_eq!(answer.status, 200, "{file}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            n_loaded += 1;
        }
        assert_eq!(n_loaded, 5);
    }
    let slash = fixture.get("/endpoints/other/docs/").await;
    assert_eq!((slash.status, slash.header("location")), (308, "../docs"));
    assert_eq!(fixture.get("/docs/elsewhere.js").await.status, 404);
    assert_eq!(fixture.post("/docs", "{}").await.header("allow"), "GET, HEAD");
}

#[tokio::test(start_paused = true)]
async fn a_document_comes_compressed_to_whoever_reads_that_and_only_once() {
    let fixture = Fixture::new().await;
    for path in ["/openapi.json", "/openapi.yaml", "/schema.graphql", "/tools", "/docs/swagger-ui-bundle.js"]
    {
        let plain = get(&fixture, path, &[]).await;
        let packed = get(&fixture, path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(
            (plain.header("content-encoding"), packed.header("content-encoding")),
            ("", "gzip"),
            "{path}"
        );
        assert_eq!(packed.header("vary"), "Accept-Encoding");
        assert!(packed.bytes.len() < plain.bytes.len(), "{path}");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.bytes, "{path}");
        let tags = [plain.header("etag"), packed.header("etag")];
        assert_ne!(tags[0], tags[1], "two forms, two tags");
        for tag in [tags[0], tags[1], "*", &format!("\"x\", W/{}", tags[0])] {
            let again = get(&fixture, path, &[("if-none-match", tag)]).await;
            assert_eq!((again.status, again.bytes.is_empty()), (304, true), "{path} {tag}");
        }
        let other = get(&fixture, path, &[("if-none-match", "\"x\", W/\"y\"")]).await;
        assert_eq!((other.status, &other.bytes), (200, &plain.bytes), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_says_where_its_endpoint_is() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.get("/openapi.json").await.json()["servers"], json!([{"url": "/"}]));
    let other = fixture.get("/endpoints/other/openapi.json").await.json();
    assert_eq!(other["servers"], json!([{"url": "/endpoints/other"}]));
}

#[tokio::test(start_paused = true)]
async fn how_a_tenant_looks_may_change_while_it_is_served() {
    let fixture = Fixture::new().await;
    let root = mpe_engine::EndpointId::default();
    let before = fixture.get("/openapi.json").await;
    let view = mpe_gateway::EndpointView {
        info: mpe_gateway::DocumentInfo {
            servers: vec![("https://api.example.com".to_owned(), None)],
            ..mpe_gateway::DocumentInfo::new("New", "2")
        },
        mappings: vec![mpe_gateway::ResponseMapping {
            path: mpe_gateway::PathTemplate::parse("/users/get_user/{user_id}").unwrap(),
            response: json!({"type": "object"}),
        }],
    };
    fixture.gateway.show([(root.clone(), view)].into());
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    fixture.gateway.engine().settled_at(&root, until).await;
    let after = fixture.get("/openapi.json").await;
    assert_ne!(after.header("etag"), before.header("etag"));
    let document = after.json();
    assert_eq!((&document["info"]["title"], &document["info"]["version"]), (&json!("New"), &json!("2")));
    assert_eq!(document["servers"][0]["url"], "https://api.example.com");
    assert_eq!(fixture.get("/users/get_user/7").await.json(), json!({"user_id": 7}));
    assert_eq!(fixture.get("/get_user/7").await.status, 404, "the old path is gone");
    let policy = fixture.get("/docs").await;
    assert!(policy.header("content-security-policy").contains("connect-src 'self' https://api.example.com;"));
    let other = fixture.get("/endpoints/other/openapi.json").await.json();
    assert_eq!(other["servers"][0]["url"], "https://api.example.com/endpoints/other");
}
