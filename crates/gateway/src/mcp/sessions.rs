//! Legacy sessions: the sealed token that is the session id, and the little that one replica remembers beside it.
//!
//! A token says everything a plain request needs, so any replica that holds the key serves it. Log level, open
//! streams, questions under way and calls that may be cancelled live at the replica that saw them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mpe_mcp_protocol::jsonrpc::{ErrorObject, Id, code};
use mpe_mcp_protocol::version::ProtocolVersion;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::{Level, gone};
use super::exchange::Emitted;
use super::outbox::Outbox;
use super::rpc;
use crate::seal::{Purpose, Sealer, random_name};

/// Sessions one replica remembers something about. Beyond it the one that was quiet longest is forgotten, which
/// costs it its log level, nothing else.
const MAX_SESSIONS: usize = 10_000;

/// Ended sessions that are remembered.
const MAX_ENDED: usize = 100_000;

/// Calls of one session that can be cancelled, and questions it can be asked, at a time.
const MAX_PER_SESSION: usize = 1024;

/// How long a client may take to answer a question of an upstream.
const ASK_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What the session id says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The revision that was agreed.
    #[serde(rename = "v")]
    version: String,
    /// The session's own name.
    #[serde(rename = "s")]
    pub(crate) id: String,
    /// `ClientCapabilities` as the client declared them.
    #[serde(rename = "c")]
    pub(crate) capabilities: Option<Box<RawValue>>,
    /// `clientInfo` as the client gave it.
    #[serde(rename = "i")]
    pub(crate) client_info: Option<Box<RawValue>>,
    /// The replica that answered the handshake, where there are several.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(crate) home: Option<String>,
    /// Seconds since the epoch after which it is no longer good.
    #[serde(rename = "x")]
    expires: u64,
}

/// What this replica remembers of a session.
#[derive(Debug)]
pub(crate) struct Session {
    level: Mutex<Option<Level>>,
    asked: Mutex<HashMap<String, oneshot::Sender<Reply>>>,
    running: Mutex<HashMap<Id, CancellationToken>>,
    subscriptions: watch::Sender<Vec<String>>,
    listening: Mutex<Option<CancellationToken>>,
    used: Mutex<Instant>,
}

/// Every session this replica remembers something about.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
    /// Sessions that were ended, each until its token expires by itself.
    ended: Mutex<HashMap<String, u64>>,
}

/// A call that `notifications/cancelled` may end; forgotten when dropped.
pub(crate) struct Cancellable {
    session: Arc<Session>,
    id: Id,
    pub(crate) token: CancellationToken,
}

type Reply = Result<Box<RawValue>, ErrorObject>;

// === impl Token ===

impl Token {
    pub(crate) fn new(
        version: ProtocolVersion,
        capabilities: Option<Box<RawValue>>,
        client_info: Option<Box<RawValue>>,
        lifetime: Duration,
    ) -> Self {
        Self {
            version: version.as_str().to_owned(),
            id: random_name(),
            capabilities,
            client_info,
            home: None,
            expires: now().saturating_add(lifetime.as_secs()),
        }
    }

    pub(crate) fn seal(&self, sealer: &Sealer, endpoint: &str) -> String {
        let plain = serde_json::to_vec(self).expect("a token is JSON");
        sealer.seal(Purpose::Session, endpoint, &plain)
    }

    /// The token of a session id; `None` when it is not ours, not this endpoint's, or no longer good.
    pub(crate) fn open(sealer: &Sealer, endpoint: &str, session_id: &str) -> Option<Self> {
        let plain = sealer.open(Purpose::Session, endpoint, session_id)?;
        let token: Self = serde_json::from_slice(&plain).ok()?;
        (token.expires > now()).then_some(token)
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        ProtocolVersion::parse(&self.version).unwrap_or(ProtocolVersion::V2025_03_26)
    }
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

// === impl Sessions ===

impl Sessions {
    /// Ends a session for good. False when too many have ended lately to remember one more.
    pub(crate) fn end(&self, token: &Token) -> bool {
        {
            let mut ended = lock(&self.ended);
            if ended.len() >= MAX_ENDED {
                let now = now();
                ended.retain(|_, expires| *expires > now);
            }
            if ended.len() >= MAX_ENDED {
                return false;
            }
            ended.insert(token.id.clone(), token.expires);
        }
        let session = lock(&self.by_id).remove(&token.id);
        if let Some(session) = session {
            session.close();
        }
        true
    }

