//! What is kept of a login, and by whom.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// Keeps logins, one a server. What the engine hands over is secret.
pub trait TokenStore: Send + Sync + 'static {
    /// What tells this store from another, such as its folder; shown in messages.
    fn name(&self) -> String;

    /// What is kept for a server, by its canonical address.
    ///
    /// # Errors
    /// One sentence: it cannot be read, or is not what was written.
    fn load<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Option<StoredLogin>, String>>;

    /// Replaces what is kept for a server, all of it or nothing.
    ///
    /// # Errors
    /// One sentence: it cannot be written.
    fn save<'a>(&'a self, server: &'a str, login: &'a StoredLogin) -> BoxFuture<'a, Result<(), String>>;

    /// Forgets what is kept for a server; says whether there was anything.
    ///
    /// # Errors
    /// One sentence: it cannot be removed.
    fn remove<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<bool, String>>;
}

/// Everything that is kept of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StoredLogin {
    /// The server's canonical address, which the tokens are for.
    pub server: String,
    /// Who we are, by issuer. Never shown to another issuer.
    pub clients: BTreeMap<String, StoredClient>,
    /// The tokens in hand.
    pub tokens: Option<StoredTokens>,
    /// A scope that the server has asked for since, and nobody has granted.
    pub wanted_scope: Option<String>,
}

/// A client as one issuer knows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StoredClient {
    /// Its id.
    pub id: String,
    /// The secret it was given when it registered itself.
    #[serde(serialize_with = "exposed", skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretString>,
    /// `token_endpoint_auth_method`, settled when it first logged in.
    pub method: String,
    /// Where its browser is sent, if it registered itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// When its secret expires, in seconds since 1970; `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// Tokens of one issuer for one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredTokens {
    /// Who issued them.
    pub issuer: String,
    /// Where they are renewed.
    pub token_endpoint: String,
    /// Whom they were issued to.
    pub client_id: String,
    /// What they are for (RFC 8707).
    pub resource: String,
    /// The access token.
    #[serde(serialize_with = "exposed_one")]
    pub access_token: SecretString,
    /// The refresh token, if one.
    #[serde(default, serialize_with = "exposed", skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretString>,
    /// When the access token expires, in seconds since 1970; `None`: nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The scope that was asked for, and what was granted beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

fn exposed<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(SecretString::expose_secret).serialize(serializer)
}

fn exposed_one<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    secret.expose_secret().serialize(serializer)
}

/// A store that forgets everything with the process.
#[derive(Debug, Default)]
pub struct MemoryTokenStore {
    logins: Mutex<HashMap<String, StoredLogin>>,
}

impl MemoryTokenStore {
    fn logins(&self) -> std::sync::MutexGuard<'_, HashMap<String, StoredLogin>> {
        self.logins.lock().expect("nothing panics while it holds this lock")
    }
}

impl TokenStore for MemoryTokenStore {
    fn name(&self) -> String {
        format!("memory {self:p}")
    }

    fn load<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Option<StoredLogin>, String>> {
        Box::pin(async move { Ok(self.logins().get(server).cloned()) })
    }

    fn save<'a>(&'a self, server: &'a str, login: &'a StoredLogin) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.logins().insert(server.to_owned(), login.clone());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async move { Ok(self.logins().remove(server).is_some()) })
    }
}
