//! One request in, one response out.
//!
//! What every request passes, in this order: a place ([`GatewayConfig::max_requests`]), the Host and Origin checks,
//! the endpoint its path names, the face. Whatever goes wrong becomes a problem document here or below.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use mpe_engine::source::{SourceState, SourceStatus};
use mpe_engine::{CallError, Catalogue, EndpointId, Engine, EngineBuilder, UpstreamState, UpstreamStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::carrier::Carrier;
use crate::check::SchemaCheckers;
use crate::config::{EndpointView, Looks};
use crate::guard::{self, Guarded, Meters};
use crate::idempotency::Idempotency;
use crate::mcp::held::HeldCalls;
use crate::mcp::http_sse::Channels;
use crate::mcp::replay::Replays;
use crate::mcp::sessions::Sessions;
use crate::pinned::pinned;
use crate::problem::{Problem, ProblemType};
use crate::replicas::{FORWARDED, Forwarded, Replicas};
use crate::router::{self, Face, Fixed};
use crate::seal::{self, Sealer};
use crate::view::{FaceDerive, View, view_of};
use crate::{GatewayConfig, admin, batch, body, deadline, docs, documents, graphql, mcp, origin, plan, rest};

/// Any error a body may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request or response body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Every face over one engine. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    config: Arc<GatewayConfig>,
    looks: Arc<ArcSwap<Looks>>,
    sealer: Arc<Sealer>,
    sessions: Sessions,
    held: HeldCalls,
    channels: Channels,
    replays: Option<Arc<Replays>>,
    idempotency: Idempotency,
    requests: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    draining: CancellationToken,
    next_request: AtomicU64,
    meters: Meters,
}

/// A request on its way to a face: everything that is the same for all of them is done.
pub(crate) struct Inbound {
    pub(crate) gateway: Gateway,
    pub(crate) endpoint: EndpointId,
    pub(crate) view: Arc<View>,
    /// Boxed: they are handed from future to future, and each has a place for them.
    pub(crate) parts: Box<Parts>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) carrier: Option<Carrier>,
    /// Behind a lock that nobody ever waits for, so that faces may hold `&Inbound` while they wait for a call.
    body: Mutex<Option<Body>>,
}

/// Marks a response that only listens: it has a place of its own kind and gives the request's back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongLived;

/// How long a request waits for the first discovery of its endpoint.
const SETTLING: Duration = Duration::from_secs(2);

