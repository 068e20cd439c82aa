//! `auth` of a server, as a file spells it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::Secret;

/// How to get tokens for a server (OAuth 2.1). The authorization server is found from the server's own challenge.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerAuth {
    /// On whose behalf. Default: `client-credentials` where there is a secret or a key, else `authorization-code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantKind>,
    /// The client's id, where it is registered by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Its private key in PEM (EC on P-256, or RSA), with which it signs assertions (`private_key_jwt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// A file with that key, relative to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<PathBuf>,
    /// The id of the key (`kid`). Default: none is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Whom signed assertions are for (`aud`). Default: the authorization server's issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The scope to ask for. Default: what the server's challenge names, else what its metadata list, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What the authorization server knows the server as (`resource`). Default: what the server's metadata
    /// call it, which is its address or a path above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The only authorization server that is accepted, by its issuer. Default: whichever the server names; a client with
    /// a `client_id` stays with the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The address of the client's own metadata document (https, with a path), which is its id where the authorization
    /// server supports that. Default: it registers itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_metadata_url: Option<String>,
    /// What the client calls itself when it registers itself. Default: `MCP Proxy Engine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// The port on 127.0.0.1 that the browser comes back to, where the authorization server demands a certain one.
    /// Default: a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
    /// Allow authorization servers in private networks. Default: only for a server whose address is a private one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private_networks: bool,
    /// For `jwt-bearer`: the assertion of the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Secret>,
    /// For `jwt-bearer`: a file with it, relative to this one; read for each token, as platforms rotate it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion_file: Option<PathBuf>,
    /// For `enterprise`: who vouches for the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_provider: Option<IdentityProvider>,
}

/// On whose behalf tokens are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GrantKind {
    /// A person's, who runs `login` once.
    AuthorizationCode,
    /// The client's own.
    ClientCredentials,
    /// A person's, by the word of the company's identity provider (Enterprise-Managed Authorization).
    Enterprise,
    /// A workload's, by an assertion that its platform has signed (RFC 7523).
    JwtBearer,
}

/// An identity provider that exchanges a person's ID token for a word to other authorization servers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityProvider {
    /// Its token endpoint.
    pub token_endpoint: String,
    /// The client's id there.
    pub client_id: String,
    /// Its secret there. Default: none, a public client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// The person's ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<Secret>,
    /// A file with it, relative to this one; read for each token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token_file: Option<PathBuf>,
}
