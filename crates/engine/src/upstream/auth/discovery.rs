//! From a challenge to the token endpoint (2026-07-28, authorization server discovery).

use http::Uri;
use serde::Deserialize;
use tokio::time::Instant;

use super::super::UpstreamError;
use super::{Authorizer, refused, url};

/// What discovery has found.
pub(super) struct Found {
    pub(super) issuer: String,
    pub(super) token_endpoint: Uri,
    /// The client authenticates by header; else in the form.
    pub(super) basic: bool,
    /// Every scope the server's metadata list.
    pub(super) scope: Option<String>,
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
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

pub(super) async fn discover(
    authorizer: &Authorizer,
    challenge: &str,
    deadline: Instant,
) -> Result<Found, UpstreamError> {
    let resource = resource(authorizer, challenge, deadline).await?;
    let Some(issuer) = resource.authorization_servers.into_iter().next() else {
        return Err(refused("the server's metadata name no authorization server".to_owned()));
    };
    let server = server(authorizer, &issuer, deadline).await?;
    let methods = server.token_endpoint_auth_methods_supported.unwrap_or_default();
    let offers = |method: &str| methods.iter().any(|offered| offered == method);
    Ok(Found {
        token_endpoint: parse(&server.token_endpoint)?,
        // RFC 8414 §2: without a list it is the header.
        basic: methods.is_empty() || offers("client_secret_basic") || !offers("client_secret_post"),
        scope: resource.scopes_supported.filter(|scopes| !scopes.is_empty()).map(|scopes| scopes.join(" ")),
        issuer,
    })
}

async fn resource(
    authorizer: &Authorizer,
    challenge: &str,
    deadline: Instant,
) -> Result<Resource, UpstreamError> {
    let ours = &authorizer.resource;
    let (origin, path) = (url::origin(ours), ours.path().trim_end_matches('/'));
    let places = match url::parameter(challenge, "resource_metadata") {
        Some(place) => vec![place],
        None => vec![
            format!("{origin}/.well-known/oauth-protected-resource{path}"),
            format!("{origin}/.well-known/oauth-protected-resource"),
        ],
    };
    for place in &places {
        let Some(document) = authorizer.document(&parse(place)?, deadline).await? else { continue };
        let found: Resource = serde_json::from_slice(&document)
            .map_err(|error| refused(format!("the server's protected-resource metadata: {error}")))?;
        return match covers(&found.resource, ours) {
            true => Ok(found),
            // RFC 9728 §3.3: metadata of another resource are not used.
            false => Err(refused(format!(
                "the server's metadata are about another resource: {:?}",
                found.resource
            ))),
        };
    }
    Err(refused("the server wants credentials and has no protected-resource metadata".to_owned()))
}

/// Whether the resource of the metadata is the server we contacted, or a path above it.
fn covers(named: &str, ours: &Uri) -> bool {
    let Ok(named) = named.parse::<Uri>() else { return false };
    let path = named.path().trim_end_matches('/');
    let below = ours.path().strip_prefix(path);
    url::origin(&named) == url::origin(ours)
        && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn server(authorizer: &Authorizer, issuer: &str, deadline: Instant) -> Result<Server, UpstreamError> {
    let uri = parse(issuer)?;
    let (origin, path) = (url::origin(&uri), uri.path().trim_end_matches('/'));
    let mut places = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        places.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    for place in &places {
        let Some(document) = authorizer.document(&parse(place)?, deadline).await? else { continue };
        let found: Server = serde_json::from_slice(&document)
            .map_err(|error| refused(format!("the authorization server's metadata: {error}")))?;
        return match found.issuer == issuer {
            true => Ok(found),
            // RFC 8414 §3.3: compared as text, not normalized.
            false => Err(refused(format!("the authorization server calls itself {:?}", found.issuer))),
        };
    }
    Err(refused("the authorization server has no metadata".to_owned()))
}

fn parse(text: &str) -> Result<Uri, UpstreamError> {
    text.parse().map_err(|_| refused(format!("no URL: {text:?}")))
}
