//! `docs/errors.md` and `docs/metrics.md`, from the tables that also run.

use std::fmt::Write;

use mcp_proxy_engine::engine::CallErrorKind;
use mcp_proxy_engine::engine::retry::{self, Decision, Repeatability};
use mcp_proxy_engine::gateway::error_table;
use mcp_proxy_engine::transport::Sent;
use mcp_proxy_engine::{engine, transport};
use serde_json::Value;

use super::{PREAMBLE, row};

pub(super) fn errors() -> String {
    let mut page = format!(
        "{PREAMBLE}\n\n# Errors\n\nEvery error has one kind, and every face says it in its own language: REST and the documents \
         as a problem (RFC 9457) of type `urn:mcp-proxy-engine:problem:…`, MCP as a JSON-RPC error, GraphQL as \
         `extensions.code`. A tool that ran and failed is no error over MCP (`isError` is a result there). `rejected` is 502 over REST unless the upstream's own code says whose fault it is: 400 for -32602, 404 for -32601 and -32002, 422 for -32021.\n\n\
         | problem | | status | JSON-RPC | GraphQL | again? | log |\n|---|---|---|---|---|---|---|\n"
    );
    for error in error_table() {
        let fields = serde_json::to_value(error).expect("a row of plain values");
        let field = |name: &str| match &fields[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        page.push_str(&row([
            &format!("`{}`", field("problem")),
            error.title,
            &field("status"),
            &field("json_rpc"),
            &format!("`{}`", error.graphql),
            &field("retry"),
            &field("log"),
        ]));
    }
    page.push_str(
        "\n## What the engine sends again by itself\n\nWithin the deadline, the attempts and the retry budget of the server; \
         –: the failure is the answer. Whether the server can have seen a call is proven, not guessed. Whether a call may run \
         twice is the server's word (`readOnlyHint`, `idempotentHint`, where `trust_annotations` is on) or the operator's \
         (`repeatable`). Every row is tested.\n\n\
         | failure | the server | no hint | `readOnlyHint` | `idempotentHint` | `repeatable` |\n|---|---|---|---|---|---|\n",
    );
    retries(&mut page);
    page
}

fn retries(page: &mut String) {
    let table = retry::table();
    let mut failures: Vec<CallErrorKind> = table.iter().map(|row| row.failure).collect();
    failures.dedup();
    for failure in failures {
        for (sent, seen) in [(Sent::No, "has not seen it"), (Sent::Maybe, "may have seen it")] {
            let says = |repeatability: Repeatability| {
                let mut rows = table.iter().filter(|row| row.failure == failure && row.sent == sent);
                let decided = rows.find(|row| row.repeatability == repeatability).map(|row| row.decision);
                match decided.expect("the table has every case") {
                    Decision::GiveUp => "–",
                    Decision::Retry => "again",
                }
            };
            page.push_str(&row([
                &format!("`{}`", failure.as_str()),
                seen,
                says(Repeatability::Once),
                says(Repeatability::ReadOnly),
                says(Repeatability::Idempotent),
                says(Repeatability::Operator),
            ]));
        }
    }
}

pub(super) fn metrics() -> String {
    let mut page = format!(
        "{PREAMBLE}\n\n# Metrics\n\n`GET /metrics` has them in Prometheus' text format. Labels come from the configuration, \
         never from callers or servers.\n\n| metric | kind | unit | labels | |\n|---|---|---|---|---|\n"
    );
    for metric in engine::METRICS.iter().chain(transport::METRICS) {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let name = format!("`{}`", metric.name);
        page.push_str(&row([&name, metric.kind, metric.unit, &labels.join(", "), metric.help]));
    }
    let _ = writeln!(
        page,
        "\n`GET /performance` has the Python product's record of each server, field for field: `total_requests`, \
         `successful_requests`, `failed_requests`, `success_rate_percent`, `avg_latency_ms`, `http2_requests`, \
         `http1_requests`, `http2_usage_percent`, `max_concurrent_requests`."
    );
    page
}
