//! A server and its authorization servers on one address, and a person.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mpe_transport::{Pool, PoolConfig, TlsConfig, Wire};
use serde_json::{Value, json};

use super::super::{Authorization, AuthorizationCode, Grant, MemoryTokenStore, Person};
use crate::upstream::Upstream;
use crate::upstream::testing::{Peer, Reply, Seen, answer, json_answer};
use crate::upstream::{HttpTarget, HttpUpstream, UpstreamError, UpstreamReply, testing};

/// What a server says to a token and a method: nothing, or status and challenge.
type Judge = Box<dyn Fn(Option<&str>, &str) -> Option<(u16, String)> + Send>;

/// How the world is.
pub(super) struct Laws {
    /// `resource` of the server's metadata, by its path.
    pub(super) resource: &'static str,
    /// The server's metadata, if they are to be other than these make them.
    pub(super) document: Option<Value>,
    /// The authorization servers it names, by their paths.
    pub(super) issuers: Vec<&'static str>,
    pub(super) resource_scopes: Option<Value>,
    /// Members that the authorization servers' metadata have besides, or instead.
    pub(super) metadata: Value,
    /// What a registration is answered with besides.
    pub(super) registration: Value,
    /// Seconds that a token lives.
    pub(super) life: Option<u64>,
    /// Whether refresh tokens are given, and changed at each use.
    pub(super) rotates: bool,
    /// The error that a token endpoint answers a grant with.
    pub(super) refuses: Option<(&'static str, &'static str)>,
    /// What the server says to a token (`t1`, `t2`, …) and a method: nothing, or status and challenge.
    pub(super) judge: Judge,
    /// The refresh token that is good.
    pub(super) refresh_token: String,
    n_tokens: usize,
    n_clients: usize,
}

/// The world.
pub(super) struct World {
    pub(super) peer: Peer,
    pub(super) laws: Arc<Mutex<Laws>>,
}

impl World {
    /// One server that takes every token, and one authorization server that has everything.
    pub(super) async fn new() -> Self {
        let laws = Arc::new(Mutex::new(Laws {
            resource: "/mcp",
            document: None,
            issuers: vec!["/as"],
            resource_scopes: None,
            metadata: json!({}),
            registration: json!({}),
            life: Some(3600),
            rotates: true,
            refuses: None,
            judge: Box::new(|token, _| token.is_none().then(|| (401, "Bearer".to_owned()))),
            refresh_token: String::new(),
            n_tokens: 0,
            n_clients: 0,
        }));
        let script = Arc::clone(&laws);
        let peer = Peer::start(move |seen| {
            let reply = script.lock().unwrap().answer(&seen);
            async move { reply }.boxed()
        })
        .await;
        Self { peer, laws }
    }

    pub(super) fn laws(&self) -> MutexGuard<'_, Laws> {
        self.laws.lock().unwrap()
    }

    pub(super) fn base(&self) -> String {
        format!("http://{}", self.peer.address)
    }

    /// A client that authorizes itself so.
    pub(super) fn upstream(&self, authorization: &Authorization) -> HttpUpstream {
        let pool = Pool::new(PoolConfig::default(), TlsConfig::default()).unwrap();
        let authorization = Some(authorization);
        let url = self.peer.url();
        let target = HttpTarget { url: &url, headers: &[], wire: Wire::Auto, pinned: None, authorization };
        HttpUpstream::new(&pool, &target).unwrap()
    }

    /// Every request to the server itself.
    pub(super) fn served(&self) -> Vec<Seen> {
        self.peer.seen().into_iter().filter(|seen| seen.path == "/mcp").collect()
    }

    /// Every request to a path that ends so.
    pub(super) fn seen(&self, ending: &str) -> Vec<Seen> {
        let path = |seen: &Seen| seen.path.split('?').next().unwrap_or_default().to_owned();
        self.peer.seen().into_iter().filter(|seen| path(seen).ends_with(ending)).collect()
    }
}

