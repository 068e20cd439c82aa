//! What is sent: a head, and a body that is here already or still comes.

use std::pin::Pin;
use std::{fmt, mem};

use bytes::Bytes;
use http::header::CONNECTION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, request};
use http_body::Body;

use crate::Error;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Boxed: it is handed from future to future, and each has a place for it.
    pub(crate) head: Box<request::Parts>,
    pub(crate) body: OutgoingBody,
    /// Whether an error may hand it back, for which a copy stays.
    pub(crate) is_kept: bool,
}

/// What a message says, whatever carries it.
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
}

/// What is left of a request that may be handed back.
#[derive(Debug)]
pub(crate) struct Kept(Option<(Box<request::Parts>, Bytes)>);

/// The body of a request.
pub(crate) enum OutgoingBody {
    /// Comes frame by frame; cannot be handed back.
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
    /// Is here as a whole.
    Whole(Bytes),
}

// === impl Outgoing ===

impl Outgoing {
    pub(crate) fn new(request: Request<Bytes>, is_kept: bool) -> Self {
        let (head, body) = request.into_parts();
        Self { head: Box::new(head), body: OutgoingBody::Whole(body), is_kept }
    }

    /// What is sent, and what stays.
    pub(crate) fn split(self) -> (Head, OutgoingBody, Kept) {
        let Self { mut head, body, is_kept } = self;
        let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let method = head.method.clone();
        let (headers, kept) = match &body {
            OutgoingBody::Whole(body) if is_kept => (head.headers.clone(), Some((head, body.clone()))),
            OutgoingBody::Streamed(_) | OutgoingBody::Whole(_) => (mem::take(&mut head.headers), None),
        };
        (Head { method, target, headers: end_to_end(headers) }, body, Kept(kept))
    }

    /// Puts the request into `error`, if it can be handed back at all.
    pub(crate) fn give_back(self, error: Error) -> Error {
        let kept = match self.body {
            OutgoingBody::Whole(body) if self.is_kept => Some((self.head, body)),
            OutgoingBody::Streamed(_) | OutgoingBody::Whole(_) => None,
        };
        Kept(kept).give_back(error)
    }
}

impl Kept {
    /// Puts the request into `error`, if it is here.
    pub(crate) fn give_back(self, error: Error) -> Error {
        match self.0 {
            Some((head, body)) => error.returning(Request::from_parts(*head, body)),
            None => error,
        }
    }
}

impl OutgoingBody {
    /// How many bytes it has, if that is known.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Self::Streamed(body) => body.size_hint().exact(),
            Self::Whole(body) => Some(body.len() as u64),
        }
    }
}

impl fmt::Debug for OutgoingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutgoingBody({:?} bytes)", self.len())
    }
}

/// The headers without those that belong to the pool: the ones that speak of one connection (RFC 9110 §7.6.1,
/// RFC 9113 §8.2.2), `host`, which comes from the origin, and `content-length`, which comes from the body.
fn end_to_end(headers: HeaderMap) -> HeaderMap {
    if headers.iter().all(|(name, value)| is_end_to_end(name, value)) {
        // Hardly anybody writes one of those.
        return headers;
    }
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers.iter().filter(|(name, value)| is_end_to_end(name, value)) {
        kept.append(name.clone(), value.clone());
    }
    for listed in headers.get_all(CONNECTION) {
        for name in listed.to_str().unwrap_or_default().split(',') {
            kept.remove(name.trim());
        }
    }
    kept
}

fn is_end_to_end(name: &HeaderName, value: &HeaderValue) -> bool {
    match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => false,
        "content-length" | "host" => false,
        "te" => value == "trailers",
        _ => true,
    }
}

#[cfg(test)]
mod tests;
