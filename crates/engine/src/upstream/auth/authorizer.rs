//! Gets, keeps and renews the token for one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Uri;
use http::header::HeaderValue;
use mpe_transport::{Pool, Sent};
use oauth2::TokenResponse;
use oauth2::basic::{BasicTokenResponse, BasicTokenType};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::super::UpstreamError;
use super::address;
use super::assertion::unix_now;
use super::challenge::{Challenge, Demand, Scopes};
use super::config::{Authorization, AuthorizationCode, Grant};
use super::discovery::{Found, OFFLINE_ACCESS, discover};
use super::errand::Errand;
use super::outside::{Outside, parse, refused};
use super::registration;
use super::store::{StoredLogin, StoredTokens};
use super::token::{self, Desk, Registered, Rejection, secret_header};
use crate::CallErrorKind;

/// Gets, keeps and renews the token for one server.
pub(in crate::upstream) struct Authorizer {
    config: Authorization,
    outside: Outside,
    /// The server's canonical address: the key of what is stored.
    server: String,
    current: ArcSwapOption<Token>,
    /// Held while a token is got: everybody else waits for that one.
    state: Arc<Mutex<State>>,
    /// Whether there is anything to try without a challenge.
    can_renew: AtomicBool,
    /// Whether somebody, or something, can answer a challenge.
    is_attended: bool,
    /// Renewals outlive the calls that wait for them: a refresh token that was used up must be replaced.
    tasks: TaskTracker,
}

/// A token in hand.
pub(in crate::upstream) struct Token {
    header: HeaderValue,
    /// When it is renewed: before it expires.
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
    /// What was asked for, and what was granted beyond.
    scopes: Scopes,
}

/// What a login brought.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// The authorization server.
    pub issuer: String,
    /// The scope that was granted, as far as anybody said.
    pub scope: Option<String>,
    /// Whether it renews itself.
    pub is_renewable: bool,
    /// How long the first token is good; `None`: nobody said.
    pub expires_in: Option<Duration>,
}

#[derive(Default)]
struct State {
    login: StoredLogin,
    /// What the last discovery found.
    found: Option<Found>,
    /// The last failure: it stands for a moment, so that a crowd of calls does not repeat it one by one.
    failed: Option<(Instant, CallErrorKind, String)>,
}

/// What a token was got upon.
struct Grounds<'a> {
    desk: Desk<'a>,
    client: &'a Registered,
    resource: &'a str,
    scopes: &'a Scopes,
}

/// Why a token is got.
enum Occasion {
    Demanded(Demand),
    Stale,
}

/// A token is renewed this long before it expires, or after half of its life if that is shorter.
const MARGIN: Duration = Duration::from_secs(60);
/// One renewal may take this long, whoever waits for it.
const RENEWAL: Duration = Duration::from_secs(30);
/// How long a failure stands.
const FAILURE_STANDS: Duration = Duration::from_secs(2);

impl Authorizer {
    pub(in crate::upstream) fn new(pool: Pool, server: Uri, config: Authorization) -> Self {
        let canonical = address::canonical(&server);
        let (is_stored, is_attended) = match &config.grant {
            Grant::AuthorizationCode(code) => (true, code.person.available().is_ok()),
            _ => (false, true),
        };
        Self {
            is_attended,
            outside: Outside { pool, server, private_networks: config.private_networks },
            config,
            server: canonical,
            current: ArcSwapOption::empty(),
            state: Arc::default(),
            can_renew: AtomicBool::new(is_stored),
            tasks: TaskTracker::new(),
        }
    }

