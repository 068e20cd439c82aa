//! How an operator wants the engine to authorize itself at a server.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::assertion::SigningKey;
use super::person::{Person, SecretSource};
use super::store::TokenStore;

/// How the engine authorizes itself at an HTTP upstream (OAuth 2.1).
///
/// The authorization server is found from the server's challenge. Tokens are bound to that server and that issuer, and
/// are sent to nobody else.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Authorization {
    /// On whose behalf, and by which proof.
    pub grant: Grant,
    /// The scope to ask for. Default: what the server's challenge names, else what its metadata list, else none.
    pub scope: Option<String>,
    /// What the authorization server knows the MCP server as (RFC 8707 `resource`). Default: what the server's metadata
    /// call it, exactly; that is its own address or a path above it.
    pub resource: Option<String>,
    /// The only authorization server that is accepted, by its issuer. Default: whichever the server names; a client
    /// that was registered by hand then stays with the first one.
    pub issuer: Option<String>,
    /// Whether authorization servers may lie in private networks. Default: only where the MCP server's own address is
    /// written as a private one.
    pub private_networks: bool,
}

/// On whose behalf tokens are asked for, and by which proof.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Grant {
    /// A person's, who logs in with a browser (RFC 6749 §4.1 with PKCE).
    AuthorizationCode(AuthorizationCode),
    /// The client's own (RFC 6749 §4.4).
    ClientCredentials(Client),
    /// A person's, by the word of an enterprise's identity provider (Enterprise-Managed Authorization).
    Enterprise(Enterprise),
    /// A workload's, by an assertion that its platform has signed (RFC 7523 §2.1).
    JwtBearer {
        /// Who we are at the authorization server.
        client: Client,
        /// The assertion; asked for anew for each token.
        assertion: Arc<dyn SecretSource>,
    },
}

/// A client as an authorization server knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// How it proves that it is itself.
    pub authentication: ClientAuthentication,
}

/// How a client proves itself at a token endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// Not at all: a public client.
    None,
    /// By a signed assertion (`private_key_jwt`, RFC 7523 §2.2).
    PrivateKey(Arc<SigningKey>),
    /// By a secret; in a header or in the form, as the authorization server wants it.
    Secret(SecretString),
}

/// A grant that a person gives with a browser.
#[derive(Clone)]
#[non_exhaustive]
pub struct AuthorizationCode {
    /// A client that was registered by hand. Default: [`AuthorizationCode::metadata_url`], else the client registers
    /// itself.
    pub client: Option<Client>,
    /// Where the client's own metadata document is to be had; an `https` URL with a path, which is then the client's id
    /// where the authorization server supports that.
    pub metadata_url: Option<String>,
    /// What the client calls itself where it registers itself.
    pub name: String,
    /// Where tokens and registrations are kept.
    pub store: Arc<dyn TokenStore>,
    /// Who is asked.
    pub person: Arc<dyn Person>,
}

/// A grant by the word of an identity provider: an ID token becomes an assertion for the authorization server (ID-JAG),
/// which becomes the token.
#[derive(Clone, Debug)]
pub struct Enterprise {
    /// Who we are at the server's authorization server.
    pub client: Client,
    /// The identity provider's token endpoint, as the operator gives it.
    pub provider: http::Uri,
    /// Who we are at the identity provider.
    pub provider_client: Client,
    /// The person's ID token; asked for anew for each token.
    pub id_token: Arc<dyn SecretSource>,
}

// === impl Authorization ===

impl Authorization {
    /// An authorization with every default.
    pub fn new(grant: Grant) -> Self {
        Self { grant, scope: None, resource: None, issuer: None, private_networks: false }
    }
}

// === impl Grant ===

impl Grant {
    /// The client that the operator has registered, if one.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Self::AuthorizationCode(code) => code.client.as_ref(),
            Self::ClientCredentials(client) | Self::JwtBearer { client, .. } => Some(client),
            Self::Enterprise(enterprise) => Some(&enterprise.client),
        }
    }
}

/// Whom to ask, and through which object, makes no difference; everything else does.
impl PartialEq for Grant {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AuthorizationCode(a), Self::AuthorizationCode(b)) => {
                a.client == b.client
                    && a.metadata_url == b.metadata_url
                    && a.name == b.name
                    && a.store.name() == b.store.name()
            }
            (Self::ClientCredentials(a), Self::ClientCredentials(b)) => a == b,
            (Self::Enterprise(a), Self::Enterprise(b)) => {
                a.client == b.client
                    && a.provider == b.provider
                    && a.provider_client == b.provider_client
                    && a.id_token.name() == b.id_token.name()
            }
            (
                Self::JwtBearer { client, assertion },
                Self::JwtBearer { client: other, assertion: other_assertion },
            ) => client == other && assertion.name() == other_assertion.name(),
            _ => false,
        }
    }
}

// === impl Client ===

impl Client {
    /// A public client.
    pub fn public(id: impl Into<String>) -> Self {
        Self { id: id.into(), authentication: ClientAuthentication::None }
    }

    /// A client with a secret.
    pub fn with_secret(id: impl Into<String>, secret: SecretString) -> Self {
        Self { id: id.into(), authentication: ClientAuthentication::Secret(secret) }
    }

    /// A client with a key.
    pub fn with_key(id: impl Into<String>, key: SigningKey) -> Self {
        Self { id: id.into(), authentication: ClientAuthentication::PrivateKey(Arc::new(key)) }
    }
}

impl PartialEq for ClientAuthentication {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::PrivateKey(a), Self::PrivateKey(b)) => a == b,
            (Self::Secret(a), Self::Secret(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

// === impl AuthorizationCode ===

impl AuthorizationCode {
    /// A grant of `person`, kept in `store`, with every other default.
    pub fn new(store: Arc<dyn TokenStore>, person: Arc<dyn Person>) -> Self {
        Self { client: None, metadata_url: None, name: "MCP Proxy Engine".to_owned(), store, person }
    }
}

impl std::fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizationCode")
            .field("client", &self.client)
            .field("metadata_url", &self.metadata_url)
            .field("store", &self.store.name())
            .finish_non_exhaustive()
    }
}