impl Laws {
    fn answer(&mut self, seen: &Seen) -> Reply {
        let base = format!("http://{}", seen.header("host").unwrap());
        let path = seen.path.split('?').next().unwrap_or_default();
        if path == "/mcp" {
            return self.serve(seen);
        }
        if path == "/.well-known/oauth-protected-resource/mcp" && !self.issuers.is_empty() {
            let issuers: Vec<String> = self.issuers.iter().map(|path| format!("{base}{path}")).collect();
            let mut document =
                json!({ "resource": format!("{base}{}", self.resource), "authorization_servers": issuers });
            if let Some(scopes) = &self.resource_scopes {
                document["scopes_supported"] = scopes.clone();
            }
            return json_answer(200, self.document.as_ref().unwrap_or(&document));
        }
        if let Some(issuer) = path.strip_prefix("/.well-known/oauth-authorization-server") {
            let issuer = format!("{base}{issuer}");
            let mut document = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "registration_endpoint": format!("{issuer}/register"),
                "code_challenge_methods_supported": ["plain", "S256"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            });
            for (name, value) in self.metadata.as_object().unwrap() {
                document[name] = value.clone();
            }
            return json_answer(200, &document);
        }
        if let Some(issuer) = path.strip_suffix("/register") {
            self.n_clients += 1;
            let id = format!("client-of{}-{}", issuer.replace('/', "-"), self.n_clients);
            let mut document = json!({ "client_id": id });
            for (name, value) in self.registration.as_object().unwrap() {
                document[name] = value.clone();
            }
            return json_answer(201, &document);
        }
        if path == "/odd" {
            return json_answer(200, &json!({ "error": "bad_verification_code" }));
        }
        if path.ends_with("/token") {
            return self.issue(seen);
        }
        answer(404, &[], "")
    }

    fn serve(&self, seen: &Seen) -> Reply {
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match (self.judge)(token, seen.method()) {
            Some((status, challenge)) => answer(status, &[("www-authenticate", &challenge)], ""),
            None if seen.method() == "server/discover" => {
                let result = json!({ "supportedVersions": ["2026-07-28"], "capabilities": {} });
                json_answer(200, &seen.result(&result))
            }
            None => json_answer(200, &seen.result(&json!({ "ok": 1 }))),
        }
    }

    fn issue(&mut self, seen: &Seen) -> Reply {
        let grant = seen.form("grant_type").unwrap_or_default();
        if let Some((refused, error)) = self.refuses
            && grant.ends_with(refused)
        {
            return json_answer(400, &json!({ "error": error, "error_description": "because" }));
        }
        if grant == "refresh_token" && seen.form("refresh_token").as_deref() != Some(&self.refresh_token) {
            return json_answer(400, &json!({ "error": "invalid_grant" }));
        }
        self.n_tokens += 1;
        let mut document = json!({ "access_token": format!("t{}", self.n_tokens), "token_type": "bearer" });
        if let Some(life) = self.life {
            document["expires_in"] = life.into();
        }
        if self.rotates {
            self.refresh_token = format!("r{}", self.n_tokens);
            document["refresh_token"] = self.refresh_token.clone().into();
        }
        json_answer(200, &document)
    }
}

/// The parameters of an authorization URL, or of what comes back.
pub(super) type Parameters = HashMap<String, String>;

/// What a person changes of an answer on its way.
type Reaction = Box<dyn Fn(&Parameters, &mut Parameters) + Send + Sync>;

/// A person, who remembers every authorization URL and answers as told.
pub(super) struct Someone {
    pub(super) asked: Mutex<Vec<Parameters>>,
    reply: Reaction,
}

impl Someone {
    /// Agrees, and lets the answer be changed on its way.
    pub(super) fn who(reply: impl Fn(&Parameters, &mut Parameters) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { asked: Mutex::default(), reply: Box::new(reply) })
    }

    pub(super) fn agreeable() -> Arc<Self> {
        Self::who(|_, _| {})
    }

    pub(super) fn asked(&self) -> Vec<Parameters> {
        self.asked.lock().unwrap().clone()
    }
}

impl Person for Someone {
    fn redirect_uri<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async { Ok("http://127.0.0.1:7777/callback".to_owned()) })
    }

    fn authorize<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<String, String>> {
        let url = url::Url::parse(url).unwrap();
        let asked: Parameters = url.query_pairs().into_owned().collect();
        let mut back = Parameters::from([
            ("code".to_owned(), "c1".to_owned()),
            ("state".to_owned(), asked["state"].clone()),
        ]);
        (self.reply)(&asked, &mut back);
        let mut to = url::Url::parse(&asked["redirect_uri"]).unwrap();
        to.query_pairs_mut().extend_pairs(&back);
        self.asked.lock().unwrap().push(asked);
        Box::pin(async move { Ok(to.to_string()) })
    }
}

/// Nobody.
pub(super) struct Nobody;

impl Person for Nobody {
    fn available(&self) -> Result<(), String> {
        Err("run `login`".to_owned())
    }

    fn redirect_uri<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async { Err("nobody".to_owned()) })
    }

    fn authorize<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async { Err("nobody".to_owned()) })
    }
}

/// A person's grant, kept in `store`.
pub(super) fn by(person: Arc<dyn Person>, store: &Arc<MemoryTokenStore>) -> AuthorizationCode {
    AuthorizationCode::new(Arc::clone(store) as _, person)
}

/// A person's grant, with nothing kept.
pub(super) fn of_person(person: Arc<dyn Person>) -> Authorization {
    Authorization::new(Grant::AuthorizationCode(by(person, &Arc::default())))
}

pub(super) async fn list(upstream: &HttpUpstream) -> Result<UpstreamReply, UpstreamError> {
    upstream.request(testing::request("tools/list", None)).await
}