    /// The token to send a request with; `None` when only the server's challenge can tell how to get one. A token that
    /// is about to expire is renewed here, by one call; the others go on with it as long as it is good.
    ///
    /// # Errors
    /// The deadline passed.
    pub(in crate::upstream) async fn ready(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Option<Arc<Token>>, UpstreamError> {
        let current = self.current.load_full();
        let now = Instant::now();
        if let Some(token) = current.as_ref().filter(|token| token.is_fresh(now)) {
            return Ok(Some(Arc::clone(token)));
        }
        if !self.can_renew.load(Ordering::Acquire) {
            return Ok(current.filter(|token| token.is_alive(now)));
        }
        let good = current.as_ref().filter(|token| token.is_alive(now));
        let guard = match good {
            Some(token) => match Arc::clone(&self.state).try_lock_owned() {
                Ok(guard) => guard,
                Err(_) => return Ok(Some(Arc::clone(token))),
            },
            None => self.turn(deadline).await?,
        };
        match self.renew(guard, current.clone(), Occasion::Stale, deadline).await {
            Ok(token) => Ok(Some(token)),
            Err(error) if error.kind == CallErrorKind::DeadlineExceeded => Err(error),
            Err(error) => {
                debug!(server = %self.server, %error, "no token without a challenge");
                Ok(good.cloned())
            }
        }
    }

    /// Whether requests go out as if there were no authorization at all: no token is good, and a challenge will only be
    /// answered by an error. So no request has to be kept for a second attempt.
    pub(in crate::upstream) fn is_idle(&self) -> bool {
        let is_helpless = !self.is_attended && !self.can_renew.load(Ordering::Acquire);
        is_helpless && self.current.load().as_ref().is_none_or(|token| !token.is_alive(Instant::now()))
    }

    /// The server refused a request that was sent with `used`, and what it demands can be had: one call gets it for all.
    ///
    /// # Errors
    /// [`CallErrorKind::UpstreamAuth`], saying which step failed; nothing was executed.
    pub(in crate::upstream) async fn satisfy(
        self: &Arc<Self>,
        used: Option<&Arc<Token>>,
        demand: Demand,
        deadline: Instant,
    ) -> Result<Arc<Token>, UpstreamError> {
        let guard = self.turn(deadline).await?;
        self.renew(guard, used.cloned(), Occasion::Demanded(demand), deadline).await
    }

    /// Has the person log in anew, whatever is in hand.
    ///
    /// # Errors
    /// As [`Authorizer::satisfy`]; or the grant is no person's.
    pub(in crate::upstream) async fn login(
        &self,
        challenge: &Challenge,
        deadline: Instant,
    ) -> Result<Login, UpstreamError> {
        let Grant::AuthorizationCode(code) = &self.config.grant else {
            return Err(refused("nobody logs in at this server: the engine gets its tokens by itself"));
        };
        let mut guard = self.turn(deadline).await?;
        let state = &mut *guard;
        state.login = self.stored(code).await.unwrap_or_else(|error| {
            // A damaged login is replaced by this one.
            warn!(server = %self.server, %error, "the earlier login is not used");
            StoredLogin { server: self.server.clone(), ..StoredLogin::default() }
        });
        let earlier = state.login.tokens.as_ref();
        let found = self.discover(challenge, earlier, deadline).await?;
        let known = earlier.filter(|tokens| tokens.issuer == found.issuer);
        let before = Scopes::of(known.and_then(|tokens| tokens.scope.as_deref()));
        let wanted = Scopes::of(state.login.wanted_scope.as_deref());
        // What the server has asked for since the last login comes on top of it.
        let scopes = match wanted.is_empty() {
            true => self.scopes(challenge, &found),
            false => self.scopes(challenge, &found).and(&before).and(&wanted),
        };
        self.grant(state, found, &scopes, deadline).await?;
        let tokens = state.login.tokens.as_ref().expect("a grant leaves its tokens");
        let now = unix_now();
        Ok(Login {
            issuer: tokens.issuer.clone(),
            scope: tokens.scope.clone(),
            is_renewable: tokens.refresh_token.is_some(),
            expires_in: tokens.expires_at.map(|at| Duration::from_secs(at.saturating_sub(now))),
        })
    }

    /// Waits for a renewal under way: what it brings is kept, or lost with the process.
    pub(in crate::upstream) async fn settle(&self, deadline: Instant) {
        self.tasks.close();
        if timeout_at(deadline, self.tasks.wait()).await.is_err() {
            warn!(server = %self.server, "a renewal of the login is left behind");
        }
    }

    async fn turn(&self, deadline: Instant) -> Result<OwnedMutexGuard<State>, UpstreamError> {
        let turn = timeout_at(deadline, Arc::clone(&self.state).lock_owned()).await;
        turn.map_err(|_| UpstreamError::deadline(Sent::No, "a token"))
    }

    /// Renews in a task of its own, and waits for it no longer than `deadline`.
    async fn renew(
        self: &Arc<Self>,
        mut guard: OwnedMutexGuard<State>,
        used: Option<Arc<Token>>,
        occasion: Occasion,
        deadline: Instant,
    ) -> Result<Arc<Token>, UpstreamError> {
        if let Some(token) = self.newer_than(used.as_ref(), &occasion) {
            return Ok(token);
        }
        let this = Arc::clone(self);
        let renewal = self.tasks.spawn(async move {
            let until = Instant::now() + RENEWAL;
            let state = &mut *guard;
            if let Some((at, kind, message)) = &state.failed
                && Instant::now() < *at + FAILURE_STANDS
            {
                return Err(UpstreamError::new(*kind, Sent::No, message.clone()));
            }
            let is_stale = matches!(occasion, Occasion::Stale);
            let renewed = this.renewed(state, used.as_deref(), occasion, until).await;
            state.failed = match &renewed {
                // Without a challenge not everything was tried.
                Err(error) if !is_stale => Some((Instant::now(), error.kind, error.message.clone())),
                _ => None,
            };
            renewed
        });
        let renewed = timeout_at(deadline, renewal).await;
        let renewed = renewed.map_err(|_| UpstreamError::deadline(Sent::No, "a token"))?;
        renewed.unwrap_or_else(|_| Err(refused("the renewal of the token broke off")))
    }

    /// The token in hand, if somebody got it meanwhile and it does.
    fn newer_than(&self, used: Option<&Arc<Token>>, occasion: &Occasion) -> Option<Arc<Token>> {
        let current = self.current.load_full()?;
        let is_newer = used.is_none_or(|used| !Arc::ptr_eq(used, &current));
        (is_newer && current.is_alive(Instant::now()) && occasion.is_satisfied(&current.scopes))
            .then_some(current)
    }

    async fn renewed(
        &self,
        state: &mut State,
        used: Option<&Token>,
        occasion: Occasion,
        deadline: Instant,
    ) -> Result<Arc<Token>, UpstreamError> {
        if let Grant::AuthorizationCode(code) = &self.config.grant {
            // Another process, or a login, may have been here.
            state.login = self.stored(code).await?;
            if let Some(token) = self.adopted(&state.login, used, &occasion)? {
                return Ok(token);
            }
        }
        match occasion {
            Occasion::Stale => self.without_challenge(state, deadline).await,
            Occasion::Demanded(Demand::Scope(challenge)) => {
                self.further(state, used, &challenge, deadline).await
            }
            Occasion::Demanded(Demand::Token(challenge)) => {
                self.anew(state, used, &challenge, deadline).await
            }
        }
    }

    /// What is stored for this server; tokens that are for another one, or for another client, are no tokens.
    async fn stored(&self, code: &AuthorizationCode) -> Result<StoredLogin, UpstreamError> {
        let stored = code.store.load(&self.server).await.map_err(refused)?;
        let mut login = stored.unwrap_or_default();
        if login.server != self.server {
            login = StoredLogin { server: self.server.clone(), ..StoredLogin::default() };
        }
        let is_ours = |tokens: &StoredTokens| {
            self.config.resource.as_ref().is_none_or(|only| *only == tokens.resource)
                && self.config.issuer.as_ref().is_none_or(|only| *only == tokens.issuer)
                && code.client.as_ref().is_none_or(|client| client.id == tokens.client_id)
        };
        login.tokens = login.tokens.filter(is_ours);
        let can_renew = login.tokens.as_ref().is_some_and(|tokens| tokens.refresh_token.is_some());
        self.can_renew.store(can_renew, Ordering::Release);
        Ok(login)
    }

    /// The stored token, unless it is the one that was refused.
    fn adopted(
        &self,
        login: &StoredLogin,
        used: Option<&Token>,
        occasion: &Occasion,
    ) -> Result<Option<Arc<Token>>, UpstreamError> {
        let Some(tokens) = &login.tokens else { return Ok(None) };
        let token = Token::of_stored(tokens)?;
        let is_another = used.is_none_or(|used| used.header != token.header);
        if !is_another || !token.is_fresh(Instant::now()) || !occasion.is_satisfied(&token.scopes) {
            return Ok(None);
        }
        Ok(Some(self.take(token)))
    }

    fn take(&self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        self.current.store(Some(Arc::clone(&token)));
        token
    }

    /// A token is about to expire, or has.
    async fn without_challenge(
        &self,
        state: &mut State,
        deadline: Instant,
    ) -> Result<Arc<Token>, UpstreamError> {
        if state.login.tokens.as_ref().is_some_and(|tokens| tokens.refresh_token.is_some()) {
            return Ok(self.refresh(state, deadline).await?);
        }
        let is_own = !matches!(self.config.grant, Grant::AuthorizationCode(_));
        if let Some(found) = state.found.clone().filter(|_| is_own) {
            let scopes = Scopes::of(state.login.tokens.as_ref().and_then(|tokens| tokens.scope.as_deref()));
            return self.grant(state, found, &scopes, deadline).await;
        }
        self.can_renew.store(false, Ordering::Release);
        Err(refused("there is nothing to renew"))
    }

    /// The server takes no token, or not the one it was shown.
    async fn anew(
        &self,
        state: &mut State,
        used: Option<&Token>,
        challenge: &Challenge,
        deadline: Instant,
    ) -> Result<Arc<Token>, UpstreamError> {
        let earlier = state.login.tokens.clone();
        let can_refresh = earlier.as_ref().is_some_and(|tokens| tokens.refresh_token.is_some());
        if !can_refresh {
            self.somebody()?;
        }
        let found = self.discover(challenge, earlier.as_ref(), deadline).await?;
        // Tokens of another issuer are not shown to this one, and say nothing about it.
        let known = earlier.filter(|tokens| tokens.issuer == found.issuer);
        if known.is_none() {
            state.login.tokens = None;
        }
        if can_refresh && known.is_some() {
            match self.refresh(state, deadline).await {
                Ok(token) => return Ok(token),
                Err(rejection) if rejection.code.is_none() => return Err(rejection.error),
                Err(rejection) => {
                    info!(server = %self.server, error = %rejection.error, "the login can no longer be renewed");
                    self.somebody()?;
                }
            }
        }
        let asked = used.filter(|_| known.is_some()).map(|used| used.scopes.clone()).unwrap_or_default();
        let scopes = self.scopes(challenge, &found).and(&asked);
        self.grant(state, found, &scopes, deadline).await
    }

    /// The server wants a token that reaches further: one for what was asked before and for what it asks now.
    async fn further(
        &self,
        state: &mut State,
        used: Option<&Token>,
        challenge: &Challenge,
        deadline: Instant,
    ) -> Result<Arc<Token>, UpstreamError> {
        let asked = used.map(|used| used.scopes.clone()).unwrap_or_default();
        let wanted = Scopes::of(challenge.scope.as_deref());
        if asked.holds(&wanted) {
            return Err(refused(format!(
                "the server wants the scope {:?}, which was asked for and does not suffice",
                token::shortened(challenge.scope.as_deref().unwrap_or_default())
            )));
        }
        if let Err(error) = self.somebody() {
            // Whoever logs in next is asked for it.
            let before = Scopes::of(state.login.wanted_scope.as_deref());
            state.login.wanted_scope = before.and(&wanted).text();
            self.keep(&state.login).await;
            return Err(refused(format!(
                "the server wants the scope {:?} besides; {}",
                token::shortened(challenge.scope.as_deref().unwrap_or_default()),
                error.message
            )));
        }
        let found = self.discover(challenge, state.login.tokens.as_ref(), deadline).await?;
        self.grant(state, found, &asked.and(&wanted), deadline).await
    }

    /// Whether the grant can be given at all: a person's needs a person.
    fn somebody(&self) -> Result<(), UpstreamError> {
        match &self.config.grant {
            Grant::AuthorizationCode(code) => code.person.available().map_err(refused),
            _ => Ok(()),
        }
    }

    async fn discover(
        &self,
        challenge: &Challenge,
        earlier: Option<&StoredTokens>,
        deadline: Instant,
    ) -> Result<Found, UpstreamError> {
        let preferred = earlier.map(|tokens| tokens.issuer.as_str());
        discover(&self.outside, challenge, self.config.issuer.as_deref(), preferred, deadline).await
    }

    /// What to ask for (2026-07-28, scope selection): what the operator says, else the challenge, else what the
    /// server's metadata list.
    fn scopes(&self, challenge: &Challenge, found: &Found) -> Scopes {
        let named = self.config.scope.as_deref().or(challenge.scope.as_deref());
        let scopes = match named {
            Some(_) => Scopes::of(named),
            None => found.resource_scopes.clone(),
        };
        let is_persons = matches!(self.config.grant, Grant::AuthorizationCode(_));
        if is_persons && found.has_offline_access && !scopes.is_empty() {
            return scopes.and(&Scopes::of(Some(OFFLINE_ACCESS)));
        }
        scopes
    }

    async fn grant(
        &self,
        state: &mut State,
        found: Found,
        scopes: &Scopes,
        deadline: Instant,
    ) -> Result<Arc<Token>, UpstreamError> {
        let errand = Errand {
            outside: &self.outside,
            found: &found,
            only: self.config.issuer.as_deref(),
            resource: self.config.resource.as_deref().unwrap_or(&found.resource),
            deadline,
        };
        let granted = errand.run(&self.config.grant, &mut state.login, scopes).await;
        let (client, answer) = match granted {
            Ok(granted) => granted,
            Err(rejection) => {
                if rejection.code.as_deref() == Some("invalid_client") {
                    // It does not know us any more: the next login registers anew.
                    state.login.clients.remove(&found.issuer);
                }
                self.keep(&state.login).await;
                return Err(rejection.error);
            }
        };
        state.login.wanted_scope = None;
        info!(server = %self.server, issuer = %found.issuer, "token got");
        let resource = errand.resource.to_owned();
        let grounds = Grounds { desk: found.desk(), client: &client, resource: &resource, scopes };
        let token = self.accept(&mut state.login, grounds, &answer, None).await?;
        self.can_renew.store(true, Ordering::Release);
        state.found = Some(found);
        Ok(token)
    }

    /// Renews by the refresh token, at the endpoint and by the client that it belongs to.
    async fn refresh(&self, state: &mut State, deadline: Instant) -> Result<Arc<Token>, Rejection> {
        let login = &mut state.login;
        let (Some(tokens), Some(client)) = (login.tokens.clone(), self.refreshing_client(login)) else {
            return Err(refused("there is nothing to renew").into());
        };
        let Some(refresh_token) = tokens.refresh_token else {
            return Err(refused("the authorization server gave no refresh token").into());
        };
        let endpoint = parse(&tokens.token_endpoint)?;
        let desk = Desk { endpoint: &endpoint, issuer: &tokens.issuer };
        let form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", refresh_token.expose_secret().to_owned()),
            ("resource", tokens.resource.clone()),
        ];
        let answer = match token::ask(&self.outside, desk, &client, form, deadline).await {
            Ok(answer) => answer,
            Err(rejection) => {
                if let Some("invalid_grant" | "invalid_client") = rejection.code.as_deref() {
                    // It will never be good again; asking once more would only look like theft.
                    if let Some(tokens) = &mut login.tokens {
                        tokens.refresh_token = None;
                    }
                    self.can_renew.store(false, Ordering::Release);
                    self.keep(login).await;
                }
                return Err(rejection);
            }
        };
        debug!(server = %self.server, issuer = %tokens.issuer, "token renewed");
        let scopes = Scopes::of(tokens.scope.as_deref());
        let grounds = Grounds { desk, client: &client, resource: &tokens.resource, scopes: &scopes };
        Ok(self.accept(login, grounds, &answer, Some(refresh_token)).await?)
    }

