//! A Lambda function as an MCP server of the engine.
//!
//! # What the function gets
//!
//! Each invocation (`RequestResponse`) carries one JSON-RPC request as its whole payload and must answer with the
//! JSON-RPC response. Nothing is kept between invocations: another instance may serve the next one. A modern server
//! (2026-07-28) gets what it would get over HTTP, `_meta` included; its mirrored headers are left out, as there are
//! none. A legacy server is asked to `initialize` once, to learn what it is, and then gets its requests without session
//! and without `notifications/initialized`. A function built with this crate's [`run`](crate::run) understands both.
//!
//! # What its failures become
//!
//! | Lambda says | the engine sees |
//! |---|---|
//! | 200 with `FunctionError` on `tools/call` | a tool result with `isError`: the function ran and failed |
//! | 200 with `FunctionError` on anything else | a JSON-RPC error -32603 |
//! | 429, and what Lambda could not set up | `UpstreamStatus`, not executed, with Lambda's own `Retry-After` |
//! | 403, 401, unusable credentials | `UpstreamAuth`, not executed |
//! | 404 | `UpstreamUnreachable`, not executed |
//! | any other 4xx | `UpstreamStatus`, not executed |
//! | 5xx | `UpstreamStatus`, execution unknown |
//! | connection refused, no name | `UpstreamUnreachable`, not executed |
//! | connection lost | `UpstreamLost`, execution unknown |
//!
//! The SDK's own retries are off: the engine's retry rule decides alone, so that a tool that must not run twice does not.

mod failure;
mod wire;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{Credentials, Region, StalledStreamProtectionConfig, retry::RetryConfig};
use aws_sdk_lambda::primitives::Blob;
use futures_util::future::BoxFuture;
use mpe_engine::CallErrorKind;
use mpe_engine::upstream::{Introduction, Sent, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id, code};
use mpe_mcp_protocol::version::{Era, ProtocolVersion};

use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use self::wire::Reply;
use crate::MAX_PAYLOAD_BYTES;

/// Which function, and how to reach it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LambdaConfig {
    /// Name, ARN or partial ARN.
    pub function: String,
    /// Version or alias. Default: `$LATEST`.
    pub qualifier: Option<String>,
    /// Default: the one the environment or the profile names.
    pub region: Option<String>,
    /// Another address than AWS's own, for tests and private endpoints.
    pub endpoint_url: Option<String>,
    /// Default: the SDK's chain (environment, profile, container, instance).
    pub credentials: Option<StaticCredentials>,
    /// Speak this revision and do not ask. Default: asked.
    pub version: Option<ProtocolVersion>,
}

/// Credentials that were configured rather than found.
#[derive(Clone, Debug)]
pub struct StaticCredentials {
    /// `aws_access_key_id`.
    pub access_key_id: String,
    /// `aws_secret_access_key`.
    pub secret_access_key: SecretString,
    /// `aws_session_token`, with temporary credentials.
    pub session_token: Option<SecretString>,
}

/// A Lambda function as an MCP server. See the [module](self) for what is sent.
pub struct LambdaUpstream {
    config: LambdaConfig,
    /// Built at the first use: finding region and credentials is IO.
    client: OnceCell<Client>,
    /// What the last introduction found out.
    version: Mutex<Option<ProtocolVersion>>,
    next_id: AtomicI64,
}

// === impl LambdaConfig ===

impl LambdaConfig {
    /// That function, everything else as the environment says.
    pub fn new(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            qualifier: None,
            region: None,
            endpoint_url: None,
            credentials: None,
            version: None,
        }
    }
}

// === impl LambdaUpstream ===

impl LambdaUpstream {
    /// Does no IO: the first request finds region and credentials.
    pub fn new(config: LambdaConfig) -> Arc<Self> {
        let version = Mutex::new(config.version);
        Arc::new(Self { config, client: OnceCell::new(), version, next_id: AtomicI64::new(1) })
    }

