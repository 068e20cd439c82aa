//! What is sent: a head, and a body that is here already or still comes.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, request};
use http_body::Body;

use crate::Error;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) head: request::Parts,
    pub(crate) body: OutgoingBody,
}

/// The body of a request.
pub(crate) enum OutgoingBody {
    /// Comes frame by frame; cannot be handed back.
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
    /// Is here as a whole.
    Whole(Bytes),
}

impl From<Request<Bytes>> for Outgoing {
    fn from(request: Request<Bytes>) -> Self {
        let (head, body) = request.into_parts();
        Self { head, body: OutgoingBody::Whole(body) }
    }
}

impl Outgoing {
    /// Puts the request into `error`, if it can be handed back at all.
    pub(crate) fn give_back(self, error: Error) -> Error {
        match self.body {
            OutgoingBody::Streamed(_) => error,
            OutgoingBody::Whole(body) => error.returning(Request::from_parts(self.head, body)),
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

/// A copy of the headers without those that belong to the pool: the ones that speak of one connection (RFC 9110 §7.6.1,
/// RFC 9113 §8.2.2), `host`, which comes from the origin, and `content-length`, which comes from the body.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    if headers.iter().all(|(name, value)| is_kept(name, value)) {
        // Hardly anybody writes one of those, and a whole map is copied without hashing every name.
        return headers.clone();
    }
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers.iter().filter(|(name, value)| is_kept(name, value)) {
        kept.append(name.clone(), value.clone());
    }
    for listed in headers.get_all(CONNECTION) {
        for name in listed.to_str().unwrap_or_default().split(',') {
            kept.remove(name.trim());
        }
    }
    kept
}

fn is_kept(name: &HeaderName, value: &HeaderValue) -> bool {
    match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => false,
        "content-length" | "host" => false,
        "te" => value == "trailers",
        _ => true,
    }
}

#[cfg(test)]
mod tests;