    fn refreshing_client(&self, login: &StoredLogin) -> Option<Registered> {
        let tokens = login.tokens.as_ref()?;
        let known = login.clients.get(&tokens.issuer).filter(|known| known.id == tokens.client_id)?;
        let mut client = registration::registered(known);
        if let Some(ours) = self.config.grant.client() {
            // A client's own secret stays in the configuration.
            client.authentication = ours.authentication.clone();
        }
        Some(client)
    }

    /// Takes an answer of a token endpoint over, and keeps it.
    async fn accept(
        &self,
        login: &mut StoredLogin,
        grounds: Grounds<'_>,
        answer: &BasicTokenResponse,
        refresh_token: Option<SecretString>,
    ) -> Result<Arc<Token>, UpstreamError> {
        if !matches!(answer.token_type(), BasicTokenType::Bearer) {
            return Err(refused("the token endpoint gave a token that is no bearer token"));
        }
        let granted = answer.scopes().into_iter().flatten().map(|scope| scope.as_str());
        let granted = Scopes::of(Some(&granted.collect::<Vec<_>>().join(" ")));
        // A refresh token that is not replaced goes on being good (RFC 6749 §6).
        let rotated = answer.refresh_token().map(|token| SecretString::from(token.secret().clone()));
        let tokens = StoredTokens {
            issuer: grounds.desk.issuer.to_owned(),
            token_endpoint: grounds.desk.endpoint.to_string(),
            client_id: grounds.client.id.clone(),
            resource: grounds.resource.to_owned(),
            access_token: SecretString::from(answer.access_token().secret().clone()),
            refresh_token: rotated.or(refresh_token),
            expires_at: answer.expires_in().map(|life| unix_now() + life.as_secs()),
            scope: grounds.scopes.clone().and(&granted).text(),
        };
        let token = Token::of_stored(&tokens)?;
        self.can_renew.store(tokens.refresh_token.is_some(), Ordering::Release);
        login.tokens = Some(tokens);
        self.keep(login).await;
        Ok(self.take(token))
    }

