//! The upstream against a scripted Lambda service: real HTTP on loopback, the SDK's own client in front of it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mpe_engine::upstream::{Sent, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_engine::{CallContext, CallErrorKind};
use mpe_mcp_protocol::version::ProtocolVersion;
use secrecy::SecretString;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{LambdaConfig, LambdaUpstream, StaticCredentials};

/// What the fake answers to one Invoke.
enum Answer {
    /// The function's payload; `{ID}` in it becomes the request's id.
    Payload(String),
    /// 200 with `X-Amz-Function-Error`.
    FunctionError(Value),
    /// An API error: status, `x-amzn-errortype`, `retry-after`.
    Refusal(u16, &'static str, Option<u64>),
    /// The connection closes before an answer.
    HangUp,
    /// No answer at all.
    Silence,
}

/// One Invoke as the fake saw it.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    payload: Value,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    seen: Vec<Seen>,
}

struct FakeLambda {
    url: String,
    script: Arc<Mutex<Script>>,
    accepting: JoinHandle<()>,
}

impl FakeLambda {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script =
            Arc::new(Mutex::new(Script { answers: answers.into_iter().collect(), seen: Vec::new() }));
        let shared = Arc::clone(&script);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&script), request));
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, script, accepting }
    }

    fn upstream(&self) -> Arc<LambdaUpstream> {
        upstream_at(&self.url, None)
    }

    fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }
}