/// The header that names a request in answers and logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Gateway {
    /// Installs the faces' artefacts and argument checks in the engine and starts it.
    ///
    /// # Errors
    /// As [`EngineBuilder::start`].
    #[allow(clippy::result_large_err, reason = "made once, at the start")]
    pub fn start(engine: EngineBuilder, config: GatewayConfig) -> Result<Self, CallError> {
        let config = Arc::new(config);
        let sealer = Arc::new(Sealer::new(config.secret.as_deref()));
        let looks =
            Looks { endpoints: config.endpoints.clone(), default_endpoint: config.default_endpoint.clone() };
        let looks = Arc::new(ArcSwap::from_pointee(looks));
        let derive = FaceDerive {
            config: Arc::clone(&config),
            looks: Arc::clone(&looks),
            sealer: Arc::clone(&sealer),
        };
        let engine = engine.checkers(Arc::new(SchemaCheckers)).derive(Arc::new(derive)).start()?;
        let requests = Arc::new(Semaphore::new(config.max_requests.min(Semaphore::MAX_PERMITS)));
        let listeners = Arc::new(Semaphore::new(config.max_listeners.min(Semaphore::MAX_PERMITS)));
        let inner = Inner {
            engine,
            looks,
            sealer,
            sessions: Sessions::default(),
            held: HeldCalls::default(),
            channels: Channels::default(),
            replays: config.resume_buffer.map(|limit| Arc::new(Replays::new(limit))),
            idempotency: Idempotency::default(),
            requests,
            listeners,
            draining: CancellationToken::new(),
            next_request: AtomicU64::new(1),
            meters: Meters::default(),
            config,
        };
        seal::warm_up();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// What is wrong with the mapped paths of a tenant, each in a sentence: no such tool, no such argument, a response that is no
    /// schema, a path that is taken. Those are left out. Empty for no such tenant.
    pub fn mapping_problems(&self, endpoint: &EndpointId) -> Vec<String> {
        let view = self.inner.engine.snapshot(endpoint).as_deref().and_then(view_of);
        let problems = view.iter().flat_map(|view| &view.operations.problems);
        problems.map(ToString::to_string).collect()
    }

    /// Changes how the tenants look: titles, versions and servers of their documents, and the mapped paths. A tenant without an entry
    /// looks as the default one. Requests that have begun see what they began with.
    pub fn show(&self, endpoints: HashMap<EndpointId, EndpointView>) {
        let default_endpoint = self.inner.config.default_endpoint.clone();
        self.inner.looks.store(Arc::new(Looks { endpoints, default_endpoint }));
        self.inner.engine.derive_anew();
    }

    /// Ends listening streams, lets go of calls that wait for their client's next request, and turns `/readyz` to 503;
    /// requests are still served. [`serve`](crate::serve) does this by itself when it is told to stop.
    pub fn begin_drain(&self) {
        self.inner.draining.cancel();
        self.inner.held.release();
    }

    /// Answers one request; every failure is a well-formed answer.
    ///
    /// A [`Carrier`] or [`Deadline`](crate::Deadline) among the request's extensions is heeded.
    ///
    /// # Cancel safety
    /// Dropping the future or the response body cancels the call behind it.
    pub async fn handle(&self, request: http::Request<Body>) -> http::Response<Body> {
        let (parts, body) = request.into_parts();
        self.answer(Box::new(parts), body, false).await
    }

    /// As [`handle`](Self::handle); `on_loopback`: it came to an address that only this machine reaches.
    pub(crate) async fn answer(
        &self,
        parts: Box<Parts>,
        body: Body,
        on_loopback: bool,
    ) -> http::Response<Body> {
        let id = self.request_id(&parts.headers);
        let guard = Guarded::begin(&parts, &id);
        let Ok(place) = Arc::clone(&self.inner.requests).try_acquire_owned() else {
            let limit = self.inner.config.max_requests;
            let problem = Problem::new(ProblemType::Overloaded, format!("{limit} requests are under way"));
            return guard.end(
                &self.inner.meters,
                "none",
                problem.retry_after(Duration::from_secs(1)).into_response(),
            );
        };
        let origin = parts.headers.get(header::ORIGIN).cloned();
        let (face, mut response) = self.route(parts, body, on_loopback).await;
        response.headers_mut().insert(REQUEST_ID, id);
        if let Some(origin) = origin {
            origin::expose(&mut response, &origin, &self.inner.config);
        }
        hold_place(guard.end(&self.inner.meters, face, response), place)
    }

    /// The caller's own id for the request if it is a short visible one, else a number of this process.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(&REQUEST_ID);
        let usable = |value: &&HeaderValue| {
            (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        match given.filter(usable) {
            Some(value) => value.clone(),
            None => {
                let mut id = number(self.inner.next_request.fetch_add(1, Ordering::Relaxed));
                // No secret; but a value that never comes again has no place in HTTP/2's table of headers
                // (RFC 7541 §6.2.3), where it would push out those that do.
                id.set_sensitive(true);
                id
            }
        }
    }

    /// The face's name and its answer.
    async fn route(
        &self,
        mut parts: Box<Parts>,
        body: Body,
        on_loopback: bool,
    ) -> (&'static str, http::Response<Body>) {
        let is_forwarded = self.inner.config.replicas.as_ref().is_some_and(|replicas| {
            parts.headers.contains_key(&FORWARDED) && replicas.vouched(&parts.headers, &self.inner.sealer)
        });
        if is_forwarded {
            parts.extensions.insert(Forwarded);
        }
        let carrier = parts.extensions.get::<Carrier>().copied();
        // The replica that forwards has checked Host and Origin; ours is not the host that its client named.
        if carrier.is_none()
            && !is_forwarded
            && let Err(problem) = origin::check(&parts, on_loopback, &self.inner.config)
        {
            return ("none", problem.into_response());
        }
        let path = parts.uri.path();
        let Some(scoped) = router::scope(path, &self.inner.config.default_endpoint) else {
            return not_found(path);
        };
        let fixed = router::fixed(scoped.path);
        if parts.method == Method::OPTIONS {
            let methods = match &fixed {
                Some(fixed) => fixed.face.methods().to_vec(),
                None => self.mapped_methods(&scoped),
            };
            if methods.is_empty() {
                return not_found(path);
            }
            return ("none", origin::preflight(&parts, &methods, &self.inner.config));
        }
        // Whether the process lives does not depend on any endpoint.
        if let Some(Fixed { face: Face::Livez, .. }) = fixed
            && is_read(&parts.method)
        {
            return (Face::Livez.name(), admin::livez());
        }
        let mut snapshot = self.inner.engine.snapshot(&scoped.endpoint);
        if let Some(early) = &snapshot
            && fixed.as_ref().is_none_or(|fixed| !fixed.face.is_admin())
            && self.is_unlisted(&scoped.endpoint, &early.catalogue)
        {
            // Briefly: right after the start, or when the endpoint is made on demand.
            Box::pin(self.inner.engine.settled_at(&scoped.endpoint, Instant::now() + SETTLING)).await;
            snapshot = self.inner.engine.snapshot(&scoped.endpoint);
        }
        let Some(view) = snapshot.as_deref().and_then(view_of) else {
            return ("none", unknown_endpoint(&scoped.endpoint).into_response());
        };
        let deadline = match deadline::of(&parts) {
            Ok(deadline) => deadline,
            Err(problem) => return ("none", problem.into_response()),
        };
        // Only the paths of a catalogue are looked at again, when the request has been handed on.
        let place = fixed.ok_or_else(|| (path.to_owned(), scoped.path.to_owned()));
        let inbound = Inbound {
            gateway: self.clone(),
            endpoint: scoped.endpoint,
            view,
            parts,
            deadline,
            carrier,
            body: Mutex::new(Some(body)),
        };
        match place {
            Ok(fixed) => (fixed.face.name(), dispatch(inbound, fixed).await),
            Err((path, within)) => match Box::pin(rest::mapped(inbound, &within)).await {
                Some(response) => ("rest", response),
                None => not_found(&path),
            },
        }
    }

    /// The methods of a mapped path; none where nothing is mapped.
    fn mapped_methods(&self, scoped: &router::Scoped<'_>) -> Vec<Method> {
        let snapshot = self.inner.engine.snapshot(&scoped.endpoint);
        let view = snapshot.as_deref().and_then(view_of);
        view.map(|view| rest::methods(&view, scoped.path)).unwrap_or_default()
    }

    /// Whether an endpoint has nothing to show yet only because its upstreams, or the sources that name them, have not been
    /// asked before.
    fn is_unlisted(&self, endpoint: &EndpointId, catalogue: &Catalogue) -> bool {
        let is_asking = |up: &UpstreamStatus| matches!(up.state, UpstreamState::Discovering);
        let is_waiting = |source: &SourceStatus| source.state == SourceState::Waiting;
        catalogue.tools().is_empty()
            && (catalogue.upstreams().iter().any(is_asking)
                || self.inner.engine.sources(endpoint).iter().any(is_waiting))
    }

    pub(crate) fn config(&self) -> &GatewayConfig {
        &self.inner.config
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    /// A place for one more listening stream; `None` when all are taken.
    pub(crate) fn listener_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.listeners).try_acquire_owned().ok()
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.inner.channels
    }

    /// The streams that can be taken up again, if they are kept.
    pub(crate) fn replays(&self) -> Option<&Arc<Replays>> {
        self.inner.replays.as_ref()
    }

    pub(crate) fn idempotency(&self) -> &Idempotency {
        &self.inner.idempotency
    }

    pub(crate) fn held(&self) -> &HeldCalls {
        &self.inner.held
    }

    /// The other replicas, if there are any.
    pub(crate) fn replicas(&self) -> Option<&Replicas> {
        self.inner.config.replicas.as_ref()
    }

    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

async fn dispatch(inbound: Inbound, fixed: Fixed) -> http::Response<Body> {
    let Fixed { face, tool } = fixed;
    if !face.methods().contains(&inbound.parts.method) {
        return method_not_allowed(face.methods());
    }
    let is_head = inbound.parts.method == Method::HEAD;
    // Boxed, because the whole of a request is moved into its task: one of the faces would make all of them large.
    let response = match face {
        Face::Batch => Box::pin(batch::handle(inbound)).await,
        Face::Docs(asset) => docs::handle(&inbound, asset),
        Face::DocsSlash => docs::without_slash(),
        Face::Graphql => Box::pin(graphql::handle(inbound)).await,
        Face::GraphqlSdl => graphql::sdl(&inbound),
        Face::Livez => admin::livez(),
        Face::Mcp => pinned(|| mcp::handle(inbound)).await,
        Face::McpMessages => Box::pin(mcp::http_sse::post(inbound)).await,
        Face::McpSse => mcp::http_sse::open(&inbound),
        Face::Metrics => admin::metrics(&inbound),
        Face::OpenApiJson | Face::OpenApiYaml => documents::openapi(&inbound, face),
        Face::Performance => admin::performance(&inbound),
        Face::Plan => Box::pin(plan::handle(inbound)).await,
        Face::Readyz => admin::readyz(&inbound),
        Face::Tool => pinned(|| rest::tool(inbound, tool.unwrap_or_default())).await,
        Face::Tools => documents::tools(&inbound),
    };
    if is_head { without_body(response) } else { response }
}

/// 405, naming what is served there (RFC 9110 §15.5.6).
pub(crate) fn method_not_allowed(methods: &[Method]) -> http::Response<Body> {
    let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let problem = Problem::new(ProblemType::MethodNotAllowed, format!("served here: {allow}"));
    match HeaderValue::try_from(allow) {
        Ok(allow) => problem.with_header(header::ALLOW, allow).into_response(),
        Err(_) => problem.into_response(),
    }
}

fn not_found(path: &str) -> (&'static str, http::Response<Body>) {
    let problem = Problem::new(ProblemType::NotFound, format!("nothing is served at {path}"));
    ("none", problem.into_response())
}

fn unknown_endpoint(endpoint: &EndpointId) -> Problem {
    Problem::new(ProblemType::UnknownEndpoint, format!("there is no endpoint {endpoint}"))
}

/// As [`HeaderValue::from`], with one allocation instead of two.
fn number(number: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).expect("digits are a header value")
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The answer to HEAD: what GET would say, without its body (RFC 9110 §9.3.2).
fn without_body(response: http::Response<Body>) -> http::Response<Body> {
    let (mut parts, whole) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&whole).exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    http::Response::from_parts(parts, body::empty())
}

