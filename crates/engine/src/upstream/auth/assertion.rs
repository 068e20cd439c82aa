//! Assertions that a client signs to prove itself (`private_key_jwt`, RFC 7523 §2.2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use oauth2::CsrfToken;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

/// How an assertion is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

/// A client's private key.
pub struct SigningKey {
    key: EncodingKey,
    algorithm: SigningAlgorithm,
    pem: SecretString,
    id: Option<String>,
    audience: Option<String>,
}

/// An assertion lives this long: it is used at once.
const LIFE: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
}

impl SigningKey {
    /// A key in PEM: PKCS #8, or PKCS #1 for RSA. `algorithm`: what the key is for, if `None`.
    ///
    /// # Errors
    /// One sentence: it is no such key.
    pub fn new(pem: SecretString, algorithm: Option<SigningAlgorithm>) -> Result<Self, String> {
        let bytes = pem.expose_secret().as_bytes();
        let elliptic = || EncodingKey::from_ec_pem(bytes).map(|key| (key, SigningAlgorithm::Es256));
        let rsa = || EncodingKey::from_rsa_pem(bytes).map(|key| (key, SigningAlgorithm::Rs256));
        let found = match algorithm {
            Some(SigningAlgorithm::Es256) => elliptic(),
            Some(SigningAlgorithm::Rs256) => rsa(),
            None => elliptic().or_else(|_| rsa()),
        };
        let (key, algorithm) = found.map_err(|_| {
            "expected a private key in PEM: an EC key on P-256 (PKCS #8) or an RSA key".to_owned()
        })?;
        let key = Self { key, algorithm, pem, id: None, audience: None };
        // A key on another curve is found out by using it.
        key.sign("client", "issuer").map_err(|_| "the private key does not fit its algorithm".to_owned())?;
        Ok(key)
    }

    /// The same key by the id that the authorization server knows it by (`kid`).
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The same key for an authorization server that wants to be called otherwise than by its issuer (`aud`).
    #[must_use]
    pub fn for_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// An assertion of `client` for `issuer`.
    ///
    /// # Errors
    /// One sentence: the key cannot sign.
    pub(super) fn sign(&self, client: &str, issuer: &str) -> Result<String, String> {
        let mut header = Header::new(match self.algorithm {
            SigningAlgorithm::Es256 => Algorithm::ES256,
            SigningAlgorithm::Rs256 => Algorithm::RS256,
        });
        header.kid.clone_from(&self.id);
        let now = unix_now();
        let jti = CsrfToken::new_random();
        let claims = Claims {
            iss: client,
            sub: client,
            aud: self.audience.as_deref().unwrap_or(issuer),
            iat: now,
            exp: now + LIFE.as_secs(),
            jti: jti.secret(),
        };
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|error| format!("the client's key cannot sign: {error}"))
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm
            && self.id == other.id
            && self.audience == other.audience
            && self.pem.expose_secret() == other.pem.expose_secret()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
