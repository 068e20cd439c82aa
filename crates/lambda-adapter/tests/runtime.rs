//! The official runtime, end to end: a function in a process of its own polls a Runtime API that this test serves.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use support::{Tools, gateway};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

/// Longer than any of it takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the function posted: the invocation's id, `response` or `error`, and the body.
type Posted = (String, String, Bytes);

/// Events for the function, and what it posts.
struct RuntimeApi {
    address: String,
    events: mpsc::Sender<String>,
    posted: mpsc::Receiver<Posted>,
    serving: tokio::task::JoinHandle<()>,
}

impl RuntimeApi {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, next) = mpsc::channel::<String>(8);
        let (post, posted) = mpsc::channel(8);
        let next = Arc::new(Mutex::new((0_usize, next)));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (next, post) = (Arc::clone(&next), post.clone());
                let service = service_fn(move |request| answer(Arc::clone(&next), post.clone(), request));
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, events, posted, serving }
    }

    /// Hands the function one event and waits for what it makes of it.
    async fn invoke(&mut self, event: &str) -> (String, Value) {
        self.events.send(event.to_owned()).await.unwrap();
        let (_, kind, body) =
            timeout(PATIENCE, self.posted.recv()).await.expect("the function answers").unwrap();
        (kind, serde_json::from_slice(&body).unwrap())
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    next: Arc<Mutex<(usize, mpsc::Receiver<String>)>>,
    post: mpsc::Sender<Posted>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    const PREFIX: &str = "/2018-06-01/runtime/invocation/";
    let path = request.uri().path().strip_prefix(PREFIX).expect("a path of the Runtime API").to_owned();
    if path == "next" {
        let mut next = next.lock().await;
        let Some(event) = next.1.recv().await else { return std::future::pending().await };
        next.0 += 1;
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(30);
        return Ok(Response::builder()
            .header("lambda-runtime-aws-request-id", format!("request-{}", next.0))
            .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:1:function:tools")
            .body(Full::new(Bytes::from(event)))
            .unwrap());
    }
    let (id, kind) = path.split_once('/').expect("an id and what is posted");
    let (id, kind) = (id.to_owned(), kind.to_owned());
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    post.send((id, kind, body)).await.map_err(std::io::Error::other)?;
    Ok(Response::builder().status(StatusCode::ACCEPTED).body(Full::new(Bytes::new())).unwrap())
}

/// The name of the one test here, which is both sides: the function's process runs it too.
const THIS_TEST: &str = "the_official_runtime_answers_events_one_after_the_other";

/// This test binary again, told to be the function.
struct Function(Child);

impl Function {
    fn start(api: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS_TEST, "--nocapture"])
            .env("AWS_LAMBDA_RUNTIME_API", api)
            .env("AWS_LAMBDA_FUNCTION_NAME", "tools")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_official_runtime_answers_events_one_after_the_other() {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        mpe_lambda_adapter::run(gateway(Arc::new(Tools::default())).await).await.unwrap();
        return;
    }
    let mut api = RuntimeApi::start().await;
    let _function = Function::start(&api.address);

    let (kind, reply) = api.invoke(include_str!("data/function-url.json")).await;
    assert_eq!(kind, "response");
    assert_eq!(reply["statusCode"], 200);
    assert!(reply["body"].as_str().unwrap().contains("Jürgen"), "{reply}");

    let call = json!({"tool": "get_user", "arguments": {"user_id": "123"}});
    let (kind, direct) = api.invoke(&call.to_string()).await;
    assert_eq!(kind, "response");
    assert_eq!(direct, json!({"tool": "get_user", "got": {"user_id": "123"}}));

    let (_, relayed) = api.invoke(include_str!("data/load-balancer-multi-value.json")).await;
    let relayed: Value = serde_json::from_str(relayed["body"].as_str().unwrap()).unwrap();
    assert_eq!(relayed, direct, "the same tool, the same answer");

    let (kind, error) = api.invoke(r#"{"Records": []}"#).await;
    assert_eq!(kind, "error");
    assert_eq!(error["errorType"], "McpProxyEngine.UnknownEvent");
    assert!(error["errorMessage"].as_str().unwrap().contains("the members Records"), "{error}");

    let (kind, _) = api.invoke(&call.to_string()).await;
    assert_eq!(kind, "response", "an unknown event does not end the function");
}
