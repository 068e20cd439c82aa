//! Requests that only one replica can answer, on their way to it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use mpe_mcp_protocol::jsonrpc::Id;

use crate::guard;
use crate::replicas::{Forwarded, Replicas, Whole};
use crate::service::{Inbound, LongLived};
use crate::{Body, BoxError};

/// How long a replica may take to open a listening stream, or to take what it is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Characters of [`random_name`](crate::seal::random_name), behind which a question's id names its replica.
const RANDOM_CHARACTERS: usize = 22;

/// This replica's name, where there are several.
pub(crate) fn name(inbound: &Inbound) -> Option<&str> {
    inbound.gateway.replicas().map(|replicas| replicas.name.as_str())
}

/// The other replicas, unless one of them has sent this request here.
fn others(inbound: &Inbound) -> Option<&Replicas> {
    let is_forwarded = inbound.parts.extensions.get::<Forwarded>().is_some();
    inbound.gateway.replicas().filter(|_| !is_forwarded)
}

/// The answer of the replica that a request belongs to. `None`: that is this one.
///
/// # Errors
/// The replica is gone, and with it what the request is about.
pub(crate) async fn answer(
    inbound: &Inbound,
    home: Option<&str>,
) -> Option<Result<http::Response<Body>, BoxError>> {
    let whole = inbound.parts.extensions.get::<Whole>().map(|whole| whole.0.clone()).unwrap_or_default();
    answer_to(inbound, home, whole).await
}

/// As [`answer`], for one message of the request.
///
/// # Errors
/// As [`answer`].
pub(crate) async fn answer_to(
    inbound: &Inbound,
    home: Option<&str>,
    message: Bytes,
) -> Option<Result<http::Response<Body>, BoxError>> {
    let replicas = others(inbound)?;
    let home = home.filter(|home| *home != replicas.name)?;
    Some(replicas.ask(home, inbound, message).await)
}

/// As [`answer`], for a stream that only listens: it takes a place for listeners here, too.
///
/// # Errors
/// As [`answer`]; also when no place is free.
pub(crate) async fn stream(
    inbound: &Inbound,
    home: Option<&str>,
) -> Option<Result<http::Response<Body>, BoxError>> {
    let answer = match tokio::time::timeout(PATIENCE, answer(inbound, home)).await {
        Ok(answer) => answer?,
        Err(_) => Err("the replica did not answer in time".into()),
    };
    let response = match answer {
        Ok(response) if response.status().is_success() => response,
        other => return Some(other),
    };
    let Some(place) = inbound.gateway.listener_place() else {
        return Some(Err("no place for a listener is free".into()));
    };
    let mut response = response.map(|body| guard::with(body, place).boxed_unsync());
    response.extensions_mut().insert(LongLived);
    Some(Ok(response))
}

/// Tells every other replica what this request says: what it is about may be at any of them.
pub(crate) async fn tell_all(inbound: &Inbound, message: &Bytes) {
    if let Some(replicas) = others(inbound) {
        let _ = tokio::time::timeout(PATIENCE, replicas.tell_all(inbound, message)).await;
    }
}

/// Hands the answer to a question to the replica that asked. False when that is this one.
pub(crate) async fn hand_over(inbound: &Inbound, id: Option<&Id>, message: &Bytes) -> bool {
    let Some((replicas, name)) = others(inbound).zip(id.and_then(asker)) else { return false };
    if !replicas.is_peer(name) {
        return false;
    }
    match tokio::time::timeout(PATIENCE, replicas.ask(name, inbound, message.clone())).await {
        Ok(Ok(_)) => {}
        // Its call is gone with it; a late answer is ignored in any case.
        Ok(Err(error)) => tracing::debug!(replica = name, %error, "an answer could not be handed over"),
        Err(_) => tracing::debug!(replica = name, "an answer could not be handed over in time"),
    }
    true
}

/// The replica that a question's id names.
fn asker(id: &Id) -> Option<&str> {
    let Id::String(id) = id else { return None };
    of_name(id.strip_prefix("mpe-")?)
}

/// The replica that a name of ours ends with.
pub(crate) fn of_name(name: &str) -> Option<&str> {
    name.get(RANDOM_CHARACTERS..)?.strip_prefix('-')
}

#[cfg(test)]
mod tests {
    use mpe_mcp_protocol::jsonrpc::Id;

    use super::asker;
    use crate::seal::random_name;

    #[test]
    fn a_question_names_its_replica_behind_whatever_chance_made() {
        for _ in 0..200 {
            let id = Id::String(format!("mpe-{}-pod-1.a", random_name()));
            assert_eq!(asker(&id), Some("pod-1.a"));
            assert_eq!(asker(&Id::String(format!("mpe-{}", random_name()))), None);
        }
        assert_eq!(asker(&Id::String("mpe-é".to_owned())), None);
        assert_eq!(asker(&Id::Integer(1)), None);
    }
}