    fn known_version(&self) -> Option<ProtocolVersion> {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| client(&self.config)).await
    }

    /// Asks `server/discover`, then `initialize`, unless the revision is configured.
    async fn find_out(&self, deadline: Instant) -> Result<Introduction, UpstreamError> {
        let pinned = self.config.version;
        let introduction = match pinned {
            Some(version) if version.era() == Era::Legacy => self.initialize(version, deadline).await?,
            Some(_) => self.discover(deadline).await??,
            None => match self.discover(deadline).await? {
                Ok(introduction) => introduction,
                Err(not_modern) => {
                    tracing::debug!(function = %self.config.function, reason = %not_modern.message, "no modern server");
                    self.initialize(ProtocolVersion::LATEST_LEGACY, deadline).await?
                }
            },
        };
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(introduction.version);
        Ok(introduction)
    }

    /// The outer error: nothing was learnt. The inner one: this is no modern server.
    async fn discover(
        &self,
        deadline: Instant,
    ) -> Result<Result<Introduction, UpstreamError>, UpstreamError> {
        let id = self.id();
        let reply = self.invoke(wire::discover(&id), &id, deadline).await?;
        Ok(reply.and_then(|reply| wire::discovered(reply, &self.config.function)))
    }

    async fn initialize(
        &self,
        version: ProtocolVersion,
        deadline: Instant,
    ) -> Result<Introduction, UpstreamError> {
        let id = self.id();
        let reply = self.invoke(wire::initialize(&id, version), &id, deadline).await??;
        wire::initialized(reply, &self.config.function)
    }

    async fn ask(&self, request: UpstreamRequest) -> Result<UpstreamReply, UpstreamError> {
        let version = match self.known_version() {
            Some(version) => version,
            // Two callers may both ask; each learns the same, and nothing is kept at the function.
            None => self.find_out(request.deadline).await?.version,
        };
        let id = self.id();
        let payload = wire::request(&id, &request, version);
        let outcome = match self.invoke(payload, &id, request.deadline).await?? {
            Reply::Answer(outcome) => outcome,
            Reply::FunctionError(error) if request.method == "tools/call" => {
                Ok(error.into_tool_result(version))
            }
            Reply::FunctionError(error) => Err(ErrorObject::new(code::INTERNAL_ERROR, error.sentence())),
        };
        Ok(UpstreamReply { outcome, protocol: None, address: None })
    }

    fn id(&self) -> Id {
        Id::Integer(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// One invocation. The outer error: Lambda gave no answer of the function. The inner one: the answer is no MCP.
    async fn invoke(
        &self,
        payload: Vec<u8>,
        id: &Id,
        deadline: Instant,
    ) -> Result<Result<Reply, UpstreamError>, UpstreamError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(failure::too_large(payload.len()));
        }
        let send = async {
            let client = self.client().await;
            client
                .invoke()
                .function_name(&self.config.function)
                .set_qualifier(self.config.qualifier.clone())
                .payload(Blob::new(payload))
                .send()
                .await
        };
        let output = timeout_at(deadline, send)
            .await
            .map_err(|_| failure::deadline(&self.config.function))?
            .map_err(|error| failure::of_sdk(error, &self.config.function))?;
        let body = output.payload().map(Blob::as_ref).unwrap_or_default();
        Ok(match output.function_error() {
            Some(kind) => Ok(Reply::FunctionError(wire::FunctionError::read(kind, body))),
            None => wire::answer(body, id, &self.config.function),
        })
    }
}

impl Upstream for LambdaUpstream {
    fn introduce(&self, deadline: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        Box::pin(self.find_out(deadline))
    }

    /// Dropping the future closes the connection; Lambda runs the function to its end all the same.
    fn request(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        Box::pin(self.ask(request))
    }
}

impl std::fmt::Debug for LambdaUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LambdaUpstream").field("function", &self.config.function).finish_non_exhaustive()
    }
}

async fn client(config: &LambdaConfig) -> Client {
    let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        // A function may think as long as its timeout lets it; our deadline bounds the wait.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &config.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    if let Some(given) = &config.credentials {
        loader = loader.credentials_provider(Credentials::new(
            &given.access_key_id,
            given.secret_access_key.expose_secret(),
            given.session_token.as_ref().map(|token| token.expose_secret().to_owned()),
            None,
            "mcp-proxy-engine configuration",
        ));
    }
    Client::new(&loader.load().await)
}

/// An error of this upstream.
fn error(kind: CallErrorKind, sent: Sent, message: String) -> UpstreamError {
    UpstreamError { kind, sent, message, retry_after: None, source: None }
}

/// The raw JSON of a static text.
fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("the text is JSON")
}

#[cfg(test)]
mod tests;
