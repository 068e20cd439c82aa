//! Documents and administration.

use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn readiness_names_every_upstream() {
    let fixture = Fixture::new().await;
    let ready = fixture.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.json()["upstreams"][0]["state"].as_str()),
        (200, Some("up")),
        "{}",
        ready.body
    );
    fixture.gateway.begin_drain();
    let draining = fixture.get("/readyz").await;
    assert_eq!((draining.status, draining.json()["status"].as_str()), (503, Some("draining")));
    assert_eq!(fixture.get("/livez").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn documents_describe_the_tools_and_are_cached_by_tag() {
    let fixture = Fixture::new().await;
    let document = fixture.get("/openapi.json").await;
    assert!(document.json()["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document.json()["paths"]["/get_user/{user_id}"]["get"].is_object(), "{}", document.body);
    assert!(document.json()["paths"]["/tools/echo"]["post"].is_object());
    let older = fixture.get("/openapi.json?version=3.0").await;
    assert!(older.json()["openapi"].as_str().unwrap().starts_with("3.0"));
    let yaml = fixture.get("/openapi.yaml").await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert!(yaml.body.contains("\n  title: Test\n"), "{}", &yaml.body[..40]);
    let known = http::Request::get("/openapi.json").header("if-none-match", document.header("etag"));
    let known = fixture.send(known.body("").unwrap()).await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert_eq!(fixture.get("/openapi.json?version=2").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn head_says_what_get_would() {
    let fixture = Fixture::new().await;
    let whole = fixture.get("/openapi.json").await;
    let head = fixture.send(http::Request::head("/openapi.json").body("").unwrap()).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
}

#[tokio::test(start_paused = true)]
async fn function_arrays_come_in_each_vendors_shape() {
    let fixture = Fixture::new().await;
    for format in ["mcp", "openai", "anthropic", "gemini", "ollama"] {
        let array = fixture.get(&format!("/tools?format={format}")).await;
        assert_eq!(array.status, 200, "{format}");
        assert!(array.body.contains("get_user"), "{format}: {}", array.body);
    }
    assert_eq!(fixture.get("/tools?format=other").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn performance_is_an_object_by_origin() {
    assert!(Fixture::new().await.get("/performance").await.json().is_object());
}

#[tokio::test(start_paused = true)]
async fn metrics_are_what_the_process_renders() {
    assert_eq!(Fixture::new().await.get("/metrics").await.status, 404);
    let fixture =
        Fixture::with(|config| config.metrics = Some(std::sync::Arc::new(|| "a 1\n".to_owned()))).await;
    assert_eq!(fixture.get("/metrics").await.body, "a 1\n");
    assert_eq!(fixture.get("/endpoints/other/metrics").await.status, 404, "it shows every tenant's servers");
}

#[test]
fn every_kind_of_error_has_one_row() {
    let rows = mpe_gateway::error_table();
    let table: Vec<String> = rows
        .iter()
        .map(|row| {
            let retry = serde_json::to_string(&row.retry).unwrap();
            format!("{} {} {} {} {retry}", row.problem.uri(), row.status, row.json_rpc, row.graphql)
        })
        .collect();
    let expected = include_str!("error_table.txt");
    assert_eq!(
        table.join("\n"),
        expected.trim_end(),
        "the table is a promise to callers: change both, and docs/errors.md"
    );
}
