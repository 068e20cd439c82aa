//! What a call carries, how many go at once, and how one ends early.

use std::sync::Arc;
use std::time::Duration;

use mpe_tests::{Era, Fate, gateway, server, tool};
use tokio::task::JoinSet;

/// Arguments that any round trip through a JSON tree would change.
const DELICATE: &str =
    r#"{"big":12345678901234567890123,"float":1.10,"exp":1E5,"esc":"\u00e9\/","z":1,"a":2}"#;

#[tokio::test]
async fn arguments_and_results_pass_byte_for_byte() {
    for legacy in [false, true] {
        let mut builder = server().tool(tool("echo"));
        if legacy {
            builder = builder.legacy_only();
        }
        let server = builder.start().await;
        let gateway = gateway().server("s", &server).start().await;
        for era in Era::BOTH {
            let result = gateway.mcp(era).await.call_raw("echo", DELICATE).await;
            assert!(result.contains(&format!(r#""structuredContent":{DELICATE}"#)), "{era:?}: {result}");
        }
        let arguments: Vec<_> =
            server.calls("echo").into_iter().map(|call| call.arguments.unwrap()).collect();
        assert_eq!(arguments, [DELICATE, DELICATE], "legacy upstream {legacy}");
    }
}

#[tokio::test]
async fn many_calls_share_one_http2_connection() {
    const CALLS: usize = 64;
    let server = server().tool(tool("slow").takes(Duration::from_millis(100))).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let client = Arc::new(gateway.mcp(Era::Modern).await);
    let mut calls = JoinSet::new();
    for n in 0..CALLS {
        let client = Arc::clone(&client);
        calls.spawn(async move { (n, client.call("slow", &format!(r#"{{"n":{n}}}"#)).await.unwrap()) });
    }
    while let Some(answer) = calls.join_next().await {
        let (n, result) = answer.unwrap();
        assert_eq!(result["structuredContent"]["n"], n, "the answer of another call");
    }
    assert_eq!(server.calls("slow").len(), CALLS);
    assert_eq!(server.connections(), 1, "all of them, discovery included, over one connection");
}

#[tokio::test]
async fn a_call_is_never_answered_with_another_ones_result() {
    let server = server().http1().tool(tool("slow").takes(Duration::from_millis(5))).start().await;
    let gateway = gateway().pool(|pool| pool.max_connections = 4).server("s", &server).start().await;
    let mut calls = JoinSet::new();
    for era in Era::BOTH {
        let client = Arc::new(gateway.mcp(era).await);
        for n in 0..100 {
            let client = Arc::clone(&client);
            calls.spawn(async move {
                let marker = format!("{era:?}-{n}");
                let result = client.call("slow", &format!(r#"{{"marker":"{marker}"}}"#)).await.unwrap();
                assert_eq!(result["structuredContent"]["marker"], marker.as_str());
            });
        }
    }
    while let Some(answer) = calls.join_next().await {
        answer.unwrap();
    }
    assert_eq!(server.calls("slow").len(), 200);
    assert!(server.connections() <= 4, "{} connections", server.connections());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call_upstream() {
    let server = server().tool(tool("forever").takes(Duration::from_secs(3600))).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let http = gateway.http();
    let call = tokio::spawn(async move { http.post("/tools/forever", "{}").await });
    server.until("the call", |seen| seen.iter().any(|call| call.tool.is_some())).await;
    call.abort();
    server
        .until("the call's end", |seen| {
            seen.iter().any(|call| call.tool.as_deref() == Some("forever") && call.fate == Fate::Dropped)
        })
        .await;
    assert_eq!(server.open_connections(), 1, "the stream ends, the connection stays");
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends_with_its_deadline() {
    let server = server().tool(tool("forever").takes(Duration::from_secs(3600))).start().await;
    let gateway = gateway()
        .server_with("s", &server, |upstream| upstream.timeout = Duration::from_millis(200))
        .start()
        .await;
    let answer = gateway.http().post("/tools/forever", "{}").await;
    assert_eq!(answer.status, 504, "{answer:?}");
    server
        .until("the call's end", |seen| {
            seen.iter().any(|call| call.tool.is_some() && call.fate == Fate::Dropped)
        })
        .await;
    assert_eq!(server.calls("forever").len(), 1, "a call whose fate is unknown is not repeated");
}
