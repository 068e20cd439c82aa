//! From `auth` of a server to an authorization of the engine.

use std::path::PathBuf;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use mpe_engine::Target;
use mpe_engine::upstream::{
    Authorization, AuthorizationCode, Client, Enterprise, Grant, SecretSource, SigningKey,
};
use secrecy::SecretString;

use super::Source;
use super::auth::{GrantKind, ServerAuth};
use super::node::KeyPath;
use super::server::parse_url;
use super::shape::Server;
use super::values::Secret;
use crate::login::{Absent, FileSecret, FileTokenStore, GivenSecret};

impl Source {
    /// How the engine authorizes itself at this server. Without `auth` it uses a login, if there ever was one; where an
    /// `Authorization` header is given, that is all there is.
    pub(super) fn authorization(
        &mut self,
        path: &KeyPath,
        key: &str,
        server: &Server,
        target: &Target,
    ) -> Option<Authorization> {
        let Target::Http { headers, .. } = target else { return None };
        let Some(auth) = &server.auth else {
            let is_settled = headers.iter().any(|(name, _)| *name == AUTHORIZATION);
            let code = self.code(key, server).filter(|_| !is_settled)?;
            return Some(Authorization::new(Grant::AuthorizationCode(code)));
        };
        let kind = auth.grant.unwrap_or(match is_confidential(auth) {
            true => GrantKind::ClientCredentials,
            false => GrantKind::AuthorizationCode,
        });
        self.check_places(path, auth, kind);
        let client = self.client(path, auth);
        let grant = match kind {
            GrantKind::AuthorizationCode => self.persons(path, key, server, auth, client)?,
            GrantKind::ClientCredentials => {
                if !is_confidential(auth) {
                    self.report(path, "needs `client_secret` or `private_key`: the client speaks for itself");
                }
                Grant::ClientCredentials(self.needed(path, client)?)
            }
            GrantKind::Enterprise => self.enterprise(path, auth, client)?,
            GrantKind::JwtBearer => {
                let assertion =
                    self.changing(path, "assertion", auth.assertion.as_ref(), auth.assertion_file.as_ref());
                Grant::JwtBearer { client: self.needed(path, client)?, assertion: assertion? }
            }
        };
        let mut authorization = Authorization::new(grant);
        authorization.scope.clone_from(&auth.scope);
        authorization.issuer.clone_from(&auth.issuer);
        authorization.private_networks = auth.private_networks;
        for (name, url) in [("issuer", &auth.issuer), ("resource", &auth.resource)] {
            if let Some(Err(reason)) = url.as_deref().map(parse_url) {
                self.report(&path.key(name), reason);
            }
        }
        authorization.resource.clone_from(&auth.resource);
        Some(authorization)
    }

    /// Keys that say something about another grant.
    fn check_places(&mut self, path: &KeyPath, auth: &ServerAuth, kind: GrantKind) {
        let is_code = kind == GrantKind::AuthorizationCode;
        let is_bearer = kind == GrantKind::JwtBearer;
        let keys = [
            ("assertion", auth.assertion.is_some(), is_bearer, "jwt-bearer"),
            ("assertion_file", auth.assertion_file.is_some(), is_bearer, "jwt-bearer"),
            ("client_metadata_url", auth.client_metadata_url.is_some(), is_code, "authorization-code"),
            ("client_name", auth.client_name.is_some(), is_code, "authorization-code"),
            (
                "identity_provider",
                auth.identity_provider.is_some(),
                kind == GrantKind::Enterprise,
                "enterprise",
            ),
            ("redirect_port", auth.redirect_port.is_some(), is_code, "authorization-code"),
        ];
        for (key, given, fits, owner) in keys {
            if given && !fits {
                self.report(&path.key(key), format!("belongs to the grant `{owner}`"));
            }
        }
        if auth.client_id.is_none() && is_confidential(auth) {
            self.report(path, "needs `client_id` beside the secret or the key");
        }
    }

    /// The client that is registered by hand.
    fn client(&mut self, path: &KeyPath, auth: &ServerAuth) -> Option<Client> {
        let id = auth.client_id.as_deref()?;
        let key = match (&auth.private_key, &auth.private_key_file) {
            (Some(_), Some(_)) => {
                self.report(path, "has both `private_key` and `private_key_file`; keep one");
                return None;
            }
            (Some(key), None) => Some((path.key("private_key"), key.secret().clone())),
            (None, Some(file)) => {
                let path = path.key("private_key_file");
                let pem = self.pem(&path, file)?;
                Some((path, SecretString::from(String::from_utf8_lossy(&pem).into_owned())))
            }
            (None, None) => None,
        };
        match (&auth.client_secret, key) {
            (Some(_), Some(_)) => {
                self.report(
                    path,
                    "has both a secret and a key; keep the one that the client is registered with",
                );
                None
            }
            (Some(secret), None) => Some(Client::with_secret(id, secret.secret().clone())),
            (None, Some((path, pem))) => self.key(&path, auth, pem).map(|key| Client::with_key(id, key)),
            (None, None) => Some(Client::public(id)),
        }
    }

