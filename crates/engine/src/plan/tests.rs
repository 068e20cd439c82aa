use super::Plan;

fn refused(plan: &str) -> (String, String) {
    let error = Plan::parse(plan).expect_err("refused");
    (error.pointer, error.message)
}

#[test]
fn what_cannot_work_is_refused_with_its_place() {
    for (plan, pointer, word) in [
        ("{", "", "not JSON"),
        ("{}", "", "list"),
        (r#"[{"tool":"t"}]"#, "/0/id", "id"),
        (r#"[{"id":"a"}]"#, "/0/tool", "tool"),
        (r#"[{"id":"a","tool":"t"},{"id":"a","tool":"t"}]"#, "/1/id", "already"),
        (r#"[{"id":"a","tool":"t","retries":1}]"#, "/0/retries", "retries"),
        (r#"[{"id":"a","tool":"t","on_error":"ignore"}]"#, "/0/on_error", "skip"),
        (r#"[{"id":"a","tool":"t","arguments":{"x":[1,{"$from":"b#/y"}]}}]"#, "/0/arguments/x/1", "'b'"),
        (r#"[{"id":"a","tool":"t","arguments":{"x":{"$item":""}}}]"#, "/0/arguments/x", "map"),
        (
            r#"[{"id":"a","tool":"t"},{"id":"b","tool":"t","arguments":{"$from":"a#id"}}]"#,
            "/1/arguments",
            "RFC 6901",
        ),
        (r#"[{"id":"a","tool":"t","arguments":{"x":1,"x":2}}]"#, "/0/arguments", "x"),
    ] {
        let (at, message) = refused(plan);
        assert_eq!(at, pointer, "{plan}: {message}");
        assert!(message.contains(word), "{plan}: {message}");
    }
}

#[test]
fn circles_are_refused_and_every_step_of_them_is_named() {
    let plan = r#"[
        {"id":"free","tool":"t"},
        {"id":"a","tool":"t","arguments":{"x":{"$from":"b"}}},
        {"id":"b","tool":"t","map":{"$from":"a"},"arguments":{}}
    ]"#;
    assert_eq!(refused(plan), ("/1".to_owned(), "these steps wait for each other: a, b".to_owned()));
    let (_, message) = refused(r#"[{"id":"a","tool":"t","arguments":{"$from":"a"}}]"#);
    assert!(message.contains("wait for each other"), "{message}");
}