impl Drop for FakeLambda {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(
    script: Arc<Mutex<Script>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let payload: Value = serde_json::from_slice(&body).unwrap();
    let id = payload["id"].to_string();
    let answer = {
        let mut script = script.lock().unwrap();
        script.seen.push(Seen { path, payload });
        script.answers.pop_front().expect("the script has an answer for every invocation")
    };
    let response = |body: String| Response::new(Full::new(Bytes::from(body)));
    Ok(match answer {
        Answer::Payload(payload) => response(payload.replace("{ID}", &id)),
        Answer::FunctionError(payload) => {
            let mut answer = response(payload.to_string());
            answer.headers_mut().insert("x-amz-function-error", "Unhandled".parse().unwrap());
            answer
        }
        Answer::Refusal(status, code, retry_after) => {
            let mut answer = response(json!({"message": "as scripted", "Type": "User"}).to_string());
            *answer.status_mut() = status.try_into().unwrap();
            answer.headers_mut().insert("x-amzn-errortype", code.parse().unwrap());
            if let Some(seconds) = retry_after {
                answer.headers_mut().insert("retry-after", seconds.into());
            }
            answer
        }
        Answer::HangUp => return Err(std::io::Error::other("as scripted")),
        Answer::Silence => {
            std::future::pending::<Result<_, Infallible>>().await.unwrap_or_else(|never| match never {})
        }
    })
}

fn upstream_at(url: &str, version: Option<ProtocolVersion>) -> Arc<LambdaUpstream> {
    let mut config = LambdaConfig::new("tools-fn");
    config.region = Some("eu-central-1".to_owned());
    config.endpoint_url = Some(url.to_owned());
    config.version = version;
    config.credentials = Some(StaticCredentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: SecretString::from("secret"),
        session_token: None,
    });
    LambdaUpstream::new(config)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn call(context: CallContext) -> UpstreamRequest {
    UpstreamRequest {
        method: Cow::Borrowed("tools/call"),
        params: Some(raw(r#"{"name":"get_user","arguments":{"n": 12345678901234567890123}}"#)),
        name: None,
        mirrored: Vec::new(),
        context: Arc::new(context),
        deadline: soon(),
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

async fn ask(lambda: &FakeLambda) -> Result<UpstreamReply, UpstreamError> {
    upstream_at(&lambda.url, Some(ProtocolVersion::LATEST)).request(call(CallContext::default())).await
}

fn discovered() -> Answer {
    Answer::Payload(
        r#"{"jsonrpc":"2.0","id":{ID},"result":{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],
            "capabilities":{"tools":{}},"instructions":"be kind",
            "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fn","version":"1"}}}}"#
            .to_owned(),
    )
}

fn result(result: &str) -> Answer {
    Answer::Payload(format!(r#"{{"jsonrpc":"2.0","id":{{ID}},"result":{result}}}"#))
}

#[tokio::test]
async fn a_modern_function_is_discovered_and_called_with_meta() {
    let lambda = FakeLambda::start([discovered(), result(r#"{"content":[],  "n":1.0}"#)]).await;
    let upstream = lambda.upstream();
    let introduction = upstream.introduce(soon()).await.unwrap();
    assert_eq!(introduction.version, ProtocolVersion::V2026_07_28);
    assert_eq!(introduction.instructions.as_deref(), Some("be kind"));
    assert_eq!(introduction.server_info.unwrap().get(), r#"{"name":"fn","version":"1"}"#);

    let context = CallContext {
        meta: Some(raw(r#"{"traceparent":"00-1"}"#)),
        input_responses: Some(raw(r#"{"a":1}"#)),
        request_state: Some("state".to_owned()),
        ..CallContext::default()
    };
    let reply = upstream.request(call(context)).await.unwrap();
    assert_eq!(reply.outcome.unwrap().get(), r#"{"content":[],  "n":1.0}"#, "byte for byte");

    let seen = lambda.seen();
    assert_eq!(seen[0].path, "/2015-03-31/functions/tools-fn/invocations");
    assert_eq!(seen[0].payload["method"], "server/discover");
    let params = &seen[1].payload["params"];
    assert_eq!(params["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(params["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
    assert_eq!(params["_meta"]["traceparent"], "00-1");
    assert_eq!(params["inputResponses"], json!({"a": 1}));
    assert_eq!(params["requestState"], "state");
    assert_eq!(params["name"], "get_user");
}

#[tokio::test]
async fn a_function_that_knows_no_discovery_is_initialized() {
    let refusal = r#"{"jsonrpc":"2.0","id":{ID},"error":{"code":-32601,"message":"unknown method"}}"#;
    let introduced =
        r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"old","version":"0"}}"#;
    let lambda = FakeLambda::start([
        Answer::Payload(refusal.to_owned()),
        result(introduced),
        result(r#"{"content":[]}"#),
    ])
    .await;
    let upstream = lambda.upstream();
    assert_eq!(upstream.introduce(soon()).await.unwrap().version, ProtocolVersion::V2025_06_18);
    upstream.request(call(CallContext::default())).await.unwrap().outcome.unwrap();
    let seen = lambda.seen();
    assert_eq!(seen[1].payload["params"]["protocolVersion"], "2025-11-25");
    assert_eq!(seen[2].payload["params"].get("_meta"), None, "a legacy request carries none");
}

#[tokio::test]
async fn a_probe_that_breaks_the_function_is_followed_by_initialize() {
    let crash = Answer::FunctionError(json!({"errorType": "KeyError", "errorMessage": "'tool'"}));
    let introduced = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;
    let lambda = FakeLambda::start([crash, result(introduced)]).await;
    assert_eq!(lambda.upstream().introduce(soon()).await.unwrap().version, ProtocolVersion::V2025_11_25);
}

#[tokio::test]
async fn a_request_before_any_introduction_introduces_itself() {
    let lambda = FakeLambda::start([discovered(), result("{}")]).await;
    lambda.upstream().request(call(CallContext::default())).await.unwrap();
    assert_eq!(lambda.seen().len(), 2);
}

#[tokio::test]
async fn a_throttled_introduction_teaches_nothing_about_the_era() {
    let lambda = FakeLambda::start([Answer::Refusal(429, "TooManyRequestsException", Some(2))]).await;
    let error = lambda.upstream().introduce(soon()).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::UpstreamStatus);
    assert_eq!(lambda.seen().len(), 1, "no initialize after a 429");
}

#[tokio::test]
async fn a_function_error_is_a_tool_that_failed() {
    let payload =
        json!({"errorType": "ValueError", "errorMessage": "no such user", "stackTrace": ["secret.py:7"]});
    let lambda = FakeLambda::start([Answer::FunctionError(payload)]).await;
    let reply = ask(&lambda).await.unwrap();
    let result: Value = serde_json::from_str(reply.outcome.unwrap().get()).unwrap();
    assert_eq!(
        result,
        json!({
            "content": [{"type": "text", "text": "the Lambda function failed: ValueError: no such user"}],
            "isError": true,
            "resultType": "complete",
        })
    );
}

#[tokio::test]
async fn a_function_error_on_a_list_is_a_json_rpc_error() {
    let lambda = FakeLambda::start([Answer::FunctionError(json!({"errorMessage": "boom"}))]).await;
    let mut request = call(CallContext::default());
    request.method = Cow::Borrowed("tools/list");
    let upstream = upstream_at(&lambda.url, Some(ProtocolVersion::LATEST));
    let error = upstream.request(request).await.unwrap().outcome.unwrap_err();
    assert_eq!(error.code, -32603);
    assert!(error.message.ends_with("Unhandled: boom"), "{}", error.message);
}

#[tokio::test]
async fn throttling_is_proof_that_nothing_ran_and_is_not_retried_behind_our_back() {
    let lambda = FakeLambda::start([Answer::Refusal(429, "TooManyRequestsException", Some(7))]).await;
    let error = ask(&lambda).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamStatus, Sent::No));
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    assert!(error.message.contains("TooManyRequestsException"), "{}", error.message);
    assert_eq!(lambda.seen().len(), 1);
}

#[tokio::test]
async fn refusals_say_whose_fault_and_whether_it_ran() {
    use CallErrorKind::{UpstreamAuth, UpstreamStatus, UpstreamUnreachable};
    for (status, code, kind, sent) in [
        (404, "ResourceNotFoundException", UpstreamUnreachable, Sent::No),
        (403, "AccessDeniedException", UpstreamAuth, Sent::No),
        (413, "RequestTooLargeException", UpstreamStatus, Sent::No),
        (502, "ENILimitReachedException", UpstreamStatus, Sent::No),
        (502, "EFSIOException", UpstreamStatus, Sent::Maybe),
        (500, "ServiceException", UpstreamStatus, Sent::Maybe),
    ] {
        let lambda = FakeLambda::start([Answer::Refusal(status, code, None)]).await;
        let error = ask(&lambda).await.unwrap_err();
        assert_eq!((error.kind, error.sent), (kind, sent), "{code}");
        assert_eq!(error.message.contains("as scripted"), kind != UpstreamAuth, "{code}");
    }
}

#[tokio::test]
async fn a_lost_connection_leaves_it_open_whether_the_function_ran() {
    let lambda = FakeLambda::start([Answer::HangUp]).await;
    let error = ask(&lambda).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamLost, Sent::Maybe));
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_has_not_run_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let upstream = upstream_at(&url, Some(ProtocolVersion::LATEST));
    let error = upstream.request(call(CallContext::default())).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamUnreachable, Sent::No));
}

#[tokio::test]
async fn the_deadline_ends_a_silent_invocation() {
    let lambda = FakeLambda::start([Answer::Silence]).await;
    let mut request = call(CallContext::default());
    request.deadline = Instant::now() + Duration::from_millis(300);
    let upstream = upstream_at(&lambda.url, Some(ProtocolVersion::LATEST));
    let error = upstream.request(request).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::DeadlineExceeded, Sent::Maybe));
}

#[tokio::test]
async fn a_call_over_six_megabytes_is_never_sent() {
    let lambda = FakeLambda::start([]).await;
    let mut request = call(CallContext::default());
    request.params = Some(raw(&json!({"name": "t", "arguments": {"x": "y".repeat(6 << 20)}}).to_string()));
    let upstream = upstream_at(&lambda.url, Some(ProtocolVersion::LATEST));
    let error = upstream.request(request).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamProtocol, Sent::No));
    assert!(error.message.contains("at most 6291456"), "{}", error.message);
    assert!(lambda.seen().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_no_response_is_shown() {
    for (payload, expected) in [
        (r#"{"statusCode": 200}"#, "got {\"statusCode\": 200}"),
        ("", "got nothing"),
        (r#"{"jsonrpc":"2.0","id":99,"result":{}}"#, "not asked in this invocation"),
        (r#"{"jsonrpc":"2.0","method":"notifications/message"}"#, "a notification"),
    ] {
        let lambda = FakeLambda::start([Answer::Payload(payload.to_owned())]).await;
        let error = ask(&lambda).await.unwrap_err();
        assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamProtocol, Sent::Maybe), "{payload}");
        assert!(error.message.contains(expected), "{}", error.message);
    }
}
