//! The other side is scripted; what every subject needs stands here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::mpsc;

use super::super::testing::{Reply, Seen, answer, json_answer};
use super::super::{UpstreamError, UpstreamReply};

mod announcements;
mod calls;
mod eras;
mod oldest;
mod quirks;
mod refusals;
mod sessions;
mod streams;

fn now(reply: Reply) -> BoxFuture<'static, Reply> {
    async move { reply }.boxed()
}

/// Answers `server/discover`; leaves everything else to `script`.
fn modern(
    script: impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
) -> impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static {
    move |seen| match seen.method() {
        "server/discover" => {
            let result =
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}});
            now(json_answer(200, &seen.result(&result)))
        }
        _ => script(seen),
    }
}

/// Refuses `server/discover`, hands out session ids; leaves everything else to `script`.
fn legacy(
    script: impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
) -> impl Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync + 'static {
    let sessions = AtomicUsize::new(0);
    move |seen| match seen.method() {
        "server/discover" => now(json_answer(
            400,
            &json!({"jsonrpc": "2.0", "id": null,
            "error": {"code": -32000, "message": "Bad Request: Server not initialized"}}),
        )),
        "initialize" => {
            let number = sessions.fetch_add(1, Ordering::SeqCst) + 1;
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"logging": {}},
                "serverInfo": {"name": "old", "version": "1"}});
            let headers = [("content-type", "application/json"), ("mcp-session-id", &*format!("s{number}"))];
            now(answer(200, &headers, seen.result(&result).to_string()))
        }
        "notifications/initialized" | "notifications/cancelled" => now(answer(202, &[], "")),
        _ => script(seen),
    }
}

fn text(reply: &UpstreamReply) -> String {
    reply.outcome.as_ref().unwrap().get().to_owned()
}

fn refusal(outcome: Result<UpstreamReply, UpstreamError>) -> UpstreamError {
    outcome.expect_err("an error")
}

async fn next<T>(receiver: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await.expect("in time").expect("something")
}
