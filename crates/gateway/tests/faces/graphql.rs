//! `POST /graphql` and `GET /graphql`.

use serde_json::json;

use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn a_read_only_tool_is_a_query_field_over_post_and_get() {
    let fixture = Fixture::new().await;
    let query = "{ get_user(user_id: 7) }";
    let posted = fixture.post("/graphql", &json!({"query": query}).to_string()).await;
    assert_eq!(posted.json(), json!({"data": {"get_user": {"user_id": 7}}}), "{}", posted.body);
    let got = fixture.get("/graphql?query=%7B%20get_user(user_id:%207)%20%7D").await;
    assert_eq!(got.json(), posted.json());
}

#[tokio::test(start_paused = true)]
async fn a_mutation_is_not_served_by_get() {
    let fixture = Fixture::new().await;
    let answer = fixture.get("/graphql?query=mutation%20%7B%20plain%20%7D").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fields_error_has_the_tables_code() {
    let fixture = Fixture::new().await;
    let answer = fixture.post("/graphql", &json!({"query": "mutation { fail }"}).to_string()).await;
    let errors = &answer.json()["errors"];
    assert_eq!(errors[0]["message"], "no such user", "{}", answer.body);
    assert_eq!(errors[0]["extensions"]["code"], "TOOL_FAILED");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_graphql_request_is_a_problem() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.post("/graphql", "{not json").await.status, 400);
    assert_eq!(fixture.post("/graphql", "{}").await.status, 400);
    assert_eq!(fixture.get("/graphql").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_browser_gets_a_page_that_loads_nothing_from_elsewhere() {
    let fixture = Fixture::new().await;
    let request =
        http::Request::get("/graphql").header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let page = fixture.send(request.body("").unwrap()).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'sha256-"));
}
