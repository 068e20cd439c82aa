//! The token endpoint: one way to ask, whatever the grant.
//!
//! The crate `oauth2` reads the answers; its own requests know neither signed assertions nor token exchange, so that
//! the form is filled in here, once for all grants.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use oauth2::basic::{BasicErrorResponse, BasicTokenResponse};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::Instant;

use super::super::UpstreamError;
use super::config::ClientAuthentication;
use super::outside::{Answer, Outside, refused};

/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Letters of somebody else's explanation that we repeat, at most.
const MAX_QUOTED: usize = 200;

/// A token endpoint, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desk<'a> {
    pub(super) endpoint: &'a Uri,
    pub(super) issuer: &'a str,
}

/// Who we are at one issuer, and how we prove it there.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) id: String,
    pub(super) authentication: ClientAuthentication,
    pub(super) method: Method,
}

/// `token_endpoint_auth_method` (RFC 7591 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Basic,
    None,
    Post,
    PrivateKey,
}

/// No token from a token endpoint.
#[derive(Debug)]
pub(super) struct Rejection {
    /// `error` of the answer (RFC 6749 §5.2), if there was one.
    pub(super) code: Option<String>,
    pub(super) error: UpstreamError,
}

impl From<UpstreamError> for Rejection {
    fn from(error: UpstreamError) -> Self {
        Self { code: None, error }
    }
}

impl From<Rejection> for UpstreamError {
    fn from(rejection: Rejection) -> Self {
        rejection.error
    }
}

/// Asks for a token.
///
/// # Errors
/// Nobody answers, the answer is a refusal, or it is none.
pub(super) async fn ask(
    outside: &Outside,
    desk: Desk<'_>,
    client: &Registered,
    mut form: Vec<(&'static str, String)>,
    deadline: Instant,
) -> Result<BasicTokenResponse, Rejection> {
    let headers = client.prove(desk.issuer, &mut form)?;
    let answer = outside.post_form(desk.endpoint, &form, headers, deadline).await?;
    read(&answer)
}

fn read(answer: &Answer) -> Result<BasicTokenResponse, Rejection> {
    if !answer.status.is_success() {
        return Err(rejection(answer));
    }
    let unreadable = || Rejection::from(refused("the token endpoint's answer is not one"));
    let mut token: Value = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
    // A number, says RFC 6749 §5.1; some write it as text all the same.
    if let Some(seconds) = token["expires_in"].as_str().and_then(|text| text.parse::<u64>().ok()) {
        token["expires_in"] = seconds.into();
    }
    // Some refuse with the status of success.
    if token["error"].is_string() {
        return Err(rejection(answer));
    }
    serde_json::from_value(token).map_err(|_| unreadable())
}

fn rejection(answer: &Answer) -> Rejection {
    let status = answer.status.as_u16();
    let Ok(said) = serde_json::from_slice::<BasicErrorResponse>(&answer.body) else {
        return refused(format!("the token endpoint answered with HTTP status {status}")).into();
    };
    let code = said.error().to_string();
    let mut message = format!("the token endpoint says {}", shortened(&code));
    if let Some(description) = said.error_description() {
        message.push_str(&format!(": {}", shortened(description)));
    }
    Rejection { code: Some(code), error: refused(message) }
}

/// What others wrote, cut to what fits into one of our sentences.
pub(super) fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED).collect()
}

/// A header's value that must not be logged.
///
/// # Errors
/// It holds bytes that no header may hold.
pub(super) fn secret_header(text: &str) -> Result<HeaderValue, UpstreamError> {
    let mut header = HeaderValue::from_str(text)
        .map_err(|_| refused("the credentials hold bytes that no header may hold"))?;
    header.set_sensitive(true);
    Ok(header)
}

// === impl Registered ===

impl Registered {
    fn prove(
        &self,
        issuer: &str,
        form: &mut Vec<(&'static str, String)>,
    ) -> Result<HeaderMap, UpstreamError> {
        let mut headers = HeaderMap::new();
        match (self.method, &self.authentication) {
            (Method::Basic, ClientAuthentication::Secret(secret)) => {
                // RFC 6749 §2.3.1: both parts are form-encoded first.
                let encode = |text: &str| -> String {
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
                };
                let pair = format!("{}:{}", encode(&self.id), encode(secret.expose_secret()));
                let header = secret_header(&format!("Basic {}", STANDARD.encode(pair)))?;
                headers.insert(AUTHORIZATION, header);
            }
            (Method::PrivateKey, ClientAuthentication::PrivateKey(key)) => {
                let assertion = key.sign(&self.id, issuer).map_err(refused)?;
                form.push(("client_id", self.id.clone()));
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", assertion));
            }
            (Method::Post, ClientAuthentication::Secret(secret)) => {
                form.push(("client_id", self.id.clone()));
                form.push(("client_secret", secret.expose_secret().to_owned()));
            }
            _ => form.push(("client_id", self.id.clone())),
        }
        Ok(headers)
    }
}

// === impl Method ===

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::None => "none",
            Self::Post => "client_secret_post",
            Self::PrivateKey => "private_key_jwt",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Basic, Self::None, Self::Post, Self::PrivateKey].into_iter().find(|one| one.as_str() == text)
    }

    /// How a client proves itself: as it is registered, else as the authorization server offers.
    pub(super) fn settle(
        authentication: &ClientAuthentication,
        registered: Option<&str>,
        offered: Option<&[String]>,
    ) -> Self {
        let offers = |method: Self| offered.is_some_and(|all| all.iter().any(|one| one == method.as_str()));
        match authentication {
            ClientAuthentication::None => Self::None,
            ClientAuthentication::PrivateKey(_) => Self::PrivateKey,
            ClientAuthentication::Secret(_) => match registered.and_then(Self::parse) {
                Some(method) => method,
                None if offers(Self::Basic) => Self::Basic,
                None if offers(Self::Post) => Self::Post,
                // RFC 8414 §2: without a list it is the header.
                None => Self::Basic,
            },
        }
    }
}
