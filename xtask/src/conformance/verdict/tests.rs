use super::{Expected, judge};
use crate::conformance::suite::Scenario;

/// What [`judge`] says of these checks.
fn judged(name: &str, checks: &str, succeeded: bool, printed: &str) -> Vec<String> {
    let out = std::env::temp_dir().join(format!("verdict-{}-{name}", std::process::id()));
    std::fs::create_dir_all(out.join("auth").join("x-2026")).unwrap();
    std::fs::write(out.join("auth").join("x-2026").join("checks.json"), checks).unwrap();
    let faults = judge(&out, succeeded, printed).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    faults
}

#[test]
fn success_alone_passes_and_information_does_no_harm() {
    let checks = r#"[{"id":"a","status":"SUCCESS"},{"id":"b","status":"INFO"}]"#;
    assert!(judged("passes", checks, true, "").is_empty());
}

#[test]
fn whatever_the_suite_is_lenient_about_is_a_fault() {
    for (n, (checks, succeeded, printed, fault)) in [
        (r#"[{"id":"a","status":"SUCCESS"},{"id":"b","status":"WARNING"}]"#, true, "", "WARNING b"),
        (r#"[{"id":"a","status":"SUCCESS"},{"id":"b","status":"SKIPPED"}]"#, true, "", "SKIPPED b"),
        (r#"[{"id":"a","status":"INFO"}]"#, true, "", "no check succeeded"),
        (r#"[{"id":"a","status":"SUCCESS"}]"#, true, "Client timed out after 1ms", "timed out"),
        (r#"[{"id":"a","status":"SUCCESS"}]"#, false, "exited\n", "exited"),
    ]
    .into_iter()
    .enumerate()
    {
        let faults = judged(&format!("fault-{n}"), checks, succeeded, printed);
        assert!(faults.iter().any(|one| one.contains(fault)), "{fault}: {faults:?}");
    }
}

#[test]
fn a_run_contradicts_the_list_by_what_is_not_on_it_and_by_what_passes() {
    let list = r#"[
        {"scenario":"known","revision":"r","mode":"rig legacy","reason":"why"},
        {"scenario":"passes","revision":"r","mode":"rig legacy","reason":"why"},
        {"scenario":"extra","revision":"r","mode":"rig legacy","not_scored":true,"reason":"why"}
    ]"#;
    let expected = Expected::parse(list).unwrap();
    let found = expected.contradictions(&["known", "new"], "r", "rig legacy", false);
    assert_eq!(found, ["new", "passes passes; take it off the list"]);
    assert_eq!(expected.contradictions(&[], "r", "rig legacy", true).len(), 3);
    assert_eq!(expected.contradictions(&["known"], "r", "rig both", false), ["known"]);
}

#[test]
fn unlisted_failures_and_stale_entries_both_contradict_the_list() {
    let list = r#"[{"scenario":"known","mode":"auto","reason":"why"},{"scenario":"stale","reason":"why"}]"#;
    let expected = Expected::parse(list).unwrap();
    let outcome = |name: &str, faults: &[&str]| {
        let scenario = Scenario { name: name.to_owned(), not_scored: None };
        (scenario, faults.iter().map(|fault| (*fault).to_owned()).collect())
    };
    let outcomes = || vec![outcome("known", &["bad"]), outcome("stale", &[]), outcome("new", &["bad"])];
    let contradictions = expected.settle(outcomes(), "2026-07-28", "auto");
    assert_eq!(contradictions, ["stale passes (2026-07-28 auto)", "new (2026-07-28 auto)"]);
    // The other mode has no excuse.
    assert_eq!(expected.settle(outcomes(), "2026-07-28", "pinned").len(), 3);
    assert!(Expected::parse(r#"[{"scenario":"a"}]"#).is_err());
}

#[test]
fn an_excuse_is_for_skipped_checks_only_and_must_be_used() {
    let list = r#"[{"scenario":"a","skipped":"initialize","reason":"why"}]"#;
    let expected = Expected::parse(list).unwrap();
    let settle = |faults: &[&str]| {
        let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        expected.settle(
            vec![(Scenario { name: "a".to_owned(), not_scored: None }, faults)],
            "2026-07-28",
            "auto",
        )
    };
    assert!(settle(&["SKIPPED x: no initialize", "SKIPPED x: no initialized either"]).is_empty());
    assert_eq!(settle(&["SKIPPED x: no initialize", "SKIPPED x: no tools/call"]).len(), 1);
    assert_eq!(settle(&["FAILURE x: no initialize"]).len(), 2);
    assert_eq!(settle(&[]).len(), 1);
}
