//! Streams that tell of changes: `subscriptions/listen` of the modern era, the GET stream of the legacy one.
//!
//! Both are bodies that wait; nothing is spawned for them, and dropping the body ends the subscription upstream.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mpe_engine::upstream::Change;
use mpe_engine::{CallError, EndpointId, Listening};
use mpe_mcp_protocol::header::LAST_EVENT_ID;
use mpe_mcp_protocol::jsonrpc::Id;
use mpe_mcp_protocol::meta::key::SUBSCRIPTION_ID;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::exchange::{KEEP_ALIVE, event, stream_response};
use super::home;
use super::legacy::{self, Scope};
use super::listing::Offers;
use super::modern::invalid;
use super::rpc::{self, Answer, Refusal, modern_result};
use super::sessions::Token;
use super::{reads_streams, replay};
use crate::guard;
use crate::json::{Members, ObjectWriter};
use crate::problem::{Problem, ProblemType};
use crate::service::{Inbound, LongLived};
use crate::{Body, Gateway};

/// What a client wants to hear of.
pub(crate) type Interest = mpe_engine::Interest;

/// Resources one listener may watch.
const MAX_URIS: usize = 1000;

/// The `notifications` of a listen request.
///
/// # Errors
/// -32602 for members of the wrong type, or too many resources.
pub(crate) fn interest_of(params: &Members<'_>, offers: Offers) -> Result<Interest, Refusal> {
    let wanted = params.get("notifications").and_then(Members::of);
    let wanted = wanted.ok_or_else(|| invalid("params.notifications is no object"))?;
    let flag = |key: &str| match wanted.get(key).map(RawValue::get) {
        None | Some("false" | "null") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid(format!("params.notifications.{key} is no boolean"))),
    };
    let uris = match wanted.get("resourceSubscriptions") {
        None => Vec::new(),
        Some(uris) => serde_json::from_str::<Vec<String>>(uris.get())
            .map_err(|_| invalid("params.notifications.resourceSubscriptions is no array of strings"))?,
    };
    if uris.len() > MAX_URIS {
        return Err(invalid(format!("one listener may watch {MAX_URIS} resources")));
    }
    Ok(Interest {
        tools: flag("toolsListChanged")?,
        prompts: flag("promptsListChanged")? && offers.prompts,
        resources: flag("resourcesListChanged")? && offers.resources,
        uris: if offers.subscribe { uris } else { Vec::new() },
    })
}

/// Answers `subscriptions/listen`: the acknowledgement says what is armed, then come the changes.
pub(crate) async fn modern(
    inbound: &Inbound,
    id: Id,
    interest: Interest,
    capabilities: Option<&RawValue>,
) -> http::Response<Body> {
    let gateway = &inbound.gateway;
    let Some(place) = gateway.listener_place() else { return full(gateway).into_response(Some(&id)) };
    let listening = match gateway.engine().listen(&inbound.endpoint, interest, capabilities).await {
        Ok(listening) => listening,
        Err(error) => return Refusal::from(Problem::of_call(&error)).into_response(Some(&id)),
    };
    let tag = Tag::Subscription(serde_json::to_string(&id).expect("an id is JSON"));
    let acknowledged = acknowledgement(&listening.armed, &tag);
    let draining = gateway.draining().clone();
    let listener = Modern { listening, tag, id, draining, has_ended: false };
    stream(acknowledged, listener, gateway.config().keep_alive, place)
}

