//! From a challenge to an authorization server (2026-07-28, authorization server discovery).

use http::Uri;
use serde::Deserialize;
use tokio::time::Instant;

use super::super::UpstreamError;
use super::address;
use super::challenge::{Challenge, Scopes};
use super::outside::{Outside, parse, refused};
use super::token::Desk;

/// What discovery has found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// What the server's metadata call it, as they spell it.
    pub(super) resource: String,
    pub(super) issuer: String,
    pub(super) token_endpoint: Uri,
    pub(super) authorization_endpoint: Option<Uri>,
    pub(super) registration_endpoint: Option<Uri>,
    /// How clients may authenticate; `None`: nothing is said.
    pub(super) methods: Option<Vec<String>>,
    /// Whether PKCE with S256 is offered.
    pub(super) has_s256: bool,
    /// Whether `iss` comes with every authorization response (RFC 9207).
    pub(super) names_itself: bool,
    /// Whether a client may be a URL.
    pub(super) takes_metadata_urls: bool,
    /// Every scope that the server's metadata list.
    pub(super) resource_scopes: Scopes,
    /// Whether the authorization server lists `offline_access`.
    pub(super) has_offline_access: bool,
}

impl Found {
    /// Where its tokens are to be had.
    pub(super) fn desk(&self) -> Desk<'_> {
        Desk { endpoint: &self.token_endpoint, issuer: &self.issuer }
    }
}

/// Protected-resource metadata, RFC 9728 §2.
#[derive(Deserialize)]
struct Resource {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Option<Vec<String>>,
}

/// Authorization server metadata, RFC 8414 §2.
#[derive(Deserialize)]
struct Server {
    issuer: String,
    token_endpoint: String,
    authorization_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
}

/// Follows a challenge. `preferred` is chosen where the server names several issuers; `only` is the one that the
/// operator accepts.
///
/// # Errors
/// A document is missing or about somebody else, or an address is not asked.
pub(super) async fn discover(
    outside: &Outside,
    challenge: &Challenge,
    only: Option<&str>,
    preferred: Option<&str>,
    deadline: Instant,
) -> Result<Found, UpstreamError> {
    let named = resource(outside, challenge, deadline).await?;
    let is_named = named.is_some();
    // 2025-03-26 had no such metadata: the server was its own authorization server, or stood in front of it.
    let resource = named.unwrap_or_else(|| Resource {
        resource: address::canonical(&outside.server),
        authorization_servers: vec![address::origin(&outside.server)],
        scopes_supported: None,
    });
    let issuer = choose(&resource.authorization_servers, only, preferred)?;
    let Some(server) = server(outside, issuer, deadline).await? else {
        return Err(refused(match is_named {
            true => format!("the authorization server {issuer:?} has no metadata"),
            false => "the server wants credentials and has no protected-resource metadata".to_owned(),
        }));
    };
    let optional = |endpoint: Option<&str>| endpoint.map(parse).transpose();
    let lists = |list: &Option<Vec<String>>, wanted: &str| {
        list.as_ref().is_some_and(|list| list.iter().any(|one| one == wanted))
    };
    let resource_scopes = resource.scopes_supported.map(|scopes| scopes.join(" "));
    Ok(Found {
        token_endpoint: parse(&server.token_endpoint)?,
        authorization_endpoint: optional(server.authorization_endpoint.as_deref())?,
        registration_endpoint: optional(server.registration_endpoint.as_deref())?,
        has_s256: lists(&server.code_challenge_methods_supported, "S256"),
        methods: server.token_endpoint_auth_methods_supported,
        names_itself: server.authorization_response_iss_parameter_supported,
        takes_metadata_urls: server.client_id_metadata_document_supported,
        resource_scopes: Scopes::of(resource_scopes.as_deref()),
        has_offline_access: lists(&server.scopes_supported, OFFLINE_ACCESS),
        issuer: server.issuer,
        resource: resource.resource,
    })
}

/// The scope that stands for a refresh token (OpenID Connect Core §11).
pub(super) const OFFLINE_ACCESS: &str = "offline_access";

fn choose<'a>(
    named: &'a [String],
    only: Option<&str>,
    preferred: Option<&str>,
) -> Result<&'a str, UpstreamError> {
    let is_named = |wanted: &&str| named.iter().any(|one| one == wanted);
    let find = |wanted: &str| named.iter().find(|one| *one == wanted).map(String::as_str);
    if let Some(only) = only {
        return find(only).ok_or_else(|| {
            refused(format!("the server's metadata do not name the authorization server {only:?}"))
        });
    }
    if let Some(issuer) = preferred.filter(is_named).and_then(find) {
        return Ok(issuer);
    }
    let first = named.first().map(String::as_str);
    first.ok_or_else(|| refused("the server's metadata name no authorization server"))
}

async fn resource(
    outside: &Outside,
    challenge: &Challenge,
    deadline: Instant,
) -> Result<Option<Resource>, UpstreamError> {
    let ours = &outside.server;
    let (origin, path) = (address::origin(ours), ours.path().trim_end_matches('/'));
    let mut places = match &challenge.resource_metadata {
        Some(place) => vec![place.clone()],
        None => vec![
            format!("{origin}/.well-known/oauth-protected-resource{path}"),
            format!("{origin}/.well-known/oauth-protected-resource"),
        ],
    };
    places.dedup();
    for place in &places {
        let what = "the server's protected-resource metadata";
        let Some(found) = outside.document::<Resource>(&parse(place)?, what, deadline).await? else {
            continue;
        };
        return match address::covers(&found.resource, ours) {
            true => Ok(Some(found)),
            // RFC 9728 §3.3: metadata of another resource are not used.
            false => Err(refused(format!(
                "the server's metadata are about another resource: {:?}",
                found.resource
            ))),
        };
    }
    match &challenge.resource_metadata {
        Some(place) => Err(refused(format!("there are no protected-resource metadata at {place:?}"))),
        None => Ok(None),
    }
}

async fn server(outside: &Outside, issuer: &str, deadline: Instant) -> Result<Option<Server>, UpstreamError> {
    let uri = parse(issuer)?;
    let (origin, path) = (address::origin(&uri), uri.path().trim_end_matches('/'));
    let mut places = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        places.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    for place in &places {
        let what = "the authorization server's metadata";
        let Some(found) = outside.document::<Server>(&parse(place)?, what, deadline).await? else { continue };
        return match found.issuer == issuer {
            true => Ok(Some(found)),
            // RFC 8414 §3.3: compared as text, not normalized.
            false => Err(refused(format!(
                "the authorization server {issuer:?} calls itself {:?}: its metadata are not used",
                found.issuer
            ))),
        };
    }
    Ok(None)
}
