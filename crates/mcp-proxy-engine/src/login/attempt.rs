//! One login, and one logout, at a server of a configuration.

use std::sync::Arc;
use std::time::Duration;

use mpe_engine::upstream::{
    Grant, HttpTarget, HttpUpstream, Login, Person, TokenStore, UpstreamError, canonical_address,
};
use mpe_engine::{Era, Target, UpstreamConfig};
use mpe_transport::Pool;
use tokio::time::Instant;

use super::FileTokenStore;
use crate::config::{ConfigError, Settings, Source};
use crate::proxy::proxies;

/// Why there is no login.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginError {
    /// The configuration cannot be used.
    Config(ConfigError),
    /// The attempt failed.
    Failed(UpstreamError),
    /// It does not make sense: no such server, or one at which nobody logs in. One sentence.
    Senseless(String),
}

impl std::fmt::Display for LoginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Failed(error) => error.fmt(f),
            Self::Senseless(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for LoginError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Config(_) | Self::Senseless(_) => None,
        }
    }
}

impl From<ConfigError> for LoginError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Has `person` log in at the server `key`, and keeps the login where the configuration says. `endpoint`: the tenant's
/// name; default: the one at the root.
///
/// # Errors
/// Every [`LoginError`].
///
/// # Cancel safety
/// Dropping the future gives the login up; nothing is kept then but a client that may have been registered.
pub async fn log_in(
    source: Source,
    endpoint: Option<&str>,
    key: &str,
    person: Arc<dyn Person>,
    wait: Duration,
) -> Result<Login, LoginError> {
    let mut settings = source.settings()?;
    let mut upstream = take(&mut settings, endpoint, key)?;
    let Some(Grant::AuthorizationCode(code)) = upstream.authorization.as_mut().map(|how| &mut how.grant)
    else {
        return Err(LoginError::Senseless(format!(
            "nobody logs in at the server `{key}`: {}",
            why(&upstream)
        )));
    };
    code.person = person;
    settings.pool.proxies = proxies(&|name| std::env::var(name).ok())
        .map_err(|error| LoginError::Senseless(error.to_string()))?;
    let unusable = |error: &dyn std::fmt::Display| LoginError::Senseless(error.to_string());
    let pool = Pool::new(settings.pool, settings.tls).map_err(|error| unusable(&error))?;
    let Target::Http { url, headers, wire } = &upstream.target else {
        return Err(LoginError::Senseless(format!("the server `{key}` has no address")));
    };
    let pinned = match upstream.era {
        Era::Auto => None,
        Era::Pinned(version) => Some(version),
    };
    let authorization = upstream.authorization.as_ref();
    let target = HttpTarget { url, headers, wire: *wire, pinned, authorization };
    let server = HttpUpstream::new(&pool, &target).map_err(|error| unusable(&error))?;
    let login = server.login(Instant::now() + wait).await.map_err(LoginError::Failed);
    pool.close(Duration::from_secs(1)).await;
    login
}

/// Forgets the login at the server `key`; says whether there was one. The authorization server is not told.
///
/// # Errors
/// Every [`LoginError`] but [`LoginError::Failed`].
pub async fn log_out(source: Source, endpoint: Option<&str>, key: &str) -> Result<bool, LoginError> {
    let folder = source.token_store();
    let mut settings = source.settings()?;
    let upstream = take(&mut settings, endpoint, key)?;
    let (Some(folder), Target::Http { url, .. }) = (folder, &upstream.target) else {
        return Ok(false);
    };
    let store = FileTokenStore::new(folder);
    store.remove(&canonical_address(url)).await.map_err(LoginError::Senseless)
}

fn take(settings: &mut Settings, endpoint: Option<&str>, key: &str) -> Result<UpstreamConfig, LoginError> {
    let name = endpoint.unwrap_or_else(|| settings.gateway.default_endpoint.as_str()).to_owned();
    let Some(endpoint) = settings.endpoints.iter_mut().find(|endpoint| endpoint.id.as_str() == name) else {
        return Err(LoginError::Senseless(format!("there is no endpoint `{name}`")));
    };
    let at = endpoint.upstreams.iter().position(|upstream| upstream.key.as_str() == key);
    let keys: Vec<&str> = endpoint.upstreams.iter().map(|upstream| upstream.key.as_str()).collect();
    let Some(at) = at else {
        return Err(LoginError::Senseless(match keys.as_slice() {
            [] => "the configuration has no server".to_owned(),
            keys => format!("there is no server `{key}`; there are: {}", keys.join(", ")),
        }));
    };
    Ok(endpoint.upstreams.swap_remove(at))
}

fn why(upstream: &UpstreamConfig) -> &'static str {
    match (&upstream.target, &upstream.authorization) {
        (Target::Http { .. }, Some(_)) => "it gets its tokens by itself",
        (Target::Http { .. }, None) => {
            "its `Authorization` stands in `headers`, or there is no place to keep a login"
        }
        _ => "it has no address",
    }
}
