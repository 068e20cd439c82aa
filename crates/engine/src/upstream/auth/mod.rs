//! Credentials that the engine gets for itself: an OAuth 2.1 client, found out from the server's challenge.
//!
//! A 401 names the protected-resource metadata (RFC 9728), they name the authorization server, and its metadata
//! (RFC 8414) name the endpoints. A token is got once for all waiting calls, renewed before it expires, bound to this
//! server (RFC 8707 `resource`) and to its issuer, and goes nowhere else.
//!
//! Read [`Authorizer`] first; [`errand`] is what one grant does, [`code`] the grant that needs a person.

mod authorizer;
mod config;
mod errand;

mod code;
mod registration;

mod assertion;
mod token;

mod address;
mod challenge;
mod discovery;
mod outside;

mod person;
mod store;

pub use self::address::canonical as canonical_address;
pub use self::assertion::{SigningAlgorithm, SigningKey};
pub(super) use self::authorizer::Authorizer;
pub use self::authorizer::Login;
pub(super) use self::challenge::{Challenge, Demand};
pub use self::config::{Authorization, AuthorizationCode, Client, ClientAuthentication, Enterprise, Grant};
pub use self::person::{Person, SecretSource};
pub use self::store::{MemoryTokenStore, StoredClient, StoredLogin, StoredTokens, TokenStore};

#[cfg(test)]
mod tests;