/// Answers GET: the session's stream for what belongs to no request. Without a session there is none.
pub(crate) async fn legacy(inbound: &Inbound) -> http::Response<Body> {
    let gateway = &inbound.gateway;
    let scope = match Scope::of(inbound) {
        Ok(scope) => scope,
        Err(refusal) => return refusal.into_response(None),
    };
    if let Some(token) = &scope.token
        && let Some(event_id) = inbound.parts.headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok())
    {
        return take_up(inbound, token, event_id).await;
    }
    let home = scope.token.as_ref().and_then(|token| token.home.as_deref());
    if let Some(answer) = home::stream(inbound, home).await {
        return answer.unwrap_or_else(|error| {
            tracing::debug!(%error, "a session's replica cannot be reached; its client begins anew");
            legacy::unknown_session().into_response(None)
        });
    }
    let Some(session) = scope.session.filter(|_| reads_streams(inbound)) else {
        return legacy::method_not_allowed("a stream is served to a session that accepts text/event-stream");
    };
    let Some(place) = gateway.listener_place() else { return full(gateway).into_response(None) };
    let mut uris = session.subscriptions();
    let interest = everything(uris.borrow_and_update().clone(), inbound.view.lists.offers());
    let capabilities = scope.token.as_ref().and_then(|token| token.capabilities.clone());
    let engine = gateway.engine();
    let listening = match engine.listen(&inbound.endpoint, interest.clone(), capabilities.as_deref()).await {
        Ok(listening) => listening,
        Err(error) => return Problem::of_call(&error).into_response(),
    };
    let listener = Legacy {
        gateway: gateway.clone(),
        endpoint: inbound.endpoint.clone(),
        interest,
        capabilities,
        listening,
        uris,
        arming: None,
        ended: session.listen(),
        draining: gateway.draining().clone(),
    };
    stream(Bytes::from_static(KEEP_ALIVE), listener, gateway.config().keep_alive, place)
}

/// Answers GET with `Last-Event-ID`: the rest of a call's stream that broke.
async fn take_up(inbound: &Inbound, token: &Token, event_id: &str) -> http::Response<Body> {
    let gateway = &inbound.gateway;
    let lost = || legacy::method_not_allowed("the stream is not kept, or has been forgotten");
    let home = replay::name_of(event_id).and_then(home::of_name);
    if let Some(answer) = home::stream(inbound, home).await {
        return answer.unwrap_or_else(|_| lost());
    }
    let found = gateway.replays().and_then(|replays| replays.find(&token.id, event_id));
    let Some((stream, seen)) = found else { return lost() };
    let Some(place) = gateway.listener_place() else { return full(gateway).into_response(None) };
    let config = gateway.config();
    let draining = gateway.draining().clone();
    let body = replay::read(stream, seen, config.poll_after, config.keep_alive, draining);
    let mut response = stream_response(guard::with(body, place).boxed_unsync());
    response.extensions_mut().insert(LongLived);
    response
}

/// All a legacy session hears of.
fn everything(uris: Vec<String>, offers: Offers) -> Interest {
    Interest { tools: true, prompts: offers.prompts, resources: offers.resources, uris }
}

fn full(gateway: &Gateway) -> Refusal {
    let limit = gateway.config().max_listeners;
    Refusal::from(Problem::new(ProblemType::Overloaded, format!("{limit} clients are listening already")))
}

/// Something that has one more event, or none.
trait Listener: Send + 'static {
    /// # Cancel safety
    /// Nothing is lost.
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>>;
}

fn stream(
    first: Bytes,
    listener: impl Listener,
    keep_alive: Duration,
    place: OwnedSemaphorePermit,
) -> http::Response<Body> {
    let first = futures_util::stream::once(std::future::ready(first));
    let rest = futures_util::stream::unfold((listener, place), move |(mut listener, place)| async move {
        let event = match tokio::time::timeout(keep_alive, listener.next()).await {
            Ok(event) => event?,
            Err(_) => Bytes::from_static(KEEP_ALIVE),
        };
        Some((event, (listener, place)))
    });
    let frames = first.chain(rest).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    let body = StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync();
    let mut response = stream_response(body);
    response.extensions_mut().insert(LongLived);
    response
}

/// Whether messages name the subscription they belong to.
#[derive(Clone, Debug)]
enum Tag {
    None,
    /// The listen request's id, as JSON.
    Subscription(String),
}

impl Tag {
    fn meta(&self) -> Option<Box<RawValue>> {
        let Self::Subscription(id) = self else { return None };
        let mut meta = ObjectWriter::new();
        meta.raw(SUBSCRIPTION_ID, id);
        Some(meta.finish_raw())
    }

    fn change(&self, change: &Change) -> Bytes {
        let mut params = ObjectWriter::new();
        if let Some(meta) = self.meta() {
            params.raw("_meta", meta.get());
        }
        let method = match change {
            Change::Prompts => "notifications/prompts/list_changed",
            Change::Resource(uri) => {
                params.string("uri", uri);
                "notifications/resources/updated"
            }
            Change::Resources => "notifications/resources/list_changed",
            Change::Tools => "notifications/tools/list_changed",
        };
        let params = params.finish_raw();
        let params = (params.get() != "{}").then_some(&*params);
        event(rpc::notification(method, params))
    }
}