    /// What is remembered of the token's session; remembered from now on if nothing was. `None`: it was ended.
    pub(crate) fn of(&self, token: &Token) -> Option<Arc<Session>> {
        if lock(&self.ended).contains_key(&token.id) {
            return None;
        }
        let mut by_id = lock(&self.by_id);
        if let Some(session) = by_id.get(&token.id) {
            *lock(&session.used) = Instant::now();
            return Some(Arc::clone(session));
        }
        if by_id.len() >= MAX_SESSIONS {
            forget_one(&mut by_id);
        }
        let session = Arc::new(Session {
            level: Mutex::default(),
            asked: Mutex::default(),
            running: Mutex::default(),
            subscriptions: watch::Sender::default(),
            listening: Mutex::default(),
            used: Mutex::new(Instant::now()),
        });
        by_id.insert(token.id.clone(), Arc::clone(&session));
        Some(session)
    }
}

/// Drops the quietest session that nobody holds on to.
fn forget_one(by_id: &mut HashMap<String, Arc<Session>>) {
    let quietest = by_id
        .iter()
        .filter(|(_, session)| Arc::strong_count(session) == 1)
        .min_by_key(|(_, session)| *lock(&session.used))
        .map(|(id, _)| id.clone());
    if let Some(id) = quietest {
        by_id.remove(&id);
    }
}

// === impl Session ===

impl Session {
    pub(crate) fn level(&self) -> Option<Level> {
        *lock(&self.level)
    }

    pub(crate) fn set_level(&self, level: Level) {
        *lock(&self.level) = Some(level);
    }

