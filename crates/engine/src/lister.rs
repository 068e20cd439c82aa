//! Asks one upstream for its lists, as one set of capabilities sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mpe_mcp_protocol::jsonrpc::{ErrorObject, Notification, code};
use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::pager::{List, Pager, PagerLimits};
use mpe_mcp_protocol::version::Era;
use mpe_transport::Sent;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::catalog::listing::Found;
use crate::eras::Divide;
use crate::handle::Handle;
use crate::upstream::{Introduction, UpstreamError, UpstreamReply, UpstreamRequest};
use crate::{CallContext, CallErrorKind, CallEvents};

/// What [`Lister::fresh_for`] says of lists that do not say.
const FOR_EVER: u64 = u64::MAX;

/// How often a list is begun again because the server refused its own cursor.
const MAX_RESTARTS: usize = 2;

/// Lists what one upstream offers. Made anew for each round.
pub(crate) struct Lister<'a> {
    handle: &'a Handle,
    /// What is declared while listing.
    context: CallContext,
    /// The least that any page says, in milliseconds.
    fresh_for: AtomicU64,
    /// Every page says that anybody may see it.
    is_public: AtomicBool,
}

impl<'a> Lister<'a> {
    /// One that declares nothing.
    pub(crate) fn new(handle: &'a Handle) -> Self {
        Self {
            handle,
            context: CallContext::default(),
            fresh_for: AtomicU64::new(FOR_EVER),
            is_public: AtomicBool::new(true),
        }
    }

    /// One that declares what a client does. Nothing that the server asks it meanwhile is answered.
    pub(crate) fn declaring(handle: &'a Handle, capabilities: &RawValue) -> Self {
        let context = CallContext {
            capabilities: Some(capabilities.to_owned()),
            // Without an ear, a legacy server would be told of no capability.
            events: Some(Arc::new(Unasked)),
            ..CallContext::default()
        };
        Self { context, ..Self::new(handle) }
    }

    /// How long the lists are fresh, where the server says so; for ever, where it does not.
    pub(crate) fn fresh_for(&self) -> Duration {
        Duration::from_millis(self.fresh_for.load(Ordering::Relaxed))
    }

    /// Whether the server says that every client sees the same lists (`cacheScope`; MCP 2026-07-28,
    /// server/utilities/caching).
    pub(crate) fn is_public(&self) -> bool {
        self.is_public.load(Ordering::Relaxed)
    }

    /// Every list of the era that the server was found in.
    pub(crate) async fn found(&self, introduction: Introduction) -> Result<Found, String> {
        self.lists(introduction, None).await
    }

    /// Every list of an era that the server was not found in; `None`: it does not speak that.
    pub(crate) async fn found_in(&self, era: Era) -> Result<Option<Found>, String> {
        let deadline = Instant::now() + self.handle.config.timeout;
        let introduction = timeout_at(deadline, self.handle.link.introduce_in(era, deadline)).await;
        let introduction =
            introduction.unwrap_or_else(|_| Err(overdue("the server did not introduce itself in time")));
        let Some(introduction) = introduction.map_err(|error| error.message)? else { return Ok(None) };
        self.lists(introduction, Some(era)).await.map(Some)
    }

    /// Every list that a server has which introduced itself so.
    async fn lists(&self, introduction: Introduction, era: Option<Era>) -> Result<Found, String> {
        let declared = Declared::of(&introduction);
        Ok(Found {
            tools: self.list(List::Tools, era).await?,
            prompts: self.list_if(declared.prompts, List::Prompts, era).await?,
            resources: self.list_if(declared.resources, List::Resources, era).await?,
            templates: self.list_if(declared.resources, List::ResourceTemplates, era).await?,
            introduction,
            divide: Divide::default(),
        })
    }

