//! How callers of the API prove who they are, in the operator's words. Nothing here checks anybody: whoever stands in front
//! of the API does, and this is how its documents say so.

use indexmap::IndexMap;
use openapiv3::{APIKeyLocation, OAuth2Flows, SecurityScheme};
use serde_json::{Value, json};

/// The security schemes of a document and which of them a caller needs. Default: none, which the document says aloud.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Security {
    schemes: IndexMap<String, SecurityScheme>,
    /// Any one of these is enough. `None`: any one scheme.
    alternatives: Option<Vec<IndexMap<String, Vec<String>>>>,
}

impl Security {
    /// Adds a scheme: a Security Scheme Object (OpenAPI 3.0.3 §4.7.27) of the type `apiKey`, `http`, `oauth2` or
    /// `openIdConnect`, which documents of either version can say.
    ///
    /// # Errors
    /// What is wrong with the name or the object.
    pub fn add(&mut self, name: &str, scheme: &Value) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err("a scheme's name has letters, digits, `.`, `-` and `_`".to_owned());
        }
        let kind = scheme.get("type").and_then(Value::as_str).unwrap_or_default();
        let known = match kind {
            "apiKey" => &["type", "description", "name", "in"][..],
            "http" => &["type", "description", "scheme", "bearerFormat"],
            "oauth2" => &["type", "description", "flows"],
            "openIdConnect" => &["type", "description", "openIdConnectUrl"],
            _ => return Err("expected `type` to be `apiKey`, `http`, `oauth2` or `openIdConnect`".to_owned()),
        };
        let mut members = scheme.as_object().into_iter().flat_map(|scheme| scheme.keys());
        if let Some(unknown) = members.find(|name| !known.contains(&name.as_str()) && !name.starts_with("x-"))
        {
            return Err(format!("`{unknown}` means nothing here; expected {}", listed(known)));
        }
        let scheme: SecurityScheme = serde_json::from_value(scheme.clone())
            .map_err(|error| format!("not a Security Scheme Object of OpenAPI: {error}"))?;
        check(&scheme)?;
        self.schemes.insert(name.to_owned(), scheme);
        Ok(())
    }

    /// Says which schemes a caller needs: any one of `alternatives`, and of that every scheme, each with its scopes (`security`
    /// of the document). An alternative without schemes lets everybody in. Without this call, any one scheme is enough,
    /// with all the scopes of its flows.
    ///
    /// # Errors
    /// Which alternative names a scheme that was not added, or scopes where its kind has none.
    pub fn require(&mut self, alternatives: Vec<IndexMap<String, Vec<String>>>) -> Result<(), String> {
        for (name, scopes) in alternatives.iter().flatten() {
            let known = || listed(&self.schemes.keys().map(String::as_str).collect::<Vec<_>>());
            let scheme = self
                .schemes
                .get(name)
                .ok_or_else(|| format!("there is no scheme `{name}`; expected {}", known()))?;
            let has_scopes =
                matches!(scheme, SecurityScheme::OAuth2 { .. } | SecurityScheme::OpenIDConnect { .. });
            if !scopes.is_empty() && !has_scopes {
                return Err(format!("`{name}` has no scopes; expected an empty list"));
            }
        }
        self.alternatives = Some(alternatives);
        Ok(())
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.schemes.is_empty()
    }

    /// Puts it into a document.
    pub(super) fn put(&self, document: &mut Value) {
        if !self.is_empty() {
            document["components"]["securitySchemes"] =
                serde_json::to_value(&self.schemes).expect("its keys are strings");
        }
        // Redocly and others want the absence of authentication said aloud.
        document["security"] = match &self.alternatives {
            Some(alternatives) => json!(alternatives),
            None => self.schemes.iter().map(|(name, scheme)| json!({ name: scopes(scheme) })).collect(),
        };
    }
}

