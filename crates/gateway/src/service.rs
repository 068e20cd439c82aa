//! One request in, one response out.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use mpe_engine::{CallError, Engine, EngineBuilder};

use crate::GatewayConfig;

/// Any error a body may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request or response body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Every face over one engine. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Engine>,
}

impl Gateway {
    /// Installs the faces' artefacts and argument checks in the engine and starts it.
    ///
    /// # Errors
    /// As [`EngineBuilder::start`].
    pub fn start(engine: EngineBuilder, config: GatewayConfig) -> Result<Self, CallError> {
        let _ = (engine, config);
        todo!()
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.inner
    }

    /// Answers one request; every failure is a well-formed answer.
    ///
    /// # Cancel safety
    /// Dropping the future or the response body cancels the call behind it.
    pub async fn handle(&self, request: http::Request<Body>) -> http::Response<Body> {
        let _ = request;
        todo!()
    }
}
