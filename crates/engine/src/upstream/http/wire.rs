//! Requests to one URL over the pool, and what an answer looks like.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::Either;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Request, StatusCode, Uri};
use mpe_mcp_protocol::jsonrpc::{Envelope, ErrorObject, Id};
use mpe_transport::{Body, BodyDeadline, ExchangeOptions, Origin, Pool, Protocol, Sent};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::super::UpstreamError;
use super::super::auth::{Authorization, Authorizer, Challenge, Demand, canonical_address};
use super::reader::Messages;
use crate::CallErrorKind;

/// One URL, and everything that goes there with every request.
pub(super) struct Wire {
    pool: Pool,
    origin: Origin,
    uri: Uri,
    headers: HeaderMap,
    /// The same with what every POST says beside.
    post_headers: HeaderMap,
    /// Who gets tokens for this server, if somebody does.
    authorizer: Option<Arc<Authorizer>>,
}

/// The head of an answer, and its body as messages.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) protocol: Option<Protocol>,
    pub(super) headers: HeaderMap,
    pub(super) messages: Messages,
    is_message: bool,
    is_text: bool,
}

impl Wire {
    /// # Errors
    /// One sentence: a header value that no header can hold, or a URL without scheme or host.
    pub(super) fn new(
        pool: Pool,
        url: &Uri,
        wire: mpe_transport::Wire,
        headers: &[(HeaderName, SecretString)],
        authorization: Option<&Authorization>,
    ) -> Result<Self, String> {
        let origin = Origin::of(url, wire).map_err(|error| error.to_string())?;
        let mut map = HeaderMap::with_capacity(headers.len() + 1);
        map.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value.expose_secret())
                .map_err(|_| format!("the value of header {name} has bytes that no header may hold"))?;
            value.set_sensitive(true);
            map.insert(name.clone(), value);
        }
        let mut post_headers = map.clone();
        post_headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        post_headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let authorizer =
            authorization.map(|how| Arc::new(Authorizer::new(pool.clone(), url.clone(), how.clone())));
        Ok(Self { pool, origin, uri: url.clone(), headers: map, post_headers, authorizer })
    }

    /// The URL.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The URL for logs: without the query, which API keys like to travel in.
    pub(super) fn shown(&self) -> String {
        canonical_address(&self.uri)
    }

    /// The same peer and headers, another path.
    pub(super) fn at(&self, uri: Uri) -> Self {
        Self {
            pool: self.pool.clone(),
            origin: self.origin.clone(),
            uri,
            headers: self.headers.clone(),
            post_headers: self.post_headers.clone(),
            authorizer: self.authorizer.clone(),
        }
    }

    /// A POST of one message.
    pub(super) fn post(&self, message: Vec<u8>) -> Request<Bytes> {
        self.request(Method::POST, &self.post_headers, message.into())
    }

    /// A GET of an event stream.
    pub(super) fn get(&self) -> Request<Bytes> {
        let mut request = self.request(Method::GET, &self.headers, Bytes::new());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        request
    }

    /// A DELETE of a session.
    pub(super) fn delete(&self) -> Request<Bytes> {
        self.request(Method::DELETE, &self.headers, Bytes::new())
    }

    fn request(&self, method: Method, headers: &HeaderMap, body: Bytes) -> Request<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        // With room for what the protocol adds: the map does not grow a second time.
        let mut own = HeaderMap::with_capacity(headers.len() + MAX_ADDED);
        own.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        *request.headers_mut() = own;
        request
    }

    /// Sends, and returns once the head of the answer is here. The deadline covers the body too.
    pub(super) fn send(
        &self,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, UpstreamError>> + Send {
        self.exchange(request, options_until(deadline), deadline)
    }

    /// Sends, and returns once the head of a stream without end is here.
    pub(super) async fn open(&self, request: Request<Bytes>) -> Result<Answer, UpstreamError> {
        let deadline = Instant::now() + HEAD_TIMEOUT;
        let mut options = options_until(deadline);
        options.body_deadline = BodyDeadline::Idle(MAX_IDLE);
        options.max_response_bytes = Some(u64::MAX);
        self.exchange(request, options, deadline).await
    }

    fn exchange(
        &self,
        request: Request<Bytes>,
        options: ExchangeOptions,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, UpstreamError>> + Send {
        match self.authorizer.as_ref().filter(|authorizer| !authorizer.is_idle()) {
            // Boxed: what few servers demand does not make the requests to all of them larger.
            Some(authorizer) => {
                Either::Left(Box::pin(self.authorized(authorizer, request, options, deadline)))
            }
            // Joined by hand: an async block has a place for what it is given and another for what it waits for.
            None => Either::Right(
                self.pool
                    .send_with(&self.origin, request, options)
                    .map_err(UpstreamError::from)
                    .and_then(move |response| self.judged(response, deadline)),
            ),
        }
    }

    /// The answer to a request without a token.
    ///
    /// # Errors
    /// The server demands one. The error says what to do, unless somebody did it a moment ago.
    async fn judged(
        &self,
        response: http::Response<Body>,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        if let Some(authorizer) = &self.authorizer
            && let Some(demand) = Demand::of(response.status(), response.headers())
        {
            Box::pin(authorizer.satisfy(None, demand, deadline)).await?;
            let why = "somebody has logged in at the server just now; the next call uses that";
            return Err(UpstreamError::new(CallErrorKind::UpstreamAuth, Sent::No, why));
        }
        Ok(Answer::of(response))
    }

    async fn authorized(
        &self,
        authorizer: &Arc<Authorizer>,
        mut request: Request<Bytes>,
        options: ExchangeOptions,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let mut token = authorizer.ready(deadline).await?;
        let (mut n_tokens, mut n_scopes) = (0, 0);
        loop {
            if let Some(token) = &token {
                request.headers_mut().insert(AUTHORIZATION, token.header());
            }
            let response = self.pool.send_with(&self.origin, request.clone(), options.clone()).await?;
            let Some(demand) = Demand::of(response.status(), response.headers()) else {
                return Ok(Answer::of(response));
            };
            let (n_done, most) = match &demand {
                Demand::Scope(_) => (&mut n_scopes, MAX_STEP_UPS),
                Demand::Token(_) => (&mut n_tokens, MAX_RENEWALS),
            };
            if *n_done == most {
                return Ok(Answer::of(response));
            }
            *n_done += 1;
            // A refusal proves that nothing ran: the request goes out once more, with what the server demands.
            token = Some(authorizer.satisfy(token.as_ref(), demand, deadline).await?);
            drop(response);
        }
    }

    /// What the server says to a request without a token.
    ///
    /// # Errors
    /// No answer.
    pub(super) async fn challenge(
        &self,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Challenge, UpstreamError> {
        let options = options_until(deadline.min(Instant::now() + HEAD_TIMEOUT));
        let response = self.pool.send_with(&self.origin, request, options).await?;
        Ok(Challenge::of(response.headers()))
    }

    /// Who gets tokens for this server, if somebody does.
    pub(super) fn authorizer(&self) -> Option<&Arc<Authorizer>> {
        self.authorizer.as_ref()
    }
}

/// Whoever sends again makes a new request, so none has to be handed back.
fn options_until(deadline: Instant) -> ExchangeOptions {
    let mut options = ExchangeOptions::default();
    options.deadline = Some(deadline);
    options.hands_back = false;
    options
}

/// A token that the server refuses is replaced this often for one request.
const MAX_RENEWALS: u32 = 1;
/// A token that does not reach far enough is replaced this often for one request; with the first token these are the
/// three attempts that are worth anybody's while.
const MAX_STEP_UPS: u32 = 2;
/// Headers that one request has beside those of all, usually at most: what the body repeats, a session, its length.
const MAX_ADDED: usize = 6;
/// The head of a stream must be here by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream without end that is silent for so long is opened anew: its other end may be gone.
const MAX_IDLE: Duration = Duration::from_secs(600);

impl Answer {
    fn of(response: http::Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let media_type =
            head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let is = |wanted: &str| media_type.eq_ignore_ascii_case(wanted);
        let is_events = is("text/event-stream");
        // Servers that forget the label are read as JSON; those that label something else mean it.
        let is_json = media_type.is_empty()
            || is("application/json")
            || media_type.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"));
        let is_text = is("text/plain");
        Self {
            status: head.status,
            protocol: Some(body.info().protocol),
            messages: if is_events { Messages::events(body) } else { Messages::json(body) },
            headers: head.headers,
            is_message: is_events || is_json,
            is_text,
        }
    }

    /// Whether a message may be in the body, by its label.
    pub(super) fn has_messages(&self) -> bool {
        self.is_message
    }

    /// The JSON-RPC error that explains a status, with the id it is about.
    pub(super) async fn explanation(&mut self) -> Option<(Option<Id>, ErrorObject)> {
        if !self.is_message {
            return None;
        }
        let bytes = self.messages.next().await.ok().flatten()?;
        match Envelope::parse(&bytes).ok()? {
            Envelope::Response { id, outcome: Err(error) } => Some((id, error)),
            _ => None,
        }
    }

    /// The plain text that explains a status, where that is what the server sent.
    pub(super) async fn text(&mut self) -> Option<String> {
        if !self.is_text {
            return None;
        }
        let bytes = self.messages.next().await.ok().flatten()?;
        Some(shortened(&String::from_utf8_lossy(&bytes)).to_owned())
    }

    /// The error that a status without a usable message is.
    pub(super) fn status_error(&self, explanation: Option<&ErrorObject>) -> UpstreamError {
        let (kind, sent) = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (CallErrorKind::UpstreamAuth, Sent::No),
            StatusCode::TOO_MANY_REQUESTS => (CallErrorKind::UpstreamStatus, Sent::No),
            _ => (CallErrorKind::UpstreamStatus, Sent::Maybe),
        };
        let mut message = format!("the server answered with HTTP status {}", self.status.as_u16());
        if let Some(error) = explanation {
            message.push_str(&format!(" (error {}: {})", error.code, shortened(&error.message)));
        }
        let mut error = UpstreamError::new(kind, sent, message);
        error.retry_after = self.retry_after();
        error
    }

    /// `Retry-After` in seconds; the date form is not used by servers that mean machines.
    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// What others wrote, cut to what fits into one of our sentences.
pub(super) fn shortened(text: &str) -> &str {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

const MAX_QUOTED: usize = 200;

const AGENT: &str = concat!("mcp-proxy-engine/", env!("CARGO_PKG_VERSION"));