    /// Keeps a person's login for the next start. A failure costs a login then, and nothing now.
    async fn keep(&self, login: &StoredLogin) {
        let Grant::AuthorizationCode(code) = &self.config.grant else { return };
        let mut login = login.clone();
        login.server.clone_from(&self.server);
        if let Err(error) = code.store.save(&self.server, &login).await {
            warn!(server = %self.server, %error, "the login is not kept");
        }
    }
}

// === impl Occasion ===

impl Occasion {
    /// Whether a token of these scopes is worth trying.
    fn is_satisfied(&self, scopes: &Scopes) -> bool {
        match self {
            Self::Demanded(Demand::Scope(challenge)) => scopes.holds(&Scopes::of(challenge.scope.as_deref())),
            Self::Demanded(Demand::Token(_)) | Self::Stale => true,
        }
    }
}

// === impl Token ===

impl Token {
    fn of_stored(tokens: &StoredTokens) -> Result<Self, UpstreamError> {
        let life = tokens.expires_at.map(|at| Duration::from_secs(at.saturating_sub(unix_now())));
        let now = Instant::now();
        Ok(Self {
            header: secret_header(&format!("Bearer {}", tokens.access_token.expose_secret()))?,
            renew_at: life.map(|life| now + life.saturating_sub(MARGIN).max(life / 2)),
            expires_at: life.map(|life| now + life),
            scopes: Scopes::of(tokens.scope.as_deref()),
        })
    }

    /// What to send as `Authorization`.
    pub(in crate::upstream) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.renew_at.is_none_or(|at| now < at)
    }

    fn is_alive(&self, now: Instant) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}