fn acknowledgement(armed: &Interest, tag: &Tag) -> Bytes {
    let mut notifications = ObjectWriter::new();
    let flags = [
        ("toolsListChanged", armed.tools),
        ("promptsListChanged", armed.prompts),
        ("resourcesListChanged", armed.resources),
    ];
    for (key, _) in flags.into_iter().filter(|(_, is_armed)| *is_armed) {
        notifications.raw(key, "true");
    }
    if !armed.uris.is_empty() {
        notifications.value("resourceSubscriptions", &armed.uris);
    }
    let mut params = ObjectWriter::new();
    if let Some(meta) = tag.meta() {
        params.raw("_meta", meta.get());
    }
    params.raw("notifications", notifications.finish_raw().get());
    event(rpc::notification("notifications/subscriptions/acknowledged", Some(&params.finish_raw())))
}

struct Modern {
    listening: Listening,
    tag: Tag,
    id: Id,
    draining: CancellationToken,
    has_ended: bool,
}

impl Modern {
    /// The result that ends the subscription properly.
    fn end(&mut self) -> Bytes {
        self.has_ended = true;
        let mut result = ObjectWriter::new();
        result.string("resultType", "complete");
        if let Some(meta) = self.tag.meta() {
            result.raw("_meta", meta.get());
        }
        let answer = match modern_result(result.finish_raw(), None, &[]) {
            Ok(pieces) => Answer { status: http::StatusCode::OK, outcome: Ok(pieces) },
            Err(refusal) => refusal.into(),
        };
        event(answer.message(Some(&self.id)))
    }
}

impl Listener for Modern {
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async {
            if self.has_ended {
                return None;
            }
            let change = tokio::select! {
                change = self.listening.changes.recv() => change,
                () = self.draining.cancelled() => None,
            };
            Some(match change {
                Some(change) => self.tag.change(&change),
                None => self.end(),
            })
        })
    }
}

struct Legacy {
    gateway: Gateway,
    endpoint: EndpointId,
    interest: Interest,
    /// What its client declared.
    capabilities: Option<Box<RawValue>>,
    listening: Listening,
    uris: watch::Receiver<Vec<String>>,
    /// A new ear that is being made. It stands here and not in [`next`](Listener::next), which is dropped whenever the
    /// stream has to be kept alive.
    arming: Option<BoxFuture<'static, Result<Listening, CallError>>>,
    ended: CancellationToken,
    draining: CancellationToken,
}

impl Listener for Legacy {
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    // First, so that what the old ear has heard is told before the new one takes over.
                    biased;
                    change = self.listening.changes.recv() => return change.map(|change| Tag::None.change(&change)),
                    () = self.draining.cancelled() => return None,
                    // Another GET of the same session took over.
                    () = self.ended.cancelled() => return None,
                    changed = self.uris.changed() => {
                        changed.ok()?;
                        self.listen_anew();
                    }
                    armed = armed(&mut self.arming) => {
                        self.arming = None;
                        match armed {
                            Ok(listening) => self.listening = listening,
                            Err(error) => tracing::debug!(%error, "cannot listen anew"),
                        }
                    }
                }
            }
        })
    }
}

impl Legacy {
    /// Begins to listen for what is subscribed to now. The new ear is there before the old one goes, so nothing falls
    /// between.
    fn listen_anew(&mut self) {
        self.interest.uris = self.uris.borrow_and_update().clone();
        let (gateway, endpoint, interest) =
            (self.gateway.clone(), self.endpoint.clone(), self.interest.clone());
        let capabilities = self.capabilities.clone();
        let arming =
            async move { gateway.engine().listen(&endpoint, interest, capabilities.as_deref()).await };
        self.arming = Some(arming.boxed());
    }
}

/// The new ear; waits for ever when none is being made.
async fn armed(
    arming: &mut Option<BoxFuture<'static, Result<Listening, CallError>>>,
) -> Result<Listening, CallError> {
    match arming {
        Some(arming) => arming.await,
        None => std::future::pending().await,
    }
}