    /// Asks the client on a call's stream and waits for the answer it posts.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the question; a late answer is ignored.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        stream: &Outbox,
        method: &str,
        params: Option<Box<RawValue>>,
        replica: Option<&str>,
    ) -> Reply {
        struct Forget<'a>(&'a Session, String);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                lock(&self.0.asked).remove(&self.1);
            }
        }

        // Names the replica that asks, so that an answer that lands elsewhere finds it.
        let id = match replica {
            None => format!("mpe-{}", random_name()),
            Some(replica) => format!("mpe-{}-{replica}", random_name()),
        };
        let (reply, answer) = oneshot::channel();
        {
            let mut asked = lock(&self.asked);
            if asked.len() >= MAX_PER_SESSION {
                let message = "too many questions are waiting for this client".to_owned();
                return Err(ErrorObject { code: code::INTERNAL_ERROR, message, data: None });
            }
            asked.insert(id.clone(), reply);
        }
        let _forget = Forget(self, id.clone());
        let message = rpc::request(&id, method, params.as_deref());
        if stream.send(Emitted::Message(message)).await.is_err() {
            return Err(gone());
        }
        match tokio::time::timeout(ASK_PATIENCE, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => Err(gone()),
        }
    }

    /// The client's answer to a question. One nobody asked, or no longer, is ignored.
    pub(crate) fn answer(&self, id: &Id, reply: Reply) {
        let Id::String(id) = id else { return };
        let asker = lock(&self.asked).remove(id);
        if let Some(asker) = asker {
            // The asking call may have ended meanwhile.
            let _ = asker.send(reply);
        }
    }

    /// Lets `notifications/cancelled` find the call.
    pub(crate) fn cancellable(self: &Arc<Self>, id: &Id) -> Cancellable {
        let token = CancellationToken::new();
        let mut running = lock(&self.running);
        if running.len() < MAX_PER_SESSION {
            running.insert(id.clone(), token.clone());
        }
        drop(running);
        Cancellable { session: Arc::clone(self), id: id.clone(), token }
    }

    /// Cancels the call of that id. False when it is not under way here.
    pub(crate) fn cancel(&self, id: &Id) -> bool {
        let running = lock(&self.running);
        let token = running.get(id);
        if let Some(token) = token {
            token.cancel();
        }
        token.is_some()
    }

    /// Subscribes to a resource, or ends that. The session's stream hears of it.
    pub(crate) fn set_subscribed(&self, uri: &str, subscribed: bool) {
        self.subscriptions.send_if_modified(|uris| {
            let had = uris.iter().any(|known| known == uri);
            if subscribed && !had && uris.len() < MAX_PER_SESSION {
                uris.push(uri.to_owned());
                return true;
            }
            if !subscribed && had {
                uris.retain(|known| known != uri);
                return true;
            }
            false
        });
    }

    /// The resources subscribed to, now and whenever that changes.
    pub(crate) fn subscriptions(&self) -> watch::Receiver<Vec<String>> {
        self.subscriptions.subscribe()
    }

    /// Ends its listening stream and its calls.
    fn close(&self) {
        if let Some(stream) = lock(&self.listening).take() {
            stream.cancel();
        }
        for call in lock(&self.running).values() {
            call.cancel();
        }
    }

    /// Makes the caller's stream the session's only listening one; an earlier one ends.
    pub(crate) fn listen(&self) -> CancellationToken {
        let token = CancellationToken::new();
        if let Some(earlier) = lock(&self.listening).replace(token.clone()) {
            earlier.cancel();
        }
        token
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        lock(&self.session.running).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here can be left half-done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use mpe_mcp_protocol::jsonrpc::{Id, Message};
    use mpe_mcp_protocol::version::ProtocolVersion;
    use serde_json::value::RawValue;

    use super::{Sessions, Token};
    use crate::mcp::exchange::Emitted;
    use crate::mcp::outbox::outbox;
    use crate::seal::Sealer;

    fn token(lifetime: Duration) -> Token {
        Token::new(ProtocolVersion::V2025_06_18, None, None, lifetime)
    }

    #[test]
    fn a_session_id_says_what_was_agreed() {
        let sealer = Sealer::new(None);
        let capabilities = RawValue::from_string(r#"{"roots":{ }}"#.to_owned()).unwrap();
        let token =
            Token::new(ProtocolVersion::V2025_06_18, Some(capabilities), None, Duration::from_secs(60));
        let opened = Token::open(&sealer, "default", &token.seal(&sealer, "default")).unwrap();
        assert_eq!(opened.version(), ProtocolVersion::V2025_06_18);
        assert_eq!(opened.capabilities.unwrap().get(), r#"{"roots":{ }}"#);
        assert_eq!(opened.id, token.id);
    }

    #[test]
    fn an_expired_or_foreign_session_id_is_unknown() {
        let sealer = Sealer::new(None);
        let expired = token(Duration::ZERO).seal(&sealer, "default");
        assert!(Token::open(&sealer, "default", &expired).is_none());
        let other_tenants = token(Duration::from_secs(60)).seal(&sealer, "other");
        assert!(Token::open(&sealer, "default", &other_tenants).is_none());
    }

    #[test]
    fn a_session_id_is_visible_ascii() {
        let sealer = Sealer::new(None);
        let id = token(Duration::from_secs(60)).seal(&sealer, "default");
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
    }

    #[test]
    fn an_ended_session_stays_ended() {
        let sessions = Sessions::default();
        let token = token(Duration::from_secs(60));
        assert!(sessions.of(&token).is_some());
        assert!(sessions.end(&token));
        assert!(sessions.of(&token).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_goes_out_on_the_stream_and_its_answer_comes_back() {
        let session = Sessions::default().of(&token(Duration::from_secs(60))).unwrap();
        let (stream, mut sent) = outbox(4);
        let asking = session.ask(&stream, "roots/list", None, None);
        let answering = async {
            let Emitted::Message(message) = poll_fn(|cx| sent.poll_next(cx)).await else {
                panic!("no question")
            };
            let Ok(Message::Request(request)) = Message::parse(&message) else { panic!("no request") };
            assert_eq!(request.method, "roots/list");
            session.answer(&Id::String("somebody else's".into()), Ok(raw("1")));
            session.answer(&request.id, Ok(raw(r#"{"roots":[]}"#)));
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer.unwrap().get(), r#"{"roots":[]}"#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_nobody_answers_ends() {
        let session = Sessions::default().of(&token(Duration::from_secs(60))).unwrap();
        let (stream, _sent) = outbox(4);
        assert!(session.ask(&stream, "roots/list", None, None).await.is_err());
    }

    #[test]
    fn only_a_call_under_way_can_be_cancelled() {
        let session = Sessions::default().of(&token(Duration::from_secs(60))).unwrap();
        let call = session.cancellable(&Id::Integer(1));
        session.cancel(&Id::String("1".into()));
        assert!(!call.token.is_cancelled());
        session.cancel(&Id::Integer(1));
        assert!(call.token.is_cancelled());
        drop(call);
        session.cancel(&Id::Integer(1));
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }
}
