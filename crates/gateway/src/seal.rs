//! Tokens that only we can write: session ids, cursors, request states.
//!
//! A token is `base64url(nonce ‖ AES-256-GCM ciphertext ‖ tag)`; its purpose and its endpoint are authenticated
//! beside it, so that a cursor is no session and one tenant's token is none to another. Every replica that was
//! given the same secret can open what any of them sealed; nothing is stored.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Cursor,
    Forward,
    RequestState,
    Session,
}

/// Seals and opens tokens with one key.
pub(crate) struct Sealer {
    key: RandomizedNonceKey,
}

impl Sealer {
    /// A sealer whose key is derived from `secret`; without one, from fresh randomness, so that tokens live as long
    /// as this process.
    pub(crate) fn new(secret: Option<&[u8]>) -> Self {
        let key = match secret {
            Some(secret) => {
                let labelled = [b"mpe-gateway token key v1\0", secret].concat();
                digest(&SHA256, &labelled).as_ref().to_vec()
            }
            None => random::<32>().to_vec(),
        };
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).expect("32 bytes are an AES-256 key");
        Self { key }
    }

    pub(crate) fn seal(&self, purpose: Purpose, endpoint: &str, plain: &[u8]) -> String {
        let mut sealed = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(context(purpose, endpoint)), &mut sealed)
            .expect("sealing a few KiB with a valid key cannot fail");
        let mut token = nonce.as_ref().to_vec();
        token.append(&mut sealed);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What was sealed; `None` for anything that was not sealed with this key, purpose and endpoint.
    pub(crate) fn open(&self, purpose: Purpose, endpoint: &str, token: &str) -> Option<Vec<u8>> {
        let mut token = URL_SAFE_NO_PAD.decode(token).ok()?;
        if token.len() < NONCE_LEN {
            return None;
        }
        let mut sealed = token.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&token).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(context(purpose, endpoint)), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

/// Bytes from the system's random source.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// Has aws-lc's generator begin, on a thread of its own. Built as usual it measures the processor's jitter for 50 ms before its
/// first byte, which the first sealed token or TLS handshake would wait for, and the first call does not need.
pub(crate) fn warm_up() {
    // Without a thread to spare, whoever needs it first waits for it.
    let _ = std::thread::Builder::new().name("random".to_owned()).spawn(|| {
        // One that fails here fails again where somebody can be told.
        let _ = aws_lc_rs::rand::fill(&mut [0]);
    });
}

/// A short unguessable name.
pub(crate) fn random_name() -> String {
    URL_SAFE_NO_PAD.encode(random::<16>())
}

/// A digest of several texts that keeps their borders apart.
pub(crate) fn fingerprint(parts: &[&str]) -> String {
    let mut joined = Vec::new();
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_be_bytes());
        joined.extend_from_slice(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, &joined).as_ref()[..16])
}

fn context(purpose: Purpose, endpoint: &str) -> Vec<u8> {
    let label: &[u8] = match purpose {
        Purpose::Cursor => b"cursor\0",
        Purpose::Forward => b"forward\0",
        Purpose::RequestState => b"request-state\0",
        Purpose::Session => b"session\0",
    };
    [label, endpoint.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::{Purpose, Sealer, fingerprint};

    #[test]
    fn any_replica_with_the_secret_opens_a_token() {
        let token = Sealer::new(Some(b"secret")).seal(Purpose::Session, "default", b"hello");
        let opened = Sealer::new(Some(b"secret")).open(Purpose::Session, "default", &token);
        assert_eq!(opened.as_deref(), Some(&b"hello"[..]));
    }

    #[test]
    fn a_token_opens_only_for_its_purpose_endpoint_and_key() {
        let sealer = Sealer::new(None);
        let token = sealer.seal(Purpose::Cursor, "a", b"x");
        assert!(sealer.open(Purpose::Session, "a", &token).is_none());
        assert!(sealer.open(Purpose::Cursor, "b", &token).is_none());
        assert!(Sealer::new(None).open(Purpose::Cursor, "a", &token).is_none());
    }

    #[test]
    fn a_changed_token_does_not_open() {
        let sealer = Sealer::new(None);
        let token = sealer.seal(Purpose::RequestState, "a", b"x");
        for forged in
            [format!("{token}-tampered"), format!("A{}", &token[1..]), String::new(), "é".to_owned()]
        {
            if forged != token {
                assert!(sealer.open(Purpose::RequestState, "a", &forged).is_none(), "{forged}");
            }
        }
    }

    #[test]
    fn sealing_twice_gives_different_tokens() {
        let sealer = Sealer::new(None);
        assert_ne!(sealer.seal(Purpose::Cursor, "a", b"x"), sealer.seal(Purpose::Cursor, "a", b"x"));
    }

    #[test]
    fn a_fingerprint_keeps_borders_apart() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
    }
}
