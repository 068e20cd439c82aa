//! Starting, stopping, and what is under way meanwhile.

use std::time::Duration;

use mpe_tests::{Era, Fate, PATIENCE, gateway, server, tool};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_call_under_way_is_answered_while_the_gateway_drains() {
    let server = server().tool(tool("slow").takes(Duration::from_millis(400))).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let (http, address) = (gateway.http(), gateway.address());
    let call = tokio::spawn(async move { http.post("/tools/slow", r#"{"n":1}"#).await });
    server.until("the call", |seen| seen.iter().any(|call| call.tool.is_some())).await;
    gateway.stop().await;
    assert_eq!(call.await.unwrap().status, 200, "what was under way is finished first");
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is accepted");
    assert_eq!(server.calls("slow")[0].fate, Fate::Answered);
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_short() {
    let server = server().tool(tool("forever").takes(Duration::from_secs(3600))).start().await;
    let gateway = gateway()
        .configure(|config| config.drain = Duration::from_millis(200))
        .server("s", &server)
        .start()
        .await;
    let http = gateway.http();
    let call = tokio::spawn(async move { http.post("/tools/forever", "{}").await });
    server.until("the call", |seen| seen.iter().any(|call| call.tool.is_some())).await;
    gateway.stop().await;
    call.abort();
    server
        .until("its end", |seen| seen.iter().any(|call| call.tool.is_some() && call.fate == Fate::Dropped))
        .await;
}

#[tokio::test]
async fn liveness_and_readiness_are_told_apart() {
    let server = server().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    assert_eq!(gateway.http().get("/livez").await.status, 200);
    assert_eq!(gateway.http().get("/readyz").await.status, 200);
    gateway.mcp(Era::Modern).await.call("a", "{}").await.unwrap();
}

#[tokio::test]
async fn a_gateway_without_any_reachable_server_lives_but_is_not_ready() {
    let nobody = server().tool(tool("a")).stopped().await;
    let gateway = gateway().server("s", &nobody).start().await;
    assert_eq!(gateway.http().get("/livez").await.status, 200);
    let ready = gateway.http().get("/readyz").await;
    assert_eq!(ready.status, 503, "{ready:?}");
}

#[tokio::test]
async fn readiness_tells_of_a_server_that_goes_and_comes_back_although_its_tools_stay_listed() {
    let mut server = server().tool(tool("a")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    let until = async |state: &str| {
        let answer = tokio::time::timeout(PATIENCE, async {
            loop {
                let ready = gateway.http().get("/readyz").await;
                if ready.text().contains(state) {
                    return ready.status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        answer.await.unwrap_or_else(|_| panic!("/readyz never had {state}"))
    };
    assert_eq!(until(r#""state":"up""#).await, 200);
    server.kill().await;
    assert_eq!(until(r#""state":"stale""#).await, 200, "degraded");
    assert_eq!(gateway.tools(), ["a"]);
    server.start_again().await;
    assert_eq!(until(r#""state":"up""#).await, 200);
}