    /// Every item of a paged list; none from a server that does not know the method.
    async fn list(&self, list: List, era: Option<Era>) -> Result<Vec<Box<RawValue>>, String> {
        let mut pager = Pager::new(list, PagerLimits::default());
        let mut restarts_left = MAX_RESTARTS;
        while let Some(params) = pager.next_params() {
            if self.handle.retired.is_cancelled() {
                return Err("the upstream is retired".to_owned());
            }
            let is_first = pager.pages() == 0;
            let reply = self.request(list.method(), params, era).await.map_err(|error| error.message)?;
            match reply.outcome {
                Ok(result) => {
                    pager.accept(&result).map_err(|error| error.message)?;
                    self.hear(&result);
                }
                Err(error) if error.code == code::METHOD_NOT_FOUND && is_first => break,
                // The cursor has gone stale: begin again (MCP 2026-07-28, server/utilities/pagination).
                Err(error) if error.code == code::INVALID_PARAMS && !is_first && restarts_left > 0 => {
                    restarts_left -= 1;
                    pager.restart();
                }
                Err(error) => {
                    let method = list.method();
                    return Err(format!("{method} is refused: {} ({})", error.message, error.code));
                }
            }
        }
        Ok(pager.into_items())
    }

    async fn list_if(
        &self,
        is_declared: bool,
        list: List,
        era: Option<Era>,
    ) -> Result<Vec<Box<RawValue>>, String> {
        if is_declared { self.list(list, era).await } else { Ok(Vec::new()) }
    }

    /// What a page says of how long it is fresh, and for whom.
    fn hear(&self, page: &RawValue) {
        let page = Object::parse(page).ok();
        self.fresh_for.fetch_min(ttl_of(page.as_ref()).unwrap_or(FOR_EVER), Ordering::Relaxed);
        let scope = page.as_ref().and_then(|page| page.string("cacheScope").ok().flatten());
        self.is_public.fetch_and(scope.as_deref() == Some("public"), Ordering::Relaxed);
    }

    async fn request(
        &self,
        method: &'static str,
        params: Option<Box<RawValue>>,
        era: Option<Era>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let deadline = Instant::now() + self.handle.config.timeout;
        let request = UpstreamRequest {
            method: method.into(),
            params,
            name: None,
            mirrored: Vec::new(),
            context: Arc::new(CallContext { era, ..self.context.clone() }),
            deadline,
        };
        let exchange = self.handle.recorder.start();
        let reply = timeout_at(deadline, self.handle.link.request(request)).await;
        let reply = reply.unwrap_or_else(|_| Err(overdue("the server did not answer in time")))?;
        exchange.answered(reply.protocol);
        Ok(reply)
    }
}

/// Who is there while lists are read for a client: nobody.
struct Unasked;

impl CallEvents for Unasked {
    fn notify(&self, _: Notification) {}

    fn ask<'a>(
        &'a self,
        method: &'a str,
        _: Option<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<Box<RawValue>, ErrorObject>> {
        let message = format!("{method} is answered during calls only");
        Box::pin(std::future::ready(Err(ErrorObject::new(code::METHOD_NOT_FOUND, message))))
    }
}

/// Which lists a server says it has. Tools are asked for in any case: some servers forget to say so.
struct Declared {
    prompts: bool,
    resources: bool,
}

impl Declared {
    fn of(introduction: &Introduction) -> Self {
        let capabilities = Object::parse(&introduction.capabilities).ok();
        let has = |name| capabilities.as_ref().is_some_and(|object| object.present(name).is_some());
        Self { prompts: has("prompts"), resources: has("resources") }
    }
}

/// For how many milliseconds a list is fresh (`ttlMs`; MCP 2026-07-28, server/utilities/caching). `None`: the server does not
/// say, or says not at all, and then our own interval is as good as any.
fn ttl_of(page: Option<&Object<'_>>) -> Option<u64> {
    let millis = page?.get("ttlMs").and_then(|raw| raw.get().parse::<f64>().ok())?;
    // A number that is too large for the type becomes its largest value.
    (millis >= 1.0).then_some(millis as u64)
}

pub(crate) fn overdue(message: &str) -> UpstreamError {
    UpstreamError {
        kind: CallErrorKind::DeadlineExceeded,
        sent: Sent::Maybe,
        message: message.to_owned(),
        retry_after: None,
        source: None,
    }
}
