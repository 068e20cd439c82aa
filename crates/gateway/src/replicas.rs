//! Other replicas of this gateway, behind a balancer that knows nothing of sessions.
//!
//! Everything that can be in a token is, so any replica serves any plain request. What cannot stays at the replica that saw
//! it: a listening stream, a call held for its client's answer, a question on a call's stream. Requests about those are
//! forwarded to that replica, over the one hop that the header [`FORWARDED`] allows: a forwarded request is answered
//! where it arrives, whatever it is about.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use serde::{Deserialize, Serialize};

use crate::mcp::sessions::now;
use crate::seal::{Purpose, Sealer};
use crate::service::Inbound;
use crate::{Body, BoxError};

/// How requests get to another replica.
pub trait Forward: Send + Sync {
    /// Sends `request`, whose URI is absolute, once, and returns when the head of the answer is here. The body may go on for
    /// as long as it likes.
    ///
    /// Dropping the future or the body cancels the request.
    fn forward(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, BoxError>>;
}

/// The replicas of one deployment. They share [`GatewayConfig::secret`](crate::GatewayConfig::secret), without which no
/// replica trusts another.
#[derive(Clone)]
pub struct Replicas {
    /// This replica's name: 1 to 64 letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Where every replica is reached by the others: scheme, host and port. This one's own entry is not used, so that
    /// all can have the same table.
    pub peers: HashMap<String, Uri>,
    /// How requests get there.
    pub forward: Arc<dyn Forward>,
}

/// Marks a request that another replica has forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded;

/// The whole body of a POST, kept for a replica that may have to read it again.
#[derive(Clone, Debug)]
pub(crate) struct Whole(pub(crate) Bytes);

/// The header in which a replica vouches for a request.
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("mpe-forwarded");

/// For how long, in seconds, a forwarded request may be on its way; clocks of replicas may differ by as much.
const TRANSIT: u64 = 60;

/// What the header says.
#[derive(Serialize, Deserialize)]
struct Voucher {
    /// The replica it is for.
    to: String,
    /// Seconds since the epoch after which it is no longer good.
    expires: u64,
}

impl Replicas {
    /// The name of another replica, if it is one that we can reach.
    pub(crate) fn is_peer(&self, name: &str) -> bool {
        name != self.name && self.peers.contains_key(name)
    }

    /// Every other replica's name.
    pub(crate) fn others(&self) -> impl Iterator<Item = &str> {
        self.peers.keys().map(String::as_str).filter(|name| *name != self.name)
    }

    /// Whether another replica vouches for a request.
    pub(crate) fn vouched(&self, headers: &HeaderMap, sealer: &Sealer) -> bool {
        let sealed = headers.get(&FORWARDED).and_then(|value| value.to_str().ok());
        let plain = sealed.and_then(|sealed| sealer.open(Purpose::Forward, "", sealed));
        let voucher = plain.and_then(|plain| serde_json::from_slice::<Voucher>(&plain).ok());
        voucher.is_some_and(|voucher| voucher.to == self.name && voucher.expires > now())
    }

    /// The answer of another replica to this request, whose body is `body`.
    ///
    /// # Errors
    /// It cannot be reached, or gives no answer.
    pub(crate) async fn ask(
        &self,
        name: &str,
        inbound: &Inbound,
        body: Bytes,
    ) -> Result<http::Response<Body>, BoxError> {
        let base = self.peers.get(name).ok_or("there is no replica of that name")?;
        let mut uri = base.clone().into_parts();
        uri.path_and_query = inbound.parts.uri.path_and_query().cloned();
        let mut request = http::Request::new(body);
        *request.method_mut() = inbound.parts.method.clone();
        *request.uri_mut() = Uri::from_parts(uri)?;
        *request.headers_mut() = end_to_end(&inbound.parts.headers);
        let voucher = Voucher { to: name.to_owned(), expires: now() + TRANSIT };
        let plain = serde_json::to_vec(&voucher)?;
        let sealed = inbound.gateway.sealer().seal(Purpose::Forward, "", &plain);
        request.headers_mut().insert(FORWARDED, HeaderValue::try_from(sealed)?);
        let mut response = self.forward.forward(request).await?;
        *response.headers_mut() = end_to_end(response.headers());
        *response.version_mut() = http::Version::default();
        Ok(response)
    }

    /// Tells every other replica, and waits for none longer than its answer takes.
    pub(crate) async fn tell_all(&self, inbound: &Inbound, body: &Bytes) {
        let told = self.others().map(|name| async move {
            if let Err(error) = self.ask(name, inbound, body.clone()).await {
                tracing::debug!(replica = name, %error, "a replica could not be told");
            }
        });
        futures_util::future::join_all(told).await;
    }
}

/// Headers without those that belong to one connection (RFC 9110 §7.6.1), and without what the next hop makes anew.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let is_ours = |name: &HeaderName| {
        let hop = [
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "mpe-forwarded",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        hop.contains(&name.as_str()) || named.iter().any(|named| named == name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| !is_ours(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas")
            .field("name", &self.name)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::end_to_end;

    #[test]
    fn what_belongs_to_a_connection_stays_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("content-length", "3"),
            ("mpe-forwarded", "forged"),
            ("mcp-session-id", "s"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let kept = end_to_end(&headers);
        let mut names: Vec<_> = kept.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "mcp-session-id"]);
    }
}
