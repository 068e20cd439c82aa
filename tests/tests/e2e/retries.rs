//! When a call may be sent again, and when never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mpe_tests::{Era, Fault, Script, gateway, server, tool};

/// A tool that counts how often it ran.
fn counting(name: &str) -> (Script, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    let script = tool(name).answers(move |_| {
        let run = counter.fetch_add(1, Ordering::SeqCst) + 1;
        format!(r#"{{"content":[{{"type":"text","text":"run {run}"}}]}}"#)
    });
    (script, runs)
}

#[tokio::test]
async fn a_destructive_call_whose_fate_is_unknown_is_not_sent_again() {
    for fault in [Fault::DropBefore, Fault::DropAfter] {
        let (script, runs) = counting("write");
        let server = server().tool(script).start().await;
        let gateway = gateway().server("s", &server).start().await;
        server.fail_next([fault]);
        let error = gateway.mcp(Era::Modern).await.call("write", "{}").await.unwrap_err();
        assert!(runs.load(Ordering::SeqCst) <= 1, "{fault:?}");
        assert_eq!(server.calls("write").len(), 1, "{fault:?}");
        assert_eq!(error.code, -32603, "{fault:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_call_that_changes_nothing_is_sent_again_after_a_lost_connection() {
    for annotated in ["read only", "idempotent"] {
        let (script, runs) = counting("read");
        let script = if annotated == "read only" { script.read_only() } else { script.idempotent() };
        let server = server().tool(script).start().await;
        let gateway = gateway().server("s", &server).start().await;
        server.fail_next([Fault::DropBefore]);
        let result = gateway.mcp(Era::Modern).await.call("read", "{}").await.unwrap();
        assert_eq!(result["content"][0]["text"], "run 1", "{annotated}");
        assert_eq!((server.calls("read").len(), runs.load(Ordering::SeqCst)), (2, 1), "{annotated}");
    }
}

#[tokio::test]
async fn a_servers_hints_do_not_count_where_the_operator_does_not_trust_them() {
    let (script, _) = counting("read");
    let server = server().tool(script.read_only()).start().await;
    let gateway =
        gateway().server_with("s", &server, |upstream| upstream.trust_annotations = false).start().await;
    server.fail_next([Fault::DropBefore]);
    gateway.mcp(Era::Modern).await.call("read", "{}").await.unwrap_err();
    assert_eq!(server.calls("read").len(), 1);
}

#[tokio::test]
async fn a_call_that_cannot_have_been_seen_is_sent_again_once_the_server_is_back() {
    let (script, runs) = counting("write");
    let mut server = server().tool(script).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let client = gateway.mcp(Era::Modern).await;
    server.kill().await;
    let call = tokio::spawn(async move { client.call("write", "{}").await });
    server.start_again().await;
    call.await.unwrap().unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_renewed_without_running_twice() {
    let (script, runs) = counting("write");
    let mut server = server().legacy_only().tool(script).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let client = gateway.mcp(Era::Legacy).await;
    client.call("write", "{}").await.unwrap();
    server.start_again().await;
    client.call("write", "{}").await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}
