//! One grant after discovery, and the grants that need nobody: a client's own, a workload's, an enterprise's.

use oauth2::TokenResponse;
use oauth2::basic::BasicTokenResponse;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::challenge::Scopes;
use super::code;
use super::config::{Enterprise, Grant};
use super::discovery::Found;
use super::outside::{Outside, refused};
use super::registration;
use super::store::StoredLogin;
use super::token::{self, Desk, Method, Registered, Rejection};

/// RFC 7523 §2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// RFC 8693 §2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 §3.
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// The assertion that identity providers give for another authorization server (Enterprise-Managed Authorization).
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// What every step of a grant needs to know.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) outside: &'a Outside,
    pub(super) found: &'a Found,
    /// The issuer that the operator accepts, if only one.
    pub(super) only: Option<&'a str>,
    /// What the token shall be for.
    pub(super) resource: &'a str,
    pub(super) deadline: Instant,
}

impl Errand<'_> {
    /// Gets a token by this grant.
    ///
    /// # Errors
    /// Whatever the grant lacks, and what the authorization server says.
    pub(super) async fn run(
        &self,
        grant: &Grant,
        login: &mut StoredLogin,
        scopes: &Scopes,
    ) -> Result<(Registered, BasicTokenResponse), Rejection> {
        let (client, assertion) = match grant {
            Grant::AuthorizationCode(code) => return code::grant(self, code, login, scopes).await,
            Grant::ClientCredentials(client) => (client, None),
            Grant::Enterprise(enterprise) => {
                (&enterprise.client, Some(self.id_jag(enterprise, scopes).await?))
            }
            Grant::JwtBearer { client, assertion } => {
                let assertion = assertion.read().await.map_err(refused)?;
                (client, Some(assertion.expose_secret().to_owned()))
            }
        };
        let client = registration::by_hand(self, client, login)?;
        let mut form = match assertion {
            Some(assertion) => vec![("grant_type", JWT_BEARER.to_owned()), ("assertion", assertion)],
            None => vec![("grant_type", "client_credentials".to_owned())],
        };
        form.push(("resource", self.resource.to_owned()));
        form.extend(scopes.text().map(|scopes| ("scope", scopes)));
        let answer = token::ask(self.outside, self.found.desk(), &client, form, self.deadline).await?;
        Ok((client, answer))
    }

    /// The identity provider's word for the authorization server: an ID token is exchanged for an ID-JAG.
    async fn id_jag(&self, enterprise: &Enterprise, scopes: &Scopes) -> Result<String, Rejection> {
        let id_token = enterprise.id_token.read().await.map_err(refused)?;
        let authentication = enterprise.provider_client.authentication.clone();
        let method = Method::settle(&authentication, None, None);
        let client = Registered { id: enterprise.provider_client.id.clone(), authentication, method };
        let mut form = vec![
            ("grant_type", TOKEN_EXCHANGE.to_owned()),
            ("requested_token_type", ID_JAG.to_owned()),
            ("audience", self.found.issuer.clone()),
            ("resource", self.resource.to_owned()),
            ("subject_token", id_token.expose_secret().to_owned()),
            ("subject_token_type", ID_TOKEN.to_owned()),
        ];
        form.extend(scopes.text().map(|scopes| ("scope", scopes)));
        // The operator names the provider, as it names the server: it is asked wherever it is.
        let provider = Outside {
            pool: self.outside.pool.clone(),
            server: enterprise.provider.clone(),
            private_networks: true,
        };
        let issuer = enterprise.provider.to_string();
        let desk = Desk { endpoint: &enterprise.provider, issuer: &issuer };
        let answer = token::ask(&provider, desk, &client, form, self.deadline).await?;
        Ok(answer.access_token().secret().clone())
    }
}