    fn key(&mut self, path: &KeyPath, auth: &ServerAuth, pem: SecretString) -> Option<SigningKey> {
        let mut key = match SigningKey::new(pem, None) {
            Ok(key) => key,
            Err(reason) => {
                self.report(path, reason);
                return None;
            }
        };
        if let Some(id) = &auth.key_id {
            key = key.with_id(id);
        }
        if let Some(audience) = &auth.audience {
            key = key.for_audience(audience);
        }
        Some(key)
    }

    fn needed(&mut self, path: &KeyPath, client: Option<Client>) -> Option<Client> {
        if client.is_none() {
            self.report(path, "needs a `client_id`");
        }
        client
    }

    /// A person's grant, used and renewed; it is given elsewhere.
    fn code(&self, key: &str, server: &Server) -> Option<AuthorizationCode> {
        let store = FileTokenStore::new(self.logins.clone()?);
        let command = match (self.is_from_file(), &server.url) {
            (false, Some(url)) => format!("mcp-proxy-engine login {url}"),
            _ => format!("mcp-proxy-engine login {key} --config {}", self.file),
        };
        Some(AuthorizationCode::new(Arc::new(store), Arc::new(Absent::new(&command))))
    }

    fn persons(
        &mut self,
        path: &KeyPath,
        key: &str,
        server: &Server,
        auth: &ServerAuth,
        client: Option<Client>,
    ) -> Option<Grant> {
        let Some(mut code) = self.code(key, server) else {
            self.report(path, "there is no place to keep a login in: give `token_store`, a folder");
            return None;
        };
        code.client = client;
        if let Some(name) = &auth.client_name {
            code.name.clone_from(name);
        }
        if let Some(url) = &auth.client_metadata_url {
            let is_fit =
                parse_url(url).is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.path().len() > 1);
            if !is_fit {
                self.report(
                    &path.key("client_metadata_url"),
                    "expected an https address with a path, such as `https://example.com/client.json`",
                );
            }
            code.metadata_url = Some(url.clone());
        }
        Some(Grant::AuthorizationCode(code))
    }

    fn enterprise(&mut self, path: &KeyPath, auth: &ServerAuth, client: Option<Client>) -> Option<Grant> {
        let Some(given) = &auth.identity_provider else {
            self.report(path, "needs an `identity_provider`, which vouches for the person");
            return None;
        };
        let path_of_provider = path.key("identity_provider");
        let id_token = self.changing(
            &path_of_provider,
            "id_token",
            given.id_token.as_ref(),
            given.id_token_file.as_ref(),
        );
        let provider = parse_url(&given.token_endpoint)
            .map_err(|reason| self.report(&path_of_provider.key("token_endpoint"), reason));
        let provider_client = match &given.client_secret {
            Some(secret) => Client::with_secret(given.client_id.as_str(), secret.secret().clone()),
            None => Client::public(given.client_id.as_str()),
        };
        Some(Grant::Enterprise(Enterprise {
            client: self.needed(path, client)?,
            provider: provider.ok()?,
            provider_client,
            id_token: id_token?,
        }))
    }

    /// A secret that stands here or in a file that changes.
    fn changing(
        &mut self,
        path: &KeyPath,
        name: &str,
        given: Option<&Secret>,
        file: Option<&PathBuf>,
    ) -> Option<Arc<dyn SecretSource>> {
        match (given, file) {
            (Some(secret), None) => Some(Arc::new(GivenSecret::new(secret.secret().clone()))),
            (None, Some(file)) => Some(Arc::new(FileSecret::new(self.base.join(file)))),
            (Some(_), Some(_)) => {
                self.report(path, format!("has both `{name}` and `{name}_file`; keep one"));
                None
            }
            (None, None) => {
                self.report(path, format!("needs `{name}_file` or `{name}`"));
                None
            }
        }
    }
}

fn is_confidential(auth: &ServerAuth) -> bool {
    auth.client_secret.is_some() || auth.private_key.is_some() || auth.private_key_file.is_some()
}