/// What serde does not see.
fn check(scheme: &SecurityScheme) -> Result<(), String> {
    let is_url =
        |url: &str| url.starts_with("https://") || url.starts_with("http://") || url.starts_with('/');
    match scheme {
        SecurityScheme::APIKey { name, .. } if name.is_empty() => {
            Err("`name` is empty; expected that of a header, a query parameter or a cookie".to_owned())
        }
        SecurityScheme::APIKey { location: APIKeyLocation::Header, name, .. }
            if name.eq_ignore_ascii_case("authorization") =>
        {
            Err("the header Authorization is of the type `http`, with its `scheme`".to_owned())
        }
        SecurityScheme::HTTP { scheme, .. } if scheme.is_empty() => {
            Err("`scheme` is empty; expected `bearer`, `basic` or another one of RFC 9110 §11.1".to_owned())
        }
        SecurityScheme::OpenIDConnect { open_id_connect_url, .. } if !is_url(open_id_connect_url) => {
            Err("`openIdConnectUrl` is no URL".to_owned())
        }
        SecurityScheme::OAuth2 { flows, .. } if urls(flows).is_empty() => {
            Err("`flows` is empty; expected one of `authorizationCode`, `clientCredentials`, `implicit`, `password`"
                .to_owned())
        }
        SecurityScheme::OAuth2 { flows, .. } => match urls(flows).into_iter().find(|url| !is_url(url)) {
            Some(url) => Err(format!("`{url}` in `flows` is no URL")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Every URL that the flows must have.
fn urls(flows: &OAuth2Flows) -> Vec<&str> {
    let mut urls = Vec::new();
    urls.extend(flows.implicit.iter().map(|flow| flow.authorization_url.as_str()));
    urls.extend(flows.password.iter().map(|flow| flow.token_url.as_str()));
    urls.extend(flows.client_credentials.iter().map(|flow| flow.token_url.as_str()));
    urls.extend(
        flows
            .authorization_code
            .iter()
            .flat_map(|flow| [flow.authorization_url.as_str(), flow.token_url.as_str()]),
    );
    urls
}

/// Every scope of a scheme's flows.
fn scopes(scheme: &SecurityScheme) -> Vec<&str> {
    let SecurityScheme::OAuth2 { flows, .. } = scheme else { return Vec::new() };
    let mut scopes: Vec<&str> = Vec::new();
    scopes.extend(flows.implicit.iter().flat_map(|flow| flow.scopes.keys().map(String::as_str)));
    scopes.extend(flows.password.iter().flat_map(|flow| flow.scopes.keys().map(String::as_str)));
    scopes.extend(flows.client_credentials.iter().flat_map(|flow| flow.scopes.keys().map(String::as_str)));
    scopes.extend(flows.authorization_code.iter().flat_map(|flow| flow.scopes.keys().map(String::as_str)));
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Security;

    fn document(security: &Security) -> Value {
        let mut document = json!({"components": {}});
        security.put(&mut document);
        document
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(document(&Security::default()), json!({"components": {}, "security": []}));
    }

    #[test]
    fn any_one_scheme_is_enough_unless_the_operator_says_more() {
        let flow = json!({"tokenUrl": "https://a/token", "scopes": {"write": "W", "read": "R"}});
        let mut security = Security::default();
        security.add("key", &json!({"type": "apiKey", "in": "header", "name": "X-Api-Key"})).unwrap();
        security.add("bearer", &json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})).unwrap();
        security.add("login", &json!({"type": "oauth2", "flows": {"clientCredentials": flow}})).unwrap();
        let said = document(&security);
        assert_eq!(said["security"], json!([{"key": []}, {"bearer": []}, {"login": ["read", "write"]}]));
        let schemes = &said["components"]["securitySchemes"];
        assert_eq!(schemes["key"], json!({"type": "apiKey", "in": "header", "name": "X-Api-Key"}));
        assert_eq!(schemes["bearer"], json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}));
        assert_eq!(schemes["login"], json!({"type": "oauth2", "flows": {"clientCredentials": flow}}));

        let both = json!([{"key": [], "login": ["read"]}, {}]);
        security.require(serde_json::from_value(both.clone()).unwrap()).unwrap();
        assert_eq!(document(&security)["security"], both);
    }

    #[test]
    fn what_no_document_could_say_is_refused_with_what_was_expected() {
        for (scheme, complaint) in [
            (json!({"type": "mutualTLS"}), "`apiKey`, `http`, `oauth2` or `openIdConnect`"),
            (json!("bearer"), "expected `type`"),
            (json!({"type": "http"}), "missing field `scheme`"),
            (json!({"type": "http", "scheme": "", "x-own": 1}), "`scheme` is empty"),
            (json!({"type": "http", "scheme": "bearer", "format": "JWT"}), "`format` means nothing"),
            (json!({"type": "apiKey", "in": "body", "name": "k"}), "unknown variant `body`"),
            (json!({"type": "apiKey", "in": "query", "name": ""}), "`name` is empty"),
            (json!({"type": "apiKey", "in": "header", "name": "authorization"}), "of the type `http`"),
            (json!({"type": "openIdConnect", "openIdConnectUrl": "idp"}), "no URL"),
            (json!({"type": "oauth2", "flows": {}}), "`flows` is empty"),
            (
                json!({"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "token", "scopes": {}}}}),
                "`token` in `flows` is no URL",
            ),
        ] {
            let refused = Security::default().add("s", &scheme).unwrap_err();
            assert!(refused.contains(complaint), "{scheme}: {refused}");
        }
        let scheme = json!({"type": "http", "scheme": "bearer"});
        assert!(Security::default().add("a b", &scheme).unwrap_err().contains("name"));
        let mut security = Security::default();
        security.add("s", &scheme).unwrap();
        let requirement = |value: Value| serde_json::from_value(value).unwrap();
        let refused = security.require(requirement(json!([{"t": []}]))).unwrap_err();
        assert_eq!(refused, "there is no scheme `t`; expected `s`");
        let refused = security.require(requirement(json!([{"s": ["read"]}]))).unwrap_err();
        assert_eq!(refused, "`s` has no scopes; expected an empty list");
    }
}