/// Keeps the request's place until its body has been read or dropped.
fn hold_place(response: http::Response<Body>, place: OwnedSemaphorePermit) -> http::Response<Body> {
    let is_done = http_body::Body::is_end_stream(response.body());
    if is_done || response.extensions().get::<LongLived>().is_some() {
        return response;
    }
    response.map(|body| guard::with(body, place).boxed_unsync())
}

impl Inbound {
    /// A request of the MCP face that came over a channel of its own.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub(crate) fn over_channel(
        gateway: &Gateway,
        endpoint: &EndpointId,
        parts: Parts,
        body: Body,
    ) -> Result<Self, Problem> {
        let snapshot = gateway.engine().snapshot(endpoint);
        let view = snapshot.as_deref().and_then(view_of);
        let view = view.ok_or_else(|| unknown_endpoint(endpoint))?;
        Ok(Self {
            gateway: gateway.clone(),
            endpoint: endpoint.clone(),
            view,
            parts: Box::new(parts),
            deadline: None,
            carrier: Some(Carrier::Message),
            body: Mutex::new(Some(body)),
        })
    }

    /// The whole body, read once.
    ///
    /// # Errors
    /// As [`body::collect`].
    pub(crate) async fn collect_body(&mut self) -> Result<Bytes, Problem> {
        let body =
            self.body.get_mut().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(body::empty);
        let config = self.gateway.config();
        body::collect(body, config.max_body_bytes, config.body_timeout).await
    }

    /// The query's pairs.
    ///
    /// # Errors
    /// 400 for what is not percent-encoded UTF-8.
    pub(crate) fn query(&self) -> Result<Vec<(String, String)>, Problem> {
        crate::percent::query_pairs(self.parts.uri.query().unwrap_or_default())
            .map_err(|detail| Problem::new(ProblemType::BadRequest, detail))
    }

    /// The value of one query parameter, the last if it repeats.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        self.query().ok()?.into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}
