//! How the scenarios of `auth/` want a client to authorize itself, and a person who agrees to everything.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http::header::LOCATION;
use mpe_engine::upstream::{
    Authorization, AuthorizationCode, Client, Enterprise, Grant, MemoryTokenStore, Person, SecretSource,
    SigningKey,
};
use mpe_transport::{Origin, Pool, Wire};
use secrecy::SecretString;
use serde_json::Value;

use crate::{Failure, soon};

/// The document that the suite's authorization server takes a client's word for.
const METADATA_URL: &str = "https://conformance-test.local/client-metadata.json";

/// What a scenario of this name, with this context, is about; `None`: not about authorization.
pub(crate) fn of(scenario: &str, context: &Value, pool: &Pool) -> Result<Option<Authorization>, Failure> {
    let Some(name) = scenario.strip_prefix("auth/") else { return Ok(None) };
    let text = |key: &str| context[key].as_str().map(str::to_owned);
    let needs = |key: &str| text(key).ok_or(format!("the context has no `{key}`"));
    let secret = |key: &str| needs(key).map(SecretString::from);
    let given = |key: &str| -> Result<Arc<dyn SecretSource>, String> {
        Ok(Arc::new(Given { name: key.to_owned(), secret: secret(key)? }))
    };
    let grant = match name {
        "client-credentials-basic" => {
            Grant::ClientCredentials(Client::with_secret(needs("client_id")?, secret("client_secret")?))
        }
        "client-credentials-jwt" => {
            let key = SigningKey::new(secret("private_key_pem")?, None)?;
            Grant::ClientCredentials(Client::with_key(needs("client_id")?, key))
        }
        "enterprise-managed-authorization" => Grant::Enterprise(Enterprise {
            client: Client::with_secret(needs("client_id")?, secret("client_secret")?),
            provider: needs("idp_token_endpoint")?.parse()?,
            provider_client: Client::public(needs("idp_client_id")?),
            id_token: given("idp_id_token")?,
        }),
        "wif-jwt-bearer" => {
            Grant::JwtBearer { client: Client::public(needs("client_id")?), assertion: given("valid_jwt")? }
        }
        _ => {
            let person = Arc::new(Agreeable { pool: pool.clone() });
            let mut code = AuthorizationCode::new(Arc::new(MemoryTokenStore::default()), person);
            code.client = match (text("client_id"), text("client_secret")) {
                (Some(id), Some(secret)) => Some(Client::with_secret(id, SecretString::from(secret))),
                _ => None,
            };
            code.metadata_url = (name == "basic-cimd").then(|| METADATA_URL.to_owned());
            Grant::AuthorizationCode(code)
        }
    };
    Ok(Some(Authorization::new(grant)))
}

/// A secret of the scenario's context.
struct Given {
    name: String,
    secret: SecretString,
}

impl SecretSource for Given {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn read(&self) -> BoxFuture<'_, Result<SecretString, String>> {
        Box::pin(async { Ok(self.secret.clone()) })
    }
}

/// Goes where it is sent, and reports where it would be sent next without going there.
struct Agreeable {
    pool: Pool,
}

impl Person for Agreeable {
    fn redirect_uri<'a>(&'a self, registered: Option<&'a str>) -> BoxFuture<'a, Result<String, String>> {
        let uri = registered.unwrap_or("http://127.0.0.1:9876/callback").to_owned();
        Box::pin(async { Ok(uri) })
    }

    fn authorize<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = url.parse().map_err(|error| format!("{url}: {error}"))?;
            let origin = Origin::of(request.uri(), Wire::Auto).map_err(|error| error.to_string())?;
            let answer = self.pool.send(&origin, request, Some(soon())).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            location.map(str::to_owned).ok_or(format!("no redirect, but HTTP status {}", answer.status()))
        })
    }
}
